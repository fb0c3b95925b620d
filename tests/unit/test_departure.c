/*
 * When probes left: the kernel's stamps of datagrams that a socket sends to itself on loopback,
 * which also tell, on arrival, when each can have left at the latest.
 */
#include <criterion/criterion.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "broker/clock.h"
#include "broker/departure.h"
#include "common/message.h"

#define US INT64_C(1000)
#define S  INT64_C(1000000000)

enum { MOST = 64 };

static struct probe probes[MOST];
static struct departure batch[MOST];
static int fd;

/* A socket that is connected to itself. */
static void start(void)
{
	struct sockaddr_in self = {.sin_family = AF_INET,
				   .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t length = sizeof(self);
	int one = 1;

	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	cr_assert_eq(bind(fd, (struct sockaddr *)&self, sizeof(self)), 0);
	cr_assert_eq(getsockname(fd, (struct sockaddr *)&self, &length), 0);
	cr_assert_eq(connect(fd, (struct sockaddr *)&self, sizeof(self)), 0);
	cr_assert_eq(setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &one, sizeof(one)), 0);
	cr_assert_eq(departure_prepare(fd), 0);
	for (int i = 0; i < MOST; i++)
		batch[i] = (struct departure){.probe = &probes[i]};
}

TestSuite(departure, .init = start);

/* Sends `count`, those of the batch with a stamp that are marked so; when it began. */
static int64_t send_batch(unsigned int count)
{
	static uint8_t byte;
	static struct iovec piece = {&byte, sizeof(byte)};
	static _Alignas(struct cmsghdr) uint8_t control[CMSG_SPACE(sizeof(departure_flags))];
	struct mmsghdr messages[MOST];
	struct cmsghdr *asks = (struct cmsghdr *)(void *)control;

	*asks = (struct cmsghdr){
		.cmsg_len = CMSG_LEN(sizeof(departure_flags)),
		.cmsg_level = SOL_SOCKET,
		.cmsg_type = SO_TIMESTAMPING,
	};
	memcpy(CMSG_DATA(asks), &departure_flags, sizeof(departure_flags));
	for (unsigned int i = 0; i < count; i++) {
		messages[i] = (struct mmsghdr){.msg_hdr = {.msg_iov = &piece, .msg_iovlen = 1}};
		if (batch[i].is_stamped) {
			messages[i].msg_hdr.msg_control = control;
			messages[i].msg_hdr.msg_controllen = sizeof(control);
		}
	}
	int64_t before_ns = clock_now_ns();
	cr_assert_eq(message_send_many(fd, messages, count, 0), (int)count);
	return before_ns;
}

/* When the next datagram arrived. */
static int64_t arrival_ns(void)
{
	uint8_t byte;
	struct iovec piece = {&byte, sizeof(byte)};
	_Alignas(struct cmsghdr) uint8_t control[256];
	struct msghdr message = {
		.msg_iov = &piece,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control),
	};
	struct timespec stamp = {0, 0};

	cr_assert_eq(recvmsg(fd, &message, MSG_DONTWAIT), 1);
	for (struct cmsghdr *at = CMSG_FIRSTHDR(&message); at != NULL;
	     at = message_next_control(&message, at)) {
		cr_expect_eq(at->cmsg_type, SCM_TIMESTAMPNS, "control message %d", at->cmsg_type);
		memcpy(&stamp, CMSG_DATA(at), sizeof(stamp));
	}
	return clock_of_stamp(&stamp, 0);
}

static bool error_queue_is_empty(void)
{
	char byte;

	return recv(fd, &byte, 1, MSG_ERRQUEUE | MSG_DONTWAIT) < 0;
}

/* Stamped ones left before they arrived. On loopback each arrives while it is sent, and so left
 * after those before it had arrived, unless the kernel lets another thread deliver, for a while. By
 * the clock alone that would be so only by chance. */
Test(departure, stamps_are_exact)
{
	int interleaved = 0;

	for (int round = 0; round < 20 || (round < 1000 && interleaved == 0); round++) {
		const struct timespec while_ns = {0, round < 20 ? 0 : 1000000};
		nanosleep(&while_ns, NULL);
		for (int i = 0; i < MOST; i++)
			batch[i].is_stamped = true;
		int64_t before_ns = send_batch(MOST);
		departure_note(fd, batch, MOST, before_ns);
		cr_expect(departure_is_stamped());
		int64_t previous_ns = before_ns;
		int after_arrival = 0;
		for (int i = 0; i < MOST; i++) {
			int64_t arrived_ns = arrival_ns();
			cr_expect_leq(probes[i].sent_ns, arrived_ns + US, "%d", i);
			cr_expect_eq(probes[i].sent_doubt_ns, 0u);
			after_arrival += probes[i].sent_ns >= previous_ns - US;
			previous_ns = arrived_ns;
		}
		interleaved += after_arrival == MOST;
		cr_expect(error_queue_is_empty());
	}
	cr_expect_gt(interleaved, 0);
}

Test(departure, between_stamps_at_even_distances)
{
	batch[0].is_stamped = batch[4].is_stamped = batch[7].is_stamped = true;
	int64_t before_ns = send_batch(8);
	departure_note(fd, batch, 8, before_ns);
	int64_t each_ns = (probes[4].sent_ns - probes[0].sent_ns) / 4;
	for (unsigned int i = 0; i < 4; i++) {
		cr_expect_eq(probes[i].sent_ns, probes[0].sent_ns + (int64_t)i * each_ns);
		cr_expect_eq(probes[i].sent_doubt_ns, i * each_ns);
	}
	for (unsigned int i = 5; i < 7; i++) {
		cr_expect_gt(probes[i].sent_ns, probes[i - 1].sent_ns);
		cr_expect_lt(probes[i].sent_ns, probes[7].sent_ns);
	}
	cr_expect_eq(probes[4].sent_doubt_ns + probes[7].sent_doubt_ns, 0u);
}

/* A batch that the kernel cut short behind a stamp. */
Test(departure, behind_the_last_stamp_by_the_clock)
{
	batch[0].is_stamped = true;
	int64_t before_ns = send_batch(4);
	departure_note(fd, batch, 4, before_ns);
	int64_t after_ns = clock_now_ns();
	cr_expect(departure_is_stamped());
	for (int i = 1; i < 4; i++) {
		cr_expect_gt(probes[i].sent_ns, probes[i - 1].sent_ns);
		cr_expect_lt(probes[i].sent_ns, after_ns);
		cr_expect_leq(probes[i].sent_ns - probes[i].sent_doubt_ns, probes[0].sent_ns);
	}
}

Test(departure, without_stamps_by_the_clock)
{
	int64_t before_ns = send_batch(4);
	int64_t after_ns = clock_now_ns();
	departure_note(fd, batch, 4, before_ns);
	int64_t each_ns = probes[1].sent_ns - probes[0].sent_ns;
	for (int i = 0; i < 4; i++) {
		cr_expect_geq(probes[i].sent_ns, before_ns);
		/* What the clock says after the call is read a little later there. */
		cr_expect_leq(probes[i].sent_ns - i * each_ns, after_ns);
		cr_expect_eq(probes[i].sent_ns - probes[i].sent_doubt_ns, before_ns);
	}
	/* None was asked for: that says nothing about whether stamps come. */
	cr_expect(departure_is_stamped());
}

/* Those of a packet that had to wait for its next hop's address come when nobody expects them. */
Test(departure, a_late_stamp_is_nobodys)
{
	batch[0].is_stamped = batch[1].is_stamped = true;
	(void)send_batch(2);
	nanosleep(&(struct timespec){0, 100000}, NULL);
	int64_t before_ns = send_batch(2);
	departure_note(fd, batch, 2, before_ns);
	cr_expect(departure_is_stamped());
	for (int i = 0; i < 2; i++) {
		cr_expect_geq(probes[i].sent_ns, before_ns);
		cr_expect_eq(probes[i].sent_doubt_ns, 0u);
	}
	cr_expect_gt(probes[1].sent_ns, probes[0].sent_ns);
	cr_expect(error_queue_is_empty(), "nothing is left for the next batch");

	(void)send_batch(2);
	departure_forget(fd);
	cr_expect(error_queue_is_empty());
}

/* As if it came within the call: there is one too many then, and nobody knows which. */
Test(departure, a_stamp_too_many_makes_all_doubtful)
{
	batch[0].is_stamped = batch[1].is_stamped = true;
	int64_t before_ns = send_batch(1);
	(void)send_batch(2);
	departure_note(fd, batch, 2, before_ns);
	cr_expect_not(departure_is_stamped());
	cr_expect_eq(probes[0].sent_ns - probes[0].sent_doubt_ns, before_ns);
	cr_expect(error_queue_is_empty());

	before_ns = send_batch(2);
	departure_note(fd, batch, 2, before_ns);
	cr_expect(departure_is_stamped(), "they are asked for and believed again");
	cr_expect_eq(probes[1].sent_doubt_ns, 0u);
}

/* Two were to be stamped, and one is not, or not yet. */
Test(departure, a_missing_stamp_makes_all_doubtful)
{
	batch[0].is_stamped = true;
	int64_t before_ns = send_batch(2);
	batch[1].is_stamped = true;
	departure_note(fd, batch, 2, before_ns);
	cr_expect_not(departure_is_stamped());
	cr_expect_eq(probes[0].sent_ns - probes[0].sent_doubt_ns, before_ns);
	cr_expect_eq(probes[1].sent_ns - probes[1].sent_doubt_ns, before_ns);

	batch[0].is_stamped = batch[1].is_stamped = false;
	before_ns = send_batch(2);
	departure_note(fd, batch, 2, before_ns);
	cr_expect_not(departure_is_stamped(), "where none is asked for, none can come");
}
