/*
 * The search for the largest size that passes a black hole. Runs in the unprivileged front end as a
 * part of the tracing engine; what the network does to its probes can make it wrong about the size,
 * nothing else.
 */
#include "frontend/tracepath/search.h"

#include "frontend/process/clock.h"

/* A router that sends one error a second can send the next after this. */
#define PAUSE_NS (INT64_C(1100) * NS_PER_MS)

enum {
	/* More probes than this to say that one size is lost: the path is too lossy. */
	MOST_TRIES = 32,
};

static const uint16_t plateaus[] = {
	68,   128,  256,  296,  508,  552,  576,  1006, 1024,  1200,  1240, 1280, 1300,
	1320, 1340, 1350, 1358, 1360, 1372, 1376, 1380, 1390,  1392,  1400, 1408, 1412,
	1420, 1428, 1430, 1436, 1440, 1446, 1448, 1450, 1452,  1454,  1456, 1458, 1460,
	1462, 1464, 1468, 1472, 1476, 1480, 1484, 1488, 1492,  1496,  1500, 2002, 2048,
	4352, 8166, 8192, 8900, 8950, 8996, 9000, 9180, 17914, 32000, 65535};

enum { PLATEAUS = sizeof plateaus / sizeof plateaus[0] };

uint32_t plateau_below(uint32_t bytes)
{
	for (unsigned i = PLATEAUS; i-- > 0;)
		if (plateaus[i] < bytes)
			return plateaus[i];
	return plateaus[0];
}

/* The middle one of the plateaus between what passes and what does not. Without any, one more than
 * a plateau that passes, since the plateau is mostly the size itself; then halves. */
static uint32_t middle(const struct search *search)
{
	unsigned first = 0;
	unsigned last;

	while (first < PLATEAUS && plateaus[first] <= search->passes)
		first++;
	for (last = first; last < PLATEAUS && plateaus[last] < search->fails; last++)
		;
	if (last > first)
		return plateaus[first + (last - first) / 2];
	if (first > 0 && plateaus[first - 1] == search->passes)
		return search->passes + 1;
	return search->passes + (search->fails - search->passes) / 2;
}

/* How many probes must be lost in a row before loss alone explains it with this probability at
 * most. The loss of one probe is estimated by the rule of succession. */
static unsigned tries_needed(const struct loss *loss, double doubt)
{
	double lost = (loss->sent - loss->answered + 1.0) / (loss->sent + 2.0);
	double chance = 1;
	unsigned tries = 0;

	for (; chance > doubt && tries <= MOST_TRIES; tries++)
		chance *= lost;
	return tries;
}

static void ask(struct search *search, enum search_stage stage, uint32_t size)
{
	search->stage = stage;
	search->size = size;
	search->tries = 0;
}

static void ask_middle(struct search *search, int64_t now_ns)
{
	if (search->fails - search->passes > 1) {
		ask(search, SEARCH_SIZES, middle(search));
	} else {
		search->stage = SEARCH_PAUSE;
		search->last_ns = now_ns;
	}
}

void search_start(struct search *search, uint32_t small, uint32_t full, const struct loss *loss)
{
	*search = (struct search){.full = full, .passes = small, .fails = full, .loss = *loss};
	ask(search, SEARCH_FULL, full);
}

/* The size in question counts as lost. Returns whether that was the last question. */
static bool size_lost(struct search *search, int64_t now_ns)
{
	switch (search->stage) {
	case SEARCH_AGAIN:
		if (search->fails == search->full)
			return true;
		ask(search, SEARCH_FULL_AGAIN, search->full);
		return false;
	case SEARCH_FULL_AGAIN:
		return true;
	default:
		search->fails = search->size;
		ask_middle(search, now_ns);
		return false;
	}
}

static enum search_action over(struct search *search, enum search_action action)
{
	search->stage = SEARCH_IDLE;
	return action;
}

enum search_action search_next(struct search *search, int64_t now_ns, int64_t lost_after_ns,
			       int64_t *wake_ns)
{
	if (search->passes >= search->full)
		return over(search, SEARCH_NO_HOLE);
	/* A size passed while another one was in question. */
	if (search->stage == SEARCH_SIZES && search->size <= search->passes)
		ask_middle(search, now_ns);
	if (search->stage == SEARCH_PAUSE) {
		*wake_ns = search->last_ns + PAUSE_NS;
		if (now_ns < *wake_ns)
			return SEARCH_WAIT;
		ask(search, SEARCH_AGAIN, search->fails);
	}
	if (search->tries == 0)
		return SEARCH_SEND;
	*wake_ns = search->last_ns + lost_after_ns;
	if (now_ns < *wake_ns)
		return SEARCH_WAIT;
	unsigned needed = tries_needed(&search->loss, search->stage == SEARCH_SIZES ? 1e-2 : 1e-3);

	if (needed > MOST_TRIES)
		return over(search, SEARCH_TOO_LOSSY);
	if (search->tries < needed)
		return SEARCH_SEND;
	if (size_lost(search, now_ns))
		return over(search, SEARCH_FOUND);
	*wake_ns = now_ns;
	return SEARCH_WAIT;
}

void search_sent(struct search *search, int64_t now_ns)
{
	search->tries++;
	search->last_ns = now_ns;
}

void search_passed(struct search *search, uint32_t bytes)
{
	if (bytes == search->size) {
		search->loss.sent += search->tries;
		search->loss.answered++;
	}
	if (bytes <= search->passes)
		return;
	search->passes = bytes;
	/* It was lost before by a rate limit or by chance: so may have been others. */
	if (bytes >= search->fails)
		search->fails = search->full;
	ask(search, SEARCH_SIZES, bytes);
}
