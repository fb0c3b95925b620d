/*
 * RFC 1071 and CRC32c checksums. Pure functions in both processes; they trust their callers for
 * lengths and nobody for contents.
 */
#include "common/checksum.h"

#include <endian.h>
#include <string.h>

uint64_t checksum_add(uint64_t sum, const void *bytes, size_t length)
{
	const uint8_t *at = bytes;

	/* 32 bits at a time: the sum of 16-bit words does not care (RFC 1071, 2.(C)). */
	for (; length >= 4; length -= 4, at += 4) {
		uint32_t word;
		memcpy(&word, at, sizeof(word));
		sum += be32toh(word);
	}
	if (length >= 2) {
		sum += (uint64_t)at[0] << 8 | at[1];
		length -= 2;
		at += 2;
	}
	if (length != 0)
		sum += (uint64_t)at[0] << 8;
	return sum;
}

uint64_t checksum_add_pattern(uint64_t sum, uint8_t byte, size_t length)
{
	sum += (uint64_t)(length / 2) * ((uint64_t)byte << 8 | byte);
	if (length % 2 != 0)
		sum += (uint64_t)byte << 8;
	return sum;
}

uint64_t checksum_add_pseudo(uint64_t sum, const void *source, const void *destination,
			     size_t address_bytes, uint8_t protocol, uint32_t length)
{
	sum = checksum_add(sum, source, address_bytes);
	sum = checksum_add(sum, destination, address_bytes);
	return sum + protocol + length;
}

uint16_t checksum_fold(uint64_t sum)
{
	while (sum >> 16 != 0)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)sum;
}

/* One entry per value of four bits: 64 bytes that stay in the cache beat a table of a kilobyte for
 * the short packets that probes are. Polynomial 0x1EDC6F41, reflected. */
static const uint32_t crc32c_table[16] = {
	0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1, 0x417b1dbc, 0x5125dad3,
	0x61c69362, 0x7198540d, 0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9,
	0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75,
};

uint32_t crc32c_start(void)
{
	return 0xffffffff;
}

uint32_t crc32c_add(uint32_t crc, const void *bytes, size_t length)
{
	const uint8_t *at = bytes;

	for (size_t i = 0; i < length; i++) {
		crc ^= at[i];
		crc = crc >> 4 ^ crc32c_table[crc & 15];
		crc = crc >> 4 ^ crc32c_table[crc & 15];
	}
	return crc;
}

uint32_t crc32c_finish(uint32_t crc)
{
	return ~crc;
}
