/*
 * Reassembly of IPv4 and IPv6 fragments that the host sends to simnet's destinations. A few packets
 * at once are enough for tests; the oldest gives way. Part of simnet, a test program.
 */
#include "tests/lab/simnet_reassemble.h"

#include <netinet/in.h>
#include <string.h>

enum {
	SLOTS = 16,
	BLOCKS = 8192, /* of eight bytes: 65536 */
	HEADER_ROOM = 60,
};

static const uint64_t LIFETIME_NS = 5000000000u;

struct slot {
	uint64_t started_ns; /* 0: free */
	struct net_address source;
	struct net_address destination;
	uint32_t id;
	uint8_t protocol;
	size_t header_bytes; /* 0: the first fragment is missing */
	size_t total_bytes;  /* of the payload; 0: the last fragment is missing */
	size_t have_blocks;
	uint8_t present[BLOCKS];
	uint8_t bytes[HEADER_ROOM + 8 * BLOCKS];
};

static struct slot slots[SLOTS];

static bool slot_is(const struct slot *slot, const struct packet_view *view)
{
	return slot->started_ns && slot->id == view->fragment_id &&
	       (view->family == 6 || slot->protocol == view->protocol) &&
	       net_address_equal(&slot->source, &view->source) &&
	       net_address_equal(&slot->destination, &view->destination);
}

static struct slot *find_slot(const struct packet_view *view, uint64_t now_ns)
{
	struct slot *oldest = slots;

	for (size_t i = 0; i < SLOTS; i++) {
		struct slot *slot = &slots[i];

		if (slot_is(slot, view) && now_ns - slot->started_ns < LIFETIME_NS)
			return slot;
		if (slot->started_ns < oldest->started_ns)
			oldest = slot;
	}
	memset(oldest, 0, offsetof(struct slot, bytes));
	oldest->started_ns = now_ns;
	oldest->source = view->source;
	oldest->destination = view->destination;
	oldest->id = view->fragment_id;
	oldest->protocol = view->protocol;
	return oldest;
}

/* The header of the whole: that of the first fragment, without options or extension headers. */
static void take_header(struct slot *slot, const struct packet_view *view)
{
	slot->header_bytes = view->family == 4 ? 20 : 40;
	memcpy(slot->bytes + HEADER_ROOM - slot->header_bytes, view->bytes, slot->header_bytes);
	slot->protocol = view->protocol;
}

static bool take_payload(struct slot *slot, const struct packet_view *view)
{
	size_t offset = view->fragment_offset_bytes;
	size_t bytes = view->transport_bytes;
	size_t first = offset / 8;
	size_t blocks = (bytes + 7) / 8;

	if (bytes == 0 || offset + bytes > 65535 || (view->more_fragments && bytes % 8 != 0))
		return false;
	memcpy(slot->bytes + HEADER_ROOM + offset, view->transport, bytes);
	for (size_t i = first; i < first + blocks; i++) {
		slot->have_blocks += !slot->present[i];
		slot->present[i] = 1;
	}
	if (!view->more_fragments)
		slot->total_bytes = offset + bytes;
	if (offset == 0)
		take_header(slot, view);
	return true;
}

static bool show_whole(struct slot *slot, struct packet_view *whole)
{
	uint8_t *header = slot->bytes + HEADER_ROOM - slot->header_bytes;

	if (slot->header_bytes + slot->total_bytes > 65535 + (slot->source.family == 4 ? 0u : 40u))
		return false;
	if (slot->source.family == 4) {
		header[0] = 0x45;
		put16(header + 2, (uint32_t)(slot->header_bytes + slot->total_bytes));
		put16(header + 6, 0);
		packet_ip4_checksum(header);
	} else {
		put16(header + 4, (uint32_t)slot->total_bytes);
		header[6] = slot->protocol;
	}
	return packet_read(header, slot->header_bytes + slot->total_bytes, whole);
}

bool reassemble(const struct packet_view *fragment, uint64_t now_ns, struct packet_view *whole)
{
	struct slot *slot = find_slot(fragment, now_ns);

	if (!take_payload(slot, fragment))
		return false;
	if (!slot->total_bytes || !slot->header_bytes ||
	    slot->have_blocks != (slot->total_bytes + 7) / 8)
		return false;
	slot->started_ns = 0;
	return show_whole(slot, whole);
}
