/*
 * What the user reads when something does not work: one short line that names postern doctor.
 * Runs in the front end.
 */
#ifndef POSTERN_FRONTEND_PROCESS_ADVICE_H
#define POSTERN_FRONTEND_PROCESS_ADVICE_H

enum {
	/* With program name and newline at most 100 bytes: mtr draws on the same terminal. */
	ADVICE_BYTES = 86,
};

/* Writes `why`, which names a cause and perhaps a remedy in parentheses, without the remedy: only
 * postern doctor has seen enough to give one. */
void advice_write(char line[ADVICE_BYTES], const char *why);

#endif
