/*
 * Reads what an answer says that the broker passed on: checksum, ICMP type, quoted header, next-hop
 * MTU, extensions. Pure functions in the unprivileged front end. The broker has made sure that it
 * answers an open probe; its bytes may nevertheless be forged.
 */
#ifndef POSTERN_FRONTEND_TRANSPORT_ANSWER_H
#define POSTERN_FRONTEND_TRANSPORT_ANSWER_H

#include <stdbool.h>

#include "common/record.h"
#include "frontend/transport/transport.h"

/* Fills `result`, all but rtt_ns, from `answer`, whose first answer->data_bytes bytes are at `data`
 * and answer `probe`. result->extension is NULL or `extension`. Returns false if the packet
 * is damaged, or neither an echo reply nor an ICMP error, and has to be ignored. */
bool answer_read(const struct record_answer *answer, const uint8_t *data,
		 const struct record_probe *probe, struct probe_result *result,
		 struct extension_info *extension);

#endif
