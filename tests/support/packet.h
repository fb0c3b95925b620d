/*
 * Packets for tests of what reads or builds them: a writer of bytes, IP headers, and checksums
 * computed the slow way, independent of the code under test.
 */
#ifndef POSTERN_TESTS_SUPPORT_PACKET_H
#define POSTERN_TESTS_SUPPORT_PACKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	PACKET_MAX_BYTES = 66000,
};

struct bytes {
	uint8_t at[PACKET_MAX_BYTES];
	size_t count;
};

void bytes_add(struct bytes *bytes, const void *more, size_t count);
void bytes_fill(struct bytes *bytes, uint8_t byte, size_t count);
void bytes_add8(struct bytes *bytes, unsigned int value);
void bytes_add16(struct bytes *bytes, unsigned int value);
void bytes_add32(struct bytes *bytes, uint32_t value);
void bytes_put16(struct bytes *bytes, size_t offset, unsigned int value);

/* The part of an IP header that tests choose. */
struct packet_ip {
	uint8_t family; /* 4 or 6 */
	uint8_t protocol;
	uint8_t ttl;
	uint8_t tos;
	uint8_t option_bytes; /* IPv4, a multiple of 4: no-operation options */
	uint16_t fragment;    /* IPv4: flags and offset; IPv6: a fragment header, if not 0 */
	uint8_t source[16];
	uint8_t destination[16];
};

/* The IP header (and IPv6 fragment header) in front of `payload_bytes` that follow. */
void packet_add_ip(struct bytes *bytes, const struct packet_ip *ip, size_t payload_bytes);

/* RFC 1071, one byte after the other. */
uint16_t packet_checksum(const uint8_t *bytes, size_t count);

/* The same with the pseudo header before it. */
uint16_t packet_pseudo_checksum(uint8_t family, const uint8_t *source, const uint8_t *destination,
				uint8_t protocol, const uint8_t *bytes, size_t count);

/* CRC32c, one bit after the other. */
uint32_t packet_crc32c(const uint8_t *bytes, size_t count);

/* A copy in memory that ends with it, so that a sanitizer sees every read beyond. */
uint8_t *packet_exact(const uint8_t *bytes, size_t count);
void packet_release(uint8_t *exact);

/* A sequence that is the same in every run. */
uint32_t packet_random(uint64_t *state);

#endif
