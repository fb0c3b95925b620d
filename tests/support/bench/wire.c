/*
 * A packet capture in a memory-mapped ring (packet(7), TPACKET_V2), with the kernel's time stamps.
 * Runs in the benchmark programs.
 */
#include "tests/support/bench/wire.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/support/bench/measure.h"

enum {
	FRAME_BYTES = 256,
	BLOCK_BYTES = 1 << 20,
	/* On loopback a request and its reply are seen twice each. */
	FRAMES_PER_ECHO = 4,
	KEYS = 1 << 20,
	/* Where the kernel puts the address behind a frame's head: TPACKET_ALIGN, without its
	   signs. */
	ADDRESS_OFFSET = (sizeof(struct tpacket2_hdr) + TPACKET_ALIGNMENT - 1) / TPACKET_ALIGNMENT *
			 TPACKET_ALIGNMENT,
	ECHO_REPLY = 0,
	ECHO_REQUEST = 8,
};

struct wire {
	int fd;
	size_t bytes;
	uint8_t *ring;
	size_t frames;
};

struct wire *wire_open(const char *interface, size_t echoes)
{
	struct wire *wire = calloc(1, sizeof(*wire));
	int version = TPACKET_V2;
	size_t blocks = echoes * FRAMES_PER_ECHO * FRAME_BYTES / BLOCK_BYTES + 1;
	struct tpacket_req ring = {
		.tp_block_size = BLOCK_BYTES,
		.tp_block_nr = (unsigned int)blocks,
		.tp_frame_size = FRAME_BYTES,
		.tp_frame_nr = (unsigned int)(blocks * (BLOCK_BYTES / FRAME_BYTES)),
	};
	struct sockaddr_ll where = {
		.sll_family = AF_PACKET,
		.sll_protocol = htons(ETH_P_ALL),
		.sll_ifindex = (int)if_nametoindex(interface),
	};

	if (!wire)
		measure_die("no memory");
	wire->frames = ring.tp_frame_nr;
	wire->bytes = blocks * BLOCK_BYTES;
	wire->fd = socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (wire->fd < 0 ||
	    setsockopt(wire->fd, SOL_PACKET, PACKET_VERSION, &version, sizeof(version)) != 0 ||
	    setsockopt(wire->fd, SOL_PACKET, PACKET_RX_RING, &ring, sizeof(ring)) != 0)
		measure_die("cannot capture");
	wire->ring = mmap(NULL, wire->bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE,
			  wire->fd, 0);
	if (wire->ring == MAP_FAILED ||
	    bind(wire->fd, (struct sockaddr *)&where, sizeof(where)) != 0)
		measure_die("cannot capture on the interface");
	return wire;
}

/* One captured frame, as far as it is an ICMP echo. */
struct seen {
	bool outgoing;
	uint8_t type;
	uint8_t pattern;
	uint32_t key; /* identifier and sequence number */
	int64_t time_ns;
};

static bool read_frame(const struct tpacket2_hdr *frame, struct seen *seen)
{
	const uint8_t *base = (const uint8_t *)frame;
	const struct sockaddr_ll *from = (const void *)(base + ADDRESS_OFFSET);
	const uint8_t *ip = base + frame->tp_net;
	size_t bytes = frame->tp_snaplen;

	if (bytes < 29 || ip[0] != 0x45 || ip[9] != IPPROTO_ICMP)
		return false;
	const uint8_t *icmp = ip + 20;
	seen->outgoing = from->sll_pkttype == PACKET_OUTGOING;
	seen->type = icmp[0];
	seen->pattern = ip[bytes - 1];
	memcpy(&seen->key, icmp + 4, sizeof(seen->key));
	seen->time_ns = (int64_t)frame->tp_sec * 1000000000 + frame->tp_nsec;
	return seen->type == ECHO_REQUEST || seen->type == ECHO_REPLY;
}

/* Where the echo with a key is in the list: open addressing, numbers plus one. */
static uint32_t *find(uint32_t *table, const uint32_t *keys, uint32_t key)
{
	uint32_t at = key * 0x9e3779b1u >> 12;

	while (table[at % KEYS] != 0 && keys[table[at % KEYS] - 1] != key)
		at++;
	return &table[at % KEYS];
}

static void take(const struct seen *seen, uint32_t *table, uint32_t *keys, struct wire_echo *echoes,
		 size_t *count, size_t most)
{
	uint32_t *place = find(table, keys, seen->key);

	if (seen->type == ECHO_REQUEST && seen->outgoing && *place == 0 && *count < most) {
		keys[*count] = seen->key;
		echoes[*count] = (struct wire_echo){
			.pattern = seen->pattern,
			.left_ns = seen->time_ns,
		};
		*place = (uint32_t)++ * count;
	}
	if (*place == 0)
		return;
	struct wire_echo *echo = &echoes[*place - 1];
	if (seen->type == ECHO_REQUEST && !seen->outgoing && echo->arrived_ns == 0)
		echo->arrived_ns = seen->time_ns;
	if (seen->type == ECHO_REPLY && !seen->outgoing && echo->replied_ns == 0)
		echo->replied_ns = seen->time_ns;
}

size_t wire_close(struct wire *wire, struct wire_echo *echoes, size_t most)
{
	uint32_t *table = calloc(KEYS, sizeof(*table));
	uint32_t *keys = calloc(most, sizeof(*keys));
	struct tpacket_stats lost = {0, 0};
	socklen_t size = sizeof(lost);
	size_t count = 0;

	if (!table || !keys)
		measure_die("no memory");
	for (size_t i = 0; i < wire->frames; i++) {
		const struct tpacket2_hdr *frame = (const void *)(wire->ring + i * FRAME_BYTES);
		struct seen seen;
		if ((frame->tp_status & TP_STATUS_USER) == 0)
			break;
		if (read_frame(frame, &seen))
			take(&seen, table, keys, echoes, &count, most);
	}
	if (getsockopt(wire->fd, SOL_PACKET, PACKET_STATISTICS, &lost, &size) != 0 ||
	    lost.tp_drops != 0) {
		errno = 0;
		measure_die("the capture lost packets");
	}
	munmap(wire->ring, wire->bytes);
	close(wire->fd);
	free(wire);
	free(table);
	free(keys);
	return count;
}
