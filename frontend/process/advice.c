/*
 * Shortens a cause to a line for the terminal. Runs in the front end. A cause that comes from the
 * broker has no control characters left (broker_process.c).
 */
#include "frontend/process/advice.h"

#include <string.h>

void advice_write(char line[ADVICE_BYTES], const char *why)
{
	static const char advice[] = " (see postern doctor)";
	const char *remedy = strstr(why, " (");
	size_t length = remedy ? (size_t)(remedy - why) : strlen(why);

	if (length > ADVICE_BYTES - sizeof(advice))
		length = ADVICE_BYTES - sizeof(advice);
	memcpy(line, why, length);
	memcpy(line + length, advice, sizeof(advice));
}
