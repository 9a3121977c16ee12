/* A copy of what a caller says, for who listens in. The caller never waits for it, and hardly ever pays for it. */
#define _GNU_SOURCE
#include "relay.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

/* What who listens in may lag behind. */
#define TAP_BYTES (1024 * 1024)
/*
 * Small words leave together, and those of all copies in the same moment: each piece costs the whole way to the developer,
 * whatever is in it, and callers wait for a processor meanwhile. Who has said nothing for so long is heard at once.
 */
#define GATHER_SECONDS 0.2
#define PIECE_BYTES (32 * 1024)
/* Room that is worth keeping. */
#define ROOM_BYTES (64 * 1024)

/* When those that hold something are looked at; 0 for never. */
static double due;

static size_t held(const struct pair *pair) { return pair->tap.rest_length - pair->tap.rest_at; }

static void watch(struct pair *pair, uint32_t events) {
  struct epoll_event event = {.events = events, .data.ptr = &pair->tap};
  epoll_ctl(relay_epoll, EPOLL_CTL_MOD, pair->tap.fd, &event);
}

int tap_open(struct pair *pair) {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends)) return -1;
  if (send(ends[1], "x", 1, MSG_NOSIGNAL) != 1) {
    close(ends[0]);
    close(ends[1]);
    return -1;
  }
  pair->tap.fd = ends[0];
  return ends[1];
}

/*
 * Linux tells who reads from one end of a socket pair that the other was closed with something unread in it (unix(7):
 * ECONNRESET), and the byte of `tap_open` is such a thing: it is taken out only when all was said.
 */
void tap_close(struct pair *pair, int is_whole) {
  char byte;
  if (pair->tap.fd < 0) return;
  if (is_whole && read(pair->tap.fd, &byte, 1) < 0) is_whole = 0;
  close(pair->tap.fd);
  free(pair->tap.rest);
  pair->tap.rest = 0;
  pair->tap.rest_length = pair->tap.rest_at = pair->tap_room = 0;
  pair->tap.fd = -1;
}

/* How much left; less than `length` when there is no room now, -1 when nobody listens any more. */
static ssize_t send_some(struct pair *pair, const char *bytes, size_t length) {
  size_t sent = 0;
  pair->tap_left = relay_now();
  while (sent < length) {
    ssize_t count = send(pair->tap.fd, bytes + sent, length - sent, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (count < 0 && errno != EAGAIN) return -1;
    if (count < 0) {
      pair->tap_is_blocked = 1;
      watch(pair, EPOLLOUT);
      break;
    }
    sent += count;
  }
  return sent;
}

static void flush(struct pair *pair) {
  struct side *tap = &pair->tap;
  ssize_t sent = held(pair) ? send_some(pair, tap->rest + tap->rest_at, held(pair)) : 0;
  if (sent < 0) {
    tap_close(pair, 0);
    return;
  }
  tap->rest_at += sent;
  if (held(pair)) return;
  tap->rest_at = tap->rest_length = 0;
  if (pair->tap_room > ROOM_BYTES) {
    free(tap->rest);
    tap->rest = 0;
    pair->tap_room = 0;
  }
  if (pair->tap_is_ending) tap_close(pair, 1);
}

/* Answers 0 when it would be too much. */
static int keep(struct pair *pair, const char *bytes, size_t length) {
  struct side *tap = &pair->tap;
  if (held(pair) + length > TAP_BYTES) return 0;
  if (tap->rest_length + length > pair->tap_room) {
    if (tap->rest_at) memmove(tap->rest, tap->rest + tap->rest_at, held(pair));
    tap->rest_length = held(pair);
    tap->rest_at = 0;
    size_t room = pair->tap_room ? pair->tap_room : 1024;
    while (room < tap->rest_length + length) room *= 2;
    char *rest = room > pair->tap_room ? realloc(tap->rest, room) : tap->rest;
    if (!rest) return 0;
    tap->rest = rest;
    pair->tap_room = room;
  }
  memcpy(tap->rest + tap->rest_length, bytes, length);
  tap->rest_length += length;
  return 1;
}

void tap_write(struct pair *pair, const char *bytes, size_t length) {
  if (pair->tap.fd < 0) return;
  if (!pair->tap_is_blocked && !held(pair) && length >= PIECE_BYTES) {
    ssize_t sent = send_some(pair, bytes, length);
    if (sent < 0) {
      tap_close(pair, 0);
      return;
    }
    bytes += sent;
    length -= sent;
  }
  if (!length) return;
  if (!keep(pair, bytes, length)) {
    tap_close(pair, 0);
    return;
  }
  if (pair->tap_is_blocked) return;
  double now = relay_now();
  if (held(pair) >= PIECE_BYTES || now - pair->tap_left >= GATHER_SECONDS) flush(pair);
  else if (!due) due = now + GATHER_SECONDS;
}

void tap_end(struct pair *pair) {
  pair->tap_is_ending = 1;
  if (pair->tap.fd >= 0 && !pair->tap_is_blocked) flush(pair);
}

void tap_handle(struct pair *pair, uint32_t events) {
  if (pair->tap.fd < 0) return;
  if (events & (EPOLLERR | EPOLLHUP)) {
    tap_close(pair, 0);
    return;
  }
  pair->tap_is_blocked = 0;
  watch(pair, 0);
  flush(pair);
}

int taps_milliseconds(void) {
  if (!due) return -1;
  double left = (due - relay_now()) * 1e3;
  return left > 0 ? (int)left + 1 : 0;
}

int taps_are_due(void) {
  if (!due || relay_now() < due) return 0;
  due = 0;
  return 1;
}

void tap_flush(struct pair *pair) {
  if (pair->tap.fd >= 0 && !pair->tap_is_blocked && held(pair)) flush(pair);
}
