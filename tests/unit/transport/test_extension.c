/*
 * extension_decode() on structures made by hand from the layouts in RFC 4884, 4950 and 5837, on
 * broken ones, and on a few hundred thousand random ones, each in a heap block of exactly its
 * length so that a sanitizer sees any byte read too far.
 */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "frontend/transport/extension.h"

enum {
	STRUCTURE_BYTES = 1024,
	FUZZ_ROUNDS = 300000,
};

struct structure {
	size_t length;
	uint8_t bytes[STRUCTURE_BYTES];
};

static void append(struct structure *s, const void *bytes, size_t length)
{
	cr_assert(length <= sizeof s->bytes - s->length);
	if (length != 0)
		memcpy(s->bytes + s->length, bytes, length);
	s->length += length;
}

static void append_object(struct structure *s, uint8_t class, uint8_t ctype, const void *payload,
			  size_t length)
{
	uint8_t head[4] = {(uint8_t)((length + 4) >> 8), (uint8_t)(length + 4), class, ctype};

	append(s, head, sizeof head);
	append(s, payload, length);
}

static struct structure structure(void)
{
	return (struct structure){.length = 4, .bytes = {0x20, 0, 0, 0}};
}

/* Sets the Internet checksum, written apart from the one that is tested. */
static void seal(struct structure *s)
{
	unsigned long sum = 0;

	s->bytes[2] = s->bytes[3] = 0;
	for (size_t i = 0; i < s->length; i++)
		sum += i % 2 != 0 ? s->bytes[i] : s->bytes[i] * 256ul;
	sum = sum % 0xffff;
	s->bytes[2] = (uint8_t)((0xffff - sum) >> 8);
	s->bytes[3] = (uint8_t)(0xffff - sum);
}

static bool all_zero(const struct extension_info *info)
{
	static const struct extension_info zero;

	return memcmp(info, &zero, sizeof zero) == 0;
}

/* Decodes from a heap block of exactly the structure's length. */
static bool decode(const struct structure *s, bool cut, struct extension_info *info)
{
	uint8_t *exact = malloc(s->length != 0 ? s->length : 1);
	bool right;

	memset(info, 0xa5, sizeof *info);
	memcpy(exact, s->bytes, s->length);
	right = extension_decode(exact, s->length, cut, info);
	free(exact);
	if (!right)
		cr_assert(all_zero(info), "a refused structure left something behind");
	return right;
}

static void assert_refused(const struct structure *s, const char *why)
{
	struct extension_info info;

	cr_expect_not(decode(s, false, &info), "%s", why);
}

/* RFC 4950: 24001,0,1,1 as a router sent it, checksum worked out by hand:
 * 2000 + 0008 + 0101 + 05dc + 1101 = 37e6, complement c819. */
static const struct structure one_label = {
	.length = 12,
	.bytes = {0x20, 0x00, 0xc8, 0x19, 0x00, 0x08, 0x01, 0x01, 0x05, 0xdc, 0x11, 0x01},
};

Test(extension, one_mpls_label)
{
	struct extension_info info;

	cr_assert(decode(&one_label, false, &info));
	cr_assert_eq(info.mpls_count, 1);
	cr_assert_eq(info.mpls[0].label, 24001);
	cr_assert_eq(info.mpls[0].traffic_class, 0);
	cr_assert_eq(info.mpls[0].bottom_of_stack, 1);
	cr_assert_eq(info.mpls[0].ttl, 1);
	cr_assert_eq(info.interface_count, 0);
}

Test(extension, every_bit_of_a_label_has_its_place)
{
	static const uint8_t stack[] = {0xff, 0xff, 0xf0, 0x00, 0x00, 0x00, 0x0e, 0x00,
					0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x00, 0xff};
	struct structure s = structure();
	struct extension_info info;

	append_object(&s, 1, 1, stack, sizeof stack);
	seal(&s);
	cr_assert(decode(&s, false, &info));
	cr_assert_eq(info.mpls_count, 4);
	cr_assert_eq(info.mpls[0].label, 0xfffff);
	cr_assert_eq(info.mpls[0].traffic_class, 0);
	cr_assert_eq(info.mpls[1].label, 0);
	cr_assert_eq(info.mpls[1].traffic_class, 7);
	cr_assert_eq(info.mpls[1].bottom_of_stack, 0);
	cr_assert_eq(info.mpls[2].traffic_class, 0);
	cr_assert_eq(info.mpls[2].bottom_of_stack, 1);
	cr_assert_eq(info.mpls[2].ttl, 0);
	cr_assert_eq(info.mpls[3].ttl, 255);
}

Test(extension, deep_stacks_are_bounded)
{
	struct structure s = structure();
	struct extension_info info;
	uint8_t stack[4 * 100];

	for (size_t i = 0; i < 100; i++)
		memcpy(stack + 4 * i, (uint8_t[]){0, (uint8_t)i, 0x10, 7}, 4);
	append_object(&s, 1, 1, stack, sizeof stack);
	append_object(&s, 1, 1, stack, sizeof stack);
	seal(&s);
	cr_assert(decode(&s, false, &info));
	cr_assert_eq(info.mpls_count, EXTENSION_MPLS_LABELS);
	for (uint32_t i = 0; i < EXTENSION_MPLS_LABELS; i++)
		cr_assert_eq(info.mpls[i].label, i << 4 | 1);
}

/* RFC 5837: incoming interface, all four sub-objects, IPv4. */
Test(extension, interface_with_everything)
{
	static const uint8_t payload[] = {
		0, 0,   1,    2,                      /* ifIndex 258 */
		0, 1,   0,    0,    198, 18,  3,   2, /* IPv4 198.18.3.2 */
		8, 'g', 'e',  '-',  '0', '/', '1', 0, /* name */
		0, 0,   0x23, 0x28,                   /* MTU 9000 */
	};
	struct structure s = structure();
	struct extension_info info;

	append_object(&s, 2, 0x0f, payload, sizeof payload);
	seal(&s);
	cr_assert(decode(&s, false, &info));
	cr_assert_eq(info.interface_count, 1);
	cr_assert_eq(info.interfaces[0].role, EXTENSION_INCOMING);
	cr_assert(info.interfaces[0].has_index);
	cr_assert_eq(info.interfaces[0].index, 258);
	cr_assert_eq(info.interfaces[0].address_family, 4);
	cr_assert_arr_eq(info.interfaces[0].address, ((uint8_t[16]){198, 18, 3, 2}), 16);
	cr_assert_str_eq(info.interfaces[0].name, "ge-0/1");
	cr_assert(info.interfaces[0].has_mtu);
	cr_assert_eq(info.interfaces[0].mtu_bytes, 9000);
}

Test(extension, interface_roles_and_single_parts)
{
	static const uint8_t address[] = {0, 2, 0, 0, 0x20, 1, 0x0d, 0xb8, 0, 0,
					  0, 0, 0, 0, 0,    0, 0,    0,    0, 9};
	static const uint8_t number[] = {0xff, 0xff, 0xff, 0xff};
	struct structure s = structure();
	struct extension_info info;

	append_object(&s, 2, 0x44, address, sizeof address);
	append_object(&s, 2, 0x88, number, sizeof number);
	append_object(&s, 2, 0xc1, number, sizeof number);
	append_object(&s, 2, 0x30, NULL, 0); /* both reserved bits, nothing else */
	append_object(&s, 2, 0x88, number, sizeof number);
	seal(&s);
	cr_assert(decode(&s, false, &info));
	cr_assert_eq(info.interface_count, EXTENSION_INTERFACES, "the fifth has no room");
	cr_assert_eq(info.interfaces[0].role, EXTENSION_SUB_IP);
	cr_assert_eq(info.interfaces[0].address_family, 6);
	cr_assert_arr_eq(info.interfaces[0].address, address + 4, 16);
	cr_assert_not(info.interfaces[0].has_index || info.interfaces[0].has_mtu);
	cr_assert_eq(info.interfaces[1].role, EXTENSION_OUTGOING);
	cr_assert_eq(info.interfaces[1].index, UINT32_MAX);
	cr_assert_eq(info.interfaces[2].role, EXTENSION_NEXT_HOP);
	cr_assert(info.interfaces[2].has_mtu && !info.interfaces[2].has_index);
	cr_assert_eq(info.interfaces[2].mtu_bytes, UINT32_MAX);
	cr_assert_eq(info.interfaces[3].role, EXTENSION_INCOMING);
	cr_assert_eq(info.interfaces[3].address_family, 0);
	cr_assert_str_empty(info.interfaces[3].name);
}

Test(extension, odd_names_come_out_printable)
{
	static const uint8_t odd[] = {12, 'a', ' ', '\n', 0x1b, 0x7f, 0xc3, 0xa9, '~', 0, 'x', 'y'};
	uint8_t longest[EXTENSION_NAME_BYTES];
	struct structure s = structure();
	struct extension_info info;

	memset(longest, 'n', sizeof longest);
	longest[0] = sizeof longest;
	append_object(&s, 2, 0x02, odd, sizeof odd);
	append_object(&s, 2, 0x02, longest, sizeof longest);
	append_object(&s, 2, 0x02, "\4\0\0\0", 4);
	seal(&s);
	cr_assert(decode(&s, false, &info));
	cr_assert_str_eq(info.interfaces[0].name, "a??????~");
	cr_assert_eq(strlen(info.interfaces[1].name), EXTENSION_NAME_BYTES - 1);
	cr_assert_str_empty(info.interfaces[2].name);
}

Test(extension, unknown_objects_are_skipped)
{
	struct structure s = structure();
	struct extension_info info;

	append_object(&s, 3, 1, "eth0", 4); /* RFC 8335 */
	append_object(&s, 247, 9, NULL, 0);
	append_object(&s, 1, 2, "abcd", 4); /* MPLS class, type nobody defined */
	append_object(&s, 1, 1, one_label.bytes + 8, 4);
	append_object(&s, 0, 0, "abcdefgh", 8);
	seal(&s);
	cr_assert(decode(&s, false, &info));
	cr_assert_eq(info.mpls_count, 1);
	cr_assert_eq(info.mpls[0].label, 24001);
}

Test(extension, checksum)
{
	struct extension_info info;

	struct structure s;

	for (size_t bit = 0; bit < one_label.length * 8; bit++) {
		s = one_label;
		s.bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
		assert_refused(&s, "one flipped bit");
	}
	s = one_label;
	s.bytes[2] = s.bytes[3] = 0;
	cr_assert(decode(&s, false, &info), "zero: the sender made none");
	s.bytes[3] = 1;
	assert_refused(&s, "wrong checksum");
	cr_assert(decode(&s, true, &info), "cannot be verified when cut");
}

/* Behind a quoted packet; of that the first bytes may be hidden. */
Test(extension, place_of_the_structure)
{
	static const struct {
		size_t place, told, hidden;
		bool sealed, cut, found;
	} cases[] = {
		{.place = 128, .told = 128, .sealed = true, .found = true},
		{.place = 128, .told = 0, .sealed = true, .found = true},
		{.place = 100, .told = 0, .hidden = 28, .sealed = true, .found = true},
		{.place = 60, .told = 60, .hidden = 28, .sealed = true, .found = true},
		{.place = 60, .told = 0, .sealed = true, .found = false},
		{.place = 128, .told = 128, .sealed = false, .found = true},
		{.place = 128, .told = 0, .sealed = false, .found = false},
		{.place = 128, .told = 128, .sealed = true, .cut = true, .found = true},
		{.place = 128, .told = 0, .sealed = true, .cut = true, .found = false},
		{.place = 128, .told = 200, .sealed = true, .found = false},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct extension_info info;
		size_t length = cases[i].place + one_label.length;
		uint8_t *quote = calloc(1, length);

		memcpy(quote + cases[i].place, one_label.bytes, one_label.length);
		if (!cases[i].sealed)
			memset(quote + cases[i].place + 2, 0, 2);
		cr_expect_eq(extension_find(quote, length, cases[i].hidden, cases[i].told,
					    cases[i].cut, &info),
			     cases[i].found, "case %zu", i);
		free(quote);
	}
}

Test(extension, versions_other_than_two)
{
	for (unsigned version = 0; version < 16; version++) {
		struct structure s = one_label;

		s.bytes[0] = (uint8_t)(version << 4);
		seal(&s);
		if (version != 2)
			assert_refused(&s, "version");
	}
}

Test(extension, wrong_lengths)
{
	static const uint8_t lengths[] = {0, 1, 2, 3, 5, 6, 7, 9, 12, 255};

	for (size_t i = 0; i < sizeof lengths; i++) {
		struct structure s = one_label;

		s.bytes[5] = lengths[i];
		seal(&s);
		assert_refused(&s, "object length");
		s.bytes[4] = 0xff;
		seal(&s);
		assert_refused(&s, "object length with its high byte set");
	}
	for (size_t length = 0; length < one_label.length; length++) {
		struct structure s = one_label;

		s.length = length;
		if (length > 4) {
			seal(&s);
			assert_refused(&s, "structure shorter than its object");
		} else if (length < 4) {
			assert_refused(&s, "structure shorter than its header");
		}
	}
}

Test(extension, objects_consist_of_words)
{
	for (size_t length = 1; length < 4; length++) {
		struct structure s = structure();

		append_object(&s, 200, 1, "xyz", length);
		seal(&s);
		assert_refused(&s, "an unknown object of no whole number of words");
	}
}

Test(extension, a_structure_without_objects_tells_nothing)
{
	struct structure s = structure();
	struct extension_info info;

	cr_assert(decode(&s, false, &info));
	cr_assert(all_zero(&info));
}

Test(extension, sub_objects_that_do_not_fit)
{
	static const struct {
		uint8_t ctype;
		uint8_t length;
		uint8_t payload[24];
		const char *what;
	} wrong[] = {
		{0x08, 0, {0}, "no index"},
		{0x01, 0, {0}, "no MTU"},
		{0x04, 0, {0}, "no address"},
		{0x04, 4, {0, 1, 0, 0}, "no address behind the family"},
		{0x04, 16, {0, 2, 0, 0}, "IPv6 address cut"},
		{0x04, 8, {0, 3, 0, 0}, "unknown address family"},
		{0x04, 12, {0, 1, 0, 0}, "something behind the address"},
		{0x02, 0, {0}, "no name"},
		{0x02, 4, {0, 'a', 'b', 'c'}, "name of length 0"},
		{0x02, 4, {3, 'a', 'b', 'c'}, "name of length 3"},
		{0x02, 8, {6, 'a', 'b', 'c', 'd', 'e'}, "name that is no whole word"},
		{0x02, 4, {8, 'a', 'b', 'c'}, "name longer than the object"},
		{0x02, 4, {255, 'a', 'b', 'c'}, "name longer than anything"},
		{0x02, 8, {4, 'a', 'b', 'c'}, "something behind the name"},
		{0x09, 4, {0}, "MTU missing behind the index"},
		{0x00, 4, {0}, "nothing announced, something there"},
	};

	for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
		struct structure s = structure();

		append_object(&s, 1, 1, one_label.bytes + 8, 4);
		append_object(&s, 2, wrong[i].ctype, wrong[i].payload, wrong[i].length);
		seal(&s);
		assert_refused(&s, wrong[i].what);
	}
}

Test(extension, name_longer_than_allowed)
{
	struct structure s = structure();
	uint8_t name[EXTENSION_NAME_BYTES + 4];

	memset(name, 'n', sizeof name);
	name[0] = sizeof name;
	append_object(&s, 2, 0x02, name, sizeof name);
	seal(&s);
	assert_refused(&s, "68 bytes");
}

Test(extension, a_cut_structure_keeps_its_whole_objects)
{
	static const uint8_t labels[8] = {0, 1, 0x11, 1};
	struct structure whole = structure();
	struct extension_info info;

	append_object(&whole, 1, 1, one_label.bytes + 8, 4);
	append_object(&whole, 1, 1, labels, sizeof labels);
	seal(&whole);
	for (size_t length = 4; length <= whole.length; length++) {
		struct structure s = whole;

		s.length = length;
		cr_assert(decode(&s, true, &info));
		cr_assert_eq(info.mpls_count, length == whole.length ? 3 : length >= 12 ? 1 : 0);
	}
}

static uint64_t random_state = 0x9e3779b97f4a7c15;

/* xorshift64*: the same sequence in every run, so that a failure can be seen again. */
static uint32_t random32(void)
{
	random_state ^= random_state >> 12;
	random_state ^= random_state << 25;
	random_state ^= random_state >> 27;
	return (uint32_t)(random_state * 0x2545f4914f6cdd1d >> 32);
}

/* An object that is often of a known class and of the length its c-type calls for. */
static void append_random_object(struct structure *s)
{
	static const uint8_t known[] = {0x08, 0x01, 0x04, 0x02, 0x0f, 0x49, 0x8a, 0xc7};
	uint8_t payload[80];
	uint8_t class = (uint8_t)(random32() % 4);
	uint32_t any = random32();
	uint8_t ctype = class == 1 ? 1 : any % 4 == 0 ? (uint8_t)(any >> 8) : known[any >> 8 & 7];
	size_t length = random32() % 20 * 4;

	for (size_t i = 0; i < length; i++)
		payload[i] = (uint8_t)(random32() % 3 != 0 ? random32() % 9 : random32());
	append_object(s, class, ctype, payload, length);
}

/* A few objects, then perhaps a cut and a few bytes of damage. */
static struct structure random_structure(void)
{
	struct structure s = structure();

	for (uint32_t objects = random32() % 4; objects != 0; objects--)
		append_random_object(&s);
	if (random32() % 4 == 0)
		s.length -= random32() % s.length;
	for (uint32_t damage = random32() % 3; damage != 0; damage--) {
		size_t at = random32() % s.length;

		s.bytes[at] = (uint8_t)random32();
	}
	if (s.length >= 4 && random32() % 4 != 0)
		seal(&s);
	return s;
}

static void assert_bounded(const struct extension_info *info)
{
	cr_assert(info->mpls_count <= EXTENSION_MPLS_LABELS);
	cr_assert(info->interface_count <= EXTENSION_INTERFACES);
	for (size_t i = 0; i < info->interface_count; i++) {
		const struct extension_interface *interface = &info->interfaces[i];
		size_t length = strnlen(interface->name, sizeof interface->name);

		cr_assert(interface->role <= EXTENSION_NEXT_HOP);
		cr_assert(length < sizeof interface->name);
		for (size_t at = 0; at < length; at++)
			cr_assert(interface->name[at] > ' ' && interface->name[at] <= '~');
	}
}

Test(extension, random_structures, .timeout = 60)
{
	unsigned decoded = 0, interfaces = 0, labels = 0;

	for (unsigned round = 0; round < FUZZ_ROUNDS; round++) {
		struct structure s = random_structure();
		struct extension_info info;

		if (!decode(&s, random32() % 4 == 0, &info))
			continue;
		assert_bounded(&info);
		decoded++;
		interfaces += info.interface_count != 0;
		labels += info.mpls_count != 0;
	}
	cr_expect(decoded > FUZZ_ROUNDS / 20, "%u decoded: the test no longer gets far", decoded);
	cr_expect(interfaces > 1000 && labels > 1000, "%u, %u", interfaces, labels);
}
