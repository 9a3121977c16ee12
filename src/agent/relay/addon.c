/*
 * Joins pairs of TCP connections in a thread of its own: what passes through an agent costs the application as little as
 * a copy can. It decides nothing and reads nothing: JavaScript says which connection goes where.
 *
 *   start()                            the thread; once a process
 *   pass(fd, address, port, ms)        joins a duplicate of `fd` with a new connection there; the caller closes its own.
 *                                      A connection that cannot be made is a reset for the other end. `false` when there
 *                                      is no room or no way: then nothing has happened to `fd`.
 *   copy(fd, address, port, ms)        the same, and a descriptor where what the caller says can be read, which the caller
 *                                      closes: `[joined, descriptor]`. The copy ends as the caller does, and is reset when
 *                                      it was not read fast enough. -1: there is no copy.
 *   addDoor(fd, address, port, ms)     accepts at a duplicate of the listening `fd` while it is open, and passes what it
 *                                      accepts; the number of the door, or -1. A new one is shut.
 *   setOpen(door, isOpen)              nothing is accepted any more when this returns from shutting it
 *   descriptor(door)                   another descriptor of the listening socket, which the caller closes; or -1
 *   removeDoor(door)
 *   count()                            pairs that are open
 *   stop()                             resets all of them, removes all doors and ends the thread
 */
#define _GNU_SOURCE
#define NAPI_VERSION 8
#include "relay.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <node_api.h>
#include <string.h>
#include <unistd.h>

static napi_value boolean(napi_env env, int value) {
  napi_value result;
  napi_get_boolean(env, value, &result);
  return result;
}

static napi_value number(napi_env env, int value) {
  napi_value result;
  napi_create_int32(env, value, &result);
  return result;
}

static napi_value js_start(napi_env env, napi_callback_info info) {
  (void)info;
  return boolean(env, relay_start());
}

/* The four arguments of `pass` and `addDoor`; 0 after an exception was thrown. */
static int parse(napi_env env, napi_callback_info info, int32_t *fd, struct target *target) {
  size_t count = 4, length = 0;
  napi_value arguments[4];
  int32_t port = 0, milliseconds = 0;
  uint8_t *address = 0;
  napi_typedarray_type type;
  napi_get_cb_info(env, info, &count, arguments, 0, 0);
  if (count != 4 || napi_get_value_int32(env, arguments[0], fd) != napi_ok || *fd < 0 ||
      napi_get_typedarray_info(env, arguments[1], &type, &length, (void **)&address, 0, 0) != napi_ok ||
      type != napi_uint8_array || (length != 4 && length != 16) ||
      napi_get_value_int32(env, arguments[2], &port) != napi_ok || port < 1 || port > 65535 ||
      napi_get_value_int32(env, arguments[3], &milliseconds) != napi_ok || milliseconds < 1) {
    napi_throw_type_error(env, 0, "expected: fd, address, port, milliseconds");
    return 0;
  }
  *target = (struct target){.milliseconds = milliseconds};
  if (length == 4) {
    struct sockaddr_in *in = (void *)&target->address;
    in->sin_family = AF_INET;
    in->sin_port = htons(port);
    memcpy(&in->sin_addr, address, 4);
    target->length = sizeof *in;
  } else {
    struct sockaddr_in6 *in = (void *)&target->address;
    in->sin6_family = AF_INET6;
    in->sin6_port = htons(port);
    memcpy(&in->sin6_addr, address, 16);
    target->length = sizeof *in;
  }
  return 1;
}

/* Joins a duplicate of `fd`; answers 0 when nothing has happened. `copy`: where to put the descriptor of a copy. */
static int join(int fd, const struct target *target, int *copy) {
  if (!relay_is_running() || atomic_load(&relay_pairs) >= MAX_PAIRS) return 0;
  int own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
  if (own < 0) return 0;
  struct pair *pair = pair_open(own, target);
  if (!pair) {
    close(own);
    return 0;
  }
  if (copy) *copy = tap_open(pair);
  fcntl(own, F_SETFL, fcntl(own, F_GETFL) | O_NONBLOCK);
  setsockopt(own, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
  relay_take(pair);
  return 1;
}

static napi_value js_pass(napi_env env, napi_callback_info info) {
  int32_t fd = -1;
  struct target target;
  return parse(env, info, &fd, &target) ? boolean(env, join(fd, &target, 0)) : 0;
}

static napi_value js_copy(napi_env env, napi_callback_info info) {
  int32_t fd = -1;
  int copy = -1;
  struct target target;
  if (!parse(env, info, &fd, &target)) return 0;
  int is_joined = join(fd, &target, &copy);
  napi_value result, values[2] = {boolean(env, is_joined), number(env, copy)};
  napi_create_array_with_length(env, 2, &result);
  for (int i = 0; i < 2; i++) napi_set_element(env, result, i, values[i]);
  return result;
}

static napi_value js_add_door(napi_env env, napi_callback_info info) {
  int32_t fd = -1;
  struct target target;
  if (!parse(env, info, &fd, &target)) return 0;
  int own = relay_is_running() ? fcntl(fd, F_DUPFD_CLOEXEC, 0) : -1;
  if (own < 0) return number(env, -1);
  int door = door_add(own, &target);
  if (door < 0) close(own);
  return number(env, door);
}

/* The number of a door as the first of two arguments, and the second, where there is one; -1 after an exception. */
static int door_of(napi_env env, napi_callback_info info, bool *second) {
  size_t count = 2;
  napi_value arguments[2];
  int32_t door = -1;
  napi_get_cb_info(env, info, &count, arguments, 0, 0);
  if (count < 1 || napi_get_value_int32(env, arguments[0], &door) != napi_ok || door < 0 || door >= MAX_DOORS ||
      (second && (count < 2 || napi_get_value_bool(env, arguments[1], second) != napi_ok))) {
    napi_throw_type_error(env, 0, "expected: the number of a door");
    return -1;
  }
  return door;
}

static napi_value js_set_open(napi_env env, napi_callback_info info) {
  bool is_open = false;
  int door = door_of(env, info, &is_open);
  if (door >= 0) door_set_open(door, is_open);
  return 0;
}

static napi_value js_descriptor(napi_env env, napi_callback_info info) {
  int door = door_of(env, info, 0);
  return door < 0 ? 0 : number(env, door_descriptor(door));
}

static napi_value js_remove_door(napi_env env, napi_callback_info info) {
  int door = door_of(env, info, 0);
  if (door >= 0) door_remove(door);
  return 0;
}

static napi_value js_count(napi_env env, napi_callback_info info) {
  (void)info;
  return number(env, atomic_load(&relay_pairs));
}

static napi_value js_stop(napi_env env, napi_callback_info info) {
  (void)info;
  relay_stop();
  return boolean(env, 1);
}

static napi_value init(napi_env env, napi_value exports) {
  napi_property_descriptor functions[] = {
      {"start", 0, js_start, 0, 0, 0, napi_enumerable, 0},
      {"pass", 0, js_pass, 0, 0, 0, napi_enumerable, 0},
      {"copy", 0, js_copy, 0, 0, 0, napi_enumerable, 0},
      {"addDoor", 0, js_add_door, 0, 0, 0, napi_enumerable, 0},
      {"setOpen", 0, js_set_open, 0, 0, 0, napi_enumerable, 0},
      {"descriptor", 0, js_descriptor, 0, 0, 0, napi_enumerable, 0},
      {"removeDoor", 0, js_remove_door, 0, 0, 0, napi_enumerable, 0},
      {"count", 0, js_count, 0, 0, 0, napi_enumerable, 0},
      {"stop", 0, js_stop, 0, 0, 0, napi_enumerable, 0},
  };
  napi_define_properties(env, exports, sizeof functions / sizeof *functions, functions);
  return exports;
}

NAPI_MODULE(relay, init)
