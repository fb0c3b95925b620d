/*
 * Tells when probes left. Runs in the broker. The kernel's stamps come back through the error queue
 * of the socket that sent: times and numbers alone, no byte of any packet
 * (SOF_TIMESTAMPING_OPT_TSONLY), and since IP_RECVERR is never set there, nothing else. A stamp
 * counts only if it lies within the system call that sent its packet; if any does not, or is
 * missing, the whole batch is told by the clock alone.
 */
#include "broker/departure.h"

/* Before the kernel's headers, which need struct timespec. */
#include <time.h>

#include <linux/errqueue.h>
#include <linux/net_tstamp.h>
#include <netinet/in.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>

#include "broker/clock.h"
#include "broker/large_table.h"
#include "common/message.h"
#include "common/record.h"

/* When the packet goes to its device's queue. Drivers can stamp later than that, but not all of
 * them do, while this is the same for all devices. Where one device sends through another, as a
 * bridge does, there are several stamps for a packet, all with the packet's number
 * (SOF_TIMESTAMPING_OPT_ID): the first counts. */
const uint32_t departure_flags = SOF_TIMESTAMPING_TX_SCHED;

/* From <linux/net_tstamp.h> of newer kernels (6.12): no second stamp beside SO_TIMESTAMPNS with
 * what is received. */
enum { RECEIVED_UNSTAMPED = 1 << 17 };

enum {
	/* Holds a struct scm_timestamping and what IP_RECVERR and IPV6_RECVERR would say, with
	 * SO_TIMESTAMPNS and IPV6_PKTINFO beside them. */
	CONTROL_BYTES = 256,
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
	int flags =
		SOF_TIMESTAMPING_SOFTWARE | SOF_TIMESTAMPING_OPT_TSONLY | SOF_TIMESTAMPING_OPT_ID;
	int sparing = flags | RECEIVED_UNSTAMPED;

	if (setsockopt(socket, SOL_SOCKET, SO_TIMESTAMPING, &sparing, sizeof(sparing)) == 0)
		return 0;
	return setsockopt(socket, SOL_SOCKET, SO_TIMESTAMPING, &flags, sizeof(flags));
}

bool departure_is_stamped(void)
{
	return stamps_come;
}

/* How many messages the error queue had; `most`: it may have more. */
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

/* The stamp in a message, and the number of the packet among those that were to be stamped. */
static bool read_stamp(struct msghdr *message, struct timespec *stamp, uint32_t *number)
{
	struct sock_extended_err error;
	bool has_stamp = false, has_number = false;

	*number = 0;
	for (struct cmsghdr *at = CMSG_FIRSTHDR(message); at != NULL;
	     at = message_next_control(message, at)) {
		if (at->cmsg_level == SOL_SOCKET && at->cmsg_type == SCM_TIMESTAMPING) {
			memcpy(stamp, CMSG_DATA(at), sizeof(*stamp));
			has_stamp = true;
		} else if ((at->cmsg_level == IPPROTO_IP && at->cmsg_type == IP_RECVERR) ||
			   (at->cmsg_level == IPPROTO_IPV6 && at->cmsg_type == IPV6_RECVERR)) {
			memcpy(&error, CMSG_DATA(at), sizeof(error));
			*number = error.ee_data;
			has_number = true;
		}
	}
	return has_stamp && has_number;
}

/* What has been read of a batch's stamps. */
struct stamps {
	int64_t times_ns[RECORD_BATCH];
	unsigned int count;
	uint32_t last_number;
	bool in_a_row;
};

/* Leaves out what other devices said of the same packet, and what was said of earlier batches
 * before this one began. */
static void add_stamp(struct stamps *stamps, const struct timespec *stamp, uint32_t number,
		      int64_t before_ns)
{
	int64_t time_ns;
	bool is_first = stamps->count == 0;

	if (!clock_place_stamp(stamp, is_first ? before_ns : stamps->times_ns[stamps->count - 1],
			       &time_ns))
		return;
	if (!is_first && (int32_t)(number - stamps->last_number) <= 0)
		return;
	if (stamps->count == RECORD_BATCH || (!is_first && number != stamps->last_number + 1)) {
		stamps->in_a_row = false;
		return;
	}
	stamps->times_ns[stamps->count++] = time_ns;
	stamps->last_number = number;
}

/* False if there is not just one for each of those that were to be stamped. */
static bool read_stamps(int socket, unsigned int wanted, int64_t before_ns, struct stamps *stamps)
{
	/* One each, or two through a bridge, and then it is empty. */
	unsigned int most = 2 * wanted < RECORD_BATCH ? 2 * wanted + 1 : RECORD_BATCH;
	unsigned int count;

	stamps->count = 0;
	stamps->in_a_row = true;
	do {
		count = read_queue(socket, most);
		for (unsigned int i = 0; i < count; i++) {
			struct timespec stamp;
			uint32_t number;
			if (read_stamp(&messages[i].msg_hdr, &stamp, &number))
				add_stamp(stamps, &stamp, number, before_ns);
		}
	} while (count == most);
	return stamps->in_a_row && stamps->count == wanted;
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
	struct stamps stamps;
	unsigned int wanted = 0;
	int64_t after_ns = clock_compare();

	for (unsigned int i = 0; i < count; i++)
		wanted += batch[i].is_stamped;
	if (wanted != 0)
		stamps_come = read_stamps(socket, wanted, before_ns, &stamps);
	if (wanted != 0 && stamps_come)
		note_by_stamps(batch, count, before_ns, after_ns, stamps.times_ns);
	else
		note_by_clock(batch, count, before_ns, after_ns);
}
