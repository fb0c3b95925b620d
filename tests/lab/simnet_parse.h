/*
 * Reads the description of an internet (README.md beside this file explains the format).
 */
#ifndef POSTERN_TESTS_LAB_SIMNET_PARSE_H
#define POSTERN_TESTS_LAB_SIMNET_PARSE_H

#include "tests/lab/simnet_net.h"

/* Parses `text` (ends with NUL) into *net, which is overwritten. `name` is the file's name for
 * messages. Returns false with "NAME:LINE: what is wrong" in message. */
bool net_parse(const char *name, const char *text, struct net *net, char *message,
	       size_t message_bytes);

/* Parses "20ms", "1.5s", "300us" or "20" (milliseconds) into nanoseconds. */
bool net_parse_time(const char *text, uint64_t *time_ns);

/* Parses an address without prefix. */
bool net_parse_address(const char *text, struct net_address *address);

#endif
