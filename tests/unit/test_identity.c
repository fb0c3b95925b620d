/*
 * Identities of probes: none is given while it is open, none comes again before a late answer to
 * its last probe has had ten seconds, and when all are used up the request waits. Time is the
 * test's.
 */
#include <criterion/criterion.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "broker/identity.h"
#include "tests/support/packet.h"
#include "tests/support/probes.h"

TestSuite(identity, .init = probes_start);

#define S  INT64_C(1000000000)
#define US INT64_C(1000)

static const int64_t linger_ns = 10 * S;

/* The requests that draw on different rings. */
struct kind {
	const char *name;
	uint8_t protocol;
	uint16_t flags;
	uint16_t port;
	uint16_t source_port;
	uint32_t least; /* identities that there are at the least: probes a linger */
};

static const struct kind kinds[] = {
	{"echo", IPPROTO_ICMP, 0, 0, 0, 3000000},
	{"udp", IPPROTO_UDP, 0, 0, 0, 500000},
	{"udp to one port", IPPROTO_UDP, 0, 53, 0, 1000000},
	{"udp from a local port", IPPROTO_UDP, 0, 0, 5001, 32000},
	{"udp from a local port to one port", IPPROTO_UDP, 0, 53, 5001, 65000},
	{"echo of a flow", IPPROTO_ICMP, PROBE_FLOW, 0, 0, 65000},
	{"udp of a flow", IPPROTO_UDP, PROBE_FLOW, 0, 0, 65000},
	{"udp of a flow to one port", IPPROTO_UDP, PROBE_FLOW, 53, 0, 65000},
	{"udp of a flow from a local port", IPPROTO_UDP, PROBE_FLOW, 0, 5001, 65000},
};
enum {
	KINDS = sizeof(kinds) / sizeof(kinds[0]),
};

static struct record_probe request_of(const struct kind *kind)
{
	struct record_probe request = probes_request(4, kind->protocol);

	request.flags = kind->flags;
	request.port = kind->port;
	request.source_port = kind->source_port;
	request.flow = kind->flags != 0 ? 7 : 0;
	return request;
}

/* What of an identity an answer to it shows: ports, and the checksum if two payload bytes were
 * spent on it. */
struct shown {
	uint32_t key; /* below SHOWN */
	bool is_tuned;
};

enum {
	SHOWN = (HELD_PORTS + 1) << 16,
};

static struct shown shown_by(const struct probe *probe, enum identity_result result)
{
	uint32_t holder = probes_holds(probe->identity.source_port)
				  ? probe->identity.source_port - PROBES_FIRST_PORT + 1u
				  : 0;
	bool is_tuned = result == IDENTITY_TUNED && probe->identity.protocol == IPPROTO_UDP;
	uint32_t rest = is_tuned ? probe->identity.token : probe->identity.port;

	cr_assert_lt(rest, 65536u);
	return (struct shown){holder << 16 | rest, is_tuned};
}

static int64_t last_ns[2][SHOWN];

/* Takes an identity and checks that what it shows has not been shown lately. */
static bool take(const struct record_probe *request, int64_t now_ns, struct probe *probe)
{
	enum identity_result result = identity_take(request, now_ns, probe);

	if (result == IDENTITY_NONE)
		return false;
	struct shown shown = shown_by(probe, result);
	int64_t *last = &last_ns[shown.is_tuned][shown.key];
	cr_assert(*last == 0 || now_ns - *last >= linger_ns, "%08x again after %.3f s", shown.key,
		  (double)(now_ns - *last) / 1e9);
	*last = now_ns;
	return true;
}

/* One probe after the other, each given up: first all there are, then the ring is used up, then it
 * is free again, linger after linger. */
static void use_up(const struct kind *kind)
{
	struct record_probe request = request_of(kind);
	int64_t now_ns = S;

	memset(last_ns, 0, sizeof(last_ns));
	for (int round = 0; round < 3; round++) {
		uint32_t given = 0;
		struct probe probe = {.open = false};
		while (take(&request, now_ns, &probe)) {
			identity_given_up(&probe, now_ns);
			cr_assert_lt(++given, SHOWN, "%s: without end", kind->name);
			now_ns += US;
		}
		cr_assert_geq(given, kind->least, "%s: %u in round %d", kind->name, given, round);
		cr_assert_not(take(&request, now_ns + 1000 * US, &probe), "%s", kind->name);
		now_ns += linger_ns;
	}
}

Test(identity, none_again_within_the_linger_echo)
{
	use_up(&kinds[0]);
}

Test(identity, none_again_within_the_linger_udp)
{
	use_up(&kinds[1]);
}

Test(identity, none_again_within_the_linger_udp_to_one_port)
{
	use_up(&kinds[2]);
}

Test(identity, none_again_within_the_linger_few)
{
	for (size_t i = 3; i < KINDS; i++) {
		probes_start();
		use_up(&kinds[i]);
	}
}

/* Probes that stay open while the ring goes round and round are passed over. */
/* With and without a port of the client's choice, in turn, to the port where the others begin. */
Test(identity, none_again_within_the_linger_udp_of_two_kinds)
{
	struct record_probe changing = request_of(&kinds[1]), fixed = request_of(&kinds[2]);
	int64_t now_ns = S;

	for (int i = 0; i < 400; i++, now_ns += S / 20) {
		struct probe probe = {.open = false};
		fixed.port = (uint16_t)(33434 + i % 100);
		cr_assert(take(i % 3 == 0 ? &fixed : &changing, now_ns, &probe));
		identity_given_up(&probe, now_ns);
	}
}

static void leave_some_open(const struct kind *kind)
{
	enum {
		OPEN = 300,
		TURNS = 3,
	};
	struct record_probe request = request_of(kind);
	int64_t now_ns = S;
	uint32_t opened = 0;

	memset(last_ns, 0, sizeof(last_ns));
	for (uint32_t i = 0; i < TURNS * kind->least; i++) {
		/* Open ones in a row, and single ones. */
		bool stays = opened < OPEN && (i < 12 || i % 101 == 0);
		struct probe *probe = probe_slot(stays ? opened : OPEN);
		if (!take(&request, now_ns, probe)) {
			now_ns += S / 10;
			continue;
		}
		cr_assert_null(probe_find(&probe->identity), "%s: open already", kind->name);
		if (stays) {
			probe_open(probe);
			struct shown shown = shown_by(
				probe, probe->ports_suffice || kind->protocol == IPPROTO_ICMP
					       ? IDENTITY_PATTERN
					       : IDENTITY_TUNED);
			/* Never again. */
			last_ns[shown.is_tuned][shown.key] = INT64_MAX / 2;
			opened++;
		}
		now_ns += 300 * US;
	}
	cr_assert_eq(opened, OPEN);
	for (uint32_t i = 0; i < OPEN; i++)
		probe_close(probe_slot(i));
}

Test(identity, none_that_is_open)
{
	for (size_t i = 3; i < KINDS; i++) {
		probes_start();
		leave_some_open(&kinds[i]);
	}
}

/* A full table of each kind: as many as the channel can ask for. */
Test(identity, as_many_open_as_there_are_slots)
{
	static const size_t plentiful[] = {0, 1, 2};

	for (size_t i = 0; i < 3; i++) {
		struct record_probe request = request_of(&kinds[plentiful[i]]);
		struct packet packet;
		for (uint32_t slot = 0; slot < RECORD_SLOTS; slot++) {
			request.cookie = slot;
			struct probe *probe = probe_slot(slot);
			cr_assert(build_probe(&request, S + slot * US, probe, &packet));
			cr_assert_null(probe_find(&probe->identity), "%s %u", kinds[i].name, slot);
			probe_open(probe);
		}
		for (uint32_t slot = 0; slot < RECORD_SLOTS; slot++) {
			struct probe *probe = probe_slot(slot);
			cr_assert_eq(probe_find(&probe->identity), probe);
			probe_close(probe);
		}
	}
}

/* Takes all that there is now. */
static void drain(const struct record_probe *request, int64_t now_ns)
{
	struct probe probe;
	uint32_t taken = 0;

	while (identity_take(request, now_ns, &probe) != IDENTITY_NONE)
		cr_assert_lt(++taken, SHOWN, "without end");
}

Test(identity, giving_up_extends_the_linger)
{
	struct record_probe request = request_of(&kinds[3]);
	struct probe first, probe;
	int64_t now_ns = S;

	cr_assert_neq(identity_take(&request, now_ns, &first), IDENTITY_NONE);
	drain(&request, now_ns);
	/* The first is given up when its linger is nearly over: it begins anew. */
	now_ns += linger_ns - 1;
	identity_given_up(&first, now_ns);
	cr_expect_eq(identity_take(&request, now_ns + 1, &probe), IDENTITY_NONE);
	cr_expect_eq(identity_take(&request, now_ns + linger_ns - 1, &probe), IDENTITY_NONE);
	cr_expect_neq(identity_take(&request, now_ns + linger_ns, &probe), IDENTITY_NONE);
	cr_expect_eq(probe.identity.port, first.identity.port);
}

/* A probe is given up while its ring, after a whole turn, is just about to come to it. */
Test(identity, giving_up_is_heeded_ahead_of_the_turn)
{
	struct record_probe request = request_of(&kinds[3]);
	struct probe *patient = probe_slot(1);
	struct probe probe;
	int64_t now_ns = S;

	for (int i = 0; i < 10; i++)
		cr_assert_neq(identity_take(&request, now_ns, patient), IDENTITY_NONE);
	probe_open(patient);
	uint16_t port = patient->identity.port;
	drain(&request, now_ns);
	now_ns += linger_ns;
	for (int i = 0; i < 8; i++)
		cr_assert_neq(identity_take(&request, now_ns, &probe), IDENTITY_NONE);
	cr_assert_eq(probe.identity.port, port - 2);
	identity_given_up(patient, now_ns);
	probe_close(patient);
	for (int i = 0; i < 10; i++) {
		cr_assert_neq(identity_take(&request, now_ns + i, &probe), IDENTITY_NONE);
		cr_expect_neq(probe.identity.port, port, "at once");
	}
}

/* Others may have the rest of the ports in UDP, and the kernel would tell a target that answers
 * there that nobody listens. */
Test(identity, udp_probes_come_from_ports_held_in_udp)
{
	for (size_t i = 0; i < KINDS; i++) {
		struct record_probe request = request_of(&kinds[i]);
		struct probe probe = {.open = false};
		if (request.protocol != IPPROTO_UDP || request.source_port != 0)
			continue;
		for (uint32_t n = 0; n < 600000; n++) {
			request.flow = n;
			if (identity_take(&request, S + n * US, &probe) == IDENTITY_NONE)
				break;
			cr_assert_lt(probe.identity.source_port - PROBES_FIRST_PORT, HELD_UDP_PORTS,
				     "%s", kinds[i].name);
		}
	}
}

/* A host answers one connection's addresses once: as many ports as there are. */
static void check_ports_of_many(uint8_t protocol)
{
	bool seen[HELD_PORTS] = {false};
	struct record_probe request = probes_request(4, protocol);
	struct packet packet;

	for (uint32_t slot = 0; slot < HELD_PORTS; slot++) {
		request.cookie = slot;
		const struct probe *probe = probes_open(&request, S, &packet);
		cr_assert_not_null(probe);
		uint16_t port = probe->identity.source_port;
		cr_assert(probes_holds(port));
		cr_expect_not(seen[port - PROBES_FIRST_PORT], "port %d twice", port);
		seen[port - PROBES_FIRST_PORT] = true;
	}
}

Test(identity, tcp_probes_to_one_port_have_ports_of_their_own)
{
	check_ports_of_many(IPPROTO_TCP);
}

Test(identity, sctp_probes_to_one_port_have_ports_of_their_own)
{
	check_ports_of_many(IPPROTO_SCTP);
}

Test(identity, a_port_that_is_free_again_is_found)
{
	struct record_probe request = probes_request(4, IPPROTO_TCP);
	struct packet packet;

	for (uint32_t slot = 0; slot < HELD_PORTS; slot++) {
		request.cookie = slot;
		cr_assert_not_null(probes_open(&request, S, &packet));
	}
	for (uint32_t i = 0; i < 200; i++) {
		uint32_t slot = i * 37 % HELD_PORTS;
		uint16_t port = probe_slot(slot)->identity.source_port;
		probe_close(probe_slot(slot));
		request.cookie = slot;
		const struct probe *probe = probes_open(&request, S, &packet);
		cr_assert_eq(probe->identity.source_port, port);
	}
}

Test(identity, more_tcp_probes_than_ports_share_them_evenly)
{
	uint32_t probes[HELD_PORTS] = {0};
	struct record_probe request = probes_request(4, IPPROTO_TCP);
	struct packet packet;

	for (uint32_t slot = 0; slot < 10 * HELD_PORTS; slot++) {
		request.cookie = slot;
		const struct probe *probe = probes_open(&request, S, &packet);
		probes[probe->identity.source_port - PROBES_FIRST_PORT]++;
	}
	for (size_t i = 0; i < HELD_PORTS; i++)
		cr_expect_eq(probes[i], 10, "port %zu: %u", i, probes[i]);
}

/* A RST may acknowledge the data of a SYN, too, up to 65,515 bytes: no other probe's sequence
 * number may be within that. */
Test(identity, sequence_numbers_lie_further_apart_than_a_packet_is_long)
{
	static uint32_t tokens[4096];
	struct record_probe request = probes_request(4, IPPROTO_TCP);
	struct packet packet;

	for (uint32_t slot = 0; slot < 4096; slot++) {
		request.cookie = slot;
		tokens[slot] = probes_open(&request, S, &packet)->identity.token;
		for (uint32_t before = 0; before < slot; before++) {
			uint32_t apart = tokens[slot] - tokens[before];
			cr_assert(apart > 65535 && -apart > 65535, "%u and %u: %u", before, slot,
				  apart);
		}
	}
}

/* RFC 9260 3.3.2 */
Test(identity, a_tag_is_never_0)
{
	static struct held_ports held;
	struct record_probe request = probes_request(4, IPPROTO_SCTP);
	struct probe first, second;

	held.port[0] = PROBES_FIRST_PORT;
	identity_start(&held, 1000);
	identity_take(&request, S, &first);
	identity_take(&request, S, &second);
	uint32_t step = second.identity.token - first.identity.token;
	identity_start(&held, 0 - 5 * step);
	for (int i = 0; i < 10; i++) {
		identity_take(&request, S, &first);
		cr_assert_neq(first.identity.token, 0);
	}
}

/* One port at both ends is a request like any other: NTP's, for example. */
Test(identity, both_ports_may_be_the_same)
{
	struct record_probe request = probes_request(4, IPPROTO_UDP);
	struct probe probe;

	request.source_port = 5001;
	request.port = 5001;
	cr_expect_neq(identity_take(&request, S, &probe), IDENTITY_NONE);
	cr_expect_eq(probe.identity.port, 5001);
	cr_expect_eq(probe.identity.source_port, 5001);

	request.source_port = 0;
	request.flags = PROBE_FLOW;
	for (uint16_t port = PROBES_FIRST_PORT; port < PROBES_FIRST_PORT + HELD_PORTS; port++) {
		request.port = port;
		cr_expect_neq(identity_take(&request, S, &probe), IDENTITY_NONE);
	}
}

Test(identity, a_flow_has_one_checksum_and_it_is_no_zero)
{
	for (uint32_t flow = 0; flow < 200000; flow++) {
		uint16_t checksum = identity_flow_checksum(flow);
		cr_assert(checksum != 0 && checksum != 0xffff);
		cr_assert_eq(checksum, identity_flow_checksum(flow));
	}
}
