/* SPDX-License-Identifier: MIT */
/* Stands in for a room of the library that is not built yet: nothing is found, nothing works. */
#include <stdint.h>
int sk_block_feature_name(void);
int sk_block_feature_name(void) { return 0; }
int sk_block_flush(void);
int sk_block_flush(void) { return 0; }
int sk_block_get_info(void);
int sk_block_get_info(void) { return 0; }
void *sk_block_get_queue(void);
void *sk_block_get_queue(void) { return 0; }
int sk_block_get_state(void);
int sk_block_get_state(void) { return 0; }
int sk_block_get_statistics(void);
int sk_block_get_statistics(void) { return 0; }
int sk_block_poll(void);
int sk_block_poll(void) { return 0; }
int sk_block_read(void);
int sk_block_read(void) { return 0; }
int sk_block_recover(void);
int sk_block_recover(void) { return 0; }
int sk_block_state_name(void);
int sk_block_state_name(void) { return 0; }
int sk_block_submit(void);
int sk_block_submit(void) { return 0; }
int sk_block_wait(void);
int sk_block_wait(void) { return 0; }
int sk_block_write(void);
int sk_block_write(void) { return 0; }
extern const char sk_virtio_blk_mmio_driver[256];
const char sk_virtio_blk_mmio_driver[256];
