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
#include <netinet/ip.h>
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
	/* On loopback each packet is seen twice. A TCP connection that is closed has eight. */
	FRAMES_PER_PROBE = 20,
	/* Where the kernel puts the address behind a frame's head: TPACKET_ALIGN, without its
	   signs. */
	ADDRESS_OFFSET = (sizeof(struct tpacket2_hdr) + TPACKET_ALIGNMENT - 1) / TPACKET_ALIGNMENT *
			 TPACKET_ALIGNMENT,
};

struct wire {
	int fd;
	size_t bytes;
	uint8_t *ring;
	size_t frames;
};

struct wire *wire_open(size_t probes)
{
	struct wire *wire = calloc(1, sizeof(*wire));
	int version = TPACKET_V2;
	size_t blocks = probes * FRAMES_PER_PROBE * FRAME_BYTES / BLOCK_BYTES + 1;
	struct tpacket_req ring = {
		.tp_block_size = BLOCK_BYTES,
		.tp_block_nr = (unsigned int)blocks,
		.tp_frame_size = FRAME_BYTES,
		.tp_frame_nr = (unsigned int)(blocks * (BLOCK_BYTES / FRAME_BYTES)),
	};
	struct sockaddr_ll where = {
		.sll_family = AF_PACKET,
		.sll_protocol = htons(ETH_P_ALL),
		.sll_ifindex = (int)if_nametoindex("lo"),
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

/* The number of the probe that has this address; `count` or more: none has. */
static size_t probe_of(uint32_t address_be)
{
	return ntohl(address_be) - WIRE_FIRST_ADDRESS;
}

static void read_frame(const struct tpacket2_hdr *frame, struct wire_probe *probes, size_t count)
{
	const uint8_t *base = (const uint8_t *)frame;
	const struct sockaddr_ll *from = (const void *)(base + ADDRESS_OFFSET);
	int64_t time_ns = (int64_t)frame->tp_sec * 1000000000 + frame->tp_nsec;
	struct iphdr ip;

	if (frame->tp_snaplen < sizeof(ip))
		return;
	memcpy(&ip, base + frame->tp_net, sizeof(ip));
	if (ip.version != 4)
		return;
	if (from->sll_pkttype == PACKET_OUTGOING) {
		size_t i = probe_of(ip.daddr);
		if (i < count && probes[i].left_ns == 0)
			probes[i].left_ns = time_ns;
	} else {
		size_t i = probe_of(ip.saddr);
		if (i < count && probes[i].answered_ns == 0)
			probes[i].answered_ns = time_ns;
	}
}

void wire_close(struct wire *wire, struct wire_probe *probes, size_t count)
{
	struct tpacket_stats lost = {0, 0};
	socklen_t size = sizeof(lost);

	memset(probes, 0, count * sizeof(*probes));
	for (size_t i = 0; i < wire->frames; i++) {
		const struct tpacket2_hdr *frame = (const void *)(wire->ring + i * FRAME_BYTES);
		if ((frame->tp_status & TP_STATUS_USER) == 0)
			break;
		read_frame(frame, probes, count);
	}
	if (getsockopt(wire->fd, SOL_PACKET, PACKET_STATISTICS, &lost, &size) != 0 ||
	    lost.tp_drops != 0) {
		errno = 0;
		measure_die("the capture lost packets");
	}
	munmap(wire->ring, wire->bytes);
	close(wire->fd);
	free(wire);
}
