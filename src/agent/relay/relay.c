/*
 * Joins pairs of TCP connections in a thread of its own: what passes through an agent costs the application as little as
 * a copy can. It decides nothing and reads nothing: JavaScript says which connection goes where.
 *
 *   start()                          the thread; once a process
 *   pass(fd, address, port, ms)      joins a duplicate of `fd` with a new connection there; the caller closes its own.
 *                                    A connection that cannot be made is a reset for the other end. `false` when there
 *                                    is no room or no way: then nothing has happened to `fd`.
 *   count()                          pairs that are open
 *   stop()                           resets all of them and ends the thread
 */
#define _GNU_SOURCE
#define NAPI_VERSION 8
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <node_api.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define CHUNK (256 * 1024)
/* Of one connection in one turn: the others are not to wait for a fast one. */
#define TURN 8
#define MAX_PAIRS 20000

struct pair;

/* One direction reads from its side and writes to the other. */
struct side {
  struct pair *pair;
  int fd;
  /* What the other side did not take yet, read from here. Nothing more is read meanwhile. */
  char *rest;
  size_t rest_length, rest_at;
  int has_ended;
  uint32_t interest;
};

struct pair {
  struct side side[2];
  struct pair *next, *previous, *dead_next;
  int is_connecting, is_dead;
  double deadline;
};

static int epoll = -1, wake = -1;
static pthread_t thread;
static atomic_int is_running, open_pairs;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
/* Made by `pass`, not yet seen by the thread. */
static struct pair *incoming;
static struct pair *all, *dead;
static char chunk[CHUNK];

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec * 1e-9;
}

static void with_reset(int fd) {
  setsockopt(fd, SOL_SOCKET, SO_LINGER, &(struct linger){1, 0}, sizeof(struct linger));
}

/* Its events of this turn may still be read: the memory goes afterwards. */
static void drop(struct pair *pair, int is_failure) {
  if (pair->is_dead) return;
  pair->is_dead = 1;
  for (int i = 0; i < 2; i++) {
    if (is_failure) with_reset(pair->side[i].fd);
    /* Closing is not enough: the caller's own descriptor may be open still, and would keep ours in the set. */
    epoll_ctl(epoll, EPOLL_CTL_DEL, pair->side[i].fd, 0);
    close(pair->side[i].fd);
    free(pair->side[i].rest);
  }
  if (pair->previous) pair->previous->next = pair->next;
  else all = pair->next;
  if (pair->next) pair->next->previous = pair->previous;
  pair->dead_next = dead;
  dead = pair;
  atomic_fetch_sub(&open_pairs, 1);
}

static struct side *other_of(struct side *side) { return &side->pair->side[side == &side->pair->side[0]]; }

/* Reads where the other side has room, writes where something is left over. */
static void update(struct side *side) {
  uint32_t events = 0;
  if (!side->pair->is_connecting && !side->has_ended && !side->rest) events |= EPOLLIN | EPOLLRDHUP;
  if (other_of(side)->rest || (side->pair->is_connecting && side == &side->pair->side[1])) events |= EPOLLOUT;
  if (events == side->interest) return;
  struct epoll_event event = {.events = events, .data.ptr = side};
  epoll_ctl(epoll, EPOLL_CTL_MOD, side->fd, &event);
  side->interest = events;
}

/* Answers 0 when the pair is over. */
static int flush(struct side *from) {
  struct side *to = other_of(from);
  while (from->rest_at < from->rest_length) {
    ssize_t count = send(to->fd, from->rest + from->rest_at, from->rest_length - from->rest_at, MSG_NOSIGNAL);
    if (count < 0) return errno == EAGAIN;
    from->rest_at += count;
  }
  free(from->rest);
  from->rest = 0;
  return 1;
}

static int end(struct side *from) {
  from->has_ended = 1;
  return shutdown(other_of(from)->fd, SHUT_WR) == 0;
}

/* Answers 0 when the pair is over by a failure. */
static int carry(struct side *from) {
  struct side *to = other_of(from);
  for (int turn = 0; turn < TURN && !from->rest && !from->has_ended; turn++) {
    ssize_t got = read(from->fd, chunk, CHUNK);
    if (got < 0) return errno == EAGAIN;
    if (got == 0) return end(from);
    ssize_t sent = send(to->fd, chunk, got, MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN) return 0;
    if (sent < 0) sent = 0;
    if (sent < got) {
      from->rest_length = got - sent;
      from->rest_at = 0;
      from->rest = malloc(from->rest_length);
      if (!from->rest) return 0;
      memcpy(from->rest, chunk + sent, from->rest_length);
    }
    /* Less than there was room for: the next read would find nothing. */
    if (got < 16 * 1024) break;
  }
  return 1;
}

static void handle(struct side *side, uint32_t events) {
  struct pair *pair = side->pair;
  if (pair->is_dead) return;
  if (pair->is_connecting) {
    int error = 0;
    socklen_t size = sizeof error;
    if (side == &pair->side[0] || (getsockopt(side->fd, SOL_SOCKET, SO_ERROR, &error, &size), error)) {
      drop(pair, 1);
      return;
    }
    pair->is_connecting = 0;
  } else {
    struct side *other = other_of(side);
    int is_well = 1;
    if ((events & EPOLLOUT) && other->rest) is_well = flush(other);
    /* A reset shows in the read. */
    if (is_well && (events & (EPOLLIN | EPOLLRDHUP | EPOLLERR | EPOLLHUP)) && !side->rest && !side->has_ended)
      is_well = carry(side);
    else if (is_well && (events & EPOLLERR)) is_well = 0;
    if (!is_well) {
      drop(pair, 1);
      return;
    }
    if (side->has_ended && other->has_ended && !side->rest && !other->rest) {
      drop(pair, 0);
      return;
    }
  }
  update(&pair->side[0]);
  update(&pair->side[1]);
}

static void add(struct pair *pair) {
  pair->next = all;
  pair->previous = 0;
  if (all) all->previous = pair;
  all = pair;
  for (int i = 0; i < 2; i++) {
    pair->side[i].interest = i ? EPOLLOUT : 0;
    struct epoll_event event = {.events = pair->side[i].interest, .data.ptr = &pair->side[i]};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, pair->side[i].fd, &event)) {
      drop(pair, 1);
      return;
    }
  }
}

static void give_up_late_ones(void) {
  double time = now();
  for (struct pair *pair = all, *next; pair; pair = next) {
    next = pair->next;
    if (pair->is_connecting && time > pair->deadline) drop(pair, 1);
  }
}

static void *run(void *unused) {
  double looked = now();
  (void)unused;
  while (atomic_load(&is_running)) {
    struct epoll_event events[256];
    int count = epoll_wait(epoll, events, 256, 1000);
    for (int i = 0; i < count; i++) {
      if (events[i].data.ptr) {
        handle(events[i].data.ptr, events[i].events);
        continue;
      }
      uint64_t times;
      if (read(wake, &times, sizeof times) < 0) continue;
      pthread_mutex_lock(&lock);
      struct pair *pair = incoming;
      incoming = 0;
      pthread_mutex_unlock(&lock);
      while (pair) {
        struct pair *next = pair->next;
        add(pair);
        pair = next;
      }
    }
    if (now() - looked > 1) {
      looked = now();
      give_up_late_ones();
    }
    while (dead) {
      struct pair *next = dead->dead_next;
      free(dead);
      dead = next;
    }
  }
  while (all) drop(all, 1);
  while (dead) {
    struct pair *next = dead->dead_next;
    free(dead);
    dead = next;
  }
  return 0;
}

static napi_value boolean(napi_env env, int value) {
  napi_value result;
  napi_get_boolean(env, value, &result);
  return result;
}

static napi_value js_start(napi_env env, napi_callback_info info) {
  (void)info;
  if (atomic_load(&is_running)) return boolean(env, 1);
  epoll = epoll_create1(EPOLL_CLOEXEC);
  wake = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  struct epoll_event event = {.events = EPOLLIN, .data.ptr = 0};
  if (epoll < 0 || wake < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, wake, &event)) return boolean(env, 0);
  atomic_store(&is_running, 1);
  if (pthread_create(&thread, 0, run, 0)) {
    atomic_store(&is_running, 0);
    return boolean(env, 0);
  }
  return boolean(env, 1);
}

/* A connection to be made; the socket is made ready here, so that a failure is known at once. */
static int connect_to(const uint8_t *address, size_t length, uint16_t port) {
  struct sockaddr_storage target = {0};
  socklen_t size;
  if (length == 4) {
    struct sockaddr_in *in = (void *)&target;
    in->sin_family = AF_INET;
    in->sin_port = htons(port);
    memcpy(&in->sin_addr, address, 4);
    size = sizeof *in;
  } else {
    struct sockaddr_in6 *in = (void *)&target;
    in->sin6_family = AF_INET6;
    in->sin6_port = htons(port);
    memcpy(&in->sin6_addr, address, 16);
    size = sizeof *in;
  }
  int fd = socket(target.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return -1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
  if (connect(fd, (void *)&target, size) && errno != EINPROGRESS) {
    close(fd);
    return -1;
  }
  return fd;
}

static napi_value js_pass(napi_env env, napi_callback_info info) {
  size_t count = 4, length = 0;
  napi_value arguments[4];
  int32_t fd = -1, port = 0, milliseconds = 0;
  uint8_t *address = 0;
  napi_typedarray_type type;
  napi_get_cb_info(env, info, &count, arguments, 0, 0);
  if (count != 4 || napi_get_value_int32(env, arguments[0], &fd) != napi_ok || fd < 0 ||
      napi_get_typedarray_info(env, arguments[1], &type, &length, (void **)&address, 0, 0) != napi_ok ||
      type != napi_uint8_array || (length != 4 && length != 16) ||
      napi_get_value_int32(env, arguments[2], &port) != napi_ok || port < 1 || port > 65535 ||
      napi_get_value_int32(env, arguments[3], &milliseconds) != napi_ok || milliseconds < 1) {
    napi_throw_type_error(env, 0, "pass(fd, address, port, milliseconds)");
    return 0;
  }
  if (!atomic_load(&is_running) || atomic_load(&open_pairs) >= MAX_PAIRS) return boolean(env, 0);
  struct pair *pair = calloc(1, sizeof *pair);
  int own = pair ? fcntl(fd, F_DUPFD_CLOEXEC, 0) : -1;
  if (own < 0) {
    free(pair);
    return boolean(env, 0);
  }
  int target = connect_to(address, length, port);
  if (target < 0) {
    close(own);
    free(pair);
    return boolean(env, 0);
  }
  fcntl(own, F_SETFL, fcntl(own, F_GETFL) | O_NONBLOCK);
  setsockopt(own, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
  pair->side[0] = (struct side){.pair = pair, .fd = own};
  pair->side[1] = (struct side){.pair = pair, .fd = target};
  pair->is_connecting = 1;
  pair->deadline = now() + milliseconds / 1e3;
  atomic_fetch_add(&open_pairs, 1);
  pthread_mutex_lock(&lock);
  pair->next = incoming;
  incoming = pair;
  pthread_mutex_unlock(&lock);
  uint64_t one = 1;
  ssize_t written = write(wake, &one, sizeof one);
  (void)written;
  return boolean(env, 1);
}

static napi_value js_count(napi_env env, napi_callback_info info) {
  napi_value result;
  (void)info;
  napi_create_int32(env, atomic_load(&open_pairs), &result);
  return result;
}

static napi_value js_stop(napi_env env, napi_callback_info info) {
  (void)info;
  if (atomic_exchange(&is_running, 0)) {
    uint64_t one = 1;
    ssize_t written = write(wake, &one, sizeof one);
    (void)written;
    pthread_join(thread, 0);
    pthread_mutex_lock(&lock);
    for (struct pair *pair = incoming, *next; pair; pair = next) {
      next = pair->next;
      for (int i = 0; i < 2; i++) close(pair->side[i].fd);
      atomic_fetch_sub(&open_pairs, 1);
      free(pair);
    }
    incoming = 0;
    pthread_mutex_unlock(&lock);
    close(epoll);
    close(wake);
  }
  return boolean(env, 1);
}

static napi_value init(napi_env env, napi_value exports) {
  napi_property_descriptor functions[] = {
      {"start", 0, js_start, 0, 0, 0, napi_enumerable, 0},
      {"pass", 0, js_pass, 0, 0, 0, napi_enumerable, 0},
      {"count", 0, js_count, 0, 0, 0, napi_enumerable, 0},
      {"stop", 0, js_stop, 0, 0, 0, napi_enumerable, 0},
  };
  napi_define_properties(env, exports, sizeof functions / sizeof *functions, functions);
  return exports;
}

NAPI_MODULE(relay, init)
