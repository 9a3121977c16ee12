/* Looks names up by the C library's getaddrinfo. Prints `name address,address` or `name -`. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>

int main(int argc, char **argv) {
  for (int i = 1; i < argc; i++) {
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found = NULL;
    if (getaddrinfo(argv[i], NULL, &hints, &found) || !found) {
      printf("%s -\n", argv[i]);
      continue;
    }
    printf("%s ", argv[i]);
    for (struct addrinfo *each = found; each; each = each->ai_next) {
      char text[64] = "";
      const void *address = each->ai_family == AF_INET ? (void *)&((struct sockaddr_in *)each->ai_addr)->sin_addr
                                                       : (void *)&((struct sockaddr_in6 *)each->ai_addr)->sin6_addr;
      inet_ntop(each->ai_family, address, text, sizeof text);
      printf("%s%s", each == found ? "" : ",", text);
    }
    printf("\n");
    freeaddrinfo(found);
  }
  return 0;
}
