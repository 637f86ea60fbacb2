/* SPDX-License-Identifier: MIT */
/* A disk over vhost-user with all that it needs: process, memory, transport, node, driver. */
#include <skio_hosted/vhost_user.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct sk_vhost_user_disk {
    struct sk_vhost_user_disk_options options;
    struct sk_process *process;
    const struct sk_process_region *region; /* the one that was made for this disk */
    struct sk_vhost_user *vhost_user;
    struct sk_driver driver;
    struct sk_device_node node;
    struct sk_io_buffer buffer; /* the driver's */
    void *driver_memory;
    bool probed;
    pthread_mutex_t lock; /* of the two below: the transport's thread logs, too */
    bool opening;         /* this disk, or one that shares its process */
    char error[SK_VHOST_USER_ERROR_BYTES]; /* the first error line of that: people want to know */
};

/* ---- Log --------------------------------------------------------------------------------- */

/* Hands lines on, and keeps the first that says why opening fails. */
static void write_log(void *context, enum sk_log_level level, const char *line)
{
    struct sk_vhost_user_disk *disk = context;
    const struct sk_process_options *own = &disk->options.process;

    (void)pthread_mutex_lock(&disk->lock);
    if (disk->opening && level == SK_LOG_ERROR && disk->error[0] == '\0') {
        (void)snprintf(disk->error, sizeof(disk->error), "%s", line);
    }
    (void)pthread_mutex_unlock(&disk->lock);
    if (level > own->log_level) {
        return;
    }
    if (own->write_log != NULL) {
        own->write_log(own->log_context, level, line);
    } else {
        (void)fprintf(stderr, "skio: %s: %s\n", sk_log_level_name(level), line);
    }
}

/* ---- Opening ----------------------------------------------------------------------------- */

static enum sk_status make_process(struct sk_vhost_user_disk *disk)
{
    struct sk_process_options options = {
        .write_log = write_log,
        .log_context = disk,
        .log_level = disk->options.process.log_level,
    };

    if (disk->options.shares != NULL) {
        disk->process = disk->options.shares->process;
        return SK_OK;
    }
    return sk_process_create(&options, &disk->process);
}

/* The rings' memory, and what is left for requests, in one region. */
static enum sk_status make_memory(struct sk_vhost_user_disk *disk)
{
    struct sk_driver_needs needs = { .private_bytes = 0 };
    const struct sk_process_region *region;
    enum sk_status status = disk->driver.needs(&disk->driver, &disk->node, &needs);
    size_t private_bytes;

    if (status != SK_OK) {
        return status;
    }
    private_bytes = (needs.private_bytes + 63) & ~(size_t)63;
    disk->driver_memory = aligned_alloc(64, private_bytes);
    if (disk->driver_memory == NULL) {
        return SK_ERR_NO_MEMORY;
    }
    (void)memset(disk->driver_memory, 0, private_bytes);
    disk->node.driver_memory = disk->driver_memory;
    disk->node.driver_memory_bytes = private_bytes;
    status = sk_process_add_region(disk->process,
                                   disk->options.memory_bytes + needs.dma.size_bytes,
                                   disk->options.pages, &region);
    if (status != SK_OK) {
        return status;
    }
    disk->region = region;
    disk->node.domain = region->domain;
    disk->node.dma_buffer = &disk->buffer;
    return sk_io_buffer_create_constrained(&disk->buffer, region->domain, &needs.dma);
}

static enum sk_status connect_disk(struct sk_vhost_user_disk *disk, const char *address,
                                   char *out_error)
{
    disk->options.vhost_user.queue_count = disk->options.driver.queue_count;
    return sk_vhost_user_open(disk->process, address, &disk->options.vhost_user,
                              &disk->vhost_user, out_error);
}

static enum sk_status probe(struct sk_vhost_user_disk *disk)
{
    enum sk_status status;

    disk->node.transport = sk_vhost_user_transport(disk->vhost_user);
    disk->node.interrupts =
        sk_vhost_user_interrupts(disk->vhost_user, &disk->node.interrupt_count);
    status = sk_device_node_claim(&disk->node);
    if (status == SK_OK) {
        status = disk->driver.probe(&disk->driver, &disk->node);
    }
    disk->probed = status == SK_OK;
    return status;
}

static void fill(struct sk_vhost_user_disk *disk)
{
    disk->driver = sk_virtio_blk_driver;
    disk->driver.options = &disk->options.driver;
    disk->node.name = "vhost-user";
    disk->node.platform = sk_process_platform(disk->process);
    disk->node.identity = (struct sk_device_identity){ .bus = SK_DEVICE_BUS_VIRTIO,
                                                       .device = SK_VIRTIO_DEVICE_BLOCK };
}

static enum sk_status open_parts(struct sk_vhost_user_disk *disk, const char *address,
                                 char *out_error)
{
    enum sk_status status = make_process(disk);

    if (status != SK_OK) {
        return status;
    }
    fill(disk);
    status = make_memory(disk);
    if (status == SK_OK) {
        status = connect_disk(disk, address, out_error);
    }
    return status == SK_OK ? probe(disk) : status;
}

/* Gives back what there is; a device in doubt keeps its memory, and what knows of it. */
static enum sk_status close_parts(struct sk_vhost_user_disk *disk)
{
    enum sk_status status = SK_OK;

    sk_vhost_user_close(disk->vhost_user);
    disk->vhost_user = NULL;
    if (sk_io_buffer_is_valid(&disk->buffer)) {
        status = sk_io_buffer_destroy(&disk->buffer);
    }
    if (status == SK_OK && disk->options.shares == NULL) {
        status = sk_process_destroy(disk->process);
    }
    if (status != SK_OK) {
        return SK_ERR_IN_DOUBT;
    }
    free(disk->driver_memory);
    (void)pthread_mutex_destroy(&disk->lock);
    free(disk);
    return SK_OK;
}

static void listen_for_errors(struct sk_vhost_user_disk *listens, bool opening)
{
    (void)pthread_mutex_lock(&listens->lock);
    listens->opening = opening;
    if (opening) {
        listens->error[0] = '\0';
    }
    (void)pthread_mutex_unlock(&listens->lock);
}

static void explain(char *out_error, const char *address, enum sk_status status)
{
    char text[SK_VHOST_USER_ERROR_BYTES];

    if (out_error[0] == '\0') {
        (void)snprintf(out_error, SK_VHOST_USER_ERROR_BYTES, "%s", sk_status_text(status));
    }
    if (strncmp(out_error, address, strnlen(address, 100)) != 0) {
        (void)snprintf(text, sizeof(text), "%.100s: %.150s", address, out_error);
        (void)memcpy(out_error, text, sizeof(text));
    }
}

enum sk_status sk_vhost_user_disk_open(const char *address,
                                       const struct sk_vhost_user_disk_options *options,
                                       struct sk_vhost_user_disk **out_disk, char *out_error)
{
    static const struct sk_vhost_user_disk_options defaults = SK_VHOST_USER_DISK_OPTIONS_DEFAULT;
    char own_error[SK_VHOST_USER_ERROR_BYTES];
    struct sk_vhost_user_disk *disk = calloc(1, sizeof(*disk));
    struct sk_vhost_user_disk *listens; /* the one that the process's log lines go to */
    enum sk_status status;

    *out_disk = NULL;
    out_error = out_error == NULL ? own_error : out_error;
    out_error[0] = '\0';
    if (disk == NULL || address == NULL) {
        free(disk);
        return disk == NULL ? SK_ERR_NO_MEMORY : SK_ERR_INVALID;
    }
    disk->options = options == NULL ? defaults : *options;
    listens = disk->options.shares != NULL ? disk->options.shares : disk;
    (void)pthread_mutex_init(&disk->lock, NULL);
    listen_for_errors(listens, true);
    status = open_parts(disk, address, out_error);
    listen_for_errors(listens, false);
    if (status == SK_OK) {
        *out_disk = disk;
        out_error[0] = '\0';
        return SK_OK;
    }
    if (out_error[0] == '\0') {
        (void)snprintf(out_error, SK_VHOST_USER_ERROR_BYTES, "%s", listens->error);
    }
    explain(out_error, address, status);
    (void)close_parts(disk);
    return status;
}

/* ---- Closing and use --------------------------------------------------------------------- */

/*
 * True if somebody else than the driver has memory of the disk's regions: of
 * all of the process, or of its own if the process is another disk's.
 */
static bool is_in_use(const struct sk_vhost_user_disk *disk)
{
    uint64_t live = 0;

    for (size_t i = 0; i < sk_process_region_count(disk->process); i++) {
        const struct sk_process_region *region = sk_process_get_region(disk->process, i);
        struct sk_dma_domain_statistics statistics;

        if (disk->options.shares == NULL || region == disk->region) {
            sk_dma_domain_get_statistics(region->domain, &statistics);
            live += statistics.buffers_live + statistics.mappings_live;
        }
    }
    return live > 1;
}

enum sk_status sk_vhost_user_disk_close(struct sk_vhost_user_disk *disk)
{
    enum sk_status status;

    if (disk == NULL) {
        return SK_OK;
    }
    if (is_in_use(disk)) {
        return SK_ERR_BUSY;
    }
    status = disk->driver.remove(&disk->driver, &disk->node);
    if (status == SK_ERR_BUSY) {
        return status;
    }
    sk_device_node_unclaim(&disk->node);
    return close_parts(disk);
}

struct sk_block_device *sk_vhost_user_disk_device(struct sk_vhost_user_disk *disk)
{
    return sk_block_of_node(&disk->node);
}

struct sk_process *sk_vhost_user_disk_process(struct sk_vhost_user_disk *disk)
{
    return disk->process;
}

struct sk_vhost_user *sk_vhost_user_disk_transport(struct sk_vhost_user_disk *disk)
{
    return disk->vhost_user;
}

enum sk_status sk_vhost_user_disk_add_region(struct sk_vhost_user_disk *disk, uint64_t bytes,
                                             const struct sk_process_region **out_region)
{
    enum sk_status status =
        sk_process_add_region(disk->process, bytes, disk->options.pages, out_region);

    return status == SK_OK ? sk_vhost_user_share_regions(disk->vhost_user) : status;
}

/* The event fd of a queue's own interrupt. */
static int queue_event(const struct sk_vhost_user_disk *disk, uint32_t index)
{
    size_t count;
    const struct sk_interrupt *interrupts = sk_vhost_user_interrupts(disk->vhost_user, &count);

    return index < count - 1 ? (int)interrupts[1 + index].cells[0] : -1;
}

int sk_vhost_user_disk_queue_fd(struct sk_vhost_user_disk *disk, uint32_t index)
{
    struct sk_block_device *device = sk_vhost_user_disk_device(disk);

    return sk_block_get_queue(device, index) == NULL ? -1 : queue_event(disk, index);
}

enum sk_status sk_vhost_user_disk_arm(struct sk_vhost_user_disk *disk, uint32_t index)
{
    struct sk_block_queue *queue = sk_block_get_queue(sk_vhost_user_disk_device(disk), index);

    if (queue == NULL) {
        return SK_ERR_RANGE;
    }
    /* Cleared first: a signal from now on stays. */
    (void)sk_process_take(disk->process, queue_event(disk, index));
    return sk_block_arm(queue);
}
