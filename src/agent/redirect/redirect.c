/*
 * Leads connections inside a pod to another port, by nf_tables over netlink: what an init container runs once, with
 * NET_ADMIN, for ports that are called by number. The agent itself never has that right.
 *
 *   redirect <uid of the agent> take:<port>:<agent's port>:<tcp or udp> pass:<free port>:<port>:tcp …
 *
 * take: what comes to the port reaches the agent, but for the agent's own connections, by which it reaches the
 * application. pass: a second number that leads past the agent, for the probes of the kubelet.
 *
 * It always ends with 0, or the pod would not start. What went wrong is its termination message, which the
 * traffic-manager reads in the pod's status.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define TABLE "nearfield"
/* After a service mesh's own rules (-100), so that its proxy has a connection before the agent. */
#define PRIORITY -99
/* As many as an attachment may have, for both ways. */
#define MAX_RULES 256
#define TIMEOUT_S 5
/* The loopback interface is the first of every network namespace. */
#define LOOPBACK 1

struct redirection {
  bool past;
  uint16_t from, to;
  uint8_t protocol;
};

static struct redirection rules[MAX_RULES];
static int rule_count;
static uint32_t agent_uid;

/* One batch: built completely, then sent. */
static char buffer[512 * 1024];
static size_t length;
static uint32_t sequence;

static size_t aligned(size_t size) { return (size + 3) & ~(size_t)3; }

static void *reserve(size_t size) {
  if (length + aligned(size) > sizeof buffer) {
    errno = ENOBUFS;
    return NULL;
  }
  void *at = buffer + length;
  memset(at, 0, aligned(size));
  length += aligned(size);
  return at;
}

static struct nlmsghdr *begin(uint16_t type, uint16_t flags, uint8_t family, uint16_t resource) {
  struct nlmsghdr *message = reserve(sizeof *message + sizeof(struct nfgenmsg));
  if (message) {
    struct nfgenmsg *general = NLMSG_DATA(message);
    message->nlmsg_type = type;
    message->nlmsg_flags = NLM_F_REQUEST | flags;
    message->nlmsg_seq = ++sequence;
    general->nfgen_family = family;
    general->version = NFNETLINK_V0;
    general->res_id = htons(resource);
  }
  return message;
}

static void end(struct nlmsghdr *message) {
  if (message) {
    message->nlmsg_len = (uint32_t)(buffer + length - (char *)message);
  }
}

static void put(uint16_t type, const void *data, size_t size) {
  struct nlattr *attribute = reserve(NLA_HDRLEN + size);
  if (attribute) {
    attribute->nla_type = type;
    attribute->nla_len = (uint16_t)(NLA_HDRLEN + size);
    memcpy((char *)attribute + NLA_HDRLEN, data, size);
  }
}

static void put_text(uint16_t type, const char *text) { put(type, text, strlen(text) + 1); }

static void put_number(uint16_t type, uint32_t value) {
  uint32_t wire = htonl(value);
  put(type, &wire, sizeof wire);
}

static struct nlattr *open_nest(uint16_t type) {
  struct nlattr *nest = reserve(NLA_HDRLEN);
  if (nest) {
    nest->nla_type = type | NLA_F_NESTED;
  }
  return nest;
}

static void close_nest(struct nlattr *nest) {
  if (nest) {
    nest->nla_len = (uint16_t)(buffer + length - (char *)nest);
  }
}

struct expression {
  struct nlattr *element, *data;
};

static struct expression open_expression(const char *name) {
  struct expression made = {.element = open_nest(NFTA_LIST_ELEM)};
  put_text(NFTA_EXPR_NAME, name);
  made.data = open_nest(NFTA_EXPR_DATA);
  return made;
}

static void close_expression(struct expression made) {
  close_nest(made.data);
  close_nest(made.element);
}

static void put_value(uint16_t type, const void *data, size_t size) {
  struct nlattr *nest = open_nest(type);
  put(NFTA_DATA_VALUE, data, size);
  close_nest(nest);
}

static void compare(uint32_t operation, const void *data, size_t size) {
  struct expression made = open_expression("cmp");
  put_number(NFTA_CMP_SREG, NFT_REG_1);
  put_number(NFTA_CMP_OP, operation);
  put_value(NFTA_CMP_DATA, data, size);
  close_expression(made);
}

static void match_meta(uint32_t key, uint32_t operation, const void *data, size_t size) {
  struct expression made = open_expression("meta");
  put_number(NFTA_META_KEY, key);
  put_number(NFTA_META_DREG, NFT_REG_1);
  close_expression(made);
  compare(operation, data, size);
}

static void match_payload(uint32_t base, uint32_t offset, uint32_t operation, const void *data, size_t size) {
  struct expression made = open_expression("payload");
  put_number(NFTA_PAYLOAD_DREG, NFT_REG_1);
  put_number(NFTA_PAYLOAD_BASE, base);
  put_number(NFTA_PAYLOAD_OFFSET, offset);
  put_number(NFTA_PAYLOAD_LEN, (uint32_t)size);
  close_expression(made);
  compare(operation, data, size);
}

static void redirect_to(uint16_t port) {
  uint16_t wire = htons(port);
  struct expression value = open_expression("immediate");
  put_number(NFTA_IMMEDIATE_DREG, NFT_REG_1);
  put_value(NFTA_IMMEDIATE_DATA, &wire, sizeof wire);
  close_expression(value);
  struct expression made = open_expression("redir");
  put_number(NFTA_REDIR_REG_PROTO_MIN, NFT_REG_1);
  close_expression(made);
}

/* A connection from a program of the pod to its own loopback address is the application's own business. */
static void match_not_local(uint8_t family) {
  if (family == NFPROTO_IPV4) {
    const uint8_t net = 127;
    match_payload(NFT_PAYLOAD_NETWORK_HEADER, 16, NFT_CMP_NEQ, &net, sizeof net);
  } else {
    match_payload(NFT_PAYLOAD_NETWORK_HEADER, 24, NFT_CMP_NEQ, &in6addr_loopback, sizeof in6addr_loopback);
  }
}

static void add_rule(uint8_t family, bool comes_in, const struct redirection *rule) {
  const uint32_t loopback = LOOPBACK;
  const uint16_t port = htons(rule->from);
  struct nlmsghdr *message =
      begin((NFNL_SUBSYS_NFTABLES << 8) | NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND, family, 0);
  put_text(NFTA_RULE_TABLE, TABLE);
  put_text(NFTA_RULE_CHAIN, comes_in ? "in" : "within");
  struct nlattr *list = open_nest(NFTA_RULE_EXPRESSIONS);
  if (comes_in) {
    match_meta(NFT_META_IIF, NFT_CMP_NEQ, &loopback, sizeof loopback);
  } else {
    match_meta(NFT_META_OIF, NFT_CMP_EQ, &loopback, sizeof loopback);
    if (!rule->past) {
      match_meta(NFT_META_SKUID, NFT_CMP_NEQ, &agent_uid, sizeof agent_uid);
      match_not_local(family);
    }
  }
  match_meta(NFT_META_L4PROTO, NFT_CMP_EQ, &rule->protocol, sizeof rule->protocol);
  match_payload(NFT_PAYLOAD_TRANSPORT_HEADER, 2, NFT_CMP_EQ, &port, sizeof port);
  redirect_to(rule->to);
  close_nest(list);
  end(message);
}

static void add_table(uint8_t family, uint16_t operation, uint16_t flags) {
  struct nlmsghdr *message = begin((NFNL_SUBSYS_NFTABLES << 8) | operation, flags, family, 0);
  put_text(NFTA_TABLE_NAME, TABLE);
  end(message);
}

static void add_chain(uint8_t family, const char *name, uint32_t hook) {
  struct nlmsghdr *message = begin((NFNL_SUBSYS_NFTABLES << 8) | NFT_MSG_NEWCHAIN, NLM_F_CREATE, family, 0);
  put_text(NFTA_CHAIN_TABLE, TABLE);
  put_text(NFTA_CHAIN_NAME, name);
  struct nlattr *nest = open_nest(NFTA_CHAIN_HOOK);
  put_number(NFTA_HOOK_HOOKNUM, hook);
  put_number(NFTA_HOOK_PRIORITY, (uint32_t)PRIORITY);
  close_nest(nest);
  put_text(NFTA_CHAIN_TYPE, "nat");
  end(message);
}

/* The whole table in one transaction. Added before it is deleted: it need not be there, and may be from an earlier run. */
static void build(uint8_t family) {
  length = 0;
  end(begin(NFNL_MSG_BATCH_BEGIN, 0, AF_UNSPEC, NFNL_SUBSYS_NFTABLES));
  add_table(family, NFT_MSG_NEWTABLE, NLM_F_CREATE);
  add_table(family, NFT_MSG_DELTABLE, 0);
  add_table(family, NFT_MSG_NEWTABLE, NLM_F_CREATE);
  add_chain(family, "in", NF_INET_PRE_ROUTING);
  add_chain(family, "within", NF_INET_LOCAL_OUT);
  for (int at = 0; at < rule_count; at++) {
    add_rule(family, true, &rules[at]);
    add_rule(family, false, &rules[at]);
  }
  /* The answer to this one says that all before it were read. */
  add_table(family, NFT_MSG_NEWTABLE, NLM_F_CREATE | NLM_F_ACK);
  end(begin(NFNL_MSG_BATCH_END, 0, AF_UNSPEC, NFNL_SUBSYS_NFTABLES));
}

static int await_answer(int fd, uint32_t last) {
  static char answer[64 * 1024];
  for (;;) {
    ssize_t got = recv(fd, answer, sizeof answer, 0);
    if (got < 0) {
      return errno;
    }
    size_t left = (size_t)got;
    for (struct nlmsghdr *at = (struct nlmsghdr *)answer; NLMSG_OK(at, left); at = NLMSG_NEXT(at, left)) {
      if (at->nlmsg_type == NLMSG_ERROR) {
        const struct nlmsgerr *error = NLMSG_DATA(at);
        if (error->error != 0) {
          return -error->error;
        }
        if (at->nlmsg_seq == last) {
          return 0;
        }
      }
    }
  }
}

/* 0, or why not. */
static int install(uint8_t family) {
  const struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
  const struct timeval limit = {.tv_sec = TIMEOUT_S};
  const int size = 4 * 1024 * 1024;
  errno = 0;
  build(family);
  if (errno == ENOBUFS) {
    return ENOBUFS;
  }
  int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER);
  if (fd < 0) {
    return errno;
  }
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size);
  int failure = sendto(fd, buffer, length, 0, (const struct sockaddr *)&kernel, sizeof kernel) < 0
                    ? errno
                    : await_answer(fd, sequence - 1);
  close(fd);
  return failure;
}

/* Whether callers from outside may use this family. */
static bool has_address(int family) {
  struct ifaddrs *all, *each;
  bool found = false;
  if (getifaddrs(&all) != 0) {
    return family == AF_INET;
  }
  for (each = all; each; each = each->ifa_next) {
    if (!each->ifa_addr || each->ifa_addr->sa_family != family || (each->ifa_flags & IFF_LOOPBACK)) {
      continue;
    }
    const struct sockaddr_in6 *six = (const struct sockaddr_in6 *)(const void *)each->ifa_addr;
    found = found || family == AF_INET || !IN6_IS_ADDR_LINKLOCAL(&six->sin6_addr);
  }
  freeifaddrs(all);
  return found;
}

static bool parse(const char *text, struct redirection *rule) {
  char way[5], protocol[4];
  unsigned from, to;
  int used = 0;
  if (sscanf(text, "%4[a-z]:%5u:%5u:%3[a-z]%n", way, &from, &to, protocol, &used) != 4 || text[used] != '\0' ||
      from == 0 || from > 65535 || to == 0 || to > 65535) {
    return false;
  }
  const bool is_tcp = strcmp(protocol, "tcp") == 0;
  rule->past = strcmp(way, "pass") == 0;
  rule->from = (uint16_t)from;
  rule->to = (uint16_t)to;
  rule->protocol = is_tcp ? IPPROTO_TCP : IPPROTO_UDP;
  return (rule->past || strcmp(way, "take") == 0) && (is_tcp || strcmp(protocol, "udp") == 0);
}

/* The kubelet shows what is written there in the pod's status. */
static void tell(const char *format, ...) {
  char text[256];
  va_list values;
  va_start(values, format);
  vsnprintf(text, sizeof text, format, values);
  va_end(values);
  dprintf(STDERR_FILENO, "%s\n", text);
  int fd = open("/dev/termination-log", O_WRONLY | O_CLOEXEC);
  if (fd >= 0) {
    dprintf(fd, "%s", text);
    close(fd);
  }
}

int main(int count, char **arguments) {
  if (count < 3 || count - 2 > MAX_RULES) {
    tell("redirect: called with %d arguments", count - 1);
    return 0;
  }
  agent_uid = (uint32_t)strtoul(arguments[1], NULL, 10);
  for (int at = 2; at < count; at++) {
    if (!parse(arguments[at], &rules[rule_count++])) {
      tell("redirect: %.60s is no redirection", arguments[at]);
      return 0;
    }
  }
  const struct {
    int domain;
    uint8_t family;
    const char *name;
  } families[] = {{AF_INET, NFPROTO_IPV4, "IPv4"}, {AF_INET6, NFPROTO_IPV6, "IPv6"}};
  for (int at = 0; at < 2; at++) {
    int failure = has_address(families[at].domain) ? install(families[at].family) : 0;
    if (failure) {
      tell("the node's kernel refuses to redirect %s ports: %s", families[at].name, strerror(failure));
    }
  }
  return 0;
}
