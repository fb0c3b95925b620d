/*
 * MPLS label stacks (RFC 4950) and interface information (RFC 5837) as a router sends them. Part of
 * simnet, a test program; its input is the parsed description, so it trusts it.
 */
#include "tests/lab/simnet_extension.h"

#include "tests/lab/simnet_packet.h"

#include <string.h>

enum {
	CLASS_MPLS = 1,
	CLASS_INTERFACE = 2,
	/* RFC 5837 4.1: the c-type's bits, which also fix the order of the parts */
	PART_INDEX = 0x08,
	PART_ADDRESS = 0x04,
	PART_NAME = 0x02,
	PART_MTU = 0x01,
};

static uint8_t *write_mpls(const struct net_behaviour *behaviour, uint8_t *at)
{
	if (behaviour->label_count == 0)
		return at;
	put16(at, (uint32_t)(4 + 4 * behaviour->label_count));
	at[2] = CLASS_MPLS;
	at[3] = 1;
	at += 4;
	for (size_t i = 0; i < behaviour->label_count; i++, at += 4) {
		const struct net_label *label = &behaviour->labels[i];

		put32(at, label->label << 12 | (uint32_t)label->traffic_class << 9 |
				  (uint32_t)label->bottom << 8 | label->ttl);
	}
	return at;
}

static uint8_t *write_address(const struct net_address *address, uint8_t *at)
{
	size_t bytes = address->family == 4 ? 4 : 16;

	put16(at, address->family == 4 ? 1 : 2);
	put16(at + 2, 0);
	memcpy(at + 4, address->bytes, bytes);
	return at + 4 + bytes;
}

/* The length byte counts itself; the whole is padded with zeros to four bytes. */
static uint8_t *write_name(const char *name, uint8_t *at)
{
	size_t length = strlen(name);
	size_t padded = (1 + length + 3) / 4 * 4;

	memset(at, 0, padded);
	at[0] = (uint8_t)padded;
	memcpy(at + 1, name, length);
	return at + padded;
}

static uint8_t *write_interface(const struct net_interface *interface, uint8_t *at)
{
	uint8_t *object = at;

	object[2] = CLASS_INTERFACE;
	object[3] = (uint8_t)(interface->role << 6);
	at += 4;
	if (interface->has_index) {
		object[3] |= PART_INDEX;
		put32(at, interface->index);
		at += 4;
	}
	if (interface->address.family) {
		object[3] |= PART_ADDRESS;
		at = write_address(&interface->address, at);
	}
	if (interface->name[0]) {
		object[3] |= PART_NAME;
		at = write_name(interface->name, at);
	}
	if (interface->has_mtu) {
		object[3] |= PART_MTU;
		put32(at, interface->mtu_bytes);
		at += 4;
	}
	put16(object, (uint32_t)(at - object));
	return at;
}

size_t extension_write(const struct net_behaviour *behaviour, uint8_t *out)
{
	uint8_t *at = out + 4;

	if (behaviour->label_count == 0 && behaviour->interface_count == 0)
		return 0;
	put32(out, 2u << 28);
	at = write_mpls(behaviour, at);
	for (size_t i = 0; i < behaviour->interface_count; i++)
		at = write_interface(&behaviour->interfaces[i], at);
	put16(out + 2, packet_sum_fold(packet_sum(0, out, (size_t)(at - out))));
	return (size_t)(at - out);
}
