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

/* Folds to 16 bits in host byte order, not complemented. */
uint16_t checksum_fold(uint64_t sum);

/* CRC32c (RFC 9260 appendix A) of the bytes, or of `crc`'s bytes and these; 0 to begin with. Its
 * little-endian bytes stand in the SCTP common header. */
uint32_t crc32c(uint32_t crc, const void *bytes, size_t length);

#endif
