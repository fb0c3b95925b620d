/*
 * The broker's descriptors: which number is what. They are fixed, because the seccomp filter names
 * them (policy/filter/table_broker.c): after lock-down a descriptor can do only what its number is
 * for. Used by the broker and, at build time, by the compiler of its filter.
 *
 * The two ranges that system calls may name are powers of two in size and aligned to it, so that
 * the filter tests each with one masked comparison instead of one comparison per descriptor. What
 * is opened lands on the lowest free number: move it to its place with fcntl(F_DUPFD) before
 * lock-down.
 */
#ifndef POSTERN_BROKER_DESCRIPTORS_H
#define POSTERN_BROKER_DESCRIPTORS_H

enum {
	DESC_CHANNEL = 0, /* the socketpair to the front end */
	DESC_NULL = 1,    /* /dev/null: nothing may use it, but its number stays taken */
	DESC_STDERR = 2,  /* for the one line that says why the broker ends */

	/* Raw sockets: sent to and received from. */
	DESC_RAW_FIRST = 16,
	DESC_RAW_COUNT = 16,
	DESC_RAW_LAST = DESC_RAW_FIRST + DESC_RAW_COUNT - 1,

	/* UDP sockets for source ports that a user chooses: bound when asked for. */
	DESC_LOCAL_FIRST = 32,
	DESC_LOCAL_COUNT = 32,
	DESC_LOCAL_LAST = DESC_LOCAL_FIRST + DESC_LOCAL_COUNT - 1,

	/* Sockets that only hold a port: no system call may touch them. */
	DESC_HOLDER_FIRST = 64,
	DESC_HOLDER_UDP_COUNT = 64,
	DESC_HOLDER_TCP_COUNT = 128,
	DESC_HOLDER_LAST = DESC_HOLDER_FIRST + DESC_HOLDER_UDP_COUNT + DESC_HOLDER_TCP_COUNT - 1,

	/* One more than the highest number ever in use; start-up needs a few spare ones above. */
	DESC_END = DESC_HOLDER_LAST + 1,
	DESC_SPARE = 8,
};

_Static_assert((DESC_RAW_COUNT & (DESC_RAW_COUNT - 1)) == 0 && DESC_RAW_FIRST % DESC_RAW_COUNT == 0,
	       "the filter tests this range with a mask");
_Static_assert((DESC_LOCAL_COUNT & (DESC_LOCAL_COUNT - 1)) == 0 &&
		       DESC_LOCAL_FIRST % DESC_LOCAL_COUNT == 0,
	       "the filter tests this range with a mask");

#endif
