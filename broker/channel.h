/*
 * The broker's end of the channel: whole messages of records in, events out. Distrusts the peer:
 * whatever is not exactly as common/record.h says ends the process.
 */
#ifndef POSTERN_BROKER_CHANNEL_H
#define POSTERN_BROKER_CHANNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/record.h"
#include "policy/step.h"

/* What came in one message. */
struct channel_message {
	enum record_kind kind; /* RECORD_PROBE or RECORD_CANCEL */
	size_t count;          /* records, 1..RECORD_BATCH */
	union {
		const struct record_probe *probes;
		const struct record_cancel *cancels;
	};
};

enum channel_result {
	CHANNEL_MESSAGE, /* *message is filled in, valid until the next call */
	CHANNEL_NOTHING, /* nothing there now */
	CHANNEL_CLOSED,  /* the front end is gone */
};

/* Checks that descriptor 0 is an AF_UNIX SOCK_SEQPACKET socket. */
bool channel_check(struct step_failure *failure);

/* Says hello. */
bool channel_hello(uint32_t features, struct step_failure *failure);

/* Reads one message. Ends the process if it breaks the rules. */
enum channel_result channel_read(struct channel_message *message);

/* Queues an event; there is room for it if channel_has_room() said so before the batch. */
void channel_event(const struct record_event *event, const uint8_t *extension);

/* Sends what is queued as far as the front end takes it. True if all of it is gone. */
bool channel_ready(void);

/* There is room for a batch of events from receiving and one from sending, as there always is when
 * channel_ready() has just said yes. */
bool channel_has_room(void);

/* Ends the process because the front end broke a rule: one line on stderr, EX_DATAERR. */
_Noreturn void channel_violation(const char *what);

#endif
