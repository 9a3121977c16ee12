/*
 * The utun device of macOS for Node. Same shape as the Linux one: packets in batches into one buffer that the caller
 * owns, and batches back. The system puts four bytes of address family in front of each packet; they are kept apart by
 * scattered reads and writes. There is no offload here: the header that slots have for it is filled with zeros when
 * reading, and skipped when writing. No policy and no parsing but the version of a packet.
 */
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <net/if_utun.h>
#include <netinet/in.h>
#include <node_api.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/kern_control.h>
#include <sys/socket.h>
#include <sys/sys_domain.h>
#include <sys/time.h>
#include <sys/uio.h>
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

/* `offloadHeaderBytes` of tun/device.ts, and what the system puts in front of a packet. */
enum { OFFLOAD_BYTES = 10, FAMILY_BYTES = 4 };

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
  *length = type == napi_int32_array ? count * 4 : count;
  return data;
}

/* Connecting the control socket makes the device; closing it removes the device. Unit 0 means the next free one. */
static int open_utun(const char **what) {
  struct ctl_info info;
  struct sockaddr_ctl address;
  int fd = socket(PF_SYSTEM, SOCK_DGRAM, SYSPROTO_CONTROL);
  *what = "socket";
  if (fd < 0) return -1;
  memset(&info, 0, sizeof info);
  snprintf(info.ctl_name, sizeof info.ctl_name, "%s", UTUN_CONTROL_NAME);
  *what = "CTLIOCGINFO";
  if (ioctl(fd, CTLIOCGINFO, &info) < 0) goto failed;
  memset(&address, 0, sizeof address);
  address.sc_len = sizeof address;
  address.sc_family = AF_SYSTEM;
  address.ss_sysaddr = AF_SYS_CONTROL;
  address.sc_id = info.ctl_id;
  address.sc_unit = 0;
  *what = "connect utun";
  if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0) goto failed;
  *what = "fcntl";
  if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0 || fcntl(fd, F_SETFL, O_NONBLOCK) < 0) goto failed;
  return fd;
failed:;
  int error = errno;
  close(fd);
  errno = error;
  return -1;
}

/* open() -> descriptor */
static napi_value open_device(napi_env env, napi_callback_info info) {
  const char *what = "";
  (void)info;
  int fd = open_utun(&what);
  return fd < 0 ? fail(env, what) : from_int(env, fd);
}

/* name(fd) -> the name that the system gave the device */
static napi_value name_of(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value argument, value;
  char name[IFNAMSIZ];
  socklen_t length = sizeof name;
  napi_get_cb_info(env, info, &count, &argument, NULL, NULL);
  memset(name, 0, sizeof name);
  if (getsockopt(to_int(env, argument), SYSPROTO_CONTROL, UTUN_OPT_IFNAME, name, &length) < 0) {
    return fail(env, "UTUN_OPT_IFNAME");
  }
  name[sizeof name - 1] = 0;
  napi_create_string_utf8(env, name, NAPI_AUTO_LENGTH, &value);
  return value;
}

static void on_readable(uv_poll_t *handle, int status, int events) {
  struct reader *reader = uv_handle_get_data(handle);
  int count = 0;
  (void)status;
  (void)events;
  while (count < reader->max_packets) {
    uint8_t family[FAMILY_BYTES], *slot = reader->buffer + (size_t)count * reader->slot_bytes;
    struct iovec parts[2] = {{family, FAMILY_BYTES}, {slot + OFFLOAD_BYTES, reader->slot_bytes - OFFLOAD_BYTES}};
    ssize_t length = readv(reader->fd, parts, 2);
    if (length < FAMILY_BYTES) break;
    memset(slot, 0, OFFLOAD_BYTES);
    reader->lengths[count++] = (int32_t)(length - FAMILY_BYTES + OFFLOAD_BYTES);
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
  if (!reader) return fail(env, "calloc");
  reader->env = env;
  reader->fd = to_int(env, arguments[0]);
  reader->buffer = bytes_of(env, arguments[1], &size);
  reader->slot_bytes = to_int(env, arguments[2]);
  reader->max_packets = to_int(env, arguments[3]);
  reader->lengths = bytes_of(env, arguments[4], &lengths_size);
  bool fits = reader->slot_bytes > OFFLOAD_BYTES && reader->max_packets > 0 &&
              (size_t)reader->slot_bytes * reader->max_packets <= size && (size_t)reader->max_packets * 4 <= lengths_size;
  if (!fits) {
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

static bool write_packet(int fd, uint8_t *packet, size_t length) {
  uint32_t family = htonl(packet[0] >> 4 == 6 ? AF_INET6 : AF_INET);
  struct iovec parts[2] = {{&family, FAMILY_BYTES}, {packet, length}};
  return writev(fd, parts, 2) >= 0;
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
    bool fits = offset >= 0 && length > OFFLOAD_BYTES && (size_t)offset + length <= size;
    if (!fits || !write_packet(fd, buffer + offset + OFFLOAD_BYTES, length - OFFLOAD_BYTES)) failed++;
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

/* expire(ms) -> 1 when SIGALRM will end this process after so long, unless it says so again before; 0 ms takes it back.
 * A stopped process ends when it is continued: no timer of this system kills. */
static napi_value expire(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value argument;
  napi_get_cb_info(env, info, &count, &argument, NULL, NULL);
  int32_t ms = to_int(env, argument);
  struct itimerval limit;
  memset(&limit, 0, sizeof limit);
  limit.it_value.tv_sec = ms / 1000;
  limit.it_value.tv_usec = (ms % 1000) * 1000;
  return from_int(env, setitimer(ITIMER_REAL, &limit, NULL) == 0);
}

static napi_value close_device(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value argument;
  napi_get_cb_info(env, info, &count, &argument, NULL, NULL);
  close(to_int(env, argument));
  return NULL;
}

/* peer(fd) -> the user at the other end of a unix socket; undefined when there is none. */
static napi_value peer(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value argument, value = NULL;
  uid_t user;
  gid_t group;
  napi_get_cb_info(env, info, &count, &argument, NULL, NULL);
  if (getpeereid(to_int(env, argument), &user, &group) == 0) napi_create_uint32(env, user, &value);
  return value;
}

static void add(napi_env env, napi_value exports, const char *name, napi_callback function) {
  napi_value value;
  napi_create_function(env, name, NAPI_AUTO_LENGTH, function, NULL, &value);
  napi_set_named_property(env, exports, name, value);
}

NAPI_MODULE_INIT() {
  add(env, exports, "open", open_device);
  add(env, exports, "name", name_of);
  add(env, exports, "start", start);
  add(env, exports, "stop", stop);
  add(env, exports, "write", write_packets);
  add(env, exports, "close", close_device);
  add(env, exports, "peer", peer);
  add(env, exports, "waiting", waiting);
  add(env, exports, "expire", expire);
  return exports;
}
