/* SPDX-License-Identifier: MIT */
/*
 * Requests for Linux's virtqueue, made as a driver makes them: a header, 4 KiB
 * of data and a status, in a list for each direction.  Compiled with the
 * headers of Linux's tools/virtio.
 */
#include <linux/virtio.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>

#include "linux_ring.h"

#define READ_BYTES 4096u

/* Functions of virtio_ring.c that the headers of tools/virtio do not have. */
bool virtqueue_kick_prepare(struct virtqueue *vq);
bool virtqueue_notify(struct virtqueue *vq);
dma_addr_t virtqueue_get_desc_addr(struct virtqueue *vq);
dma_addr_t virtqueue_get_avail_addr(struct virtqueue *vq);
dma_addr_t virtqueue_get_used_addr(struct virtqueue *vq);

/* Variables that the headers of tools/virtio expect somewhere. */
void *__kmalloc_fake, *__kfree_ignore_start, *__kfree_ignore_end;

struct header {
    uint32_t type;
    uint32_t reserved;
    uint64_t sector;
};

struct request {
    struct header header;
    struct scatterlist data;
    uint8_t *memory;
    uint8_t status;
};

struct linux_ring {
    struct virtio_device device;
    struct virtio_config_ops operations;
    struct virtqueue *queue;
    struct linux_ring_config config;
    uint64_t completed;
    uint64_t random;
    char lock; /* the virtqueue's, in virtio_blk */
    struct request requests[LINUX_RING_BATCH_MAX];
};

static inline void take(struct linux_ring *ring)
{
    while (__atomic_test_and_set(&ring->lock, __ATOMIC_ACQUIRE)) {
    }
}

static inline void give(struct linux_ring *ring)
{
    __atomic_clear(&ring->lock, __ATOMIC_RELEASE);
}

static bool notify(struct virtqueue *queue)
{
    const struct linux_ring *ring = queue->priv;

    ring->config.notify(ring->config.context);
    return true;
}

static inline void collect(struct linux_ring *ring)
{
    struct request *request;
    unsigned int bytes;

    while ((request = virtqueue_get_buf(ring->queue, &bytes)) != NULL) {
        ring->completed += request->status == 0;
        request->status = 0xff;
    }
}

static void completed(struct virtqueue *queue)
{
    struct linux_ring *ring = queue->priv;

    take(ring);
    do {
        virtqueue_disable_cb(queue);
        collect(ring);
    } while (!virtqueue_enable_cb(queue));
    give(ring);
}

void linux_ring_interrupt(void *context)
{
    struct linux_ring *ring = context;

    (void)vring_interrupt(0, ring->queue);
}

static void must(bool is_done, const char *what)
{
    if (!is_done) {
        (void)fprintf(stderr, "linux_ring: %s failed\n", what);
        exit(1);
    }
}

static void add(struct linux_ring *ring, struct request *request, uint64_t sector)
{
    struct scatterlist header;
    struct scatterlist status;
    struct scatterlist *lists[3] = { &header, &request->data, &status };

    request->header = (struct header){ .sector = sector };
    sg_init_one(&header, &request->header, sizeof(request->header));
    sg_init_one(&request->data, request->memory, READ_BYTES);
    sg_init_one(&status, &request->status, sizeof(request->status));
    must(virtqueue_add_sgs(ring->queue, lists, 1, 2, request, GFP_ATOMIC) == 0, "add");
}

/* The lock is taken for each request, as where each comes from somewhere else. */
static void submit(struct linux_ring *ring, uint32_t batch)
{
    bool wants = false;

    for (uint32_t i = 0; i < batch; i++) {
        ring->random = ring->random * 1664525u + 1013904223u;
        if (ring->config.interrupts) {
            take(ring);
        }
        add(ring, &ring->requests[i], ring->random & 0xfffff8);
        if (i + 1 == batch) {
            wants = virtqueue_kick_prepare(ring->queue);
        }
        if (ring->config.interrupts) {
            give(ring);
        }
    }
    if (wants) {
        (void)virtqueue_notify(ring->queue);
    }
}

void linux_ring_run(struct linux_ring *ring, uint32_t batch, uint64_t rounds)
{
    for (uint64_t i = 0; i < rounds; i++) {
        uint64_t goal = ring->completed + batch;

        submit(ring, batch);
        if (!ring->config.interrupts) {
            collect(ring);
        }
        must(ring->completed == goal, "a completion");
    }
}

struct linux_ring *linux_ring_open(const struct linux_ring_config *config,
                                   struct linux_ring_addresses *out_addresses)
{
    struct linux_ring *ring = aligned_alloc(4096, (sizeof(*ring) + 4095) / 4096 * 4096);
    uint8_t *memory = aligned_alloc(4096, LINUX_RING_BATCH_MAX * READ_BYTES);

    must(ring != NULL && memory != NULL, "memory");
    memset(ring, 0, sizeof(*ring));
    ring->config = *config;
    ring->device.features = config->features;
    ring->device.config = &ring->operations;
    INIT_LIST_HEAD(&ring->device.vqs);
    spin_lock_init(&ring->device.vqs_list_lock);
    for (uint32_t i = 0; i < LINUX_RING_BATCH_MAX; i++) {
        ring->requests[i].memory = memory + i * READ_BYTES;
        ring->requests[i].status = 0xff;
    }
    ring->queue = vring_create_virtqueue(0, config->queue_size, 4096, &ring->device, true, false,
                                         false, notify, completed, "requests");
    must(ring->queue != NULL, "a virtqueue");
    ring->queue->priv = ring;
    if (!config->interrupts) {
        virtqueue_disable_cb(ring->queue);
    }
    out_addresses->descriptors = virtqueue_get_desc_addr(ring->queue);
    out_addresses->driver_area = virtqueue_get_avail_addr(ring->queue);
    out_addresses->device_area = virtqueue_get_used_addr(ring->queue);
    return ring;
}

uint64_t linux_ring_completed(const struct linux_ring *ring)
{
    return ring->completed;
}
