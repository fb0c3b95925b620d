/*
 * Decodes the ICMP extension structure (RFC 4884) that a router appended to its answer: MPLS label
 * stacks (RFC 4950) and interface information (RFC 5837). Pure functions on hostile bytes, in the
 * unprivileged front end.
 */
#ifndef POSTERN_FRONTEND_TRANSPORT_EXTENSION_H
#define POSTERN_FRONTEND_TRANSPORT_EXTENSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	/* Deeper stacks than this have not been seen; mtr itself keeps eight. */
	EXTENSION_MPLS_LABELS = 16,
	/* RFC 5837 4.1: one object for each of the four roles. */
	EXTENSION_INTERFACES = 4,
	/* RFC 5837 4.3: the name sub-object is at most 64 bytes, its length byte included. */
	EXTENSION_NAME_BYTES = 64,
};

struct extension_mpls {
	uint32_t label; /* 20 bits */
	uint8_t traffic_class;
	uint8_t bottom_of_stack;
	uint8_t ttl;
};

/* RFC 5837 4.1, bits 0-1 of the c-type */
enum extension_role {
	EXTENSION_INCOMING = 0,
	EXTENSION_SUB_IP = 1,
	EXTENSION_OUTGOING = 2,
	EXTENSION_NEXT_HOP = 3,
};

struct extension_interface {
	uint8_t role; /* enum extension_role */
	bool has_index;
	bool has_mtu;
	uint8_t address_family; /* 4, 6, or 0: none given */
	uint32_t index;
	uint32_t mtu_bytes;
	uint8_t address[16];
	char name[EXTENSION_NAME_BYTES]; /* printable ASCII without blanks: other bytes are replaced
					    by '?'; empty: none given */
};

struct extension_info {
	size_t mpls_count;
	struct extension_mpls mpls[EXTENSION_MPLS_LABELS];
	size_t interface_count;
	struct extension_interface interfaces[EXTENSION_INTERFACES];
};

/* Decodes `length` bytes, beginning with the version field. `cut` says that the structure was
 * longer (its checksum cannot be verified then). Returns false, with *info all zero, when version
 * or checksum (if not zero) are wrong or an object's length is; unknown objects are skipped. */
bool extension_decode(const uint8_t *bytes, size_t length, bool cut, struct extension_info *info);

/* The same for the structure behind the packet that an ICMP error quotes. `quote` has the `length`
 * bytes behind the ICMP header, without the first `hidden_bytes` of them. The structure begins at
 * `told_offset`, or where routers older than RFC 4884 put it if that is 0. There may be just more
 * of the quoted packet at that place: only a checksum that is there and holds tells. */
bool extension_find(const uint8_t *quote, size_t length, size_t hidden_bytes, size_t told_offset,
		    bool cut, struct extension_info *info);

#endif
