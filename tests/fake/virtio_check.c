/* SPDX-License-Identifier: MIT */
/* The end of a test: did the driver keep to the specification? */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "fake/virtio_device.h"

void fake_device_check(const struct fake_device *fake)
{
    for (unsigned i = 0; i < fake->violations && i < FAKE_VIOLATIONS_KEPT; i++) {
        print_error("violation: %s\n", fake->violation[i]);
    }
    assert_int_equal(fake->violations, 0);
}

void fake_device_detach(struct fake_device *fake)
{
    fake_device_check(fake);
    fake_device_destroy(fake);
}
