/*
 * Gives each probe over the broker what tells it apart from all others: a held port (ICMP echo
 * identifier, SCTP source port) and a number there (echo sequence, SCTP initiate tag) that cannot
 * be predicted. Runs in the front end.
 */
#ifndef POSTERN_FRONTEND_TRANSPORT_PROBE_NUMBER_H
#define POSTERN_FRONTEND_TRANSPORT_PROBE_NUMBER_H

#include <stdint.h>

#include "common/record.h"

enum {
	PROBE_ID_ANY = -1,
};

struct probe_numbers;

/* NULL: no memory. */
struct probe_numbers *probe_numbers_open(void);
void probe_numbers_close(struct probe_numbers *numbers);

/* Sets probe_id and number of `probe`, by its protocol, to a pair that no other probe has. A flow
 * names the probe id that it must have, others pass PROBE_ID_ANY. Never fails, as long as at most
 * RECORD_SLOTS probes hold a number. `now_ns` is monotonic. */
void probe_number_take(struct probe_numbers *numbers, struct record_probe *probe, int probe_id,
		       int64_t now_ns);

/* Gives back the number of a probe that was answered or did not leave. */
void probe_number_free(struct probe_numbers *numbers, const struct record_probe *probe);

/* Gives back the number of a probe that may still be answered: no other probe gets it for ten
 * seconds, or less if very many rest. */
void probe_number_rest(struct probe_numbers *numbers, const struct record_probe *probe,
		       int64_t now_ns);

#endif
