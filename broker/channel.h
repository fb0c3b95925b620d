/*
 * The broker's end of the channel. Runs in the broker.
 */
#ifndef POSTERN_BROKER_CHANNEL_H
#define POSTERN_BROKER_CHANNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/record.h"

/* Reads one message. Returns how many requests it has, with *requests valid until the next call; 0
 * if there is no message. They are not validated, not even their kind. Ends the broker with status
 * 0 if the channel is closed. */
size_t channel_read(const struct record_probe **requests);

/* Queues a copy of a record: an answer, a long answer or a failure. If channel_flush() has returned
 * true, there is room for RECORD_BATCH records of any kind. */
void channel_queue(const void *record, size_t bytes);

/* Sends what is queued. False if something is left, because the front end does not read. */
bool channel_flush(void);

#endif
