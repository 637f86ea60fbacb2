/* SPDX-License-Identifier: MIT */
#include "backend_private.h"

#include <linux/magic.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

/* ---- Mapping ----------------------------------------------------------------------------- */

/* What mappings of the file are multiples of. */
static bool page_of(int fd, uint64_t *out_page)
{
    struct statfs fs;

    if (fstatfs(fd, &fs) != 0) {
        return false;
    }
    *out_page = fs.f_type == HUGETLBFS_MAGIC ? (uint64_t)fs.f_bsize
                                             : (uint64_t)sysconf(_SC_PAGESIZE);
    return true;
}

enum sk_status ski_backend_map(int fd, uint64_t offset, struct ski_device_region *region)
{
    struct stat stat;
    uint64_t page;
    uint64_t end;
    uint64_t skip; /* of the mapping, before the region */
    void *mapping;

    if (region->bytes == 0) {
        return SK_ERR_SIZE;
    }
    if (fd < 0 || fstat(fd, &stat) != 0 || !page_of(fd, &page)) {
        return SK_ERR_IO;
    }
    if (!sk_checked_add(offset, region->bytes, &end) || end > INT64_MAX) {
        return SK_ERR_RANGE;
    }
    if (!S_ISREG(stat.st_mode) || end > (uint64_t)stat.st_size) {
        return SK_ERR_SIZE; /* what lies behind the end of a file faults */
    }
    skip = offset % page;
    region->mapping_bytes = (region->bytes + skip + page - 1) / page * page;
    mapping = mmap(NULL, (size_t)region->mapping_bytes, PROT_READ | PROT_WRITE,
                   MAP_SHARED | MAP_NORESERVE, fd, (off_t)(offset - skip));
    if (mapping == MAP_FAILED) {
        return SK_ERR_IO;
    }
    region->mapping = mapping;
    region->host = (uint8_t *)mapping + skip;
    return SK_OK;
}

void ski_backend_unmap(const struct ski_device_region *region)
{
    if (region->mapping != NULL) {
        (void)munmap(region->mapping, (size_t)region->mapping_bytes);
    }
}

/* ---- Memory that goes away --------------------------------------------------------------- */

static _Thread_local struct ski_backend_guard guard;

static pthread_mutex_t guard_lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned guard_users;
static struct sigaction guard_before;

struct ski_backend_guard *ski_backend_guard(void)
{
    return &guard;
}

static bool replace_page(const struct ski_device_region *region, uintptr_t address)
{
    uintptr_t begin = (uintptr_t)region->mapping;
    uintptr_t page = 4096;

    if (region->mapping == NULL || address - begin >= region->mapping_bytes) {
        return false;
    }
    /* A page of the file if those are ordinary ones; of huge ones, all of the mapping. */
    if (mmap((void *)(address & ~(page - 1)), page, PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != MAP_FAILED) {
        return true;
    }
    return mmap((void *)begin, (size_t)region->mapping_bytes, PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != MAP_FAILED;
}

/* Runs on the thread that faulted, and only system calls. */
static void on_bus_error(int number, siginfo_t *info, void *context)
{
    uintptr_t address = (uintptr_t)info->si_addr;
    bool done = false;

    if (info->si_code == BUS_ADRERR && guard.memory != NULL) {
        for (uint32_t i = 0; i < guard.memory->count && !done; i++) {
            done = replace_page(&guard.memory->regions[i], address);
        }
    }
    if (!done && info->si_code == BUS_ADRERR && guard.record != NULL) {
        done = replace_page(guard.record, address);
    }
    if (done) {
        guard.hits++;
        return;
    }
    if ((guard_before.sa_flags & SA_SIGINFO) != 0 && guard_before.sa_sigaction != NULL) {
        guard_before.sa_sigaction(number, info, context);
    } else if (guard_before.sa_handler != SIG_DFL && guard_before.sa_handler != SIG_IGN) {
        guard_before.sa_handler(number);
    } else {
        (void)signal(SIGBUS, SIG_DFL); /* and the instruction faults again */
    }
}

void ski_backend_guard_install(void)
{
    struct sigaction action = { .sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK };

    action.sa_sigaction = on_bus_error;
    (void)sigemptyset(&action.sa_mask);
    (void)pthread_mutex_lock(&guard_lock);
    if (guard_users++ == 0) {
        (void)sigaction(SIGBUS, &action, &guard_before);
    }
    (void)pthread_mutex_unlock(&guard_lock);
}

void ski_backend_guard_remove(void)
{
    (void)pthread_mutex_lock(&guard_lock);
    if (--guard_users == 0) {
        (void)sigaction(SIGBUS, &guard_before, NULL);
    }
    (void)pthread_mutex_unlock(&guard_lock);
}
