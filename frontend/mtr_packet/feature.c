/*
 * What a probe needs to work here, and the names that check-support has for it. Pure functions; run
 * in mtr-packet.
 */
#include "frontend/mtr_packet/feature.h"

#include <netinet/in.h>

#include "common/record.h"

#define BOTH_FAMILIES(bits) ((bits) | (uint32_t)(bits) << FEATURE_IPV6_SHIFT)

static const struct {
	struct text name;
	uint32_t any_of;
} features_by_name[] = {
	{TEXT("send-probe"), BOTH_FAMILIES(FEATURE_PROTOCOLS)},
	{TEXT("ip-4"), FEATURE_PROTOCOLS},
	{TEXT("ip-6"), FEATURE_PROTOCOLS << FEATURE_IPV6_SHIFT},
	{TEXT("icmp"), BOTH_FAMILIES(FEATURE_ICMP)},
	{TEXT("udp"), BOTH_FAMILIES(FEATURE_UDP)},
	{TEXT("tcp"), BOTH_FAMILIES(FEATURE_TCP)},
	{TEXT("sctp"), BOTH_FAMILIES(FEATURE_SCTP)},
	{TEXT("mark"), FEATURE_MARK},
	{TEXT("local-device"), BOTH_FAMILIES(FEATURE_PROTOCOLS)},
	{TEXT("details"), BOTH_FAMILIES(FEATURE_PROTOCOLS)},
	{TEXT("dont-fragment"), BOTH_FAMILIES(FEATURE_PROTOCOLS)},
	{TEXT("flow"), BOTH_FAMILIES(FEATURE_PROTOCOLS & ~FEATURE_TCP)},
};

uint32_t features_of_name(struct text name)
{
	for (size_t i = 0; i < sizeof(features_by_name) / sizeof(features_by_name[0]); i++)
		if (text_equals(features_by_name[i].name, name))
			return features_by_name[i].any_of;
	return 0;
}

static uint32_t feature_of_protocol(uint8_t protocol)
{
	switch (protocol) {
	case IPPROTO_UDP:
		return FEATURE_UDP;
	case IPPROTO_TCP:
		return FEATURE_TCP;
	case IPPROTO_SCTP:
		return FEATURE_SCTP;
	default:
		return FEATURE_ICMP;
	}
}

uint32_t feature_of_probe(const struct probe_request *probe)
{
	return feature_of_protocol(probe->protocol)
	       << (probe->family == 6 ? FEATURE_IPV6_SHIFT : 0);
}

struct fault check_features(const struct probe_request *probe, uint32_t features)
{
	uint32_t of_family = probe->family == 6 ? features >> FEATURE_IPV6_SHIFT : features;

	if ((of_family & FEATURE_PROTOCOLS) == 0)
		return (struct fault){"ip-version", "not-supported"};
	if ((features & feature_of_probe(probe)) == 0)
		return (struct fault){"protocol", "not-supported"};
	return (struct fault){NULL, NULL};
}
