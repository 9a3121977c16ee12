/*
 * The load server and client of the benchmarks, in C so that they are never the bottleneck.
 *
 *   load serve <tcp port> <udp port>               on 64 TCP ports from the one given
 *   load up|down <ip> <port> <flows> <seconds>     throughput, Gbit/s as counted by the receiver
 *   load pingpong <ip> <port> 1 <seconds>          one byte there and back
 *   load connect <ip> <port> <parallel> <seconds>  connect, 16 bytes, 64 back, close
 *   load connect1 ...                              the same from source ports in turn: left to the kernel, looking for
 *                                                  one that is not in TIME_WAIT soon takes more than all the rest
 *   load connect64 ...                             the same to 64 ports in turn
 *   load udp <ip> <port> <window> <seconds>        64-byte echoes
 *
 * A TCP client begins with 16 bytes: an operation (U, D, E, R) and its length in milliseconds.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BLOCK (256 * 1024)
#define HEADER 16
#define MAX_FLOWS 1024
#define PORTS 64
#define MAX_SAMPLES 4000000

static char block[BLOCK];
static double samples[MAX_SAMPLES];
static int sample_count;

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec * 1e-9;
}

static void keep(double seconds) {
  if (sample_count < MAX_SAMPLES) samples[sample_count++] = seconds;
}

static int by_value(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return x < y ? -1 : x > y;
}

static double quantile_us(double q) {
  return sample_count ? samples[(int)((sample_count - 1) * q)] * 1e6 : 0;
}

static void nonblocking(int fd) { fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK); }

static void no_delay(int fd) {
  int on = 1;
  setsockopt(fd, SOL_TCP, TCP_NODELAY, &on, sizeof on);
}

static void fail(const char *what) {
  printf("{\"error\":\"%s: %s\"}\n", what, strerror(errno));
  exit(1);
}

struct peer {
  enum { LISTENER, UDP, STREAM } kind;
  int fd, header_length;
  unsigned char header[HEADER];
  uint64_t received;
  double deadline;
};

static void watch(int epoll, struct peer *peer, uint32_t events, int operation) {
  struct epoll_event event = {.events = events, .data.ptr = peer};
  epoll_ctl(epoll, operation, peer->fd, &event);
}

static int open_port(int type, int port) {
  int fd = socket(AF_INET, type, 0), on = 1, buffer = 4 << 20;
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &buffer, type == SOCK_DGRAM ? sizeof buffer : 0);
  if (bind(fd, (void *)&address, sizeof address)) fail("bind");
  if (type == SOCK_STREAM && listen(fd, 4096)) fail("listen");
  nonblocking(fd);
  return fd;
}

/* Answers 0 when the connection is over. */
static int serve_stream(int epoll, struct peer *peer, uint32_t events) {
  if (peer->header_length < HEADER) {
    ssize_t count = read(peer->fd, peer->header + peer->header_length, HEADER - peer->header_length);
    if (count <= 0) return count < 0 && errno == EAGAIN;
    peer->header_length += count;
    if (peer->header_length < HEADER) return 1;
    uint32_t milliseconds;
    memcpy(&milliseconds, peer->header + 4, 4);
    peer->deadline = now() + milliseconds / 1e3;
    if (peer->header[0] == 'D') watch(epoll, peer, EPOLLOUT, EPOLL_CTL_MOD);
    if (peer->header[0] == 'R') return write(peer->fd, block, 64) == 64;
    return 1;
  }
  for (int round = 0; round < 4; round++) {
    if (peer->header[0] == 'D') {
      if (now() > peer->deadline) return 0;
      if (write(peer->fd, block, BLOCK) < 0) return errno == EAGAIN;
      continue;
    }
    ssize_t count = read(peer->fd, block, BLOCK);
    if (count < 0) return errno == EAGAIN;
    if (count == 0) {
      /* The client shut its side: tell it what arrived, which also proves half-close. */
      return peer->header[0] == 'U' && write(peer->fd, &peer->received, 8) < 0 ? 0 : 0;
    }
    peer->received += count;
    for (ssize_t at = 0; peer->header[0] == 'E' && at < count;) {
      ssize_t written = write(peer->fd, block + at, count - at);
      if (written > 0) at += written;
      else if (errno == EAGAIN) poll(&(struct pollfd){peer->fd, POLLOUT, 0}, 1, 5000);
      else return 0;
    }
  }
  (void)events;
  return 1;
}

static void serve(int tcp_port, int udp_port) {
  int epoll = epoll_create1(0);
  static struct peer listeners[PORTS];
  struct peer echo = {.kind = UDP, .fd = open_port(SOCK_DGRAM, udp_port)};
  for (int i = 0; i < PORTS; i++) {
    listeners[i] = (struct peer){.kind = LISTENER, .fd = open_port(SOCK_STREAM, tcp_port + i)};
    watch(epoll, &listeners[i], EPOLLIN, EPOLL_CTL_ADD);
  }
  watch(epoll, &echo, EPOLLIN, EPOLL_CTL_ADD);
  for (;;) {
    struct epoll_event events[256];
    int count = epoll_wait(epoll, events, 256, -1);
    for (int i = 0; i < count; i++) {
      struct peer *peer = events[i].data.ptr;
      if (peer->kind == LISTENER) {
        int fd;
        while ((fd = accept4(peer->fd, 0, 0, SOCK_NONBLOCK)) >= 0) {
          struct peer *stream = calloc(1, sizeof *stream);
          stream->kind = STREAM;
          stream->fd = fd;
          no_delay(fd);
          watch(epoll, stream, EPOLLIN, EPOLL_CTL_ADD);
        }
      } else if (peer->kind == UDP) {
        struct sockaddr_in from;
        socklen_t size = sizeof from;
        ssize_t length;
        while ((length = recvfrom(peer->fd, block, BLOCK, 0, (void *)&from, &size)) >= 0)
          sendto(peer->fd, block, length, 0, (void *)&from, size);
      } else if (!serve_stream(epoll, peer, events[i].events)) {
        close(peer->fd);
        free(peer);
      }
    }
  }
}

static struct sockaddr_in target;

static int open_stream(char operation, double seconds) {
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  unsigned char header[HEADER] = {operation};
  uint32_t milliseconds = seconds * 1000;
  memcpy(header + 4, &milliseconds, 4);
  if (connect(fd, (void *)&target, sizeof target)) fail("connect");
  no_delay(fd);
  if (write(fd, header, HEADER) != HEADER) fail("write");
  return fd;
}

static void throughput(int up, int flows, double seconds) {
  int fds[MAX_FLOWS], epoll = epoll_create1(0), left = flows;
  uint64_t total = 0;
  for (int i = 0; i < flows; i++) {
    fds[i] = open_stream(up ? 'U' : 'D', seconds);
    nonblocking(fds[i]);
    struct epoll_event event = {.events = up ? EPOLLOUT : EPOLLIN, .data.u32 = i};
    epoll_ctl(epoll, EPOLL_CTL_ADD, fds[i], &event);
  }
  double start = now(), end = start + seconds;
  while (up ? now() < end : left > 0 && now() < end + 20) {
    struct epoll_event events[256];
    int count = epoll_wait(epoll, events, 256, 100);
    for (int i = 0; i < count; i++) {
      int fd = fds[events[i].data.u32];
      ssize_t moved = up ? write(fd, block, BLOCK) : read(fd, block, BLOCK);
      if (moved > 0 && !up) total += moved;
      if (moved == 0 && !up) {
        epoll_ctl(epoll, EPOLL_CTL_DEL, fd, 0);
        left--;
      }
      if (moved < 0 && errno != EAGAIN) fail(up ? "write" : "read");
    }
  }
  for (int i = 0; up && i < flows; i++) shutdown(fds[i], SHUT_WR);
  for (int i = 0; up && i < flows; i++) {
    uint64_t received = 0;
    struct timeval limit = {30, 0};
    fcntl(fds[i], F_SETFL, 0);
    setsockopt(fds[i], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    if (recv(fds[i], &received, 8, MSG_WAITALL) != 8) fail("no count from the server");
    total += received;
  }
  printf("{\"gbps\":%.3f,\"bytes\":%lu}\n", total * 8 / (now() - start) / 1e9, total);
}

static void pingpong(double seconds) {
  int fd = open_stream('E', seconds);
  char byte = 1;
  for (double end = now() + seconds; now() < end;) {
    double start = now();
    if (write(fd, &byte, 1) != 1 || read(fd, &byte, 1) != 1) fail("pingpong");
    keep(now() - start);
  }
}

/* Source ports in turn, from a place that differs from run to run. */
static void bind_next(int fd) {
  static unsigned port;
  struct sockaddr_in from = {.sin_family = AF_INET};
  if (!port) port = (unsigned)(now() * 1e3) % 40000;
  from.sin_port = htons(20000 + port++ % 40000);
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
  bind(fd, (void *)&from, sizeof from);
}

/* A socket that is connecting to the target; one whose source port is still taken is exchanged for another. */
static int connecting(int is_bound) {
  for (int tries = 0;; tries++) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (is_bound) bind_next(fd);
    if (!connect(fd, (void *)&target, sizeof target) || errno == EINPROGRESS || tries > 1000) return fd;
    close(fd);
  }
}

static void connections(int parallel, double seconds, int ports, int is_bound) {
  int first = ntohs(target.sin_port), turn = 0;
  int fds[MAX_FLOWS], stage[MAX_FLOWS], epoll = epoll_create1(0), live = 0, errors = 0;
  double started[MAX_FLOWS], start = now(), end = start + seconds;
  memset(fds, -1, sizeof fds);
  while (now() < end || (live > 0 && now() < end + 10)) {
    for (int i = 0; i < parallel && now() < end; i++) {
      if (fds[i] >= 0) continue;
      started[i] = now();
      stage[i] = 0;
      live++;
      target.sin_port = htons(first + turn++ % ports);
      fds[i] = connecting(is_bound);
      struct epoll_event event = {.events = EPOLLOUT, .data.u32 = i};
      epoll_ctl(epoll, EPOLL_CTL_ADD, fds[i], &event);
    }
    struct epoll_event events[256];
    int count = epoll_wait(epoll, events, 256, 100);
    for (int k = 0; k < count; k++) {
      int i = events[k].data.u32, done = 1;
      if (stage[i] == 0) {
        unsigned char header[HEADER] = {'R'};
        done = write(fds[i], header, HEADER) != HEADER;
        errors += done;
        stage[i] = 1;
        struct epoll_event event = {.events = EPOLLIN, .data.u32 = i};
        epoll_ctl(epoll, EPOLL_CTL_MOD, fds[i], &event);
      } else {
        char answer[64];
        if (read(fds[i], answer, 64) > 0) keep(now() - started[i]);
        else errors++;
      }
      if (done) {
        close(fds[i]);
        fds[i] = -1;
        live--;
      }
    }
  }
  printf("{\"perSecond\":%.0f,\"errors\":%d,", sample_count / (now() - start), errors);
}

static void datagrams(int window, double seconds) {
  int fd = socket(AF_INET, SOCK_DGRAM, 0), buffer = 4 << 20, waiting = 0;
  uint64_t received = 0, lost = 0;
  struct timeval limit = {0, 100000};
  setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof buffer);
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  if (connect(fd, (void *)&target, sizeof target)) fail("connect");
  double start = now();
  while (now() < start + seconds) {
    for (; waiting < window; waiting++) {
      double sent = now();
      memcpy(block, &sent, sizeof sent);
      if (send(fd, block, 64, 0) < 0) break;
    }
    if (recv(fd, block, BLOCK, 0) < 0) {
      lost += waiting;
      waiting = 0;
      continue;
    }
    do {
      double sent;
      memcpy(&sent, block, sizeof sent);
      keep(now() - sent);
      received++;
      waiting--;
    } while (recv(fd, block, BLOCK, MSG_DONTWAIT) >= 0);
  }
  printf("{\"perSecond\":%.0f,\"lost\":%lu,", received / (now() - start), lost);
}

int main(int argc, char **argv) {
  signal(SIGPIPE, SIG_IGN);
  if (argc == 4 && !strcmp(argv[1], "serve")) serve(atoi(argv[2]), atoi(argv[3]));
  if (argc != 6 || atoi(argv[4]) < 1 || atoi(argv[4]) > MAX_FLOWS) {
    fprintf(stderr, "usage: load serve TCP UDP | load up|down|pingpong|connect|udp IP PORT COUNT SECONDS\n");
    return 2;
  }
  int count = atoi(argv[4]);
  double seconds = atof(argv[5]);
  target.sin_family = AF_INET;
  target.sin_port = htons(atoi(argv[3]));
  inet_pton(AF_INET, argv[2], &target.sin_addr);
  if (!strcmp(argv[1], "up") || !strcmp(argv[1], "down")) {
    throughput(argv[1][0] == 'u', count, seconds);
    return 0;
  }
  if (!strcmp(argv[1], "pingpong")) {
    pingpong(seconds);
    printf("{");
  }
  if (!strcmp(argv[1], "connect")) connections(count, seconds, 1, 0);
  if (!strcmp(argv[1], "connect1")) connections(count, seconds, 1, 1);
  if (!strcmp(argv[1], "connect64")) connections(count, seconds, PORTS, 1);
  if (!strcmp(argv[1], "udp")) datagrams(count, seconds);
  qsort(samples, sample_count, sizeof *samples, by_value);
  printf("\"count\":%d,\"p50us\":%.1f,\"p99us\":%.1f}\n", sample_count, quantile_us(0.5), quantile_us(0.99));
  return 0;
}
