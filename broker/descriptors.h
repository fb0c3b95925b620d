/*
 * Which descriptor is what in a broker that has started. The numbers are fixed, so that the system
 * call filter (policy/) can name them: a call on any other descriptor ends the process. Those that
 * it names begin at multiples of how many they are: one comparison is then enough for all.
 */
#ifndef POSTERN_BROKER_DESCRIPTORS_H
#define POSTERN_BROKER_DESCRIPTORS_H

enum {
	/* Families times protocols times "may be fragmented" / "don't fragment". IPv4 has no
	 * per-packet don't-fragment, so each pair has two sockets; the first also receives. */
	RAW_FAMILIES = 2,
	RAW_PROTOCOLS = 4,
	RAW_SOCKETS = RAW_FAMILIES * RAW_PROTOCOLS * 2,
	/* Source ports of a user's own choice (local-port) in one broker's life: each needs a
	 * socket of its own that is bound once, which costs time at each start, and mtr uses one.
	 */
	LOCAL_PORTS = 8,
	/* Ports held in TCP, as source ports and ICMP echo identifiers. As many TCP probes to one
	 * open port can be in flight before two share a connection's addresses, which the target
	 * answers only once; and 48 of them times 65,536 sequence numbers are 3 million echo probes
	 * before one identity comes again. */
	HELD_PORTS = 64,
	/* The first of them are held in UDP, too: 16 for flows, and 16 that serve half a million
	 * probes, or twice as many to one port, before one identity comes again. */
	HELD_UDP_PORTS = 32,
};

enum {
	DESC_CHANNEL = 0, /* the socketpair to the front end */
	DESC_NULL = 1,    /* /dev/null */
	DESC_STDERR = 2,  /* for one last line */
	DESC_FIRST,       /* nothing, up to the next */
	DESC_RAW_FIRST = RAW_SOCKETS,
	DESC_RAW_LAST = DESC_RAW_FIRST + RAW_SOCKETS - 1,
	DESC_LOCAL_FIRST,
	DESC_LOCAL_LAST = DESC_LOCAL_FIRST + LOCAL_PORTS - 1,
	DESC_HELD_FIRST, /* from here on no system call may name them: they only hold a port */
	DESC_HELD_LAST = DESC_HELD_FIRST + HELD_PORTS + HELD_UDP_PORTS - 1,
	DESC_COUNT,
};

_Static_assert(DESC_LOCAL_FIRST % LOCAL_PORTS == 0, "see above");

#endif
