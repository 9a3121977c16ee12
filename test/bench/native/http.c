/*
 * HTTP/1.1 for the benchmarks and for counting lost requests, in C so that it is never the bottleneck.
 *
 *   http serve <port> <who>                            answers every request with <who>
 *   http load <ip> <port> <connections> <seconds> [H]  keep-alive requests one after the other on each connection
 *   http probe <ip> <port> <period ms> <seconds> [H]   a new connection and request every period, whatever became of the
 *                                                      ones before; each has five seconds
 *
 * H is a header line of the requests. `probe` says who answered and when that changed, and every failure, in
 * milliseconds since the epoch.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MAX_CONNECTIONS 4096
#define MAX_SAMPLES 4000000
#define PROBE_LIMIT 5.0
/* A well-behaved program serves on until every node knows that it is ending. */
#define DRAIN_SECONDS 3

struct peer {
  int fd, matched, length;
  double started;
  char text[1024];
};

static double samples[MAX_SAMPLES];
static int sample_count;
static volatile sig_atomic_t is_ending;

static double clock_seconds(clockid_t clock) {
  struct timespec t;
  clock_gettime(clock, &t);
  return t.tv_sec + t.tv_nsec * 1e-9;
}
static double now(void) { return clock_seconds(CLOCK_MONOTONIC); }
static double epoch_ms(void) { return clock_seconds(CLOCK_REALTIME) * 1e3; }

static int by_value(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return x < y ? -1 : x > y;
}
static double quantile_us(double q) {
  return sample_count ? samples[(int)((sample_count - 1) * q)] * 1e6 : 0;
}
static void keep(double seconds) {
  if (sample_count < MAX_SAMPLES) samples[sample_count++] = seconds;
}
static void fail(const char *what) {
  fprintf(stderr, "%s: %s\n", what, strerror(errno));
  exit(1);
}
static void end(int signal) {
  if (signal == SIGALRM) _exit(0);
  is_ending = 1;
  alarm(DRAIN_SECONDS);
}

/* How many heads end in these bytes; a head may come in parts. Bodies have no empty line. */
static int heads_in(struct peer *peer, const char *bytes, ssize_t count) {
  static const char mark[] = "\r\n\r\n";
  int heads = 0;
  for (ssize_t i = 0; i < count; i++) {
    peer->matched = bytes[i] == mark[peer->matched] ? peer->matched + 1 : bytes[i] == '\r';
    if (peer->matched == 4) {
      peer->matched = 0;
      heads++;
    }
  }
  return heads;
}

static void serve(int port, const char *who) {
  char answer[512], closing[512], bytes[65536];
  int size = snprintf(answer, sizeof answer, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n%s\n", strlen(who) + 1, who);
  int closing_size = snprintf(closing, sizeof closing, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %zu\r\n\r\n%s\n",
                              strlen(who) + 1, who);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
  int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), epoll = epoll_create1(0);
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
  if (bind(listener, (void *)&address, sizeof address) || listen(listener, 4096)) fail("listen");
  epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &(struct epoll_event){.events = EPOLLIN, .data.ptr = 0});
  signal(SIGTERM, end);
  signal(SIGALRM, end);
  for (;;) {
    struct epoll_event events[256];
    int count = epoll_wait(epoll, events, 256, -1);
    for (int i = 0; i < count; i++) {
      struct peer *peer = events[i].data.ptr;
      if (!peer) {
        int fd;
        while ((fd = accept4(listener, 0, 0, SOCK_NONBLOCK)) >= 0) {
          peer = calloc(1, sizeof *peer);
          peer->fd = fd;
          setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
          epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &(struct epoll_event){.events = EPOLLIN, .data.ptr = peer});
        }
        continue;
      }
      ssize_t got = read(peer->fd, bytes, sizeof bytes);
      int is_open = got > 0 || (got < 0 && errno == EAGAIN);
      for (int heads = got > 0 ? heads_in(peer, bytes, got) : 0; heads > 0 && is_open; heads--) {
        is_open = is_ending ? (write(peer->fd, closing, closing_size), 0) : write(peer->fd, answer, size) == size;
      }
      if (!is_open) {
        shutdown(peer->fd, SHUT_WR);
        close(peer->fd);
        free(peer);
      }
    }
  }
}

static struct sockaddr_in target;
static char request[1024];
static int request_size;

static int start(struct peer *peer) {
  peer->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  peer->matched = peer->length = 0;
  peer->started = now();
  setsockopt(peer->fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
  return connect(peer->fd, (void *)&target, sizeof target) && errno != EINPROGRESS ? errno : 0;
}

static void load(int connections, double seconds) {
  static struct peer peers[MAX_CONNECTIONS];
  int epoll = epoll_create1(0), errors = 0;
  char bytes[65536];
  for (int i = 0; i < connections; i++) {
    if (start(&peers[i])) fail("connect");
    fcntl(peers[i].fd, F_SETFL, 0);
    struct epoll_event writable = {.events = EPOLLIN, .data.ptr = &peers[i]};
    epoll_ctl(epoll, EPOLL_CTL_ADD, peers[i].fd, &writable);
    /* Blocking once: until it is connected. */
    socklen_t size = sizeof(struct sockaddr_in);
    struct sockaddr_in other;
    for (int tries = 0; getpeername(peers[i].fd, (void *)&other, &size) && tries < 5000; tries++) usleep(1000);
    if (write(peers[i].fd, request, request_size) != request_size) fail("write");
    peers[i].started = now();
  }
  double begin = now();
  long answered = 0;
  while (now() < begin + seconds) {
    struct epoll_event events[256];
    int count = epoll_wait(epoll, events, 256, 100);
    for (int i = 0; i < count; i++) {
      struct peer *peer = events[i].data.ptr;
      ssize_t got = read(peer->fd, bytes, sizeof bytes);
      if (got <= 0) {
        errors++;
        epoll_ctl(epoll, EPOLL_CTL_DEL, peer->fd, 0);
        continue;
      }
      /* The body comes in the same segment or right behind, and is one line. */
      if (bytes[got - 1] == '\n' && (peer->length += heads_in(peer, bytes, got)) > 0 && !peer->matched) {
        peer->length = 0;
        keep(now() - peer->started);
        answered++;
        peer->started = now();
        if (write(peer->fd, request, request_size) != request_size) errors++;
      }
    }
  }
  double took = now() - begin;
  qsort(samples, sample_count, sizeof *samples, by_value);
  printf("{\"perSecond\":%.0f,\"errors\":%d,\"count\":%ld,\"p50us\":%.1f,\"p99us\":%.1f}\n", answered / took, errors, answered,
         quantile_us(0.5), quantile_us(0.99));
}

static int event_count;
static void say(double at, const char *kind, const char *what) {
  printf("%s{\"at\":%.1f,\"kind\":\"%s\",\"what\":\"%s\"}", event_count++ ? ",\n" : "", at, kind, what);
}

static void probe(double period, double seconds) {
  static struct peer peers[MAX_CONNECTIONS];
  int epoll = epoll_create1(0), sent = 0, failed = 0, live = 0;
  char before[64] = "";
  double begin = now(), next = begin;
  for (int i = 0; i < MAX_CONNECTIONS; i++) peers[i].fd = -1;
  printf("{\"events\":[");
  while (now() < begin + seconds || live > 0) {
    for (; next <= now() && next < begin + seconds; next += period) {
      struct peer *peer = peers;
      while (peer < peers + MAX_CONNECTIONS && peer->fd >= 0) peer++;
      if (peer == peers + MAX_CONNECTIONS) fail("too many probes wait");
      sent++;
      live++;
      int error = start(peer);
      struct epoll_event event = {.events = EPOLLOUT | EPOLLIN, .data.ptr = peer};
      epoll_ctl(epoll, EPOLL_CTL_ADD, peer->fd, &event);
      if (error) errno = error;
    }
    double until = next - now();
    struct epoll_event events[256];
    int count = epoll_wait(epoll, events, 256, live == 0 || until < 0.05 ? (until > 0 ? (int)(until * 1e3) + 1 : 0) : 50);
    for (int i = 0; i < count; i++) {
      struct peer *peer = events[i].data.ptr;
      const char *why = 0;
      if (peer->length == 0 && (events[i].events & EPOLLOUT) && !(events[i].events & (EPOLLERR | EPOLLHUP))) {
        if (write(peer->fd, request, request_size) != request_size) why = strerror(errno);
        struct epoll_event readable = {.events = EPOLLIN, .data.ptr = peer};
        epoll_ctl(epoll, EPOLL_CTL_MOD, peer->fd, &readable);
      }
      int is_done = 0;
      if (!why && (events[i].events & (EPOLLIN | EPOLLERR | EPOLLHUP))) {
        ssize_t got = read(peer->fd, peer->text + peer->length, sizeof peer->text - 1 - peer->length);
        if (got < 0 && errno != EAGAIN) why = strerror(errno);
        if (got == 0) why = "ended early";
        if (got > 0) peer->length += got;
        peer->text[peer->length] = 0;
        char *body = strstr(peer->text, "\r\n\r\n");
        if (body && strchr(body + 4, '\n')) {
          is_done = 1;
          why = 0;
          body += 4;
          *strchr(body, '\n') = 0;
          if (!strstr(peer->text, " 200 ")) why = "not 200";
          else if (strcmp(body, before)) say(epoch_ms(), "answer", strncpy(before, body, sizeof before - 1));
          if (!why) keep(now() - peer->started);
        }
      }
      if (why || is_done) {
        if (why) {
          failed++;
          say(epoch_ms(), "failure", why);
        }
        close(peer->fd);
        peer->fd = -1;
        live--;
      }
    }
    for (struct peer *peer = peers; live > 0 && peer < peers + MAX_CONNECTIONS; peer++) {
      if (peer->fd >= 0 && now() - peer->started > PROBE_LIMIT) {
        failed++;
        say(epoch_ms(), "failure", "no answer in time");
        close(peer->fd);
        peer->fd = -1;
        live--;
      }
    }
  }
  qsort(samples, sample_count, sizeof *samples, by_value);
  printf("],\"sent\":%d,\"failed\":%d,\"p50us\":%.1f,\"p99us\":%.1f}\n", sent, failed, quantile_us(0.5), quantile_us(0.99));
}

int main(int argc, char **argv) {
  signal(SIGPIPE, SIG_IGN);
  if (argc == 4 && !strcmp(argv[1], "serve")) serve(atoi(argv[2]), argv[3]);
  if (argc < 6) {
    fprintf(stderr, "usage: http serve PORT WHO | load IP PORT CONNECTIONS SECONDS [HEADER] | probe IP PORT PERIOD SECONDS [HEADER]\n");
    return 2;
  }
  target = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(atoi(argv[3]))};
  if (inet_pton(AF_INET, argv[2], &target.sin_addr) != 1) fail("address");
  const char *header = argc > 6 ? argv[6] : "accept: */*";
  int is_load = !strcmp(argv[1], "load");
  request_size = snprintf(request, sizeof request, "GET /work HTTP/1.1\r\nhost: load\r\n%s\r\n%s\r\n", header,
                          is_load ? "" : "connection: close\r\n");
  if (is_load) load(atoi(argv[4]), atof(argv[5]));
  else probe(atof(argv[4]) / 1e3, atof(argv[5]));
  return 0;
}
