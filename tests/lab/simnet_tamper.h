/*
 * Makes answers wrong in the ways that the description asks for.
 */
#ifndef POSTERN_TESTS_LAB_SIMNET_TAMPER_H
#define POSTERN_TESTS_LAB_SIMNET_TAMPER_H

#include "tests/lab/simnet_packet.h"

/* Changes fields before the answer's own checksums are made: `header` and the transport part.
 * `probe` is what is answered; `is_error` says that the transport part is an ICMP error that quotes
 * it, with the extension structure at extension_offset (0: none). */
void tamper_fields(const struct net_tamper *tamper, const struct packet_view *probe, bool is_error,
		   size_t extension_offset, struct packet *packet, struct packet_header *header);

/* Spoils the finished packet. Returns the length to send, which may be less than its header says.
 */
size_t tamper_finished(const struct net_tamper *tamper, const struct packet_header *header,
		       struct packet *packet);

#endif
