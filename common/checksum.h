/*
 * Checksums of probes and answers. Pure functions, used by both sides.
 */
#ifndef POSTERN_COMMON_CHECKSUM_H
#define POSTERN_COMMON_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>

/* The one's complement sum of RFC 1071 in the making: 16-bit words in network byte order, added up
 * without folding. Pieces may be added in any order if each begins at an even offset. */
uint64_t checksum_add(uint64_t sum, const void *bytes, size_t length);

/* Adds `length` equal bytes, the payload of a probe, without reading them. */
uint64_t checksum_add_pattern(uint64_t sum, uint8_t byte, size_t length);

/* Adds the pseudo header of TCP and UDP (RFC 9293 3.1, RFC 8200 8.1). `address_bytes` is 4 or 16,
 * `protocol` the IP protocol number, `length` that of transport header and payload. */
uint64_t checksum_add_pseudo(uint64_t sum, const void *source, const void *destination,
			     size_t address_bytes, uint8_t protocol, uint32_t length);

/* Folds to 16 bits in host byte order, not complemented. */
uint16_t checksum_fold(uint64_t sum);

/* CRC32c (RFC 9260 appendix A): start with crc32c_start(), finish with crc32c_finish(), which gives
 * the value whose little-endian bytes stand in the SCTP common header. */
uint32_t crc32c_start(void);
uint32_t crc32c_add(uint32_t crc, const void *bytes, size_t length);
uint32_t crc32c_finish(uint32_t crc);

#endif
