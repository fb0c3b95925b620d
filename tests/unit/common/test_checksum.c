/*
 * Checksums against the examples of their RFCs, and against sums made one byte or bit at a time.
 */
#include <criterion/criterion.h>
#include <string.h>

#include "common/checksum.h"
#include "tests/support/packet.h"

Test(checksum, sums_the_example_of_rfc_1071)
{
	static const uint8_t example[] = {0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7};

	cr_expect_eq(checksum_fold(checksum_add(0, example, sizeof(example))), 0xddf2);
}

Test(checksum, folds_every_carry)
{
	cr_expect_eq(checksum_fold(0), 0);
	cr_expect_eq(checksum_fold(0xffff), 0xffff);
	cr_expect_eq(checksum_fold(0x10000), 1);
	cr_expect_eq(checksum_fold(0x1fffe), 0xffff);
	cr_expect_eq(checksum_fold(0xffffffff), 0xffff);
	cr_expect_eq(checksum_fold(UINT64_MAX), 0xffff);
	cr_expect_eq(checksum_fold(0x0001000200030004), 10);
}

Test(checksum, agrees_with_the_slow_sum_at_every_length)
{
	uint8_t bytes[257];
	uint64_t random = 71;

	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)packet_random(&random);
	for (size_t length = 0; length < sizeof(bytes); length++) {
		/* An odd address as well: packets stand anywhere. */
		for (size_t at = 0; at < 2 && at + length <= sizeof(bytes); at++) {
			uint8_t *exact = packet_exact(bytes + at, length);
			uint16_t sum = checksum_fold(checksum_add(0, exact, length));
			uint16_t slow = (uint16_t)~packet_checksum(exact, length);
			cr_expect_eq(sum, slow, "length %zu: %04x %04x", length, sum, slow);
			packet_release(exact);
		}
	}
}

Test(checksum, adds_pieces_that_begin_at_even_offsets)
{
	uint8_t bytes[64];

	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(i * 37 + 1);
	uint64_t whole = checksum_add(0, bytes, 63);
	for (size_t cut = 0; cut < 63; cut += 2) {
		uint64_t pieces = checksum_add(checksum_add(0, bytes, cut), bytes + cut, 63 - cut);
		cr_expect_eq(checksum_fold(pieces), checksum_fold(whole), "cut at %zu", cut);
	}
}

/* The check value of every catalogue of CRCs; RFC 3720 B.4. */
Test(checksum, crc32c_of_known_texts)
{
	static const uint8_t zeros[32];
	uint8_t ones[32], rising[32];

	memset(ones, 0xff, sizeof(ones));
	for (size_t i = 0; i < sizeof(rising); i++)
		rising[i] = (uint8_t)i;
	const struct {
		const void *bytes;
		size_t length;
		uint32_t crc;
	} known[] = {
		{"123456789", 9, 0xe3069283},         {"", 0, 0},
		{zeros, sizeof(zeros), 0x8a9136aa},   {ones, sizeof(ones), 0x62a8ab43},
		{rising, sizeof(rising), 0x46dd794e},
	};

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		uint32_t crc = crc32c(0, known[i].bytes, known[i].length);
		cr_expect_eq(crc, known[i].crc, "%zu: %08x", i, crc);
	}
}

Test(checksum, crc32c_in_pieces_and_bit_by_bit)
{
	uint8_t bytes[100];
	uint64_t random = 9260;

	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)packet_random(&random);
	for (size_t length = 0; length <= sizeof(bytes); length++) {
		uint8_t *exact = packet_exact(bytes, length);
		uint32_t crc = crc32c(0, exact, length / 3);
		crc = crc32c(crc, exact + length / 3, length - length / 3);
		cr_expect_eq(crc, packet_crc32c(exact, length), "length %zu", length);
		packet_release(exact);
	}
}
