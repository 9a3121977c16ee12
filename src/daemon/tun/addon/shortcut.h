#ifndef NEARFIELD_SHORTCUT_H
#define NEARFIELD_SHORTCUT_H

#include <stdbool.h>
#include <stdint.h>

/* Bytes of a flow's addresses and ports: source, destination, source port, destination port, as a packet has them. */
enum { SHORTCUT_BYTES = 12 };

/* Puts a program behind a device. Answers two descriptors, of its map and of its place; false: none here. */
bool shortcut_open(const char *name, int *map, int *link);
/* What has `from` becomes `to`. False when there is no room. */
bool shortcut_put(int map, const uint8_t *from, const uint8_t *to);
void shortcut_remove(int map, const uint8_t *from);

#endif
