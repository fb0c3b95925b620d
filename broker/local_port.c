/*
 * Source ports of a user's own choice. Runs in the broker. Such a port was not known when the raw
 * sockets' filters were made exact, so an ordinary UDP socket bound to it hears the answers: data,
 * and through the error queue just the ICMP errors that the kernel has found to be its own.
 */
#include "broker/local_port.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>

#include "broker/clock.h"
#include "broker/descriptors.h"
#include "broker/large_table.h"
#include "broker/probe_table.h"
#include "broker/receive.h"
#include "common/message.h"
#include "common/wire.h"

enum {
	BATCH = 16,
	/* The quoted payload, and an extension structure behind it. */
	DATA_BYTES = 2048,
	CONTROL_BYTES = 512,
};

static uint16_t held[LOCAL_PORTS];
static int held_count;

/* The sockets are of one family; it decides how an address is put (sockets.c). */
static int bind_port(int socket, uint16_t port)
{
	struct sockaddr_in6 any6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
	struct sockaddr_in any4 = {.sin_family = AF_INET, .sin_port = htons(port)};

	if (bind(socket, (struct sockaddr *)&any6, sizeof(any6)) == 0)
		return 0;
	if (errno != EAFNOSUPPORT)
		return errno;
	return bind(socket, (struct sockaddr *)&any4, sizeof(any4)) == 0 ? 0 : errno;
}

int local_port_hold(uint16_t port)
{
	for (int i = 0; i < held_count; i++)
		if (held[i] == port)
			return 0;
	if (held_count == LOCAL_PORTS)
		return EMFILE;
	int error = bind_port(DESC_LOCAL_FIRST + held_count, port);
	if (error == 0)
		held[held_count++] = port;
	return error;
}

int local_port_count(void)
{
	return held_count;
}

/* The family and bytes of an address, whatever clothes it wears. */
static bool read_address(const struct sockaddr_in6 *name, uint8_t *family, uint8_t address[16],
			 uint16_t *port)
{
	memset(address, 0, 16);
	if (name->sin6_family == AF_INET) {
		const struct sockaddr_in *in = (const void *)name;
		*family = 4;
		memcpy(address, &in->sin_addr, 4);
		*port = ntohs(in->sin_port);
		return true;
	}
	if (name->sin6_family != AF_INET6)
		return false;
	*port = ntohs(name->sin6_port);
	if (IN6_IS_ADDR_V4MAPPED(&name->sin6_addr)) {
		*family = 4;
		memcpy(address, name->sin6_addr.s6_addr + 12, 4);
		return true;
	}
	*family = 6;
	memcpy(address, &name->sin6_addr, 16);
	return true;
}

/* What a message from `socket` says of the probe's identity. */
static bool read_identity(int socket, const struct sockaddr_in6 *name,
			  struct probe_identity *sought)
{
	memset(sought, 0, sizeof(*sought));
	sought->protocol = IPPROTO_UDP;
	sought->source_port = held[socket - DESC_LOCAL_FIRST];
	return read_address(name, &sought->family, sought->destination, &sought->port);
}

/* The probe that an error is about, by ports and, where it can be seen, by the two payload bytes
 * that tell apart probes with the same ports. The kernel has found the socket by what is quoted. */
static struct probe *find_quoted(int socket, const struct sockaddr_in6 *name, const uint8_t *quoted,
				 size_t quoted_bytes)
{
	struct probe_identity sought;

	if (!read_identity(socket, name, &sought))
		return NULL;
	sought.any_source = true;
	struct probe *probe = probe_find_ports(&sought, NULL);
	if (probe == NULL || quoted_bytes < 2)
		return probe;
	while (probe != NULL && probe->is_tuned && probe->tuned_word != wire_get16(quoted))
		probe = probe_find_ports(&sought, probe);
	return probe;
}

/* The address of this host that a datagram was sent to; NULL if the kernel has not told it. An IPv6
 * socket tells an IPv4 address in IPv6 clothes. */
static const uint8_t *local_address(const struct receive_control *control, uint8_t family)
{
	if (family == 6 || control->local4 != NULL)
		return family == 6 ? control->local6 : control->local4;
	return control->local6 != NULL ? control->local6 + 12 : NULL;
}

/* The probe that a datagram answers: it must have been sent to the address that the probe came
 * from. */
static struct probe *find_answered(int socket, const struct sockaddr_in6 *name,
				   const struct receive_control *control)
{
	struct probe_identity sought;

	if (!read_identity(socket, name, &sought))
		return NULL;
	const uint8_t *local = local_address(control, sought.family);
	if (local == NULL)
		return NULL;
	wire_copy_address(sought.source, local, wire_family(sought.family));
	return probe_find_ports(&sought, NULL);
}

static void take_extension(const struct sock_extended_err *error, const uint8_t *data, size_t bytes,
			   struct record_event *event, const uint8_t **extension)
{
	size_t offset = error->ee_rfc4884.len;

	if (offset == 0 || offset >= bytes ||
	    (error->ee_rfc4884.flags & SO_EE_RFC4884_FLAG_INVALID) != 0)
		return;
	size_t extension_bytes = bytes - offset;
	event->known |= EVENT_EXTENSION_TOLD;
	if (extension_bytes > RECORD_EXTENSION_BYTES) {
		event->known |= EVENT_EXTENSION_CUT;
		extension_bytes = RECORD_EXTENSION_BYTES;
	}
	event->extension_bytes = (uint16_t)extension_bytes;
	*extension = data + offset;
}

static void handle_error(int socket, const struct mmsghdr *message,
			 const struct receive_control *control)
{
	const struct sock_extended_err *error = control->error;
	const uint8_t *data = message->msg_hdr.msg_iov->iov_base;
	struct record_event event = {.what = EVENT_ICMP};
	const uint8_t *extension = NULL;
	uint8_t family;
	uint16_t port;

	if (error == NULL || control->error_bytes < sizeof(*error) + sizeof(struct sockaddr_in) ||
	    (error->ee_origin != SO_EE_ORIGIN_ICMP && error->ee_origin != SO_EE_ORIGIN_ICMP6))
		return;
	struct probe *probe =
		find_quoted(socket, message->msg_hdr.msg_name, data, message->msg_len);
	if (probe == NULL)
		return;
	const struct wire_family *wire = wire_family(probe->identity.family);
	event.icmp_type = error->ee_type;
	event.icmp_code = error->ee_code;
	if (event.icmp_type == wire->packet_too_big &&
	    (wire->packet_too_big_code < 0 || event.icmp_code == wire->packet_too_big_code))
		event.mtu_bytes = error->ee_info;
	struct sockaddr_in6 offender;
	memset(&offender, 0, sizeof(offender));
	size_t offender_bytes = control->error_bytes - sizeof(*error);
	memcpy(&offender, SO_EE_OFFENDER(error),
	       offender_bytes < sizeof(offender) ? offender_bytes : sizeof(offender));
	if (!read_address(&offender, &family, event.responder, &port) ||
	    family != probe->identity.family)
		return;
	if (control->has_ttl) {
		event.known |= EVENT_REPLY_TTL;
		event.reply_ttl = control->ttl;
	}
	take_extension(error, data, message->msg_len, &event, &extension);
	receive_report(probe, &event, extension, control);
}

static void handle_data(int socket, const struct mmsghdr *message,
			const struct receive_control *control)
{
	struct record_event event = {.what = EVENT_REPLY};
	uint8_t family;
	uint16_t port;
	struct probe *probe = find_answered(socket, message->msg_hdr.msg_name, control);

	if (probe == NULL ||
	    !read_address(message->msg_hdr.msg_name, &family, event.responder, &port))
		return;
	if (control->has_ttl) {
		event.known |= EVENT_REPLY_TTL;
		event.reply_ttl = control->ttl;
	}
	receive_report(probe, &event, NULL, control);
}

static void receive(int socket, bool from_error_queue)
{
	static struct mmsghdr messages[BATCH];
	static struct iovec pieces[BATCH];
	static struct sockaddr_in6 names[BATCH];
	static LARGE_TABLE uint8_t data[BATCH][DATA_BYTES];
	static LARGE_TABLE _Alignas(struct cmsghdr) uint8_t controls[BATCH][CONTROL_BYTES];
	int flags = MSG_DONTWAIT | (from_error_queue ? MSG_ERRQUEUE : 0);

	for (int i = 0; i < BATCH; i++) {
		pieces[i] = (struct iovec){data[i], DATA_BYTES};
		messages[i].msg_hdr = (struct msghdr){
			.msg_name = &names[i],
			.msg_namelen = sizeof(names[i]),
			.msg_iov = &pieces[i],
			.msg_iovlen = 1,
			.msg_control = controls[i],
			.msg_controllen = CONTROL_BYTES,
		};
	}
	int count = message_receive_many(socket, messages, BATCH, flags);
	if (count <= 0)
		return;
	clock_compare();
	for (int i = 0; i < count; i++) {
		struct receive_control control;
		receive_control(&messages[i].msg_hdr, &control);
		if (from_error_queue)
			handle_error(socket, &messages[i], &control);
		else
			handle_data(socket, &messages[i], &control);
	}
}

void local_port_receive(int socket)
{
	receive(socket, true);
	receive(socket, false);
}
