/*
 * postern-broker: the privileged program. It opens the raw sockets, gives up everything else it
 * could do, and then serves probe requests on descriptor 0. It trusts nobody: whoever started it
 * chose its environment, descriptors and limits, and any program may be at the channel's other end.
 *
 * This function is the start-up order. A step that fails ends the process with one line.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "broker/channel.h"
#include "broker/descriptors.h"
#include "broker/identity.h"
#include "broker/last_line.h"
#include "broker/probe_table.h"
#include "broker/serve.h"
#include "broker/sockets.h"
#include "policy/privilege.h"
#include "policy/relro.h"

static struct broker_sockets sockets;

static bool protect_constants(struct step_failure *failure)
{
	return relro_protect() || step_failed(failure, "make constants read-only", NULL);
}

static bool seed_tables(struct step_failure *failure)
{
	uint64_t secret[2];

	if (getrandom(secret, sizeof(secret), 0) != (ssize_t)sizeof(secret))
		return step_failed(failure, "get random numbers", NULL);
	probe_table_start(secret[0]);
	identity_start(&sockets.held, secret[1]);
	return true;
}

/* The capability stays only where routing marks need it. */
static bool reduce_capabilities(struct step_failure *failure)
{
	return privilege_reduce_capabilities((sockets.features & FEATURE_MARK) != 0, failure);
}

static bool start(struct step_failure *failure)
{
	return privilege_sanitise(DESC_COUNT, failure) && protect_constants(failure) &&
	       channel_check(failure) && privilege_raise_net_raw(failure) &&
	       sockets_open(&sockets, failure) && privilege_give_up_identity(failure) &&
	       reduce_capabilities(failure) && seed_tables(failure) &&
	       privilege_limits(SERVE_POLLED, failure) && seccomp_enter_broker(failure) &&
	       channel_hello(sockets.features, failure);
}

/* One line that says which step failed, why, and what to do. */
static void explain(const struct step_failure *failure)
{
	char line[512];
	bool has_error = failure->error != 0;
	bool has_remedy = failure->remedy != NULL;
	int length = snprintf(line, sizeof(line), "postern-broker: %s%s%s%s%s%s\n", failure->step,
			      has_error ? ": " : "", has_error ? strerror(failure->error) : "",
			      has_remedy ? " (" : "", has_remedy ? failure->remedy : "",
			      has_remedy ? ")" : "");

	if (length >= (int)sizeof(line))
		length = (int)sizeof(line) - 1;
	if (length > 0)
		last_line(line, (size_t)length);
}

int main(void)
{
	struct step_failure failure = {.step = NULL};

	if (start(&failure))
		serve();
	explain(&failure);
	_exit(failure.exit_status);
}
