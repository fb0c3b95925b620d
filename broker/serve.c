/*
 * The broker's loop: answers are read before requests, a batch of each at a time, so that no
 * receive buffer overflows while probes are sent. Runs confined by the system-call filter; the
 * requests come from anybody's program.
 */
#include "broker/serve.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <unistd.h>

#include "broker/channel.h"
#include "broker/clock.h"
#include "broker/departure.h"
#include "broker/identity.h"
#include "broker/local_port.h"
#include "broker/probe_table.h"
#include "broker/receive.h"
#include "broker/sockets.h"
#include "broker/transmit.h"
#include "common/await.h"
#include "policy/admission.h"

enum {
	RECEIVING = RAW_SOCKETS / 2,
	/* Waking up for so many requests costs each of them little. */
	MANY = 16,
	WORTH_HALVING = 64,
	/* As many answers as there may be probes in a message. */
	RECEIVES = RECORD_BATCH / RECEIVE_BATCH,
	CLOSELY_NS = 1000000,
};

static struct pollfd polled[SERVE_POLLED];
/* Receiving raw sockets are polled from the first probe on that they can have an answer to: for
 * most front ends that is one of the eight. They hear while such a probe is open. */
static size_t raw_count;
static struct ear {
	bool is_polled;
	bool hears;
} ears[RECEIVING];
/* Records in the last message. */
static size_t last_taken;

static void poll_channel(void)
{
	polled[0] = (struct pollfd){.fd = DESC_CHANNEL, .events = POLLIN};
}

static void open_ear(int fd)
{
	struct ear *ear = &ears[(fd - DESC_RAW_FIRST) / 2];

	if (ear->hears)
		return;
	if (!sockets_hear(fd, true))
		_exit(1);
	ear->hears = true;
	if (!ear->is_polled)
		polled[1 + raw_count++] = (struct pollfd){.fd = fd, .events = POLLIN};
	ear->is_polled = true;
}

/* Whether a receiving socket can still have an answer: ICMP errors are of every protocol. */
static bool is_awaited(int fd)
{
	uint8_t family = sockets_raw_family(fd);
	uint8_t protocol = sockets_raw_protocol(fd);

	return probe_open_count(family, protocol) != 0 ||
	       (protocol == IPPROTO_ICMP && (probe_open_count(family, IPPROTO_UDP) != 0 ||
					     probe_open_count(family, IPPROTO_TCP) != 0 ||
					     probe_open_count(family, IPPROTO_SCTP) != 0));
}

/* While this process sleeps, packets that cannot be answers are not even copied for it. */
static void close_ears(void)
{
	for (int fd = DESC_RAW_FIRST; fd <= DESC_RAW_LAST; fd += 2) {
		struct ear *ear = &ears[(fd - DESC_RAW_FIRST) / 2];
		if (ear->hears && !is_awaited(fd))
			ear->hears = !sockets_hear(fd, false);
	}
}

/* Held ports come after the raw sockets as they are bound. */
static nfds_t poll_local_ports(void)
{
	size_t count = 1 + raw_count;

	for (int i = 0; i < local_port_count(); i++)
		polled[count++] = (struct pollfd){.fd = DESC_LOCAL_FIRST + i, .events = POLLIN};
	return count;
}

static void check_requests(const struct record_probe *requests, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		const char *refusal = admission_refusal(&requests[i]);
		if (refusal != NULL)
			channel_violation(refusal);
	}
}

/* Two requests of one message may name one slot, which is not open before they are sent: batches
 * are numbered, so that this shows. 64 bits, since a number that came again would end a broker that
 * did nothing but send for half a day. */
static void check_probes(const struct record_probe *requests, size_t count)
{
	static uint64_t batch_number;

	check_requests(requests, count);
	batch_number++;
	for (size_t i = 0; i < count; i++) {
		struct probe *probe = probe_slot(requests[i].cookie);
		if (probe->open || probe->batch_number == batch_number)
			channel_violation("a probe for a slot that is in use");
		probe->batch_number = batch_number;
	}
}

static void take_cancels(const struct record_cancel *cancels, size_t count)
{
	int64_t now_ns = clock_now_ns();

	for (size_t i = 0; i < count; i++) {
		struct probe *probe = probe_slot(cancels[i].cookie);
		if (!probe->open || probe->cookie != cancels[i].cookie)
			continue;
		identity_given_up(probe, now_ns);
		probe_close(probe);
	}
}

/* What is queued may wait while there is room for more. */
static bool make_room(void)
{
	return channel_has_room() || channel_ready();
}

static void receive(int fd)
{
	if (!make_room())
		return;
	if (fd > DESC_RAW_LAST) {
		local_port_receive(fd);
		return;
	}
	for (int i = 0; i < RECEIVES && receive_raw(fd); i++)
		if (!make_room())
			return;
}

/* Does something with each socket that answers to the requests come from. */
static void with_ears(const struct record_probe *requests, size_t count, void (*use)(int fd))
{
	uint8_t family = 0, protocol = 0;

	for (size_t i = 0; i < count; i++) {
		if (requests[i].family == family && requests[i].protocol == protocol)
			continue;
		family = requests[i].family;
		protocol = requests[i].protocol;
		int errors = sockets_raw(family, IPPROTO_ICMP, false);
		int replies = sockets_raw(family, protocol, false);
		use(errors);
		if (replies != errors)
			use(replies);
	}
}

/* How many of the requests can be sent before their answers are read. */
static size_t sendable(const struct record_probe *requests, size_t count)
{
	size_t bytes = 0, fit = 0;

	for (; fit < count; fit++) {
		bytes += requests[fit].size_bytes + TRANSMIT_OVERHEAD_BYTES;
		if (bytes > TRANSMIT_BYTES)
			break;
	}
	return fit;
}
_Static_assert(UINT16_MAX + TRANSMIT_OVERHEAD_BYTES <= TRANSMIT_BYTES, "any probe fits alone");

/* In halves, the events of the first leave before the second is sent: the front end and its client
 * have something to do meanwhile, and this process has when they are done. Whether or not they
 * leave, there is room for the rest (broker/channel.c: a batch of answers beside one of refusals).
 */
static void take_probes(const struct record_probe *requests, size_t count, bool in_halves)
{
	size_t half = in_halves && count >= WORTH_HALVING ? (count + 1) / 2 : count;

	check_probes(requests, count);
	for (size_t at = 0, now; at < count; at += now) {
		size_t left = count - at;
		now = sendable(requests + at, left < half ? left : half);
		if (at != 0)
			(void)channel_ready();
		with_ears(requests + at, now, open_ear);
		transmit_probes(requests + at, now);
		/* Answers of this very host are there by now, and take up no room in a socket's
		 * buffer while more is sent. */
		with_ears(requests + at, now, receive);
	}
}

/* How many records the next message had; 0: there is none. */
static size_t take_message(bool in_halves)
{
	struct channel_message message;

	switch (channel_read(&message)) {
	case CHANNEL_NOTHING:
		return 0;
	case CHANNEL_CLOSED:
		_exit(0);
	case CHANNEL_MESSAGE:
		break;
	}
	if (message.kind == RECORD_PROBE)
		take_probes(message.probes, message.count, in_halves);
	else
		take_cancels(message.cancels, message.count);
	last_taken = message.count;
	return message.count;
}

/* How many are ready; 0 after the time. */
static int wait_for(nfds_t count, const struct timespec *most)
{
	int ready = ppoll(polled, count, most, NULL);

	if (ready < 0 && errno != EINTR)
		_exit(1);
	return ready;
}

/* Answers or requests. Of many requests together none waits for another's waking, and while more
 * of them follow each other closely, ears stay open. */
static void wait_for_work(nfds_t count)
{
	static const struct timespec closely = {0, CLOSELY_NS};
	static struct await kind;

	if (last_taken < MANY) {
		if (await_ready(&kind, polled, count, NULL, close_ears) < 0 && errno != EINTR)
			_exit(1);
	} else if (wait_for(count, &closely) == 0) {
		close_ears();
		(void)wait_for(count, NULL);
	}
}

/* A front end that does not read gets nothing more done until it does. */
static void wait_for_reader(void)
{
	polled[0].events = POLLOUT;
	(void)wait_for(1, NULL);
	polled[0].events = POLLIN;
	if ((polled[0].revents & (POLLERR | POLLHUP)) != 0)
		_exit(0);
}

/* Takes what waits in the channel. Whoever had many requests for us and nothing behind them waits
 * for the answers: he gets them in halves, as long as no more than the next half comes behind. */
static void take_requests(void)
{
	static bool in_halves;
	size_t taken = take_message(in_halves);

	if (taken < WORTH_HALVING || !channel_ready())
		return;
	size_t next = take_message(false);
	in_halves = next <= (in_halves ? taken / 2 : 0);
}

/* One turn over everything that poll reported. Each batch has room for its events first. */
static void serve_turn(nfds_t count)
{
	for (nfds_t i = 1; i < count; i++) {
		if ((polled[i].revents & POLLERR) != 0 && polled[i].fd <= DESC_RAW_LAST)
			departure_forget(polled[i].fd);
		if (polled[i].revents != 0)
			receive(polled[i].fd);
	}
	if (polled[0].revents != 0 && make_room())
		take_requests();
}

_Noreturn void serve(void)
{
	poll_channel();
	for (;;) {
		if (!channel_ready()) {
			wait_for_reader();
			continue;
		}
		nfds_t count = poll_local_ports();
		wait_for_work(count);
		serve_turn(count);
	}
}
