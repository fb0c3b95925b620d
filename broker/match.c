/*
 * The open probes, and which of them a packet answers. Runs in the broker and distrusts every byte:
 * addresses, identifier, number and nonce, as far as the packet shows them, must all be those of
 * one open probe. Everything else about an answer, its checksum too, is for the front end to read.
 *
 * The table has a fixed size and one hash index. The front end chooses identifiers and numbers; a
 * bad choice makes the hash chains long and slows down its own broker only.
 */
#include "broker/match.h"

#include <netinet/in.h>
#include <string.h>

#include "common/wire.h"

enum {
	PORTS_BYTES = 4, /* also the length of an echo's identifier and sequence */
	TAG_BYTES = 4,
	/* Every ICMP error quotes at least this much of what follows the IP header (RFC 792). */
	QUOTED_BYTES_MIN = 8,
	/* Offsets, RFC 9260 3.1, 3.3.2 */
	VERIFICATION_TAG = 4,
	CHUNK_TYPE = WIRE_SCTP_HEADER_BYTES,
	INITIATE_TAG = CHUNK_TYPE + 4,
};

/* What tells a probe apart, or what an answer shows of that. */
struct key {
	uint8_t family, protocol;            /* as in struct record_probe */
	uint8_t destination[16], source[16]; /* source of a probe all zero: by route */
	/* ICMP: identifier, sequence and nonce, or what else the payload begins with. SCTP: source
	 * port, destination port and initiate tag. */
	uint8_t bytes[PORTS_BYTES + RECORD_NONCE_BYTES];
	size_t length; /* of `bytes` */
	bool is_cut;   /* the answer leaves out the end of `bytes` */
};

static struct probe {
	struct key key;
	bool is_open;
	uint32_t cookie, next; /* next in its chain: slot number plus one, 0 at the end */
	int64_t sent_ns;
} slots[RECORD_SLOTS];
static uint32_t chains[RECORD_SLOTS]; /* slot number plus one, 0: empty */

/* By the first four bytes, which every answer shows: multiplicative hashing with 2^32 divided by
 * the golden ratio. */
static uint32_t *chain_of(const struct key *key)
{
	return &chains[wire_get32(key->bytes) * 0x9e3779b1u / (UINT32_MAX / RECORD_SLOTS + 1)];
}

/* Fills in `bytes` and `length` from a probe, sent or quoted, of at least eight bytes. */
static void read_probe(struct key *key, const uint8_t *packet, size_t bytes)
{
	if (key->protocol == IPPROTO_ICMP) {
		size_t shown_bytes = bytes - 4; /* behind type, code and checksum */
		key->length = shown_bytes < sizeof(key->bytes) ? shown_bytes : sizeof(key->bytes);
		memcpy(key->bytes, packet + 4, key->length);
		return;
	}
	memcpy(key->bytes, packet, PORTS_BYTES);
	key->length = PORTS_BYTES;
	if (bytes >= INITIATE_TAG + TAG_BYTES) {
		memcpy(key->bytes + PORTS_BYTES, packet + INITIATE_TAG, TAG_BYTES);
		key->length += TAG_BYTES;
	}
}

void match_open(const struct record_probe *request, const uint8_t *packet, size_t bytes,
		int64_t sent_ns)
{
	struct probe *probe = &slots[request->cookie % RECORD_SLOTS];

	match_close(request->cookie);
	*probe = (struct probe){
		.key = {.family = request->family, .protocol = request->protocol},
		.is_open = true,
		.cookie = request->cookie,
		.sent_ns = sent_ns,
	};
	memcpy(probe->key.destination, request->destination, sizeof(request->destination));
	memcpy(probe->key.source, request->source, sizeof(request->source));
	read_probe(&probe->key, packet, bytes);
	uint32_t *chain = chain_of(&probe->key);
	probe->next = *chain;
	*chain = request->cookie % RECORD_SLOTS + 1;
}

void match_close(uint32_t cookie)
{
	struct probe *probe = &slots[cookie % RECORD_SLOTS];

	if (!probe->is_open)
		return;
	uint32_t *link = chain_of(&probe->key);
	while (&slots[*link - 1] != probe)
		link = &slots[*link - 1].next;
	*link = probe->next;
	probe->is_open = false;
}

/* Another user of this host can send echo requests with our identifier, but does not know the
 * nonce. Only an answer that ends early may leave it out. */
static bool agrees(const struct key *probe, const struct key *shown)
{
	static const uint8_t by_route[16];
	size_t common = shown->length < probe->length ? shown->length : probe->length;

	return probe->family == shown->family && probe->protocol == shown->protocol &&
	       (common == probe->length || shown->is_cut) &&
	       memcmp(probe->bytes, shown->bytes, common) == 0 &&
	       memcmp(probe->destination, shown->destination, sizeof(by_route)) == 0 &&
	       (memcmp(probe->source, shown->source, sizeof(by_route)) == 0 ||
		memcmp(probe->source, by_route, sizeof(by_route)) == 0);
}

/* A quote that leaves out tag or nonce may be of any of several probes: then it is of none. */
static struct probe *find(const struct key *shown)
{
	struct probe *found = NULL;

	for (uint32_t link = *chain_of(shown); link != 0; link = slots[link - 1].next) {
		if (!agrees(&slots[link - 1].key, shown))
			continue;
		if (found != NULL)
			return NULL;
		found = &slots[link - 1];
	}
	return found;
}

/* Reads INIT ACK or ABORT, whose ports are those of the INIT the other way round. Both have the
 * INIT's initiate tag as verification tag (RFC 9260 5.1, 8.4). */
static bool read_sctp(struct key *shown, const uint8_t *packet, size_t bytes)
{
	if (bytes <= CHUNK_TYPE)
		return false;
	memcpy(shown->bytes, packet + 2, 2);
	memcpy(shown->bytes + 2, packet, 2);
	memcpy(shown->bytes + PORTS_BYTES, packet + VERIFICATION_TAG, TAG_BYTES);
	shown->length = PORTS_BYTES + TAG_BYTES;
	return packet[CHUNK_TYPE] == WIRE_SCTP_INIT_ACK || packet[CHUNK_TYPE] == WIRE_SCTP_ABORT;
}

/* Reads an ICMP error, which was sent to the source of the probe that it quotes. Other types do not
 * pass the filters of the socket, and quote nothing. */
static bool read_error(struct key *shown, const uint8_t *packet, size_t bytes)
{
	const struct wire_family *wire = wire_family(shown->family);
	struct wire_ip quoted;

	if (!wire_ip_read(packet + WIRE_ICMP_HEADER_BYTES, bytes - WIRE_ICMP_HEADER_BYTES,
			  &quoted) ||
	    quoted.family != wire || quoted.transport_bytes < QUOTED_BYTES_MIN ||
	    memcmp(quoted.source, shown->source, wire->address_bytes) != 0)
		return false;
	bool is_icmp = quoted.protocol == wire->icmp_protocol;
	memcpy(shown->destination, quoted.destination, wire->address_bytes);
	shown->is_cut = quoted.cut;
	shown->protocol = is_icmp ? IPPROTO_ICMP : IPPROTO_SCTP;
	read_probe(shown, quoted.transport, quoted.transport_bytes);
	return is_icmp ? quoted.transport[0] == wire->echo_request
		       : quoted.protocol == IPPROTO_SCTP;
}

bool match_answer(uint8_t family, struct record_answer *answer, const uint8_t *packet, size_t bytes)
{
	/* What the destination sends has the probe's addresses the other way round. */
	struct key shown = {.family = family, .protocol = answer->protocol};

	memcpy(shown.destination, answer->responder, sizeof(shown.destination));
	memcpy(shown.source, answer->local, sizeof(shown.source));
	if (bytes < WIRE_ICMP_HEADER_BYTES)
		return false;
	if (answer->protocol == IPPROTO_SCTP) {
		if (!read_sctp(&shown, packet, bytes))
			return false;
	} else if (packet[0] == wire_family(family)->echo_reply) {
		read_probe(&shown, packet, bytes);
	} else if (!read_error(&shown, packet, bytes)) {
		return false;
	}
	struct probe *probe = find(&shown);
	if (probe == NULL)
		return false;
	answer->cookie = probe->cookie;
	answer->sent_ns = probe->sent_ns;
	match_close(probe->cookie);
	return true;
}
