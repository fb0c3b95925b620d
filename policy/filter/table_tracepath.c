/*
 * What tracepath may do beyond mtr-packet: it writes for people. Names were looked up before, or
 * are by the helper (table_names.c).
 */
#include <asm/ioctls.h>

#include "policy/filter/table.h"

static const struct entry entries[] = {
	ALLOW(ioctl, "how wide the terminal is", IS(1, TIOCGWINSZ)),
};

const struct table table_tracepath = {
	.name = "tracepath",
	.otherwise = SCMP_ACT_KILL_PROCESS,
	.entries = entries,
	.count = COUNT(entries),
	.includes = &table_mtr_packet,
};
