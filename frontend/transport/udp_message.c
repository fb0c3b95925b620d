/*
 * UDP probes as messages. Runs in the front end.
 */
#include "frontend/transport/udp_message.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

#include "common/wire.h"
#include "frontend/transport/ip_family.h"

enum {
	UDP_HEADER_BYTES = 8,
	FLOW_LABEL_MAX = 0xfffff,
	FLOWINFO = 11, /* IPV6_FLOWINFO of linux/in6.h, which the C library's headers lack */
};

static void add_control(struct msghdr *message, int level, int type, const void *value, size_t size)
{
	struct cmsghdr *control =
		(struct cmsghdr *)((uint8_t *)message->msg_control + message->msg_controllen);

	control->cmsg_level = level;
	control->cmsg_type = type;
	control->cmsg_len = CMSG_LEN(size);
	memcpy(CMSG_DATA(control), value, size);
	message->msg_controllen += CMSG_SPACE(size);
}

static bool has_source(const struct probe_request *request)
{
	static const uint8_t unspecified[sizeof(request->source)];

	return memcmp(request->source, unspecified, sizeof(unspecified)) != 0;
}

static void add_control_4(struct msghdr *message, const struct probe_request *request)
{
	int ttl = request->ttl, tos = request->tos;
	struct in_pktinfo source = {0};

	add_control(message, IPPROTO_IP, IP_TTL, &ttl, sizeof(ttl));
	add_control(message, IPPROTO_IP, IP_TOS, &tos, sizeof(tos));
	if (!has_source(request))
		return;
	memcpy(&source.ipi_spec_dst, request->source, sizeof(source.ipi_spec_dst));
	add_control(message, IPPROTO_IP, IP_PKTINFO, &source, sizeof(source));
}

static void add_control_6(struct msghdr *message, const struct probe_request *request,
			  bool flow_label)
{
	int ttl = request->ttl, tos = request->tos;
	uint32_t label_be = htonl(request->flow % FLOW_LABEL_MAX + 1); /* 0 means none */
	struct in6_pktinfo source = {.ipi6_ifindex = request->ifindex};

	add_control(message, IPPROTO_IPV6, IPV6_HOPLIMIT, &ttl, sizeof(ttl));
	add_control(message, IPPROTO_IPV6, IPV6_TCLASS, &tos, sizeof(tos));
	if (flow_label && request->flags & REQUEST_FLOW)
		add_control(message, IPPROTO_IPV6, FLOWINFO, &label_be, sizeof(label_be));
	if (!has_source(request))
		return;
	memcpy(&source.ipi6_addr, request->source, sizeof(source.ipi6_addr));
	add_control(message, IPPROTO_IPV6, IPV6_PKTINFO, &source, sizeof(source));
}

size_t udp_headers_bytes(const struct probe_request *request)
{
	return wire_family(request->family)->header_bytes + UDP_HEADER_BYTES;
}

size_t udp_payload_bytes(const struct probe_request *request)
{
	size_t headers_bytes = udp_headers_bytes(request);
	size_t least_bytes = request->flags & REQUEST_FLOW ? UDP_NONCE_BYTES : 0;

	if (request->size_bytes < headers_bytes + least_bytes)
		return least_bytes;
	return request->size_bytes - headers_bytes;
}

size_t udp_nonce_bytes(const struct probe_request *request)
{
	size_t payload_bytes = udp_payload_bytes(request);

	if (request->payload_byte != 0 && !request->random_payload &&
	    !(request->flags & REQUEST_FLOW))
		return 0;
	return payload_bytes < UDP_NONCE_BYTES ? payload_bytes : UDP_NONCE_BYTES;
}

void udp_message_compose(struct msghdr *message, struct udp_outgoing *memory,
			 const struct udp_probe *probe, const uint8_t *fill, bool flow_label)
{
	const struct probe_request *request = &probe->request;

	memory->parts[0] = (struct iovec){(void *)(uintptr_t)probe->nonce, probe->nonce_bytes};
	memory->parts[1] = (struct iovec){(void *)(uintptr_t)fill,
					  udp_payload_bytes(request) - probe->nonce_bytes};
	*message = (struct msghdr){
		.msg_name = &memory->destination,
		.msg_namelen =
			ip_family_to_socket(request->family, request->destination, probe->port,
					    request->ifindex, &memory->destination),
		.msg_iov = memory->parts,
		.msg_iovlen = 2,
		.msg_control = memory->control,
	};
	if (request->family == 4)
		add_control_4(message, request);
	else
		add_control_6(message, request, flow_label);
	if (request->flags & REQUEST_MARK)
		add_control(message, SOL_SOCKET, SO_MARK, &request->mark, sizeof(request->mark));
}

void udp_message_prepare(struct msghdr *message, struct udp_incoming *memory)
{
	memory->data_part = (struct iovec){memory->data, sizeof(memory->data)};
	*message = (struct msghdr){
		.msg_name = &memory->peer,
		.msg_namelen = sizeof(memory->peer),
		.msg_iov = &memory->data_part,
		.msg_iovlen = 1,
		.msg_control = memory->control,
		.msg_controllen = sizeof(memory->control),
	};
}
