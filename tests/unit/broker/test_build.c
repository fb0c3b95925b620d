/*
 * The packets of probes, read with nothing but the RFCs: sizes, checksums, and every field, for
 * each protocol, both families, and many sizes.
 */
#include <criterion/criterion.h>
#include <netinet/in.h>
#include <string.h>

#include "broker/build.h"
#include "common/wire.h"
#include "tests/support/packet.h"
#include "tests/support/probes.h"

enum {
	ID = 0xc0de,
};

static struct {
	uint8_t at[UINT16_MAX];
	uint8_t guard[64];
	size_t count;
} built; /* from the transport header on */

static size_t ip_bytes(const struct record_probe *request)
{
	return request->family == 4 ? 20 : 40;
}

/* What the request's size comes to, if the headers have `least` bytes. */
static size_t expected_bytes(const struct record_probe *request, size_t least)
{
	size_t size = request->size_bytes;

	return size < ip_bytes(request) + least ? least : size - ip_bytes(request);
}

static void check_echo(const struct record_probe *request)
{
	cr_assert_eq(built.count, expected_bytes(request, 8));
	cr_expect_eq(built.at[0], request->family == 4 ? 8 : 128);
	cr_expect_eq(built.at[1], 0);
	/* The kernel computes ICMPv6's. */
	if (request->family == 4)
		cr_expect_eq(packet_checksum(built.at, built.count), 0);
	cr_expect_eq(wire_get16(built.at + 4), ID);
	cr_expect_eq(wire_get16(built.at + 6), request->number);
	for (size_t i = 8; i < built.count; i++) {
		bool is_nonce = (request->flags & PROBE_NONCE) != 0 && i < 16;
		cr_assert_eq(built.at[i], is_nonce ? request->nonce[i - 8] : request->payload_byte,
			     "size %d, byte %zu", request->size_bytes, i);
	}
}

static void check_init(const struct record_probe *request)
{
	size_t wanted = expected_bytes(request, 32);

	/* A padding parameter needs four bytes, a chunk ends at a multiple of four. */
	if (wanted < 36)
		wanted = 32;
	wanted = (wanted + 3) / 4 * 4;
	if (wanted + ip_bytes(request) > 65535)
		wanted -= 4;
	cr_assert_eq(built.count, wanted, "size %d: %zu", request->size_bytes, built.count);
	uint32_t told = (uint32_t)built.at[11] << 24 | (uint32_t)built.at[10] << 16 |
			(uint32_t)built.at[9] << 8 | built.at[8];
	memset(built.at + 8, 0, 4);
	cr_expect_eq(told, packet_crc32c(built.at, built.count));
	cr_expect_eq(wire_get16(built.at), ID);
	cr_expect_eq(wire_get16(built.at + 2), request->port);
	cr_expect_eq(wire_get32(built.at + 4), 0, "an INIT has no verification tag");
	cr_expect_eq(built.at[12], 1);
	cr_expect_eq(built.at[13], 0);
	cr_expect_eq(wire_get16(built.at + 14), built.count - 12);
	cr_expect_eq(wire_get32(built.at + 16), request->number);
	cr_expect_geq(wire_get32(built.at + 20), 1500, "receiver window (RFC 9260 3.3.2)");
	cr_expect_neq(wire_get16(built.at + 24), 0);
	cr_expect_neq(wire_get16(built.at + 26), 0);
	if (built.count == 32)
		return;
	cr_expect_eq(wire_get16(built.at + 32), 0x8005);
	cr_expect_eq(wire_get16(built.at + 34), built.count - 32);
	for (size_t i = 36; i < built.count; i++)
		cr_assert_eq(built.at[i], request->payload_byte);
}

static void build_and_check(const struct record_probe *request)
{
	memset(&built, 0xcc, sizeof(built));
	built.count = build_probe(request, ID, built.at);
	for (size_t i = 0; i < sizeof(built.guard); i++)
		cr_assert_eq(built.guard[i], 0xcc);
	cr_assert_leq(ip_bytes(request) + built.count, 65535u);
	if (request->protocol == IPPROTO_ICMP)
		check_echo(request);
	else
		check_init(request);
}

static void all_sizes(struct record_probe *request)
{
	static const uint16_t big[] = {576,   1280,  1499,  1500,  9000,  65400, 65529,
				       65530, 65531, 65532, 65533, 65534, 65535};

	for (uint16_t size = 0; size <= 200; size++) {
		request->size_bytes = size;
		request->payload_byte = (uint8_t)(size * 7 + 255);
		request->number = size * 31u + 1;
		build_and_check(request);
	}
	for (size_t i = 0; i < sizeof(big) / sizeof(big[0]); i++) {
		request->size_bytes = big[i];
		build_and_check(request);
	}
}

Test(build, every_protocol_family_and_size)
{
	for (uint8_t family = 4; family <= 6; family += 2) {
		struct record_probe echo = probes_request(family, IPPROTO_ICMP);
		struct record_probe init = probes_request(family, IPPROTO_SCTP);
		all_sizes(&echo);
		echo.flags = 0;
		all_sizes(&echo);
		all_sizes(&init);
	}
}
