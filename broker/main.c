/*
 * postern-broker: the privileged program. It opens the raw sockets, gives up all else that it could
 * do, and then serves probe requests on descriptor 0. It trusts no other process: its caller chose
 * its environment, descriptors and limits, and any program may be at the other end of the channel.
 *
 * This function is the start-up order. A step that fails ends the process with one line.
 */
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>

#include "broker/fatal.h"
#include "broker/lockdown.h"
#include "broker/privilege.h"
#include "broker/sanitise.h"
#include "broker/serve.h"
#include "broker/sockets.h"
#include "common/hello.h"
#include "policy/descriptors.h"

static void fill_hello(const struct broker_sockets *sockets, bool marks, struct record_hello *hello)
{
	*hello = (struct record_hello){
		.kind = RECORD_HELLO,
		.version = RECORD_VERSION,
		.features = sockets->features | (marks ? FEATURE_MARK : 0),
		.slots = RECORD_SLOTS,
		.batch = RECORD_BATCH,
	};
	memcpy(hello->held_port, sockets->held_port, sizeof(hello->held_port));
}

int main(void)
{
	struct broker_sockets sockets;
	struct record_hello hello;

	/* What the caller arranged has no effect on what follows. */
	sanitise();
	/* Without a front end there is nothing to do. */
	channel_check();
	/* The sockets belong to the invoking user, so they are opened as that user. */
	privilege_become_invoker();
	sockets_open(&sockets);
	bool keep_net_raw = privilege_may_mark() && sockets_can_mark();
	/* Nothing is opened from here on, so that no capability and no id is needed. */
	privilege_give_up(keep_net_raw);
	fill_hello(&sockets, keep_net_raw, &hello);
	/* The process can do nothing but use the sockets that it has. */
	lockdown();
	if (send(DESC_CHANNEL, &hello, sizeof(hello), MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		fatal(FATAL_CHANNEL, "send the hello", errno, "read from the channel");
	serve(sockets.held_port);
}

/* No user database is read. libcap-ng names these two functions for a flag that is not used here;
 * those of the C library would bring code that loads shared objects into a static program. */
struct passwd *getpwuid(uid_t uid)
{
	(void)uid;
	return NULL;
}

int initgroups(const char *user, gid_t group)
{
	(void)user;
	(void)group;
	return -1;
}
