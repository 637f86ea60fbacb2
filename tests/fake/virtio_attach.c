/* SPDX-License-Identifier: MIT */
/* The fake device in the environment that the tests use. */
#include "fake/virtio_device.h"
#include "support/environment.h"

static void *reach(void *context, uint64_t daddr, uint64_t bytes)
{
    return test_environment_reach(context, daddr, bytes);
}

/* A device has no pointer to its environment but this one. */
static void interrupt(void *context)
{
    struct fake_device *fake = context;

    (void)test_environment_interrupt(fake->config.reach_context, fake->line);
}

static void run(void *context)
{
    (void)fake_device_run(context, UINT_MAX);
}

struct fake_device *fake_device_attach(struct test_environment *env, uint64_t base, uint32_t line,
                                       const struct fake_device_config *config)
{
    struct fake_device_config attached = *config;
    struct fake_device *fake;

    attached.reach = reach;
    attached.reach_context = env;
    attached.interrupt = interrupt;
    fake = fake_device_create(&attached);
    fake->config.interrupt_context = fake;
    fake->line = line;
    test_environment_add_mmio(env, base, &fake->mmio);
    env->on_wait = run;
    env->on_wait_context = fake;
    return fake;
}
