/* SPDX-License-Identifier: MIT */
/* Stands in for a room of the library that is not built yet: nothing is found, nothing works. */
#include <stdint.h>
int sk_device_manager_add_driver(void);
int sk_device_manager_add_driver(void) { return 0; }
int sk_device_manager_add_node(void);
int sk_device_manager_add_node(void) { return 0; }
void *sk_device_manager_find_class(void);
void *sk_device_manager_find_class(void) { return 0; }
void *sk_device_manager_first(void);
void *sk_device_manager_first(void) { return 0; }
int sk_device_manager_init(void);
int sk_device_manager_init(void) { return 0; }
int sk_device_manager_probe(void);
int sk_device_manager_probe(void) { return 0; }
int sk_device_manager_probe_all(void);
int sk_device_manager_probe_all(void) { return 0; }
uint64_t sk_device_node_address(void);
uint64_t sk_device_node_address(void) { return 0; }
int sk_device_state_name(void);
int sk_device_state_name(void) { return 0; }
uint64_t sk_driver_matches(void);
uint64_t sk_driver_matches(void) { return 0; }
