/*
 * tracepath's command line: iputils' options and new ones. Runs in tracepath before anything is
 * opened. What is wrong is said in one line on stderr.
 */
#ifndef POSTERN_FRONTEND_TRACEPATH_OPTIONS_H
#define POSTERN_FRONTEND_TRACEPATH_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

enum tracepath_format { FORMAT_TEXT, FORMAT_JSON, FORMAT_JSONL, FORMATS };

enum {
	STATUS_WRONG = 1, /* a value that cannot be, or no trace */
	STATUS_USAGE = 2, /* a command line that makes no sense */
};

struct tracepath_options {
	char *program;  /* for messages */
	uint8_t family; /* 4, 6, or 0: as the name has it */
	bool numeric;
	bool both;
	bool reached_or_fail;  /* -e */
	uint32_t length_bytes; /* 0: the family's default */
	unsigned max_hops;
	unsigned first_ttl;
	unsigned tries;
	bool tries_given;
	int64_t wait_ns;
	bool wait_given;
	int64_t deadline_ns; /* 0: none */
	uint8_t protocol;    /* IPPROTO_ICMP, _UDP or _TCP */
	const char *protocol_name;
	uint16_t port;
	bool port_given;
	bool has_flow;
	uint32_t flow;
	bool paths;
	bool extensions;    /* -x */
	const char *device; /* NULL: by route */
	const char *source; /* NULL: by route */
	const char *broker; /* NULL: the usual one */
	enum tracepath_format format;
	char *destination; /* without /PORT; points into argv */
};

/* Returns −1 if there is something to trace, otherwise the exit status. */
int tracepath_parse(int argc, char **argv, struct tracepath_options *options);

#endif
