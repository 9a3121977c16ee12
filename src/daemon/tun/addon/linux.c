/*
 * The TUN device for Node: opens it with offload, reads packets in batches into one buffer that the caller owns, and
 * writes batches back. No policy and no parsing here. Node-API only, plus five functions of libuv that every Node
 * exports; they are declared by hand because their header is not part of the Node-API headers.
 */
#define _GNU_SOURCE
#include "shortcut.h"

#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <node_api.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

typedef struct uv_poll_s uv_poll_t;
struct uv_loop_s;
extern size_t uv_handle_size(int type);
extern int uv_poll_init(struct uv_loop_s *loop, uv_poll_t *handle, int fd);
extern int uv_poll_start(uv_poll_t *handle, int events, void (*callback)(uv_poll_t *, int, int));
extern int uv_poll_stop(uv_poll_t *handle);
extern void uv_close(void *handle, void (*callback)(void *));
extern void uv_handle_set_data(void *handle, void *data);
extern void *uv_handle_get_data(const void *handle);
enum { UV_POLL_TYPE = 8, UV_READABLE_EVENT = 1 };

struct reader {
  napi_env env;
  napi_ref callback, buffer_ref, lengths_ref;
  napi_async_context context;
  uv_poll_t *poll;
  int fd, slot_bytes, max_packets;
  uint8_t *buffer;
  int32_t *lengths;
};

static napi_value fail(napi_env env, const char *what) {
  char text[160];
  snprintf(text, sizeof text, "%s: %s", what, strerror(errno));
  napi_throw_error(env, NULL, text);
  return NULL;
}

static int32_t to_int(napi_env env, napi_value value) {
  int32_t number = 0;
  napi_get_value_int32(env, value, &number);
  return number;
}

static napi_value from_int(napi_env env, int32_t number) {
  napi_value value;
  napi_create_int32(env, number, &value);
  return value;
}

static void *bytes_of(napi_env env, napi_value value, size_t *length) {
  napi_typedarray_type type;
  napi_value array;
  size_t offset, count = 0;
  void *data = NULL;
  napi_get_typedarray_info(env, value, &type, &count, &data, &array, &offset);
  if (length) *length = type == napi_int32_array ? count * 4 : count;
  return data;
}

/* open(name) -> descriptor. TSO and checksum offload make it fourteen times faster at MTU 1500. */
static napi_value open_device(napi_env env, napi_callback_info info) {
  size_t count = 1, length;
  napi_value argument;
  struct ifreq request;
  napi_get_cb_info(env, info, &count, &argument, NULL, NULL);
  memset(&request, 0, sizeof request);
  napi_get_value_string_utf8(env, argument, request.ifr_name, IFNAMSIZ, &length);
  request.ifr_flags = IFF_TUN | IFF_NO_PI | IFF_VNET_HDR;
  int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return fail(env, "open /dev/net/tun");
  if (ioctl(fd, TUNSETIFF, &request) < 0) {
    close(fd);
    return fail(env, "TUNSETIFF");
  }
  if (ioctl(fd, TUNSETOFFLOAD, (unsigned long)(TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6)) < 0) {
    close(fd);
    return fail(env, "TUNSETOFFLOAD");
  }
  return from_int(env, fd);
}

static void on_readable(uv_poll_t *handle, int status, int events) {
  struct reader *reader = uv_handle_get_data(handle);
  int count = 0;
  (void)status;
  (void)events;
  while (count < reader->max_packets) {
    ssize_t length = read(reader->fd, reader->buffer + (size_t)count * reader->slot_bytes, reader->slot_bytes);
    if (length <= 0) break;
    reader->lengths[count++] = (int32_t)length;
  }
  if (count == 0) return;
  napi_handle_scope scope;
  napi_value callback, global, result, argument;
  napi_open_handle_scope(reader->env, &scope);
  napi_get_reference_value(reader->env, reader->callback, &callback);
  napi_get_global(reader->env, &global);
  argument = from_int(reader->env, count);
  if (napi_make_callback(reader->env, reader->context, global, callback, 1, &argument, &result) == napi_pending_exception) {
    napi_value error;
    napi_get_and_clear_last_exception(reader->env, &error);
    napi_fatal_exception(reader->env, error);
  }
  napi_close_handle_scope(reader->env, scope);
}

/* start(fd, buffer, slotBytes, maxPackets, lengths, callback(count)) -> handle. The buffers stay referenced. */
static napi_value start(napi_env env, napi_callback_info info) {
  size_t count = 6, size = 0, lengths_size = 0;
  napi_value arguments[6], name, handle;
  struct uv_loop_s *loop;
  napi_get_cb_info(env, info, &count, arguments, NULL, NULL);
  struct reader *reader = calloc(1, sizeof *reader);
  reader->env = env;
  reader->fd = to_int(env, arguments[0]);
  reader->buffer = bytes_of(env, arguments[1], &size);
  reader->slot_bytes = to_int(env, arguments[2]);
  reader->max_packets = to_int(env, arguments[3]);
  reader->lengths = bytes_of(env, arguments[4], &lengths_size);
  if ((size_t)reader->slot_bytes * reader->max_packets > size || (size_t)reader->max_packets * 4 > lengths_size) {
    free(reader);
    errno = EINVAL;
    return fail(env, "buffers too small");
  }
  napi_create_reference(env, arguments[1], 1, &reader->buffer_ref);
  napi_create_reference(env, arguments[4], 1, &reader->lengths_ref);
  napi_create_reference(env, arguments[5], 1, &reader->callback);
  napi_create_string_utf8(env, "nearfield-tun", NAPI_AUTO_LENGTH, &name);
  napi_async_init(env, NULL, name, &reader->context);
  napi_get_uv_event_loop(env, &loop);
  reader->poll = malloc(uv_handle_size(UV_POLL_TYPE));
  uv_poll_init(loop, reader->poll, reader->fd);
  uv_handle_set_data(reader->poll, reader);
  uv_poll_start(reader->poll, UV_READABLE_EVENT, on_readable);
  napi_create_external(env, reader, NULL, NULL, &handle);
  return handle;
}

static void release(void *handle) {
  struct reader *reader = uv_handle_get_data(handle);
  free(handle);
  free(reader);
}

/* stop(handle): no callback after this. */
static napi_value stop(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value argument;
  struct reader *reader = NULL;
  napi_get_cb_info(env, info, &count, &argument, NULL, NULL);
  napi_get_value_external(env, argument, (void **)&reader);
  uv_poll_stop(reader->poll);
  napi_delete_reference(env, reader->callback);
  napi_delete_reference(env, reader->buffer_ref);
  napi_delete_reference(env, reader->lengths_ref);
  napi_async_destroy(env, reader->context);
  uv_close(reader->poll, release);
  return NULL;
}

/* write(fd, buffer, descriptors, count) -> packets the device did not take; descriptors are offset and length pairs. */
static napi_value write_packets(napi_env env, napi_callback_info info) {
  size_t count = 4, size = 0, descriptors_size = 0;
  napi_value arguments[4];
  napi_get_cb_info(env, info, &count, arguments, NULL, NULL);
  int fd = to_int(env, arguments[0]), packets = to_int(env, arguments[3]), failed = 0;
  uint8_t *buffer = bytes_of(env, arguments[1], &size);
  int32_t *descriptors = bytes_of(env, arguments[2], &descriptors_size);
  for (int i = 0; i < packets && (size_t)i * 8 + 8 <= descriptors_size; i++) {
    int32_t offset = descriptors[2 * i], length = descriptors[2 * i + 1];
    bool fits = offset >= 0 && length >= 0 && (size_t)offset + length <= size;
    if (!fits || write(fd, buffer + offset, length) < 0) failed++;
  }
  return from_int(env, failed);
}

/* waiting(fd) -> 1 when the device has packets that nobody has read. */
static napi_value waiting(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value argument;
  napi_get_cb_info(env, info, &count, &argument, NULL, NULL);
  struct pollfd device = {.fd = to_int(env, argument), .events = POLLIN};
  return from_int(env, poll(&device, 1, 0) == 1 && (device.revents & POLLIN) != 0);
}

static napi_value close_device(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value argument;
  napi_get_cb_info(env, info, &count, &argument, NULL, NULL);
  close(to_int(env, argument));
  return NULL;
}

/* peer(fd) -> the user at the other end of a unix socket, SO_PEERCRED; -1 when there is none. */
static napi_value peer(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value argument;
  struct ucred credentials;
  socklen_t size = sizeof credentials;
  napi_get_cb_info(env, info, &count, &argument, NULL, NULL);
  int failed = getsockopt(to_int(env, argument), SOL_SOCKET, SO_PEERCRED, &credentials, &size);
  return from_int(env, failed ? -1 : (int32_t)credentials.uid);
}

/*
 * expire(ms) -> 1 when this process will be killed by the kernel after so long, unless it says so again before; 0 ms
 * takes it back. SIGKILL ends a stopped process as well, and the clock stands still while the machine sleeps. By system
 * call: glibc's own names for it would need a glibc of 2021.
 */
static napi_value expire(napi_env env, napi_callback_info info) {
  static int timer = -1;
  size_t count = 1;
  napi_value argument;
  napi_get_cb_info(env, info, &count, &argument, NULL, NULL);
  if (timer < 0) {
    struct sigevent event;
    memset(&event, 0, sizeof event);
    event.sigev_notify = SIGEV_SIGNAL;
    event.sigev_signo = SIGKILL;
    if (syscall(SYS_timer_create, CLOCK_MONOTONIC, &event, &timer) < 0) {
      timer = -1;
      return from_int(env, 0);
    }
  }
  int32_t ms = to_int(env, argument);
  struct itimerspec limit;
  memset(&limit, 0, sizeof limit);
  limit.it_value.tv_sec = ms / 1000;
  limit.it_value.tv_nsec = (long)(ms % 1000) * 1000000;
  return from_int(env, syscall(SYS_timer_settime, timer, 0, &limit, NULL) == 0);
}

/* notify(path, text) -> 1 when the text went to the datagram socket there, as sd_notify(3) sends it; `@` in front of a
 * name without a file. */
static napi_value notify(napi_env env, napi_callback_info info) {
  size_t count = 2, length = 0, text_length = 0;
  napi_value arguments[2];
  char text[256];
  struct sockaddr_un address;
  memset(&address, 0, sizeof address);
  address.sun_family = AF_UNIX;
  napi_get_cb_info(env, info, &count, arguments, NULL, NULL);
  napi_get_value_string_utf8(env, arguments[0], NULL, 0, &length);
  if (length < 2 || length >= sizeof address.sun_path) return from_int(env, 0);
  napi_get_value_string_utf8(env, arguments[0], address.sun_path, sizeof address.sun_path, &length);
  napi_get_value_string_utf8(env, arguments[1], text, sizeof text, &text_length);
  if (address.sun_path[0] == '@') address.sun_path[0] = 0;
  int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return from_int(env, 0);
  socklen_t size = offsetof(struct sockaddr_un, sun_path) + length;
  ssize_t sent = sendto(fd, text, text_length, MSG_NOSIGNAL, (struct sockaddr *)&address, size);
  close(fd);
  return from_int(env, sent == (ssize_t)text_length);
}

/* shortcut(name) -> [map, place], two descriptors; undefined where the kernel has none for us. */
static napi_value open_shortcut(napi_env env, napi_callback_info info) {
  size_t count = 1, length;
  napi_value argument, pair;
  char name[IFNAMSIZ];
  int map, place;
  napi_get_cb_info(env, info, &count, &argument, NULL, NULL);
  napi_get_value_string_utf8(env, argument, name, sizeof name, &length);
  if (!shortcut_open(name, &map, &place)) return NULL;
  napi_create_array_with_length(env, 2, &pair);
  napi_set_element(env, pair, 0, from_int(env, map));
  napi_set_element(env, pair, 1, from_int(env, place));
  return pair;
}

/* put(map, from, to) -> 1 when the packets of a flow go the short way now: 12 bytes each. */
static napi_value put_shortcut(napi_env env, napi_callback_info info) {
  size_t count = 3, from_size = 0, to_size = 0;
  napi_value arguments[3];
  napi_get_cb_info(env, info, &count, arguments, NULL, NULL);
  uint8_t *from = bytes_of(env, arguments[1], &from_size), *to = bytes_of(env, arguments[2], &to_size);
  bool fits = from_size >= SHORTCUT_BYTES && to_size >= SHORTCUT_BYTES;
  return from_int(env, fits && shortcut_put(to_int(env, arguments[0]), from, to));
}

/* remove(map, from): they come to this process again. */
static napi_value remove_shortcut(napi_env env, napi_callback_info info) {
  size_t count = 2, size = 0;
  napi_value arguments[2];
  napi_get_cb_info(env, info, &count, arguments, NULL, NULL);
  uint8_t *from = bytes_of(env, arguments[1], &size);
  if (size >= SHORTCUT_BYTES) shortcut_remove(to_int(env, arguments[0]), from);
  return NULL;
}

static int drop_segments(struct dl_phdr_info *object, size_t size, void *data) {
  uintptr_t page = sysconf(_SC_PAGESIZE);
  (void)size;
  (void)data;
  for (int i = 0; i < object->dlpi_phnum; i++) {
    const ElfW(Phdr) *segment = &object->dlpi_phdr[i];
    if (segment->p_type != PT_LOAD || segment->p_flags & PF_W) continue;
    uintptr_t from = (object->dlpi_addr + segment->p_vaddr + page - 1) & ~(page - 1);
    uintptr_t to = (object->dlpi_addr + segment->p_vaddr + segment->p_memsz) & ~(page - 1);
    if (to > from) madvise((void *)from, to - from, MADV_DONTNEED);
  }
  return 0;
}

/* trim(): code and constants that only starting needs are given back to the system. They come from the file again where
 * they are used; segments that could have been written to are left alone. */
static napi_value trim(napi_env env, napi_callback_info info) {
  (void)env;
  (void)info;
  dl_iterate_phdr(drop_segments, NULL);
  return NULL;
}

static void add(napi_env env, napi_value exports, const char *name, napi_callback function) {
  napi_value value;
  napi_create_function(env, name, NAPI_AUTO_LENGTH, function, NULL, &value);
  napi_set_named_property(env, exports, name, value);
}

NAPI_MODULE_INIT() {
  add(env, exports, "open", open_device);
  add(env, exports, "start", start);
  add(env, exports, "stop", stop);
  add(env, exports, "write", write_packets);
  add(env, exports, "close", close_device);
  add(env, exports, "trim", trim);
  add(env, exports, "peer", peer);
  add(env, exports, "waiting", waiting);
  add(env, exports, "expire", expire);
  add(env, exports, "notify", notify);
  add(env, exports, "shortcut", open_shortcut);
  add(env, exports, "put", put_shortcut);
  add(env, exports, "remove", remove_shortcut);
  return exports;
}
