/*
 * Names of addresses, looked up by a helper process with a sandbox of its own: several at once,
 * each once, and never waited for here. Runs in tracepath, which distrusts the helper as it
 * distrusts the name servers behind it: only printable characters of what comes back are kept.
 */
#ifndef POSTERN_FRONTEND_TRACEPATH_NAMES_H
#define POSTERN_FRONTEND_TRACEPATH_NAMES_H

#include <stdbool.h>
#include <stdint.h>

enum {
	/* RFC 1035 3.1: at most 253 characters, and the end. */
	NAME_BYTES = 256,
};

enum name_state {
	NAME_AWAITED,
	NAME_KNOWN,
	NAME_NONE, /* there is none, or there is no helper any more */
};

struct names;

/* Starts the helper. Call it before the sandbox. NULL with errno set on failure. */
struct names *names_start(void);
/* Ends the helper and waits for its end, which a lookup does not delay. NULL: does nothing. */
void names_end(struct names *names);

/* The descriptor to poll for POLLIN, −1 when the helper is gone. */
int names_fd(const struct names *names);
/* Reads what has arrived. */
void names_read(struct names *names);

/* The name of an address of `family` (4 or 6; `scope`: interface index if link-local), asked for at
 * the first call. With NAME_KNOWN *name is valid until names_end(). With NAME_AWAITED *asked_ns is
 * the `now_ns` of the first call. */
enum name_state names_get(struct names *names, uint8_t family, const uint8_t address[16],
			  uint32_t scope, int64_t now_ns, const char **name, int64_t *asked_ns);

/* Whether any lookup has ended, with or without a name. */
bool names_answered(const struct names *names);

#endif
