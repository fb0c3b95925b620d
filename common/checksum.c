/*
 * RFC 1071 and CRC32c checksums. Pure functions in both processes; they trust their callers for
 * lengths, and the contents may be anything.
 */
#include "common/checksum.h"

enum {
	CRC32C_POLYNOMIAL = 0x82f63b78, /* 0x1EDC6F41, reflected */
};

uint64_t checksum_add(uint64_t sum, const void *bytes, size_t length)
{
	const uint8_t *at = bytes;

	for (size_t i = 0; i < length; i++)
		sum += i % 2 == 0 ? (uint64_t)at[i] << 8 : at[i];
	return sum;
}

uint16_t checksum_fold(uint64_t sum)
{
	while (sum >> 16 != 0)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)sum;
}

/* Bit by bit: a table is faster only for SCTP probes much longer than the usual ones. */
uint32_t crc32c(uint32_t crc, const void *bytes, size_t length)
{
	const uint8_t *at = bytes;

	crc = ~crc;
	for (size_t i = 0; i < length; i++) {
		crc ^= at[i];
		for (int bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ ((crc & 1) != 0 ? CRC32C_POLYNOMIAL : 0);
	}
	return ~crc;
}
