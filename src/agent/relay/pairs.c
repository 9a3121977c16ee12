/* A pair of connections: what one side sends, the other gets, with ends and resets kept apart. */
#define _GNU_SOURCE
#include "relay.h"
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define CHUNK (256 * 1024)
/* Of one connection in one turn: the others are not to wait for a fast one. */
#define TURN 8
/* A read that finds less has emptied the socket: the next one would find nothing. */
#define SMALL (16 * 1024)
/* So many full reads in a row are bulk. */
#define BULK_READS 8
#define PIPE_BYTES (512 * 1024)
/* What the application may have on its way to us. It is in the same pod: more does not make it faster, but leaves the
   processor's caches before it is read. */
#define NEAR_BYTES (200 * 1024)

static struct pair *all, *dead;
static char chunk[CHUNK];

static void with_reset(int fd) {
  setsockopt(fd, SOL_SOCKET, SO_LINGER, &(struct linger){1, 0}, sizeof(struct linger));
}

static void close_pipe(struct side *side) {
  if (side->pipe[0] < 0) return;
  close(side->pipe[0]);
  close(side->pipe[1]);
  side->pipe[0] = side->pipe[1] = -1;
}

/* Its events of this turn may still be read: the memory goes afterwards. */
void pair_drop(struct pair *pair, int is_failure) {
  if (pair->is_dead) return;
  pair->is_dead = 1;
  for (int i = 0; i < 2; i++) {
    struct side *side = &pair->side[i];
    if (is_failure) with_reset(side->fd);
    /* Closing is not enough: another descriptor, the caller's own or one of a process being started, would keep ours in
       the set. */
    epoll_ctl(relay_epoll, EPOLL_CTL_DEL, side->fd, 0);
    close(side->fd);
    close_pipe(side);
    free(side->rest);
  }
  tap_close(pair, 0);
  if (pair->previous) pair->previous->next = pair->next;
  else all = pair->next;
  if (pair->next) pair->next->previous = pair->previous;
  pair->dead_next = dead;
  dead = pair;
  atomic_fetch_sub(&relay_pairs, 1);
}

static struct side *other_of(struct side *side) { return &side->pair->side[side == &side->pair->side[0]]; }

static int is_waiting(const struct side *side) { return side->rest || side->in_pipe; }

/* Reads where the other side has room, writes where something is left over. */
static void update(struct side *side) {
  uint32_t events = 0;
  if (!side->pair->is_connecting && !side->has_ended && !is_waiting(side)) events |= EPOLLIN | EPOLLRDHUP;
  if (is_waiting(other_of(side)) || (side->pair->is_connecting && side == &side->pair->side[1])) events |= EPOLLOUT;
  if (events == side->interest) return;
  struct epoll_event event = {.events = events, .data.ptr = side};
  epoll_ctl(relay_epoll, EPOLL_CTL_MOD, side->fd, &event);
  side->interest = events;
}

/* Answers 0 when the pair is over. */
static int flush(struct side *from) {
  struct side *to = other_of(from);
  while (from->in_pipe) {
    ssize_t count = splice(from->pipe[0], 0, to->fd, 0, from->in_pipe, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
    if (count < 0) return errno == EAGAIN;
    from->in_pipe -= count;
  }
  if (!from->rest) return 1;
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
  if (from == &from->pair->side[0]) tap_end(from->pair);
  return shutdown(other_of(from)->fd, SHUT_WR) == 0;
}

/* Without a pipe bulk is copied like the rest. */
static void use_pipe(struct side *side) {
  if (pipe2(side->pipe, O_NONBLOCK | O_CLOEXEC)) side->pipe[0] = side->pipe[1] = -1;
  else fcntl(side->pipe[1], F_SETPIPE_SZ, PIPE_BYTES);
}

static int move(struct side *from) {
  for (int turn = 0; turn < TURN && !from->in_pipe && !from->has_ended; turn++) {
    ssize_t got = splice(from->fd, 0, from->pipe[1], 0, PIPE_BYTES, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
    if (got < 0) return errno == EAGAIN;
    if (got == 0) return end(from);
    from->in_pipe = got;
    if (!flush(from)) return 0;
    if (got < SMALL) break;
  }
  return 1;
}

static int is_tapped(const struct side *side) { return side == &side->pair->side[0] && side->pair->tap.fd >= 0; }

/* Answers 0 when the pair is over by a failure. */
static int carry(struct side *from) {
  struct side *to = other_of(from);
  if (from->pipe[0] >= 0) return move(from);
  for (int turn = 0; turn < TURN && !from->rest && !from->has_ended; turn++) {
    ssize_t got = read(from->fd, chunk, CHUNK);
    if (got < 0) return errno == EAGAIN;
    if (got == 0) return end(from);
    if (is_tapped(from)) tap_write(from->pair, chunk, got);
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
    from->bulk = got < SMALL ? 0 : from->bulk + 1;
    if (got < SMALL) break;
    /* Who listens in needs the bytes here. */
    if (from->bulk >= BULK_READS && !is_tapped(from)) {
      use_pipe(from);
      break;
    }
  }
  return 1;
}

/* Whoever listens in has everything, too. */
static int is_over(const struct pair *pair) {
  const struct side *one = &pair->side[0], *other = &pair->side[1];
  return one->has_ended && other->has_ended && !is_waiting(one) && !is_waiting(other) && pair->tap.fd < 0;
}

void pair_handle(struct side *side, uint32_t events) {
  struct pair *pair = side->pair;
  if (pair->is_dead) return;
  if (side == &pair->tap) {
    tap_handle(pair, events);
  } else if (pair->is_connecting) {
    int error = 0;
    socklen_t size = sizeof error;
    if (side == &pair->side[0] || (getsockopt(side->fd, SOL_SOCKET, SO_ERROR, &error, &size), error)) {
      pair_drop(pair, 1);
      return;
    }
    pair->is_connecting = 0;
  } else {
    struct side *other = other_of(side);
    int is_well = 1;
    if ((events & EPOLLOUT) && is_waiting(other)) is_well = flush(other);
    /* A reset shows in the read. */
    if (is_well && (events & (EPOLLIN | EPOLLRDHUP | EPOLLERR | EPOLLHUP)) && !is_waiting(side) && !side->has_ended)
      is_well = carry(side);
    else if (is_well && (events & EPOLLERR)) is_well = 0;
    if (!is_well) {
      pair_drop(pair, 1);
      return;
    }
  }
  if (is_over(pair)) {
    pair_drop(pair, 0);
    return;
  }
  update(&pair->side[0]);
  update(&pair->side[1]);
}

/* Ports to look in at a time. */
#define WINDOW 64
#ifndef IP_LOCAL_PORT_RANGE
#define IP_LOCAL_PORT_RANGE 51
#endif

/* The kernel's usual range. Where a pod has another one, what is outside of that is not heard. */
static const unsigned first_port = 32768, last_port = 60999;

/*
 * The side that ends first keeps its port for a minute (TIME_WAIT, RFC 9293 section 3.3.2), and that is us whenever a caller
 * ends first. After some thousand connections looking for a free port takes the kernel more than all the rest, so it
 * looks in a few at a time, in turn. Older kernels than Linux 6.3 do not know this, and look by themselves. No port is
 * bound by number: the kernel would give it to nobody else, the application among them.
 */
static void look_in_turn(int fd) {
  static atomic_uint turns;
  unsigned low = first_port + WINDOW * (atomic_fetch_add(&turns, 1) % ((last_port - first_port + 1) / WINDOW));
  uint32_t range = (low + WINDOW - 1) << 16 | low;
  setsockopt(fd, IPPROTO_IP, IP_LOCAL_PORT_RANGE, &range, sizeof range);
}

/* A connection that is made within the machine is often there when `connect` returns, although it says otherwise. */
static int try_to_connect(const struct target *target, int in_turn, int *is_connecting) {
  int fd = socket(target->address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return -1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
  setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &(int){NEAR_BYTES}, sizeof(int));
  if (in_turn) look_in_turn(fd);
  int failed = connect(fd, (const void *)&target->address, target->length);
  if (failed && errno == EINPROGRESS) failed = connect(fd, (const void *)&target->address, target->length);
  *is_connecting = failed && errno == EALREADY;
  if (!failed || errno == EALREADY || errno == EISCONN) return fd;
  int why = errno;
  close(fd);
  errno = why;
  return -1;
}

static int connect_to(const struct target *target, int *is_connecting) {
  int fd = try_to_connect(target, 1, is_connecting);
  return fd < 0 && errno == EADDRNOTAVAIL ? try_to_connect(target, 0, is_connecting) : fd;
}

/* A pair of this connection and a new one; 0, with errno, when there is no room or no way, and then nothing has happened. */
struct pair *pair_open(int caller, const struct target *target) {
  struct pair *pair = calloc(1, sizeof *pair);
  int fd = pair ? connect_to(target, &pair->is_connecting) : -1;
  if (fd < 0) {
    int why = errno;
    free(pair);
    errno = why;
    return 0;
  }
  pair->side[0] = (struct side){.pair = pair, .fd = caller, .pipe = {-1, -1}};
  pair->side[1] = (struct side){.pair = pair, .fd = fd, .pipe = {-1, -1}};
  pair->tap = (struct side){.pair = pair, .fd = -1, .pipe = {-1, -1}};
  pair->deadline = relay_now() + target->milliseconds / 1e3;
  atomic_fetch_add(&relay_pairs, 1);
  return pair;
}

void pair_add(struct pair *pair) {
  pair->next = all;
  pair->previous = 0;
  if (all) all->previous = pair;
  all = pair;
  for (int i = 0; i < 2; i++) {
    struct side *side = &pair->side[i];
    side->interest = !pair->is_connecting ? EPOLLIN | EPOLLRDHUP : i ? EPOLLOUT : 0;
    struct epoll_event event = {.events = side->interest, .data.ptr = side};
    if (epoll_ctl(relay_epoll, EPOLL_CTL_ADD, side->fd, &event)) {
      pair_drop(pair, 1);
      return;
    }
  }
  struct epoll_event quiet = {.events = 0, .data.ptr = &pair->tap};
  if (pair->tap.fd >= 0 && epoll_ctl(relay_epoll, EPOLL_CTL_ADD, pair->tap.fd, &quiet)) tap_close(pair, 0);
}

void pairs_give_up_late_ones(void) {
  double time = relay_now();
  for (struct pair *pair = all, *next; pair; pair = next) {
    next = pair->next;
    if (pair->is_connecting && time > pair->deadline) pair_drop(pair, 1);
  }
}

void pairs_flush_taps(void) {
  if (!taps_are_due()) return;
  for (struct pair *pair = all; pair; pair = pair->next) tap_flush(pair);
}

void pairs_free_dead(void) {
  while (dead) {
    struct pair *next = dead->dead_next;
    free(dead);
    dead = next;
  }
}

void pairs_drop_all(void) {
  while (all) pair_drop(all, 1);
  pairs_free_dead();
}
