/*
 * Stands in for the headers of macOS on Linux: enough to compile the utun addon and to run its reader and writer. The
 * "device" is a UDP socket connected to UTUN_PORT on loopback, where a test plays the kernel's side.
 */
#pragma once
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#define PF_SYSTEM 32
#define AF_SYSTEM 32
#define AF_SYS_CONTROL 2
#define SYSPROTO_CONTROL 2
#define CTLIOCGINFO 0xc0644e03ul
/* The addon writes the number of macOS, whatever the machine that compiles it calls it. */
#undef AF_INET6
#define AF_INET6 30

struct ctl_info {
  uint32_t ctl_id;
  char ctl_name[96];
};

struct sockaddr_ctl {
  uint8_t sc_len, sc_family;
  uint16_t ss_sysaddr;
  uint32_t sc_id, sc_unit, sc_reserved[5];
};

static int stand_in_socket(int domain, int type, int protocol) {
  errno = EPROTONOSUPPORT;
  return domain == PF_SYSTEM && protocol == SYSPROTO_CONTROL ? socket(AF_INET, type, 0) : -1;
}

static int stand_in_ioctl(int fd, unsigned long request, struct ctl_info *info) {
  errno = ENOENT;
  if (fd < 0 || request != CTLIOCGINFO || strcmp(info->ctl_name, "com.apple.net.utun_control")) return -1;
  info->ctl_id = 77;
  return 0;
}

static int stand_in_connect(int fd, const struct sockaddr *to, socklen_t length) {
  const struct sockaddr_ctl *control = (const void *)to;
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
  const char *port = getenv("UTUN_PORT");
  errno = EINVAL;
  if (length != 32 || control->sc_len != 32 || control->sc_family != AF_SYSTEM || !port) return -1;
  if (control->ss_sysaddr != AF_SYS_CONTROL || control->sc_id != 77 || control->sc_unit != 0) return -1;
  address.sin_port = htons((uint16_t)atoi(port));
  return connect(fd, (struct sockaddr *)&address, sizeof address);
}

static int stand_in_getsockopt(int fd, int level, int option, void *value, socklen_t *length) {
  errno = EINVAL;
  if (fd < 0 || level != SYSPROTO_CONTROL || option != 2 || *length < 6) return -1;
  memcpy(value, "utun7", 6);
  *length = 6;
  return 0;
}

static int getpeereid(int fd, uid_t *user, gid_t *group) {
  struct ucred credentials;
  socklen_t size = sizeof credentials;
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &size)) return -1;
  *user = credentials.uid;
  *group = credentials.gid;
  return 0;
}

#define socket stand_in_socket
#define ioctl stand_in_ioctl
#define connect stand_in_connect
#define getsockopt stand_in_getsockopt
