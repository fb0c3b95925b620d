/*
 * Decodes the ICMP extension structures (RFC 4884) that routers append to their answers: MPLS label
 * stacks (RFC 4950) and interface information (RFC 5837). Runs in the unprivileged front end. Every
 * byte may be forged: each length is checked against what is left of its container before it is
 * used, and names are reduced to printable characters.
 */
#include "frontend/transport/extension.h"

#include <string.h>

#include "common/checksum.h"
#include "common/wire.h"

enum {
	STRUCTURE_VERSION = 2,      /* RFC 4884, 7 */
	STRUCTURE_HEADER_BYTES = 4, /* version, reserved, checksum */
	CHECKSUM_OFFSET = 2,
	OLD_OFFSET = 128,        /* RFC 4884, 5.5 */
	OBJECT_HEADER_BYTES = 4, /* length, class, c-type (RFC 4884, 8) */
	WORD_BYTES = 4,          /* objects consist of whole words (RFC 4884, 8) */

	CLASS_MPLS = 1, /* RFC 4950, 4 */
	MPLS_INCOMING_STACK = 1,
	CLASS_INTERFACE = 2, /* RFC 5837, 4 */

	/* RFC 5837, 4.1: the c-type says which interface is described and which sub-objects
	 * follow, in this order. */
	INTERFACE_ROLE_SHIFT = 6,
	INTERFACE_HAS_INDEX = 1 << 3,
	INTERFACE_HAS_ADDRESS = 1 << 2,
	INTERFACE_HAS_NAME = 1 << 1,
	INTERFACE_HAS_MTU = 1 << 0,

	/* Address family numbers (RFC 5837, 4.2). */
	AFI_IPV4 = 1,
	AFI_IPV6 = 2,
};

/* What is left to read of a structure, an object or a sub-object. */
struct bytes {
	const uint8_t *at;
	size_t left;
};

/* Splits `length` bytes off the front; NULL if there are fewer. */
static const uint8_t *take(struct bytes *bytes, size_t length)
{
	const uint8_t *at = bytes->at;

	if (bytes->left < length)
		return NULL;
	bytes->at += length;
	bytes->left -= length;
	return at;
}

static bool take32(struct bytes *bytes, uint32_t *value)
{
	const uint8_t *at = take(bytes, 4);

	if (at == NULL)
		return false;
	*value = wire_get32(at);
	return true;
}

/* The checksum covers the whole structure; zero says that the sender made none (RFC 4884, 7). */
static bool checksum_holds(const uint8_t *bytes, size_t length)
{
	return wire_get16(bytes + CHECKSUM_OFFSET) == 0 ||
	       checksum_fold(checksum_add(0, bytes, length)) == 0xffff;
}

/* RFC 4950, 4: label stack entries as they were in the packet, outermost first. The first ones
 * decided where the router sent the packet; those beyond the bound are dropped. */
static bool decode_mpls(struct bytes payload, struct extension_info *info)
{
	uint32_t entry;

	while (take32(&payload, &entry)) {
		struct extension_mpls *mpls = &info->mpls[info->mpls_count];

		if (info->mpls_count == EXTENSION_MPLS_LABELS)
			continue;
		mpls->label = entry >> 12;
		mpls->traffic_class = entry >> 9 & 7;
		mpls->bottom_of_stack = entry >> 8 & 1;
		mpls->ttl = entry & 0xff;
		info->mpls_count++;
	}
	return payload.left == 0;
}

/* RFC 5837, 4.2: family number, two reserved bytes, address. */
static bool decode_address(struct bytes *payload, struct extension_interface *interface)
{
	const uint8_t *head = take(payload, 4);
	const uint8_t *address;
	size_t length;

	if (head == NULL)
		return false;
	switch (wire_get16(head)) {
	case AFI_IPV4:
		interface->address_family = 4;
		length = 4;
		break;
	case AFI_IPV6:
		interface->address_family = 6;
		length = 16;
		break;
	default: /* its length is unknown, so what follows cannot be read */
		return false;
	}
	address = take(payload, length);
	if (address == NULL)
		return false;
	memcpy(interface->address, address, length);
	return true;
}

/* RFC 5837, 4.3: a length byte that counts itself, the name, zero bytes up to a whole word. The
 * name is printed as one field of a line, also to terminals. */
static bool decode_name(struct bytes *payload, struct extension_interface *interface)
{
	const uint8_t *name;
	size_t length;

	if (payload->left == 0)
		return false;
	length = payload->at[0];
	if (length < WORD_BYTES || length > EXTENSION_NAME_BYTES || length % WORD_BYTES != 0)
		return false;
	name = take(payload, length);
	if (name == NULL)
		return false;
	for (size_t i = 1; i < length && name[i] != 0; i++)
		interface->name[i - 1] = name[i] > ' ' && name[i] < 0x7f ? (char)name[i] : '?';
	return true;
}

static bool decode_interface(uint8_t ctype, struct bytes payload, struct extension_info *info)
{
	struct extension_interface interface = {
		.role = ctype >> INTERFACE_ROLE_SHIFT,
		.has_index = (ctype & INTERFACE_HAS_INDEX) != 0,
		.has_mtu = (ctype & INTERFACE_HAS_MTU) != 0,
	};

	if (interface.has_index && !take32(&payload, &interface.index))
		return false;
	if ((ctype & INTERFACE_HAS_ADDRESS) != 0 && !decode_address(&payload, &interface))
		return false;
	if ((ctype & INTERFACE_HAS_NAME) != 0 && !decode_name(&payload, &interface))
		return false;
	if (interface.has_mtu && !take32(&payload, &interface.mtu_bytes))
		return false;
	if (payload.left != 0)
		return false;
	if (info->interface_count < EXTENSION_INTERFACES)
		info->interfaces[info->interface_count++] = interface;
	return true;
}

static bool decode_object(const uint8_t *head, struct bytes payload, struct extension_info *info)
{
	uint8_t class = head[2], ctype = head[3];

	if (class == CLASS_MPLS && ctype == MPLS_INCOMING_STACK)
		return decode_mpls(payload, info);
	if (class == CLASS_INTERFACE)
		return decode_interface(ctype, payload, info);
	return true;
}

static bool decode_objects(struct bytes bytes, bool cut, struct extension_info *info)
{
	while (bytes.left != 0) {
		const uint8_t *head = take(&bytes, OBJECT_HEADER_BYTES);
		struct bytes payload;
		size_t length;

		if (head == NULL)
			return cut;
		length = wire_get16(head);
		if (length < OBJECT_HEADER_BYTES || length % WORD_BYTES != 0)
			return false;
		payload.left = length - OBJECT_HEADER_BYTES;
		payload.at = take(&bytes, payload.left);
		if (payload.at == NULL)
			return cut; /* objects before the cut are whole */
		if (!decode_object(head, payload, info))
			return false;
	}
	return true;
}

bool extension_decode(const uint8_t *bytes, size_t length, bool cut, struct extension_info *info)
{
	struct bytes objects;

	memset(info, 0, sizeof *info);
	if (length < STRUCTURE_HEADER_BYTES || bytes[0] >> 4 != STRUCTURE_VERSION)
		return false;
	if (!cut && !checksum_holds(bytes, length))
		return false;
	objects.at = bytes + STRUCTURE_HEADER_BYTES;
	objects.left = length - STRUCTURE_HEADER_BYTES;
	if (decode_objects(objects, cut, info))
		return true;
	memset(info, 0, sizeof *info);
	return false;
}

bool extension_find(const uint8_t *quote, size_t length, size_t hidden_bytes, size_t told_offset,
		    bool cut, struct extension_info *info)
{
	size_t offset = told_offset != 0 ? told_offset : OLD_OFFSET - hidden_bytes;

	if (offset + STRUCTURE_HEADER_BYTES > length)
		return false;
	if (told_offset == 0 && (cut || wire_get16(quote + offset + CHECKSUM_OFFSET) == 0))
		return false;
	return extension_decode(quote + offset, length - offset, cut, info);
}
