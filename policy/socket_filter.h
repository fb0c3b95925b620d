/*
 * What the kernel lets into the broker's raw sockets: classic BPF programs that pass only what can
 * be an answer to one of this broker's own probes. Runs in the broker during start-up. Once they
 * are locked, nothing can change them.
 */
#ifndef POSTERN_POLICY_SOCKET_FILTER_H
#define POSTERN_POLICY_SOCKET_FILTER_H

#include <stdint.h>

/* Lets in answers alone, on a raw socket of `family` (4 or 6) and `protocol` (IPPROTO_ICMP for
 * either family, or IPPROTO_SCTP). `held_ports` are RECORD_PROBE_IDS held ports. Returns 0, or −1
 * with errno. */
int socket_filter_attach(int fd, uint8_t family, uint8_t protocol, const uint16_t *held_ports);

/* Lets nothing in, on a socket that only sends. Returns 0, or −1 with errno. */
int socket_filter_reject_all(int fd);

/* Makes the program on the socket final. Returns 0, or −1 with errno. */
int socket_filter_lock(int fd);

#endif
