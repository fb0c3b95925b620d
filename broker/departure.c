/*
 * Tells when probes left. Runs in the broker. The kernel's stamps come back through the error queue
 * of the socket that sent: times alone, no byte of any packet (SOF_TIMESTAMPING_OPT_TSONLY), and
 * since IP_RECVERR is never set there, nothing else. A stamp counts only if it lies within the
 * system call that sent its packet; if any does not, the whole batch is told by the clock alone.
 */
#include "broker/departure.h"

#include <errno.h>
#include <linux/net_tstamp.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>

#include "broker/clock.h"
#include "broker/large_table.h"
#include "common/message.h"
#include "common/record.h"

/* When the packet goes to its device's queue. Drivers can stamp later than that, but not all of
 * them do, while this is the same for all devices. */
const uint32_t departure_flags = SOF_TIMESTAMPING_TX_SCHED;

/* From <linux/net_tstamp.h> of newer kernels (6.12): no second stamp beside SO_TIMESTAMPNS with
 * what is received. */
enum { RECEIVED_UNSTAMPED = 1 << 17 };

enum {
	/* Holds a struct scm_timestamping, with SO_TIMESTAMPNS and IP_RECVERR beside it. */
	CONTROL_BYTES = 192,
	/* By the clock alone: a packet leaves when so many eighths of the time that it takes the
	 * kernel have gone by, or this time: what follows is the driver's, or, on loopback, the
	 * answer's (tests/bench/NOTES.md has measurements). */
	EIGHTHS_BEFORE_LEAVING = 3,
	MOST_BEFORE_LEAVING_NS = 2000,
};

static bool stamps_come = true;
static LARGE_TABLE struct mmsghdr messages[RECORD_BATCH];
static LARGE_TABLE _Alignas(struct cmsghdr) uint8_t controls[RECORD_BATCH][CONTROL_BYTES];

int departure_prepare(int socket)
{
	int flags = SOF_TIMESTAMPING_SOFTWARE | SOF_TIMESTAMPING_OPT_TSONLY;
	int sparing = flags | RECEIVED_UNSTAMPED;

	if (setsockopt(socket, SOL_SOCKET, SO_TIMESTAMPING, &sparing, sizeof(sparing)) == 0)
		return 0;
	return setsockopt(socket, SOL_SOCKET, SO_TIMESTAMPING, &flags, sizeof(flags));
}

bool departure_is_stamped(void)
{
	return stamps_come;
}

/* How many messages the error queue had, up to `most`. */
static unsigned int read_queue(int socket, unsigned int most)
{
	for (unsigned int i = 0; i < most; i++)
		messages[i].msg_hdr = (struct msghdr){
			.msg_control = controls[i],
			.msg_controllen = CONTROL_BYTES,
		};
	int count = message_receive_many(socket, messages, most, MSG_DONTWAIT | MSG_ERRQUEUE);
	return count < 0 ? 0 : (unsigned int)count;
}

void departure_forget(int socket)
{
	while (read_queue(socket, RECORD_BATCH) == RECORD_BATCH)
		;
}

/* The stamp in a message; all zero if there is none. */
static struct timespec stamp_of(struct msghdr *message)
{
	struct timespec stamp = {0, 0};

	for (struct cmsghdr *at = CMSG_FIRSTHDR(message); at != NULL;
	     at = message_next_control(message, at))
		if (at->cmsg_level == SOL_SOCKET && at->cmsg_type == SCM_TIMESTAMPING)
			memcpy(&stamp, CMSG_DATA(at), sizeof(stamp));
	return stamp;
}

/* The times of just as many stamps as were asked for, or false. */
static bool read_stamps(int socket, unsigned int wanted, int64_t before_ns, int64_t *times_ns)
{
	unsigned int count = read_queue(socket, wanted);
	bool all = count == wanted;

	for (unsigned int i = 0; i < count && all; i++) {
		struct timespec stamp = stamp_of(&messages[i].msg_hdr);
		all = clock_place_stamp(&stamp, before_ns, &times_ns[i]);
		before_ns = times_ns[i];
	}
	if (!all && count == wanted)
		departure_forget(socket);
	return all;
}

static void note(struct probe *probe, int64_t left_ns, int64_t doubt_ns)
{
	probe->sent_ns = left_ns;
	probe->sent_doubt_ns = (uint32_t)(doubt_ns < UINT32_MAX ? doubt_ns : UINT32_MAX);
}

/* Probes that left one after the other between two times. */
static void note_between(const struct departure *batch, unsigned int count, int64_t from_ns,
			 int64_t first_ns, int64_t each_ns)
{
	for (unsigned int i = 0; i < count; i++, first_ns += each_ns)
		note(batch[i].probe, first_ns, first_ns - from_ns);
}

/* Alike as they are, they left at even distances between two readings of the clock. */
static void note_by_clock(const struct departure *batch, unsigned int count, int64_t from_ns,
			  int64_t to_ns)
{
	int64_t each_ns = (to_ns - from_ns) / count;
	int64_t into_ns = each_ns * EIGHTHS_BEFORE_LEAVING / 8;

	if (into_ns > MOST_BEFORE_LEAVING_NS)
		into_ns = MOST_BEFORE_LEAVING_NS;
	note_between(batch, count, from_ns, from_ns + into_ns, each_ns);
}

/* Those without a stamp left at even distances between their neighbours that have one. */
static void note_by_stamps(const struct departure *batch, unsigned int count, int64_t from_ns,
			   int64_t to_ns, const int64_t *stamp_ns)
{
	unsigned int noted = 0;

	for (unsigned int i = 0; i < count; i++) {
		if (!batch[i].is_stamped)
			continue;
		int64_t each_ns = (*stamp_ns - from_ns) / (i - noted + 1);
		note_between(batch + noted, i - noted, from_ns, from_ns + each_ns, each_ns);
		note(batch[i].probe, *stamp_ns, 0);
		from_ns = *stamp_ns++;
		noted = i + 1;
	}
	if (noted < count)
		note_by_clock(batch + noted, count - noted, from_ns, to_ns);
}

void departure_note(int socket, const struct departure *batch, unsigned int count,
		    int64_t before_ns)
{
	int64_t stamps_ns[RECORD_BATCH];
	unsigned int wanted = 0;
	int64_t after_ns = clock_compare();

	for (unsigned int i = 0; i < count; i++)
		wanted += batch[i].is_stamped;
	if (wanted != 0)
		stamps_come = read_stamps(socket, wanted, before_ns, stamps_ns);
	if (wanted != 0 && stamps_come)
		note_by_stamps(batch, count, before_ns, after_ns, stamps_ns);
	else
		note_by_clock(batch, count, before_ns, after_ns);
}
