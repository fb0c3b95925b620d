/*
 * Packets for tests. Runs in test programs only; what it writes is what the RFCs say, not what the
 * code under test says.
 */
#include "tests/support/packet.h"

#include <stdlib.h>
#include <string.h>

void bytes_add(struct bytes *bytes, const void *more, size_t count)
{
	if (bytes->count + count > sizeof(bytes->at))
		abort();
	if (count != 0)
		memcpy(bytes->at + bytes->count, more, count);
	bytes->count += count;
}

void bytes_fill(struct bytes *bytes, uint8_t byte, size_t count)
{
	for (size_t i = 0; i < count; i++)
		bytes_add(bytes, &byte, 1);
}

void bytes_add8(struct bytes *bytes, unsigned int value)
{
	uint8_t byte = (uint8_t)value;

	bytes_add(bytes, &byte, 1);
}

void bytes_add16(struct bytes *bytes, unsigned int value)
{
	bytes_add8(bytes, value >> 8);
	bytes_add8(bytes, value & 0xff);
}

void bytes_add32(struct bytes *bytes, uint32_t value)
{
	bytes_add16(bytes, value >> 16);
	bytes_add16(bytes, value & 0xffff);
}

void bytes_put16(struct bytes *bytes, size_t offset, unsigned int value)
{
	bytes->at[offset] = (uint8_t)(value >> 8);
	bytes->at[offset + 1] = (uint8_t)value;
}

static void add_ipv4(struct bytes *bytes, const struct packet_ip *ip, size_t payload_bytes)
{
	size_t start = bytes->count;
	size_t header_bytes = 20u + ip->option_bytes;

	bytes_add8(bytes, 0x40 | (unsigned int)header_bytes / 4);
	bytes_add8(bytes, ip->tos);
	bytes_add16(bytes, (unsigned int)(header_bytes + payload_bytes));
	bytes_add16(bytes, 0x1234);
	bytes_add16(bytes, ip->fragment);
	bytes_add8(bytes, ip->ttl);
	bytes_add8(bytes, ip->protocol);
	bytes_add16(bytes, 0);
	bytes_add(bytes, ip->source, 4);
	bytes_add(bytes, ip->destination, 4);
	bytes_fill(bytes, 1, ip->option_bytes);
	bytes_put16(bytes, start + 10, packet_checksum(bytes->at + start, header_bytes));
}

static void add_ipv6(struct bytes *bytes, const struct packet_ip *ip, size_t payload_bytes)
{
	bool is_fragment = ip->fragment != 0;

	bytes_add32(bytes, 6u << 28 | (uint32_t)ip->tos << 20 | 0x54321);
	bytes_add16(bytes, (unsigned int)(payload_bytes + (is_fragment ? 8 : 0)));
	bytes_add8(bytes, is_fragment ? 44 : ip->protocol);
	bytes_add8(bytes, ip->ttl);
	bytes_add(bytes, ip->source, 16);
	bytes_add(bytes, ip->destination, 16);
	if (!is_fragment)
		return;
	bytes_add8(bytes, ip->protocol);
	bytes_add8(bytes, 0);
	bytes_add16(bytes, ip->fragment);
	bytes_add32(bytes, 0x12345678);
}

void packet_add_ip(struct bytes *bytes, const struct packet_ip *ip, size_t payload_bytes)
{
	if (ip->family == 4)
		add_ipv4(bytes, ip, payload_bytes);
	else
		add_ipv6(bytes, ip, payload_bytes);
}

/* One's complement addition of a byte at an even or odd place. */
static uint32_t add_byte(uint32_t sum, uint8_t byte, bool is_high)
{
	sum += is_high ? (uint32_t)byte << 8 : byte;
	return sum > 0xffff ? sum - 0xffff : sum;
}

static uint32_t add_all(uint32_t sum, const uint8_t *bytes, size_t count)
{
	for (size_t i = 0; i < count; i++)
		sum = add_byte(sum, bytes[i], i % 2 == 0);
	return sum;
}

uint16_t packet_checksum(const uint8_t *bytes, size_t count)
{
	return (uint16_t)~add_all(0, bytes, count);
}

uint16_t packet_pseudo_checksum(uint8_t family, const uint8_t *source, const uint8_t *destination,
				uint8_t protocol, const uint8_t *bytes, size_t count)
{
	const uint8_t rest[] = {0,
				protocol,
				(uint8_t)(count >> 24),
				(uint8_t)(count >> 16),
				(uint8_t)(count >> 8),
				(uint8_t)count};
	uint32_t sum = add_all(0, source, family == 4 ? 4 : 16);

	sum = add_all(sum, destination, family == 4 ? 4 : 16);
	return (uint16_t)~add_all(add_all(sum, rest, sizeof(rest)), bytes, count);
}

uint32_t packet_crc32c(const uint8_t *bytes, size_t count)
{
	uint32_t crc = 0xffffffff;

	for (size_t i = 0; i < count * 8; i++) {
		uint32_t bit = (uint32_t)bytes[i / 8] >> i % 8 & 1u;
		crc = crc >> 1 ^ (((crc & 1) ^ bit) != 0 ? 0x82f63b78u : 0);
	}
	return ~crc;
}

enum {
	/* In front of a copy, so that even one of no bytes ends where the memory ends. */
	FRONT_BYTES = 16,
};

uint8_t *packet_exact(const uint8_t *bytes, size_t count)
{
	uint8_t *memory = malloc(FRONT_BYTES + count);

	if (memory == NULL)
		abort();
	if (count != 0)
		memcpy(memory + FRONT_BYTES, bytes, count);
	return memory + FRONT_BYTES;
}

void packet_release(uint8_t *exact)
{
	free(exact - FRONT_BYTES);
}

/* xorshift64*, Vigna 2016 */
uint32_t packet_random(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return (uint32_t)(*state * 0x2545f4914f6cdd1du >> 32);
}
