/* SPDX-License-Identifier: MIT */
#include "base/door.h"

#if defined(SKI_DOOR_HOOKED)
uint64_t (*ski_door_hook)(const void *address, unsigned width, uint64_t value);
#else
typedef int ski_door_is_inline; /* a source file needs a declaration */
#endif
