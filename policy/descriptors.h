/*
 * Which descriptor is what in a broker that has started. The numbers are fixed, so that the system
 * call filter (policy/) can name them: a call on any other descriptor ends the process.
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
	 * socket of its own that is bound once, and mtr uses one. */
	LOCAL_PORTS = 16,
	/* Ports held, each in UDP and TCP, as source ports and ICMP echo identifiers. As many TCP
	 * probes to one open port can be in flight before two share a connection's addresses, which
	 * the target answers only once; and 48 of them times 65,536 sequence numbers are 3 million
	 * echo probes before one identity comes again. */
	HELD_PORTS = 64,
};

enum {
	DESC_CHANNEL = 0, /* the socketpair to the front end */
	DESC_NULL = 1,    /* /dev/null */
	DESC_STDERR = 2,  /* for one last line */
	/* No system call may name these: they only hold a port. They come first, since the sockets
	 * that hear answers are told the ports as soon as they are there. */
	DESC_HELD_FIRST,
	DESC_HELD_LAST = DESC_HELD_FIRST + 2 * HELD_PORTS - 1,
	/* The rest, in a row that begins at a multiple of four but for one: such a range takes the
	 * filter few comparisons. */
	DESC_ECHO, /* sends IPv4 echo requests from the address that it is bound to */
	DESC_RAW_FIRST,
	DESC_RAW_LAST = DESC_RAW_FIRST + RAW_SOCKETS - 1,
	DESC_LOCAL_FIRST,
	DESC_LOCAL_LAST = DESC_LOCAL_FIRST + LOCAL_PORTS - 1,
	DESC_COUNT,
};

#endif
