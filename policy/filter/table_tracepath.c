/*
 * What tracepath's prober may do beyond the packet personality: it writes for people and ends its
 * helper. Names were looked up before, or are by the helper (table_resolver.c).
 */
#include <asm/ioctls.h>
#include <signal.h>

#include "policy/filter/table.h"

static const struct entry entries[] = {
	ALLOW(ioctl, "how wide the terminal is", IS(1, TIOCGWINSZ)),
	ALLOW(pidfd_send_signal,
	      "ends the helper that looks up names: it holds a descriptor of no other process",
	      IS(1, SIGKILL)),
};

const struct table table_tracepath = {
	.name = "tracepath",
	.otherwise = SCMP_ACT_KILL_PROCESS,
	.entries = entries,
	.count = COUNT(entries),
	.includes = &table_packet,
};
