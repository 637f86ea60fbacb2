# SPDX-License-Identifier: MIT
"""What `make prove` proves, and the faults that it must find: two tables for tools/prove."""
import collections

# entry: prove_<entry>; files: besides tests/proof/any.c; flags: for goto-cc; options: for cbmc.  How
# often loops are unrolled at the most is a claim too: one that goes on is a failed proof.
Proof = collections.namedtuple("Proof", "name shows bound entry files flags options")

# In the copy's `file`, `old` becomes `new`, once, in the function; the proof must fail then.
Fault = collections.namedtuple("Fault", "what proof file function old new")

# Shared memory answers any load with any value.
HOSTILE = ["-std=c11", "-DSKI_DOOR_ANYTHING", "-include", "tests/proof/forget.h"]
ORDER = ["-std=gnu11", "-DORDER_BY_PROOF", "-include", "tests/proof/order.h"]


# Which memory is touched is another proof's question.
ORDER_OPTIONS = ["--unwind", "28", "--no-standard-checks", "--unwinding-assertions"]

RING = ["src/virtio/ring_split.c", "src/virtio/ring_packed.c"]
RINGS = ["tests/proof/prove_ring.c", *RING]
ORDERS = ["tests/proof/prove_order.c", "tests/proof/order.c", *RING]

ANY_STATE = "one operation, any state, "


def ring(entry, shows, size=None):
    """Sums that have to agree are hard to prove for a size that is any."""
    name = "ring-" + entry.replace("_", "-") + ("-%d" % size if size else "")
    return Proof(name, shows, ANY_STATE + ("size %d" % size if size else "any size to 32768"),
                 "ring_" + entry, RINGS, [*HOSTILE, *(["-DRING_SIZE=%d" % size] if size else [])],
                 ["--unwind", "3"])


# Kind of ring, harness, EVENT_IDX, model.
ORDERED = [
    ("split", "kick", 1, "c11"), ("split", "kick", 0, "c11"), ("split", "kick", 1, "x86"),
    ("packed", "kick", 1, "c11"), ("split", "kick_again", 1, "c11"),
    ("split", "interrupt", 1, "c11"), ("split", "interrupt", 0, "c11"),
    ("split", "gather", 1, "c11"),
]
ORDER_SHOWS = {
    "kick": ("no notification is lost", "1 request"),
    "kick_again": ("... nor that of the next one", "2 requests"),
    "interrupt": ("no interrupt is lost", "1 answer"),
    "gather": ("... nor one for several answers", "2 answers"),
}


def order(kind, entry, events, model):
    shows, bound = ORDER_SHOWS[entry]
    name = ["order", kind, entry.replace("_", "-"), *([] if events else ["flags"]), model]
    flags = ["-DORDER_PACKED=%d" % (kind == "packed"), "-DORDER_EVENT_IDX=%d" % events,
             *(["-DORDER_TSO"] if model == "x86" else [])]
    return Proof("-".join(name), shows, "%s, 2 threads, %s" % (bound, "x86" if model == "x86" else "C11"),
                 "order_" + entry, ORDERS, [*ORDER, *flags], ORDER_OPTIONS)


PROOFS = [
    ring("split", "split ring: memory and indexes, whatever the device writes"),
    *(ring("packed_add", "packed ring: memory and positions, when chains are added", size)
      for size in (7, 255, 32768)),
    ring("packed_publish", "... and published"),
    *(ring("packed_take", "... and taken", size) for size in (7, 255, 32768)),
    ring("packed_interrupts", "... and interrupts wished for"),
    ring("device_split", "our back end's split ring, whatever the driver writes"),
    ring("device_packed", "our back end's packed ring, the same"),
    *(Proof("batch-" + kind, "in order: an id means chains at the device, or none",
            "any id, any size to 32768", "batch_" + kind, ["tests/proof/prove_batch.c"], HOSTILE,
            ["--unwind", "3"]) for kind in ("split", "packed")),
    *(order(*each) for each in ORDERED),
]

DOOR = "src/base/door.h"
SPLIT = "src/virtio/ring_split.h"
PACKED = "src/virtio/ring_packed.h"
DEVICE_SPLIT = "hosted/src/device_ring_split.h"
DEVICE_PACKED = "hosted/src/device_ring_packed.h"

FAULTS = [
    Fault("the used index is not bounded", "ring-split", SPLIT, "ski_ring_split_pending",
          "*out_count <= ring->published - ring->taken", "*out_count <= ring->size + 1u"),
    Fault("the used index is bounded by one more", "ring-split", SPLIT, "ski_ring_split_pending",
          "*out_count <= ring->published", "*out_count <= 1 + ring->published"),
    Fault("the place of a head is not masked", "ring-split", SPLIT, "ski_ring_split_add",
          "(added & ring->mask)", "(uint16_t)added"),
    Fault("the place of an answer is not masked", "ring-split", SPLIT, "ski_ring_split_id",
          "ring->taken & ring->mask", "(uint16_t)ring->taken"),
    Fault("the mask is the size", "ring-split", "src/virtio/ring_split.c", "ski_ring_split_init",
          "size - 1u", "size"),
    Fault("the layout forgets the event word", "ring-split", "src/virtio/ring_split.c",
          "ski_ring_split_lay_out", "device_area + 6", "device_area + 4"),
    Fault("a position wraps one too late", "ring-packed-take-7", PACKED, "ski_ring_packed_move",
          "behind >= size", "behind > size"),
    Fault("marks do not flip at the ring's end", "ring-packed-add-7", PACKED, "ski_ring_packed_move",
          "*marks ^= SKI_RING_PACKED_MARKS;", ""),
    Fault("a descriptor behind the ring's end", "ring-packed-add-7", PACKED, "ski_ring_packed_put",
          "ring->descriptors[place]", "ring->descriptors[ring->next + behind]"),
    Fault("what is unpublished is not counted", "ring-packed-publish", PACKED, "ski_ring_packed_publish_in",
          "ring->unpublished = 0;", ""),
    Fault("the available index is not bounded", "ring-device-split", DEVICE_SPLIT,
          "ski_device_split_pending", "*out_count + outstanding <= ring->size",
          "*out_count <= ring->size"),
    Fault("a peek is not masked", "ring-device-split", DEVICE_SPLIT, "ski_device_split_peek",
          "& ring->mask", ""),
    Fault("the back end's position wraps one too late", "ring-device-packed", DEVICE_PACKED,
          "ski_device_packed_take", "next >= ring->size", "next > ring->size"),
    Fault("what is given back stays out", "ring-device-packed", DEVICE_PACKED,
          "ski_device_packed_give", "ring->outstanding - count", "ring->outstanding"),
    Fault("an id may be any number", "batch-split", "src/block/virtio_blk_slot.h",
          "ski_blk_batch_to", "&& id < queue->depth", ""),
    Fault("a batch may be longer than what is at the device", "batch-packed",
          "src/block/virtio_blk_slot.h", "ski_blk_batch_to", "behind < most", "behind <= most"),
    Fault("a look for several where there is no ring", "ring-packed-interrupts", PACKED,
          "ski_ring_packed_interrupts_at",
          "ski_ring_packed_move(ring->size, &later.taken, &later.taken_marks, behind);",
          "later.taken += behind;"),
    # The order of loads and stores.
    Fault("the index does not release what stands before it", "order-split-kick-c11", DOOR,
          "ski_door_store16_release", "__ATOMIC_RELEASE", "__ATOMIC_RELAXED"),
    Fault("what an index promised is not acquired", "order-split-kick-c11", DOOR,
          "ski_door_load16_acquire", "__ATOMIC_ACQUIRE", "__ATOMIC_RELAXED"),
    Fault("no full barrier behind the index", "order-split-kick-c11", DOOR, "ski_door_publish16",
          "    ski_arch_full_fence();\n", ""),
    Fault("no full barrier behind the flags", "order-packed-kick-c11", DOOR, "ski_door_publish64",
          "    ski_arch_full_fence();\n", ""),
    Fault("no full barrier, with flags instead of an index", "order-split-interrupt-flags-c11",
          DOOR, "ski_door_publish16", "    ski_arch_full_fence();\n", ""),
    Fault("no full barrier before a look for several", "order-split-gather-c11", DOOR,
          "ski_door_publish16", "    ski_arch_full_fence();\n", ""),
    Fault("no full barrier at the second publish", "order-split-kick-again-c11", DOOR,
          "ski_door_publish16", "    ski_arch_full_fence();\n", ""),
]
