/*
 * UDP and ICMP echo probes as messages. Runs in the front end.
 */
#include "frontend/transport/dgram_message.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

#include "common/wire.h"
#include "frontend/transport/ip_family.h"

enum {
	HEADER_BYTES = 8, /* of UDP, and of an ICMP echo */
	FLOWINFO = 11,    /* IPV6_FLOWINFO of linux/in6.h, which the C library's headers lack */
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

static void add_control_4(struct msghdr *message, const struct probe_request *request)
{
	int ttl = request->ttl, tos = request->tos;
	struct in_pktinfo source = {0};

	add_control(message, IPPROTO_IP, IP_TTL, &ttl, sizeof(ttl));
	add_control(message, IPPROTO_IP, IP_TOS, &tos, sizeof(tos));
	if (ip_family_is_unspecified(request->source))
		return;
	memcpy(&source.ipi_spec_dst, request->source, sizeof(source.ipi_spec_dst));
	add_control(message, IPPROTO_IP, IP_PKTINFO, &source, sizeof(source));
}

static void add_control_6(struct msghdr *message, const struct probe_request *request,
			  bool flow_label)
{
	int ttl = request->ttl, tos = request->tos;
	uint32_t label_be = htonl(ip_family_flow_label(request->flow));
	struct in6_pktinfo source = {.ipi6_ifindex = request->ifindex};

	add_control(message, IPPROTO_IPV6, IPV6_HOPLIMIT, &ttl, sizeof(ttl));
	add_control(message, IPPROTO_IPV6, IPV6_TCLASS, &tos, sizeof(tos));
	if (flow_label && request->flags & REQUEST_FLOW)
		add_control(message, IPPROTO_IPV6, FLOWINFO, &label_be, sizeof(label_be));
	if (ip_family_is_unspecified(request->source))
		return;
	memcpy(&source.ipi6_addr, request->source, sizeof(source.ipi6_addr));
	add_control(message, IPPROTO_IPV6, IPV6_PKTINFO, &source, sizeof(source));
}

static size_t headers_bytes_of(const struct probe_request *request)
{
	return wire_family(request->family)->header_bytes + HEADER_BYTES;
}

static size_t shown_bytes_of(const struct probe_request *request)
{
	return request->protocol == IPPROTO_ICMP ? HEADER_BYTES : 0;
}

size_t dgram_hidden_bytes(const struct probe_request *request)
{
	return headers_bytes_of(request) - shown_bytes_of(request);
}

size_t dgram_payload_bytes(const struct probe_request *request)
{
	size_t headers_bytes = headers_bytes_of(request);
	size_t least_bytes = request->flags & REQUEST_FLOW ? DGRAM_NONCE_BYTES : 0;

	if (request->size_bytes < headers_bytes + least_bytes)
		return least_bytes;
	return request->size_bytes - headers_bytes;
}

size_t dgram_nonce_bytes(const struct probe_request *request)
{
	size_t payload_bytes = dgram_payload_bytes(request);

	if (request->payload_byte != 0 && !request->random_payload &&
	    !(request->flags & REQUEST_FLOW))
		return 0;
	return payload_bytes < DGRAM_NONCE_BYTES ? payload_bytes : DGRAM_NONCE_BYTES;
}

/* struct iovec has no const. */
static struct iovec part(const uint8_t *bytes, size_t length)
{
	return (struct iovec){(void *)(uintptr_t)bytes, length};
}

void dgram_message_compose(struct msghdr *message, struct dgram_outgoing *memory,
			   const struct dgram_probe *probe, const uint8_t *fill, bool flow_label)
{
	const struct probe_request *request = &probe->request;

	memory->parts[0] = part(probe->header, shown_bytes_of(request));
	memory->parts[1] = part(probe->nonce, probe->nonce_bytes);
	memory->parts[2] = part(fill, dgram_payload_bytes(request) - probe->nonce_bytes);
	*message = (struct msghdr){
		.msg_name = &memory->destination,
		.msg_namelen =
			ip_family_to_socket(request->family, request->destination, probe->number,
					    request->ifindex, &memory->destination),
		.msg_iov = memory->parts,
		.msg_iovlen = 3,
		.msg_control = memory->control,
	};
	if (request->family == 4)
		add_control_4(message, request);
	else
		add_control_6(message, request, flow_label);
	if (request->flags & REQUEST_MARK)
		add_control(message, SOL_SOCKET, SO_MARK, &request->mark, sizeof(request->mark));
}

void dgram_message_prepare(struct msghdr *message, struct dgram_incoming *memory)
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
