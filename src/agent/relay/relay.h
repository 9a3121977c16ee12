/* What the files of the relay share: pairs of connections, and the thread that carries them. */
#ifndef RELAY_H
#define RELAY_H
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#define MAX_PAIRS 20000
#define MAX_DOORS 256

struct pair;

/* One direction reads from its side and writes to the other. */
struct side {
  struct pair *pair;
  int fd;
  /* What the other side did not take yet, read from here. Nothing more is read meanwhile. */
  char *rest;
  size_t rest_length, rest_at;
  /* The same for bulk, which goes through a pipe: its pages are moved and not copied. */
  int pipe[2];
  size_t in_pipe;
  int bulk;
  int has_ended;
  uint32_t interest;
};

struct pair {
  struct side side[2];
  /* Who listens in on side 0, by its end of a socket pair; -1 for nobody. */
  struct side tap;
  size_t tap_room;
  int tap_is_ending, tap_is_blocked;
  /* When something left last. */
  double tap_left;
  struct pair *next, *previous, *dead_next;
  int is_connecting, is_dead;
  double deadline;
};

/* The application behind a port. */
struct target {
  struct sockaddr_storage address;
  socklen_t length;
  int milliseconds;
};

extern int relay_epoll;
extern atomic_int relay_pairs;

double relay_now(void);

/* pairs.c: all of it in the relay's thread, but for `pair_open`. */
struct pair *pair_open(int caller, const struct target *target);
void pair_add(struct pair *pair);
void pair_handle(struct side *side, uint32_t events);
void pair_drop(struct pair *pair, int is_failure);
void pairs_give_up_late_ones(void);
/* Small words that copies have waited for long enough. */
void pairs_flush_taps(void);
void pairs_free_dead(void);
void pairs_drop_all(void);

/* tap.c: all of it in the relay's thread, but for `tap_open`. */
/* A copy of what the caller says, to be read at the descriptor that is answered; -1 when there is none. Before
   `pair_add`. It ends as the caller does, and breaks off (ECONNRESET) when it was not read fast enough. */
int tap_open(struct pair *pair);
void tap_write(struct pair *pair, const char *bytes, size_t length);
void tap_end(struct pair *pair);
void tap_handle(struct pair *pair, uint32_t events);
void tap_flush(struct pair *pair);
void tap_close(struct pair *pair, int is_whole);
/* How long nothing has to leave; -1: for ever. */
int taps_milliseconds(void);
/* Asked once: it is forgotten then. */
int taps_are_due(void);

/* thread.c */
int relay_start(void);
void relay_stop(void);
int relay_is_running(void);
/* Hands a pair over to the thread. */
void relay_take(struct pair *pair);
/* A listening socket, whose descriptor becomes the relay's; its number, or -1. It is shut at first. */
int door_add(int fd, const struct target *target);
void door_remove(int door);
/* An open door accepts, and joins with its target. Afterwards it is as it was asked for: no call is under way. */
void door_set_open(int door, int is_open);
/* Another descriptor of the same listening socket, or -1. */
int door_descriptor(int door);
#endif
