/* SPDX-License-Identifier: MIT */
#include "support/iommu.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static bool counts_down(unsigned *counter)
{
    return *counter != 0 && --*counter == 0;
}

static enum sk_status map(void *context, sk_paddr paddr, uint64_t bytes,
                          enum sk_dma_direction direction, sk_daddr *out_daddr)
{
    struct test_iommu *iommu = context;
    uint64_t offset = paddr.raw % SK_DMA_PAGE_BYTES;
    uint64_t pages = (offset + bytes + SK_DMA_PAGE_BYTES - 1) / SK_DMA_PAGE_BYTES;

    iommu->calls++;
    if (counts_down(&iommu->fail_call)) {
        return SK_ERR_NO_MEMORY;
    }
    assert_true(bytes > 0 && iommu->live < TEST_IOMMU_MAPS);
    iommu->partial += offset != 0 || bytes % SK_DMA_PAGE_BYTES != 0;
    *out_daddr = sk_daddr_make(iommu->next + offset);
    iommu->maps[iommu->live++] =
        (struct test_iommu_map){ paddr.raw, out_daddr->raw, bytes, direction };
    /* A hole behind each map, so that two never look like one. */
    iommu->next += (pages + 1) * SK_DMA_PAGE_BYTES;
    return SK_OK;
}

static enum sk_status unmap(void *context, sk_daddr daddr, uint64_t bytes)
{
    struct test_iommu *iommu = context;
    size_t i = 0;

    iommu->calls++;
    if (counts_down(&iommu->fail_call) || counts_down(&iommu->fail_unmap)) {
        return SK_ERR_TIMEOUT;
    }
    while (i < iommu->live && iommu->maps[i].daddr != daddr.raw) {
        i++;
    }
    assert_true(i < iommu->live);
    assert_int_equal(iommu->maps[i].bytes, bytes);
    iommu->out_of_order += i + 1 != iommu->live;
    iommu->live--;
    memmove(&iommu->maps[i], &iommu->maps[i + 1], (iommu->live - i) * sizeof(iommu->maps[0]));
    return SK_OK;
}

void test_iommu_init(struct test_iommu *iommu, uint64_t first)
{
    memset(iommu, 0, sizeof(*iommu));
    iommu->hooks = (struct sk_dma_iommu){ .context = iommu, .map = map, .unmap = unmap };
    iommu->next = first;
}

void *test_iommu_reach(const struct test_iommu *iommu, const struct test_environment *env,
                       uint64_t daddr, uint64_t bytes)
{
    for (size_t i = 0; i < iommu->live; i++) {
        const struct test_iommu_map *one = &iommu->maps[i];
        uint64_t offset = daddr - one->daddr;

        if (offset < one->bytes && bytes <= one->bytes - offset) {
            return test_environment_reach(env, one->paddr + offset + TEST_DEVICE_OFFSET, bytes);
        }
    }
    return NULL;
}
