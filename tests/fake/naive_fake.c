/* SPDX-License-Identifier: MIT */
#include "fake/naive_fake.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

struct fake_device *naive_open_fake(struct naive *naive, const struct fake_device_config *config)
{
    struct fake_device_config own = *config;
    struct fake_device *fake;

    naive_open(naive);
    own.reach = naive_reach;
    own.reach_context = naive;
    own.interrupt = naive_interrupt;
    own.interrupt_context = naive;
    fake = fake_device_create(&own);
    naive->mmio = &fake->mmio;
    naive->legacy = config->legacy;
    return fake;
}

struct fake_device *naive_start_fake(struct naive *naive, uint64_t features)
{
    const struct fake_device_config config = FAKE_DEVICE_CONFIG_DEFAULT;
    struct fake_device *fake = naive_open_fake(naive, &config);

    naive_start(naive, features);
    return fake;
}

void naive_close_fake(struct naive *naive, struct fake_device *fake)
{
    fake_device_detach(fake);
    naive_close(naive);
}

void naive_expect_violation(struct fake_device *fake, const char *part)
{
    bool found = false;

    for (unsigned i = 0; i < fake->violations && i < FAKE_VIOLATIONS_KEPT; i++) {
        found = found || strstr(fake->violation[i], part) != NULL;
    }
    if (!found) {
        print_error("no violation says \"%s\"; there are %u, the first is \"%s\"\n", part,
                    fake->violations, fake->violation[0]);
    }
    assert_true(found);
    fake_device_forgive(fake);
}
