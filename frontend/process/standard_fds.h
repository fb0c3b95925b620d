/*
 * Puts the descriptors in order that the front end was started with, before anything else is done.
 */
#ifndef POSTERN_FRONTEND_PROCESS_STANDARD_FDS_H
#define POSTERN_FRONTEND_PROCESS_STANDARD_FDS_H

/* Opens those of the descriptors 0 to 2 that are closed, as /dev/null, and closes all others. Ends
 * the process where there is no /dev/null to open. */
void standard_fds(void);

#endif
