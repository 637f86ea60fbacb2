/* SPDX-License-Identifier: MIT */
/* Times that end what would hang and measure nothing: no machine is too busy for them. */
#ifndef TESTS_HOSTED_PATIENT_H
#define TESTS_HOSTED_PATIENT_H

#include <skio_hosted/vhost_user.h>

#define PATIENT_NS UINT64_C(60000000000)

static inline void be_patient(struct sk_vhost_user_disk_options *options)
{
    options->driver.timeout_ns = PATIENT_NS;
    options->driver.control_timeout_ns = PATIENT_NS;
    options->vhost_user.message_ns = PATIENT_NS;
    options->vhost_user.reconnect_ns = PATIENT_NS;
}

#endif
