/*
 * The shortcut: a program in the kernel that gives the packets of known TCP flows their other addresses and takes them in
 * again where they would leave by the device, so that they never come to this process. It decides nothing: which packets,
 * and what they become, stands in a map that the daemon writes. It knows IPv4 without options, no fragments, and no segment
 * that begins or ends a connection: all others are the daemon's. Map and program are gone with their descriptors.
 * See bpf(2), and "TCX" in the kernel since 6.6; before that there is none.
 */
#include "shortcut.h"

#include <arpa/inet.h>
#include <linux/bpf.h>
#include <net/if.h>
#include <stddef.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Newer than the headers of the systems this is built on. */
enum { TCX_EGRESS = 47, TCX_NEXT = -1 };

/* Addresses and ports as they stand in a packet without IP options, from byte 12. */
enum { KEY_AT = 12, CHECKSUM_IP = 10, CHECKSUM_TCP = 36, HEADERS = 40, MAX_ENTRIES = 100000 };
enum { FIN_SYN_RST = 7, REENTER = BPF_F_INGRESS };

/* Where on the program's stack what is. */
enum { COPY = -HEADERS, OLD_SOURCE = COPY + KEY_AT, OLD_DESTINATION = OLD_SOURCE + 4, OLD_PORTS = OLD_SOURCE + 8 };
enum { NEW = COPY - 16, NEW_PORTS = NEW + 8 };

#define INSN(op, to, from, offset, number) \
  ((struct bpf_insn){.code = (op), .dst_reg = (to), .src_reg = (from), .off = (offset), .imm = (number)})
#define SET(to, number) INSN(BPF_ALU64 | BPF_MOV | BPF_K, to, 0, 0, number)
#define COPY_OF(to, from) INSN(BPF_ALU64 | BPF_MOV | BPF_X, to, from, 0, 0)
#define ADD(to, number) INSN(BPF_ALU64 | BPF_ADD | BPF_K, to, 0, 0, number)
#define AND(to, number) INSN(BPF_ALU64 | BPF_AND | BPF_K, to, 0, 0, number)
#define LOAD(size, to, from, offset) INSN(BPF_LDX | BPF_MEM | (size), to, from, offset, 0)
#define STORE(to, from, offset) INSN(BPF_STX | BPF_MEM | BPF_W, to, from, offset, 0)
#define CALL(function) INSN(BPF_JMP | BPF_CALL, 0, 0, 0, function)
#define UNLESS(register, number) INSN(BPF_JMP | BPF_JNE | BPF_K, register, 0, LEAVE, number)
#define EXIT() INSN(BPF_JMP | BPF_EXIT, 0, 0, 0, 0)
/* Set to the way out once that is known. */
enum { LEAVE = 0x7fff };
enum { R0, R1, R2, R3, R4, R5, CONTEXT, R7, SOURCE, DESTINATION, STACK };

/* Checksum at `field`, of `size` bytes that were at `old` on the stack and are in `new` now. */
#define FIX(function, field, old, new, size) \
  COPY_OF(R1, CONTEXT), SET(R2, field), LOAD(BPF_W, R3, STACK, old), COPY_OF(R4, new), SET(R5, size), CALL(function)

static int bpf(int command, union bpf_attr *attributes) {
  return (int)syscall(__NR_bpf, command, attributes, sizeof *attributes);
}

static int load_program(int map) {
  struct bpf_insn program[] = {
    COPY_OF(CONTEXT, R1),
    LOAD(BPF_W, R2, CONTEXT, offsetof(struct __sk_buff, protocol)),
    UNLESS(R2, htons(0x0800)),
    COPY_OF(R1, CONTEXT), SET(R2, 0), COPY_OF(R3, STACK), ADD(R3, COPY), SET(R4, HEADERS), CALL(BPF_FUNC_skb_load_bytes),
    UNLESS(R0, 0),
    LOAD(BPF_B, R2, STACK, COPY), UNLESS(R2, 0x45),
    LOAD(BPF_H, R2, STACK, COPY + 6), AND(R2, htons(0x3fff)), UNLESS(R2, 0),
    LOAD(BPF_B, R2, STACK, COPY + 9), UNLESS(R2, 6),
    LOAD(BPF_B, R2, STACK, COPY + 33), AND(R2, FIN_SYN_RST), UNLESS(R2, 0),
    INSN(BPF_LD | BPF_DW | BPF_IMM, R1, BPF_PSEUDO_MAP_FD, 0, map), INSN(0, 0, 0, 0, 0),
    COPY_OF(R2, STACK), ADD(R2, OLD_SOURCE), CALL(BPF_FUNC_map_lookup_elem),
    INSN(BPF_JMP | BPF_JEQ | BPF_K, R0, 0, LEAVE, 0),
    LOAD(BPF_W, SOURCE, R0, 0), STORE(STACK, SOURCE, NEW),
    LOAD(BPF_W, DESTINATION, R0, 4), STORE(STACK, DESTINATION, NEW + 4),
    LOAD(BPF_W, R7, R0, 8), STORE(STACK, R7, NEW_PORTS),
    /* An address counts in the IP header, and as part of the pseudo header in TCP's (RFC 9293 section 3.1). */
    FIX(BPF_FUNC_l3_csum_replace, CHECKSUM_IP, OLD_SOURCE, SOURCE, 4),
    FIX(BPF_FUNC_l3_csum_replace, CHECKSUM_IP, OLD_DESTINATION, DESTINATION, 4),
    FIX(BPF_FUNC_l4_csum_replace, CHECKSUM_TCP, OLD_SOURCE, SOURCE, BPF_F_PSEUDO_HDR | 4),
    FIX(BPF_FUNC_l4_csum_replace, CHECKSUM_TCP, OLD_DESTINATION, DESTINATION, BPF_F_PSEUDO_HDR | 4),
    FIX(BPF_FUNC_l4_csum_replace, CHECKSUM_TCP, OLD_PORTS, R7, 4),
    COPY_OF(R1, CONTEXT), SET(R2, KEY_AT), COPY_OF(R3, STACK), ADD(R3, NEW), SET(R4, SHORTCUT_BYTES), SET(R5, 0),
    CALL(BPF_FUNC_skb_store_bytes),
    LOAD(BPF_W, R1, CONTEXT, offsetof(struct __sk_buff, ifindex)), SET(R2, REENTER), CALL(BPF_FUNC_redirect),
    EXIT(),
    SET(R0, TCX_NEXT),
    EXIT(),
  };
  int count = sizeof program / sizeof *program, way_out = count - 2;
  for (int i = 0; i < count; i++) {
    if (BPF_CLASS(program[i].code) == BPF_JMP && program[i].off == LEAVE) program[i].off = way_out - i - 1;
  }
  union bpf_attr attributes;
  memset(&attributes, 0, sizeof attributes);
  attributes.prog_type = BPF_PROG_TYPE_SCHED_CLS;
  attributes.insns = (uintptr_t)program;
  attributes.insn_cnt = count;
  /* The helpers used here ask for no licence that is compatible with the kernel's. */
  attributes.license = (uintptr_t)"Proprietary";
  attributes.expected_attach_type = TCX_EGRESS;
  memcpy(attributes.prog_name, "nearfield", 10);
  return bpf(BPF_PROG_LOAD, &attributes);
}

static int create_map(void) {
  union bpf_attr attributes;
  memset(&attributes, 0, sizeof attributes);
  attributes.map_type = BPF_MAP_TYPE_HASH;
  attributes.key_size = SHORTCUT_BYTES;
  attributes.value_size = SHORTCUT_BYTES;
  attributes.max_entries = MAX_ENTRIES;
  attributes.map_flags = BPF_F_NO_PREALLOC;
  memcpy(attributes.map_name, "nearfield", 10);
  return bpf(BPF_MAP_CREATE, &attributes);
}

static int attach(int program, int interface) {
  union bpf_attr attributes;
  memset(&attributes, 0, sizeof attributes);
  attributes.link_create.prog_fd = program;
  attributes.link_create.target_ifindex = interface;
  attributes.link_create.attach_type = TCX_EGRESS;
  return bpf(BPF_LINK_CREATE, &attributes);
}

bool shortcut_open(const char *name, int *map, int *link) {
  int interface = if_nametoindex(name);
  *map = interface ? create_map() : -1;
  if (*map < 0) return false;
  int program = load_program(*map);
  *link = program < 0 ? -1 : attach(program, interface);
  if (program >= 0) close(program);
  if (*link < 0) close(*map);
  return *link >= 0;
}

bool shortcut_put(int map, const uint8_t *from, const uint8_t *to) {
  union bpf_attr attributes;
  memset(&attributes, 0, sizeof attributes);
  attributes.map_fd = map;
  attributes.key = (uintptr_t)from;
  attributes.value = (uintptr_t)to;
  return bpf(BPF_MAP_UPDATE_ELEM, &attributes) == 0;
}

void shortcut_remove(int map, const uint8_t *from) {
  union bpf_attr attributes;
  memset(&attributes, 0, sizeof attributes);
  attributes.map_fd = map;
  attributes.key = (uintptr_t)from;
  bpf(BPF_MAP_DELETE_ELEM, &attributes);
}
