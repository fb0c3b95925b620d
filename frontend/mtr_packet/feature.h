/*
 * What a probe needs to work here, and the names that check-support has for it. Pure functions; run
 * in mtr-packet.
 */
#ifndef POSTERN_FRONTEND_MTR_PACKET_FEATURE_H
#define POSTERN_FRONTEND_MTR_PACKET_FEATURE_H

#include <stdint.h>

#include "frontend/mtr_packet/request.h"

/* The feature (enum hello_features) for the family and protocol of a probe: one bit. */
uint32_t feature_of_probe(const struct probe_request *probe);

/* The features for a name of check-support: it works if one of them works. 0: an unknown name. */
uint32_t features_of_name(struct text name);

/* Why a probe cannot work where only `features` work: its family, or its protocol. */
struct fault check_features(const struct probe_request *probe, uint32_t features);

#endif
