/*
 * The internet at work: takes frames from the host, lets each packet travel, and sends the answers
 * when they are due. Part of simnet, a test program.
 */
#include "tests/lab/simnet_serve.h"

#include "tests/lab/simnet_answer.h"
#include "tests/lab/simnet_link.h"
#include "tests/lab/simnet_neighbour.h"
#include "tests/lab/simnet_reassemble.h"

#include <inttypes.h>
#include <net/ethernet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

enum counter {
	COUNT_FRAMES,
	COUNT_MALFORMED,
	COUNT_BAD_CHECKSUM,
	COUNT_FRAGMENTS,
	COUNT_LOST,
	COUNT_SWALLOWED,
	COUNT_NOWHERE,
	COUNT_RATE_LIMITED,
	COUNT_HOP_ANSWERS,
	COUNT_ARRIVED,
	COUNT_UNANSWERED,
	COUNT_SENT,
	COUNT_NOT_SENT,
	COUNT_QUEUE_FULL,
	COUNT_OVERFLOWS,
	COUNTERS,
};

static const char *const counter_names[COUNTERS] = {
	[COUNT_FRAMES] = "packets",
	[COUNT_MALFORMED] = "malformed",
	[COUNT_BAD_CHECKSUM] = "bad-checksum",
	[COUNT_FRAGMENTS] = "fragments",
	[COUNT_LOST] = "lost",
	[COUNT_SWALLOWED] = "swallowed",
	[COUNT_NOWHERE] = "nowhere",
	[COUNT_RATE_LIMITED] = "rate-limited",
	[COUNT_HOP_ANSWERS] = "hop-answers",
	[COUNT_ARRIVED] = "arrived",
	[COUNT_UNANSWERED] = "unanswered",
	[COUNT_SENT] = "sent",
	[COUNT_NOT_SENT] = "not-sent",
	[COUNT_QUEUE_FULL] = "queue-full",
	[COUNT_OVERFLOWS] = "overflows",
};

struct world {
	struct net *net;
	struct link *link;
	struct queue *queue;
	uint64_t now_ns; /* when the packet came that is being dealt with */
	uint8_t peer_mac[MAC_BYTES];
	uint64_t counters[COUNTERS];
};

static void queue_packet(struct world *world, const uint8_t *head, size_t head_bytes,
			 const uint8_t *body, size_t body_bytes, uint64_t due_ns)
{
	struct queued_frame *frame =
		queue_frame(world->queue, ETHERNET_BYTES + head_bytes + body_bytes);

	if (!frame) {
		world->counters[COUNT_QUEUE_FULL]++;
		return;
	}
	memcpy(frame->bytes, world->peer_mac, MAC_BYTES);
	memcpy(frame->bytes + MAC_BYTES, link_mac(world->link), MAC_BYTES);
	put16(frame->bytes + 12, head[0] >> 4 == 4 ? ETHERTYPE_IP : ETHERTYPE_IPV6);
	memcpy(frame->bytes + ETHERNET_BYTES, head, head_bytes);
	if (body_bytes > 0)
		memcpy(frame->bytes + ETHERNET_BYTES + head_bytes, body, body_bytes);
	queue_push(world->queue, frame, due_ns);
}

static void fragment_ip4(struct world *world, const uint8_t *bytes, size_t length, uint64_t due_ns)
{
	size_t header_bytes = (size_t)(bytes[0] & 15) * 4;
	size_t room = (link_mtu(world->link) - header_bytes) / 8 * 8;
	const uint8_t *body = bytes + header_bytes;
	size_t body_bytes = length - header_bytes;
	uint8_t header[60];

	memcpy(header, bytes, header_bytes);
	for (size_t at = 0; at < body_bytes; at += room) {
		bool more = body_bytes - at > room;
		size_t part = more ? room : body_bytes - at;

		put16(header + 2, (uint32_t)(header_bytes + part));
		put16(header + 6, (uint32_t)(at / 8) | (more ? 0x2000u : 0));
		packet_ip4_checksum(header);
		queue_packet(world, header, header_bytes, body + at, part, due_ns);
	}
}

/* Extension headers of the answer, if it has any, end up in the first fragment. */
static void fragment_ip6(struct world *world, const uint8_t *bytes, size_t length, uint64_t due_ns)
{
	static uint32_t next_id;
	size_t room = (link_mtu(world->link) - 48) / 8 * 8;
	const uint8_t *body = bytes + 40;
	size_t body_bytes = length - 40;
	uint8_t header[48];

	memcpy(header, bytes, 40);
	header[6] = IPPROTO_FRAGMENT;
	header[40] = bytes[6];
	header[41] = 0;
	put32(header + 44, ++next_id);
	for (size_t at = 0; at < body_bytes; at += room) {
		bool more = body_bytes - at > room;
		size_t part = more ? room : body_bytes - at;

		put16(header + 4, (uint32_t)(8 + part));
		put16(header + 42, (uint32_t)at | more);
		queue_packet(world, header, sizeof(header), body + at, part, due_ns);
	}
}

static void emit(void *context, const uint8_t *bytes, size_t length, uint64_t after_ns)
{
	struct world *world = context;
	uint64_t due_ns = world->now_ns + after_ns;

	if (length <= link_mtu(world->link))
		queue_packet(world, bytes, length, bytes + length, 0, due_ns);
	else if (bytes[0] >> 4 == 4)
		fragment_ip4(world, bytes, length, due_ns);
	else
		fragment_ip6(world, bytes, length, due_ns);
}

static void answer(struct world *world, const struct packet_view *view, const struct path_end *end,
		   enum net_answer what, uint32_t data_bytes)
{
	struct net_behaviour *behaviour = end->behaviour;
	struct answer_way way = {link_mtu(world->link), emit, world};

	if (what < ANSWER_ECHO && what != ANSWER_SILENCE &&
	    !path_rate_allows(&behaviour->rate, world->now_ns)) {
		world->counters[COUNT_RATE_LIMITED]++;
		return;
	}
	if (path_chance(&behaviour->random, behaviour->answer_loss_ppm)) {
		world->counters[COUNT_LOST]++;
		return;
	}
	if (!answer_make(view, end, what, data_bytes, &way))
		world->counters[COUNT_UNANSWERED]++;
}

static void arrive(struct world *world, const struct packet_view *view, bool checksum_pending,
		   const struct path_end *end)
{
	struct packet_view whole;
	const struct net_rule *rule;

	if (view->fragment) {
		world->counters[COUNT_FRAGMENTS]++;
		if (!reassemble(view, world->now_ns, &whole))
			return;
		view = &whole;
	}
	if (!checksum_pending && !packet_transport_intact(view)) {
		world->counters[COUNT_BAD_CHECKSUM]++;
		return;
	}
	world->counters[COUNT_ARRIVED]++;
	rule = path_rule(end->destination, view);
	answer(world, view, end, rule->answer, rule->data_bytes);
}

static void travel(struct world *world, const struct packet_view *view, bool checksum_pending)
{
	struct path_end end;

	path_walk(world->net, view, &end);
	switch (end.fate) {
	case PATH_ANSWERED:
		world->counters[COUNT_HOP_ANSWERS]++;
		answer(world, view, &end, end.answer, 0);
		return;
	case PATH_ARRIVED:
		arrive(world, view, checksum_pending, &end);
		return;
	case PATH_LOST:
		world->counters[COUNT_LOST]++;
		return;
	case PATH_SWALLOWED:
		world->counters[COUNT_SWALLOWED]++;
		return;
	case PATH_NOWHERE:
		world->counters[COUNT_NOWHERE]++;
		return;
	}
}

static void take_frame(struct world *world, const struct link_frame *frame)
{
	uint8_t out[NEIGHBOUR_FRAME_BYTES];
	struct packet_view view;
	uint16_t type;
	size_t length = neighbour_answer(world->net, frame->bytes, frame->length,
					 link_mac(world->link), out);

	if (length) {
		struct queued_frame *reply = queue_frame(world->queue, length);

		if (reply) {
			memcpy(reply->bytes, out, length);
			queue_push(world->queue, reply, 0);
		}
		return;
	}
	/* what is for others (multicast of all sorts) is no traveller */
	if (frame->length < ETHERNET_BYTES ||
	    memcmp(frame->bytes, link_mac(world->link), MAC_BYTES) != 0)
		return;
	type = get16(frame->bytes + 12);
	if (type != ETHERTYPE_IP && type != ETHERTYPE_IPV6)
		return;
	world->counters[COUNT_FRAMES]++;
	world->now_ns = frame->came_ns;
	if (!packet_read(frame->bytes + ETHERNET_BYTES, frame->length - ETHERNET_BYTES, &view)) {
		world->counters[COUNT_MALFORMED]++;
		return;
	}
	memcpy(world->peer_mac, frame->bytes + MAC_BYTES, MAC_BYTES);
	travel(world, &view, frame->checksum_pending);
}

static void send_due(struct world *world)
{
	struct queued_frame *frames[LINK_BATCH];
	size_t count;

	do {
		uint64_t now_ns = loop_now_ns();
		size_t failed;

		for (count = 0; count < LINK_BATCH; count++) {
			frames[count] = queue_pop_due(world->queue, now_ns);
			if (!frames[count])
				break;
		}
		failed = count ? link_send(world->link, frames, count) : 0;
		world->counters[COUNT_NOT_SENT] += failed;
		world->counters[COUNT_SENT] += count - failed;
	} while (count == LINK_BATCH);
}

static void run(struct world *world, struct loop *loop)
{
	int descriptor = link_descriptor(world->link);
	struct link_frame frames[LINK_BATCH];

	while (loop_wait(loop, &descriptor, 1, queue_next_ns(world->queue))) {
		size_t count;

		do {
			count = link_receive(world->link, frames);
			for (size_t i = 0; i < count; i++)
				take_frame(world, &frames[i]);
			send_due(world);
		} while (count == LINK_BATCH);
	}
}

static void print_counters(struct world *world)
{
	world->counters[COUNT_OVERFLOWS] = link_overflows(world->link);
	for (size_t i = 0; i < COUNTERS; i++)
		printf("%s %" PRIu64 "\n", counter_names[i], world->counters[i]);
	fflush(stdout);
}

int serve_net(struct net *net, const char *interface, const struct loop_options *options)
{
	struct world world = {.net = net, .link = link_open(interface)};
	struct loop *loop;

	if (!world.link)
		return 1;
	loop = loop_new(options);
	world.queue = queue_new(net->queue_packets);
	if (!loop || !world.queue) {
		fprintf(stderr, "simnet: out of memory\n");
		return 1;
	}
	puts("ready");
	fflush(stdout);
	run(&world, loop);
	if (options->statistics)
		print_counters(&world);
	queue_free(world.queue);
	link_close(world.link);
	loop_free(loop);
	return 0;
}
