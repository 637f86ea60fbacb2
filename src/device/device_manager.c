/* SPDX-License-Identifier: MIT */
#include <skio/device_manager.h>

#include <skio/checked.h>

#include "base/bytes.h"

#define PRIVATE_ALIGNMENT 64u

struct sk_driver_link {
    const struct sk_driver *driver;
    struct sk_driver_link *next; /* of the same or a lower priority */
};

/* What the manager put into a node and has to take out again. */
struct injection {
    const struct sk_device_manager *manager;
    struct sk_io_buffer buffer;
    struct sk_dma_run memory;
    bool buffer_is_ours;
    bool memory_is_ours;
    struct sk_device_node *older; /* the node that was bound before this one */
};

/* A node as it lies in the bookkeeping memory. */
struct entry {
    struct sk_device_node node;
    struct injection injection;
};

static struct injection *injection_of(const struct sk_device_node *node)
{
    return node->injection;
}

static bool is_usable(const struct sk_device_manager *manager)
{
    return manager != NULL && manager->config.platform != NULL;
}

static bool is_ours(const struct sk_device_manager *manager, const struct sk_device_node *node)
{
    return is_usable(manager) && node != NULL && node->injection != NULL &&
           injection_of(node)->manager == manager;
}

static void log_node(const struct sk_device_manager *manager, enum sk_log_level level,
                     const struct sk_device_node *node, const char *what, enum sk_status status)
{
    sk_log_print(manager->config.platform->log, level, "device_manager: %s at 0x%llx: %s %s%s%s",
                 node->name, (unsigned long long)sk_device_node_address(node), what,
                 node->driver->name, status == SK_OK ? "" : ": ",
                 status == SK_OK ? "" : sk_status_text(status));
}

enum sk_status sk_device_manager_init(struct sk_device_manager *manager,
                                      const struct sk_device_manager_config *config)
{
    if (manager == NULL) {
        return SK_ERR_INVALID;
    }
    *manager = (struct sk_device_manager){ .last = NULL };
    if (config == NULL || config->platform == NULL || config->memory == NULL ||
        config->memory_bytes == 0) {
        return SK_ERR_INVALID;
    }
    manager->config = *config;
    manager->last = &manager->first;
    return SK_OK;
}

/* Cuts `count` times `size` zeroed bytes off the bookkeeping memory; NULL if it is full. */
static void *take(struct sk_device_manager *manager, size_t count, size_t size, size_t alignment)
{
    uintptr_t start = (uintptr_t)manager->config.memory;
    uint64_t bytes;
    uint64_t offset;

    if (!sk_checked_mul(count, size, &bytes) ||
        !sk_checked_align_up(start + manager->memory_used, alignment, &offset)) {
        return NULL;
    }
    offset -= start;
    if (!sk_checked_range(offset, bytes, manager->config.memory_bytes)) {
        return NULL;
    }
    manager->memory_used = (size_t)(offset + bytes);
    return memset((uint8_t *)manager->config.memory + offset, 0, (size_t)bytes);
}

/* Copies an array; an empty one needs no memory.  False if there is none left. */
static bool take_copy(struct sk_device_manager *manager, const void *array, size_t count,
                      size_t size, size_t alignment, const void **out_copy)
{
    void *copy;

    *out_copy = NULL;
    if (count == 0) {
        return true;
    }
    copy = take(manager, count, size, alignment);
    if (copy == NULL) {
        return false;
    }
    *out_copy = memcpy(copy, array, count * size);
    return true;
}

enum sk_status sk_device_manager_add_driver(struct sk_device_manager *manager,
                                            const struct sk_driver *driver)
{
    struct sk_driver_link **place;
    struct sk_driver_link *link;

    if (!is_usable(manager) || driver == NULL || driver->name == NULL || driver->probe == NULL) {
        return SK_ERR_INVALID;
    }
    link = take(manager, 1, sizeof(*link), _Alignof(struct sk_driver_link));
    if (link == NULL) {
        return SK_ERR_NO_MEMORY;
    }
    place = &manager->drivers;
    while (*place != NULL && (*place)->driver->priority >= driver->priority) {
        place = &(*place)->next;
    }
    link->driver = driver;
    link->next = *place;
    *place = link;
    return SK_OK;
}

static size_t length_of(const char *text)
{
    size_t length = 0;

    while (text[length] != '\0') {
        length++;
    }
    return length;
}

/* Copies what the description points at into the bookkeeping memory. */
static bool copy_parts(struct sk_device_manager *manager, struct sk_device_node *node,
                       const struct sk_device_node *from)
{
    const struct sk_device_identity *identity = &from->identity;
    const void *name;
    const void *compatible;
    const void *ranges;
    const void *interrupts;

    if (!take_copy(manager, from->name, length_of(from->name) + 1, 1, 1, &name) ||
        !take_copy(manager, identity->compatible, identity->compatible_bytes, 1, 1,
                   &compatible) ||
        !take_copy(manager, from->ranges, from->range_count, sizeof(*from->ranges),
                   _Alignof(struct sk_device_range), &ranges) ||
        !take_copy(manager, from->interrupts, from->interrupt_count, sizeof(*from->interrupts),
                   _Alignof(struct sk_interrupt), &interrupts)) {
        return false;
    }
    node->name = name;
    node->identity.compatible = compatible;
    node->ranges = ranges;
    node->interrupts = interrupts;
    return true;
}

static struct sk_device_node *copy_node(struct sk_device_manager *manager,
                                        const struct sk_device_node *from)
{
    struct entry *entry = take(manager, 1, sizeof(*entry), _Alignof(struct entry));
    struct sk_device_node *node;

    if (entry == NULL) {
        return NULL;
    }
    node = &entry->node;
    node->platform = from->platform != NULL ? from->platform : manager->config.platform;
    node->identity = from->identity;
    node->range_count = from->range_count;
    node->interrupt_count = from->interrupt_count;
    node->domain = from->domain;
    node->dma_buffer = from->dma_buffer;
    node->driver_memory = from->driver_memory;
    node->driver_memory_bytes = from->driver_memory_bytes;
    node->injection = &entry->injection;
    entry->injection.manager = manager;
    return copy_parts(manager, node, from) ? node : NULL;
}

static bool description_is_usable(const struct sk_device_node *description)
{
    return description != NULL && description->name != NULL &&
           (description->identity.compatible != NULL ||
            description->identity.compatible_bytes == 0) &&
           (description->ranges != NULL || description->range_count == 0) &&
           (description->interrupts != NULL || description->interrupt_count == 0);
}

enum sk_status sk_device_manager_add_node(struct sk_device_manager *manager,
                                          const struct sk_device_node *description,
                                          struct sk_device_node **out_node)
{
    struct sk_device_node *node;
    size_t mark;

    if (!is_usable(manager) || !description_is_usable(description)) {
        return SK_ERR_INVALID;
    }
    mark = manager->memory_used;
    node = copy_node(manager, description);
    if (node == NULL) {
        manager->memory_used = mark;
        return SK_ERR_NO_MEMORY;
    }
    *manager->last = node;
    manager->last = &node->next;
    manager->node_count++;
    if (out_node != NULL) {
        *out_node = node;
    }
    return SK_OK;
}

static enum sk_status inject_buffer(const struct sk_device_manager *manager,
                                    struct sk_device_node *node,
                                    const struct sk_dma_constraints *constraints)
{
    struct injection *injection = injection_of(node);
    enum sk_status status = SK_ERR_UNREACHABLE;

    if (constraints->size_bytes == 0 || node->dma_buffer != NULL) {
        return SK_OK;
    }
    if (node->domain != NULL) {
        status = sk_io_buffer_create_constrained(&injection->buffer, node->domain, constraints);
    }
    if (status != SK_OK) {
        log_node(manager, SK_LOG_ERROR, node, "no I/O buffer for", status);
        return status;
    }
    sk_io_buffer_set_owner(&injection->buffer, node->name);
    injection->buffer_is_ours = true;
    node->dma_buffer = &injection->buffer;
    return SK_OK;
}

/* Memory that somebody else injected must be enough; it starts zeroed as ours does. */
static enum sk_status check_memory(const struct sk_device_node *node, size_t bytes)
{
    if (node->driver_memory_bytes < bytes) {
        return SK_ERR_SIZE;
    }
    if (((uintptr_t)node->driver_memory & (PRIVATE_ALIGNMENT - 1)) != 0) {
        return SK_ERR_ALIGNMENT;
    }
    (void)memset(node->driver_memory, 0, bytes);
    return SK_OK;
}

static enum sk_status make_memory(const struct sk_device_manager *manager,
                                  struct sk_device_node *node, size_t bytes)
{
    const struct sk_dma_fit fit = { .bytes = bytes, .alignment = PRIVATE_ALIGNMENT,
                                    .highest = { UINT64_MAX }, .quiet = true };
    struct injection *injection = injection_of(node);
    enum sk_status status;

    if (manager->config.private_arena == NULL) {
        return SK_ERR_NO_MEMORY;
    }
    status = sk_dma_arena_alloc(manager->config.private_arena, &fit, &injection->memory);
    if (status != SK_OK) {
        return status;
    }
    (void)memset(injection->memory.cpu, 0, (size_t)injection->memory.bytes);
    injection->memory_is_ours = true;
    node->driver_memory = injection->memory.cpu;
    node->driver_memory_bytes = bytes;
    return SK_OK;
}

static enum sk_status inject_memory(const struct sk_device_manager *manager,
                                    struct sk_device_node *node, size_t bytes)
{
    enum sk_status status;

    if (bytes == 0) {
        return SK_OK;
    }
    status = node->driver_memory != NULL ? check_memory(node, bytes)
                                         : make_memory(manager, node, bytes);
    if (status != SK_OK) {
        log_node(manager, SK_LOG_ERROR, node, "no private memory for", status);
    }
    return status;
}

/*
 * Takes out what the manager put in: first what the device may still see.
 * True if that had to be given up.
 */
static bool take_out(const struct sk_device_manager *manager, struct sk_device_node *node,
                     bool in_doubt)
{
    struct injection *injection = injection_of(node);
    enum sk_status status = SK_OK;

    if (injection->buffer_is_ours) {
        in_doubt = in_doubt || sk_io_buffer_is_busy(&injection->buffer);
        status = in_doubt ? sk_io_buffer_quarantine(&injection->buffer)
                          : sk_io_buffer_destroy(&injection->buffer);
        in_doubt = in_doubt || status != SK_OK;
        injection->buffer_is_ours = false;
        node->dma_buffer = NULL;
    }
    if (injection->memory_is_ours) {
        status = sk_dma_arena_free(manager->config.private_arena, &injection->memory);
        injection->memory_is_ours = false;
        node->driver_memory = NULL;
        node->driver_memory_bytes = 0;
    }
    (void)status; /* whoever refused has logged it, and there is no other way */
    node->driver_data = NULL;
    node->device_class = SK_DEVICE_CLASS_NONE;
    node->interface = NULL;
    return in_doubt;
}

/* Injects and probes; on a failure nothing of it is left. */
static enum sk_status bind(const struct sk_device_manager *manager, struct sk_device_node *node)
{
    const struct sk_driver *driver = node->driver;
    struct sk_driver_needs needs = { .private_bytes = 0 };
    enum sk_status status = SK_OK;

    if (driver->needs != NULL) {
        status = driver->needs(driver, node, &needs);
    }
    if (status != SK_OK && status != SK_ERR_AGAIN) {
        log_node(manager, SK_LOG_ERROR, node, "no needs known for", status);
    }
    if (status == SK_OK) {
        status = inject_buffer(manager, node, &needs.dma);
    }
    if (status == SK_OK) {
        status = inject_memory(manager, node, needs.private_bytes);
    }
    if (status == SK_OK) {
        status = driver->probe(driver, node);
    }
    if (status != SK_OK) {
        (void)take_out(manager, node, status == SK_ERR_IN_DOUBT);
    }
    return status;
}

/*
 * The first driver that matches and does not disown the device.  SK_OK;
 * SK_ERR_NOT_FOUND with *out_driver NULL (none) or not (the slot is empty).
 */
static enum sk_status choose(const struct sk_device_manager *manager, struct sk_device_node *node,
                             const struct sk_driver **out_driver)
{
    *out_driver = NULL;
    for (struct sk_driver_link *link = manager->drivers; link != NULL; link = link->next) {
        const struct sk_driver *driver = link->driver;
        enum sk_status status = SK_OK;

        if (!sk_driver_matches(driver, node)) {
            continue;
        }
        if (driver->identify != NULL) {
            status = driver->identify(driver, node);
        }
        if (status != SK_ERR_UNSUPPORTED) {
            *out_driver = driver;
            return status;
        }
    }
    return SK_ERR_NOT_FOUND;
}

static enum sk_device_state state_after(enum sk_status status)
{
    switch (status) {
    case SK_OK:
        return SK_DEVICE_STATE_BOUND;
    case SK_ERR_AGAIN:
        return SK_DEVICE_STATE_DEFERRED;
    default:
        return SK_DEVICE_STATE_FAILED;
    }
}

/* Probes a node that the manager has claimed; says its new state in the node. */
static enum sk_status probe_claimed(struct sk_device_manager *manager, struct sk_device_node *node)
{
    enum sk_status status = choose(manager, node, &node->driver);

    if (node->driver == NULL) {
        node->state = SK_DEVICE_STATE_NO_DRIVER;
    } else if (status == SK_ERR_NOT_FOUND) {
        node->state = SK_DEVICE_STATE_EMPTY;
        node->driver = NULL;
    } else if (status != SK_OK) {
        node->state = state_after(status);
        log_node(manager, SK_LOG_WARNING, node, "not identified by", status);
    } else {
        status = bind(manager, node);
        node->state = state_after(status);
    }
    return status;
}

enum sk_status sk_device_manager_probe(struct sk_device_manager *manager,
                                       struct sk_device_node *node)
{
    enum sk_status status;

    if (!is_ours(manager, node)) {
        return SK_ERR_INVALID;
    }
    status = sk_device_node_claim(node);
    if (status != SK_OK) {
        return status;
    }
    status = probe_claimed(manager, node);
    node->probe_status = status;
    if (status == SK_OK) {
        injection_of(node)->older = manager->newest;
        manager->newest = node;
        log_node(manager, SK_LOG_INFO, node, "bound to", status);
    } else {
        sk_device_node_unclaim(node);
    }
    return status;
}

/* One walk over the nodes; returns how many were bound. */
static size_t probe_round(struct sk_device_manager *manager, bool all)
{
    size_t bound = 0;

    /* A probe may add nodes behind this one; they are seen in the same walk. */
    for (struct sk_device_node *node = manager->first; node != NULL; node = node->next) {
        bool waiting = node->state == SK_DEVICE_STATE_DEFERRED ||
                       node->state == SK_DEVICE_STATE_FOUND;

        if (all || waiting) {
            bound += sk_device_manager_probe(manager, node) == SK_OK;
        }
    }
    return bound;
}

static void count_states(const struct sk_device_manager *manager,
                         struct sk_device_manager_summary *summary)
{
    for (const struct sk_device_node *node = manager->first; node != NULL; node = node->next) {
        summary->empty += node->state == SK_DEVICE_STATE_EMPTY;
        summary->unmatched += node->state == SK_DEVICE_STATE_NO_DRIVER;
        summary->deferred += node->state == SK_DEVICE_STATE_DEFERRED;
        summary->failed += node->state == SK_DEVICE_STATE_FAILED;
    }
}

enum sk_status sk_device_manager_probe_all(struct sk_device_manager *manager,
                                           struct sk_device_manager_summary *out_summary)
{
    struct sk_device_manager_summary summary = { 0 };
    size_t bound;

    if (!is_usable(manager)) {
        return SK_ERR_INVALID;
    }
    bound = probe_round(manager, true);
    summary.bound = bound;
    /* Each further round binds a node, so there are at most as many as nodes. */
    for (size_t round = 0; bound > 0 && round < manager->node_count; round++) {
        bound = probe_round(manager, false);
        summary.bound += bound;
    }
    count_states(manager, &summary);
    if (out_summary != NULL) {
        *out_summary = summary;
    }
    return SK_OK;
}

/* Takes a node out of the list of the bound ones. */
static void forget(struct sk_device_manager *manager, const struct sk_device_node *node)
{
    struct sk_device_node **place = &manager->newest;

    while (*place != NULL && *place != node) {
        place = &injection_of(*place)->older;
    }
    if (*place != NULL) {
        *place = injection_of(node)->older;
    }
}

enum sk_status sk_device_manager_remove(struct sk_device_manager *manager,
                                        struct sk_device_node *node)
{
    enum sk_status status;

    if (!is_ours(manager, node)) {
        return SK_ERR_INVALID;
    }
    if (node->state != SK_DEVICE_STATE_BOUND) {
        return SK_ERR_NOT_FOUND;
    }
    if (node->driver->remove == NULL) {
        return SK_ERR_UNSUPPORTED;
    }
    status = node->driver->remove(node->driver, node);
    if (status == SK_ERR_BUSY) {
        return status;
    }
    if (take_out(manager, node, status != SK_OK) && status == SK_OK) {
        status = SK_ERR_IN_DOUBT;
    }
    log_node(manager, status == SK_OK ? SK_LOG_INFO : SK_LOG_ERROR, node, "removed from", status);
    forget(manager, node);
    node->state = SK_DEVICE_STATE_REMOVED;
    node->probe_status = status;
    node->driver = NULL;
    sk_device_node_unclaim(node);
    return status;
}

enum sk_status sk_device_manager_remove_all(struct sk_device_manager *manager)
{
    enum sk_status first = SK_OK;
    struct sk_device_node *node;

    if (!is_usable(manager)) {
        return SK_ERR_INVALID;
    }
    node = manager->newest;
    while (node != NULL) {
        struct sk_device_node *older = injection_of(node)->older;
        enum sk_status status = sk_device_manager_remove(manager, node);

        first = first == SK_OK ? status : first;
        node = older;
    }
    return first;
}

static bool same_text(const char *a, const char *b)
{
    size_t i = 0;

    while (a[i] == b[i] && a[i] != '\0') {
        i++;
    }
    return a[i] == b[i];
}

struct sk_device_node *sk_device_manager_find(const struct sk_device_manager *manager,
                                              const char *name)
{
    struct sk_device_node *node = sk_device_manager_first(manager);

    while (name != NULL && node != NULL && !same_text(node->name, name)) {
        node = node->next;
    }
    return name == NULL ? NULL : node;
}

struct sk_device_node *sk_device_manager_find_class(const struct sk_device_manager *manager,
                                                    enum sk_device_class device_class,
                                                    const struct sk_device_node *after)
{
    struct sk_device_node *node = after == NULL ? sk_device_manager_first(manager) : after->next;

    while (node != NULL &&
           (node->state != SK_DEVICE_STATE_BOUND || node->device_class != device_class)) {
        node = node->next;
    }
    return node;
}

struct sk_device_node *sk_device_manager_first(const struct sk_device_manager *manager)
{
    return is_usable(manager) ? manager->first : NULL;
}
