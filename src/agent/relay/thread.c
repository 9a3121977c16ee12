/* The relay's thread, and the doors that it accepts at. */
#define _GNU_SOURCE
#include "relay.h"
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

/* Of one door in one turn. */
#define ACCEPTS 64
/* When descriptors or places are short, what waits is looked at again after this. */
#define PATIENCE_MS 20
#define TICK_MS 1000

struct door {
  struct target target;
  int fd, is_used, is_open, is_resting;
  /* A caller for whom no port was left, while the door rests; -1 for nobody. */
  int held;
  double held_until;
};

int relay_epoll = -1;
atomic_int relay_pairs;

static int wake = -1;
static pthread_t thread;
static atomic_int is_running;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
/* Made by others, not yet seen by the thread; under the lock, as are the doors. */
static struct pair *incoming;
static struct door doors[MAX_DOORS];
/* Whether a door may rest; the thread's own, so that it need not look at all of them in each turn. */
static int rests;

double relay_now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec * 1e-9;
}

int relay_is_running(void) { return atomic_load(&is_running); }

static void wake_up(void) {
  uint64_t one = 1;
  ssize_t written = write(wake, &one, sizeof one);
  (void)written;
}

static void watch_door(struct door *door, int operation) {
  struct epoll_event event = {.events = EPOLLIN, .data.ptr = door};
  epoll_ctl(relay_epoll, operation, door->fd, &event);
}

static void reset_caller(int caller) {
  setsockopt(caller, SOL_SOCKET, SO_LINGER, &(struct linger){1, 0}, sizeof(struct linger));
  close(caller);
}

/* A caller that cannot be served is reset, as by an application that is not there. Answers 0 when he has to wait: all
   ports to the application are taken, until connections of a minute ago are forgotten. */
static int join(const struct door *door, int caller) {
  struct pair *pair = pair_open(caller, &door->target);
  if (pair) pair_add(pair);
  else if (errno == EADDRNOTAVAIL) return 0;
  else reset_caller(caller);
  return 1;
}

/* They wait in the kernel's queue; asked at once again it would say the same. */
static void rest(struct door *door) {
  watch_door(door, EPOLL_CTL_DEL);
  door->is_resting = rests = 1;
}

static void accept_at(struct door *door) {
  pthread_mutex_lock(&lock);
  for (int i = 0; i < ACCEPTS && door->is_open && !door->is_resting; i++) {
    int is_full = atomic_load(&relay_pairs) >= MAX_PAIRS;
    int caller = is_full ? -1 : accept4(door->fd, 0, 0, SOCK_NONBLOCK | SOCK_CLOEXEC);
    int why = is_full ? EMFILE : errno;
    if (caller >= 0 && !join(door, caller)) {
      door->held = caller;
      door->held_until = relay_now() + door->target.milliseconds / 1e3;
      rest(door);
    } else if (caller < 0 && (why == EMFILE || why == ENFILE || why == ENOBUFS || why == ENOMEM)) rest(door);
    else if (caller < 0 && why == EAGAIN) break;
  }
  pthread_mutex_unlock(&lock);
}

/* Answers whether nobody waits at this door any more. */
static int serve_held(struct door *door) {
  if (door->held < 0) return 1;
  if (relay_now() > door->held_until) reset_caller(door->held);
  else if (!join(door, door->held)) return 0;
  door->held = -1;
  return 1;
}

static void wake_doors(void) {
  pthread_mutex_lock(&lock);
  rests = 0;
  for (struct door *door = doors; door < doors + MAX_DOORS; door++) {
    if (!door->is_used || !door->is_resting) continue;
    if (!serve_held(door)) {
      rests = 1;
      continue;
    }
    door->is_resting = 0;
    if (door->is_open) watch_door(door, EPOLL_CTL_ADD);
  }
  pthread_mutex_unlock(&lock);
}

static void take_incoming(void) {
  uint64_t times;
  if (read(wake, &times, sizeof times) < 0) return;
  pthread_mutex_lock(&lock);
  struct pair *pair = incoming;
  incoming = 0;
  pthread_mutex_unlock(&lock);
  while (pair) {
    struct pair *next = pair->next;
    pair_add(pair);
    pair = next;
  }
}

static int is_door(const void *what) {
  return (const struct door *)what >= doors && (const struct door *)what < doors + MAX_DOORS;
}

static void *run(void *unused) {
  double looked = relay_now();
  sigset_t signals;
  (void)unused;
  /* A connection that is gone is an error here, and no signal; all others are for the main thread. */
  sigfillset(&signals);
  pthread_sigmask(SIG_BLOCK, &signals, 0);
  while (atomic_load(&is_running)) {
    struct epoll_event events[256];
    int tick = rests ? PATIENCE_MS : TICK_MS, taps = taps_milliseconds();
    int count = epoll_wait(relay_epoll, events, 256, taps >= 0 && taps < tick ? taps : tick);
    for (int i = 0; i < count; i++) {
      void *what = events[i].data.ptr;
      if (!what) take_incoming();
      else if (is_door(what)) accept_at(what);
      else pair_handle(what, events[i].events);
    }
    int is_late = relay_now() - looked > TICK_MS / 1e3;
    if (is_late) {
      looked = relay_now();
      pairs_give_up_late_ones();
    }
    if (rests && (is_late || count == 0)) wake_doors();
    pairs_flush_taps();
    pairs_free_dead();
  }
  pairs_drop_all();
  return 0;
}

int relay_start(void) {
  if (relay_is_running()) return 1;
  relay_epoll = epoll_create1(EPOLL_CLOEXEC);
  wake = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  struct epoll_event event = {.events = EPOLLIN, .data.ptr = 0};
  if (relay_epoll < 0 || wake < 0 || epoll_ctl(relay_epoll, EPOLL_CTL_ADD, wake, &event)) return 0;
  atomic_store(&is_running, 1);
  if (!pthread_create(&thread, 0, run, 0)) return 1;
  atomic_store(&is_running, 0);
  return 0;
}

void relay_stop(void) {
  if (!atomic_exchange(&is_running, 0)) return;
  wake_up();
  pthread_join(thread, 0);
  for (int i = 0; i < MAX_DOORS; i++) door_remove(i);
  /* The thread is gone: what it did not see is ours. */
  struct pair *pair = incoming;
  incoming = 0;
  while (pair) {
    struct pair *next = pair->next;
    pair_add(pair);
    pair = next;
  }
  pairs_drop_all();
  close(relay_epoll);
  close(wake);
}

void relay_take(struct pair *pair) {
  pthread_mutex_lock(&lock);
  pair->next = incoming;
  incoming = pair;
  pthread_mutex_unlock(&lock);
  wake_up();
}

int door_add(int fd, const struct target *target) {
  int door = -1;
  /* What is accepted has it from here. */
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
  pthread_mutex_lock(&lock);
  for (int i = 0; i < MAX_DOORS && door < 0; i++)
    if (!doors[i].is_used) {
      doors[i] = (struct door){.target = *target, .fd = fd, .is_used = 1, .held = -1};
      door = i;
    }
  pthread_mutex_unlock(&lock);
  return door;
}

void door_remove(int door) {
  door_set_open(door, 0);
  pthread_mutex_lock(&lock);
  if (doors[door].is_used) {
    if (doors[door].held >= 0) reset_caller(doors[door].held);
    doors[door].is_used = 0;
    close(doors[door].fd);
  }
  pthread_mutex_unlock(&lock);
}

void door_set_open(int number, int is_open) {
  struct door *door = &doors[number];
  pthread_mutex_lock(&lock);
  if (door->is_used && door->is_open != is_open) {
    door->is_open = is_open;
    /* One that rests is looked at when it has rested, as it is then. */
    if (!door->is_resting) watch_door(door, is_open ? EPOLL_CTL_ADD : EPOLL_CTL_DEL);
  }
  pthread_mutex_unlock(&lock);
}

int door_descriptor(int door) {
  pthread_mutex_lock(&lock);
  int fd = doors[door].is_used ? fcntl(doors[door].fd, F_DUPFD_CLOEXEC, 0) : -1;
  pthread_mutex_unlock(&lock);
  return fd;
}
