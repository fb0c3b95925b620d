/*
 * Which descriptor is what in a broker that has started. The numbers are fixed, so that the system
 * call filter can name them: a call on any other descriptor ends the process.
 */
#ifndef POSTERN_POLICY_DESCRIPTORS_H
#define POSTERN_POLICY_DESCRIPTORS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/record.h"

enum {
	DESC_CHANNEL = 0, /* the socketpair to the front end */
	DESC_NULL = 1,    /* /dev/null */
	DESC_STDERR = 2,  /* for the one line that says why the broker ends */
	/* UDP sockets that hold the probe ids. No system call may name them. */
	DESC_PROBE_ID_FIRST,
	DESC_PROBE_ID_LAST = DESC_PROBE_ID_FIRST + RECORD_PROBE_IDS - 1,
	/* Raw sockets: for each family and protocol one that may fragment and receives, then one
	 * that only sends, with don't-fragment: IPv4 has no such option for a single packet. */
	DESC_ICMP4,
	DESC_ICMP4_DF,
	DESC_ICMP6,
	DESC_ICMP6_DF,
	DESC_SCTP4,
	DESC_SCTP4_DF,
	DESC_SCTP6,
	DESC_SCTP6_DF,
	DESC_COUNT,
	DESC_RAW_FIRST = DESC_ICMP4,
	DESC_RAW_LAST = DESC_SCTP6_DF,
};

/* The raw socket for a probe of family 4 or 6. */
static inline int descriptor_raw(uint8_t family, bool is_sctp, bool dont_fragment)
{
	return DESC_RAW_FIRST + 4 * is_sctp + 2 * (family == 6) + dont_fragment;
}

#endif
