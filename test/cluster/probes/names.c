/* Looks up by the C library: `host:NAME`, `ptr:ADDRESS`, `srv:NAME`. Prints `question answer,answer milliseconds`. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <arpa/nameser.h>
#include <netdb.h>
#include <netinet/in.h>
#include <resolv.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

static void host(const char *name) {
  struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found = NULL;
  if (getaddrinfo(name, NULL, &hints, &found) || !found) {
    printf("-");
    return;
  }
  for (struct addrinfo *each = found; each; each = each->ai_next) {
    char text[64] = "";
    getnameinfo(each->ai_addr, each->ai_addrlen, text, sizeof text, NULL, 0, NI_NUMERICHOST);
    printf("%s%s", each == found ? "" : ",", text);
  }
  freeaddrinfo(found);
}

static void pointer(const char *address) {
  struct sockaddr_in from = {.sin_family = AF_INET};
  char text[256];
  inet_pton(AF_INET, address, &from.sin_addr);
  int failed = getnameinfo((struct sockaddr *)&from, sizeof from, text, sizeof text, NULL, 0, NI_NAMEREQD);
  printf("%s", failed ? "-" : text);
}

static void service(const char *name) {
  unsigned char answer[4096];
  char target[256];
  int length = res_query(name, ns_c_in, ns_t_srv, answer, sizeof answer);
  ns_msg message;
  if (length < 0 || ns_initparse(answer, length, &message) || ns_msg_count(message, ns_s_an) == 0) {
    printf("-");
    return;
  }
  for (int i = 0; i < ns_msg_count(message, ns_s_an); i++) {
    ns_rr record;
    if (!ns_parserr(&message, ns_s_an, i, &record) && ns_rr_type(record) == ns_t_srv) {
      const unsigned char *data = ns_rr_rdata(record);
      dn_expand(ns_msg_base(message), ns_msg_end(message), data + 6, target, sizeof target);
      printf("%s%s:%d", i == 0 ? "" : ",", target, ns_get16(data + 4));
    }
  }
}

int main(int argc, char **argv) {
  for (int i = 1; i < argc; i++) {
    struct timespec before, after;
    clock_gettime(CLOCK_MONOTONIC, &before);
    printf("%s ", argv[i]);
    (*argv[i] == 'p' ? pointer : *argv[i] == 's' ? service : host)(strchr(argv[i], ':') + 1);
    clock_gettime(CLOCK_MONOTONIC, &after);
    printf(" %ld\n", (after.tv_sec - before.tv_sec) * 1000 + (after.tv_nsec - before.tv_nsec) / 1000000);
  }
  return 0;
}
