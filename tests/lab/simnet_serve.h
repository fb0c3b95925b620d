/*
 * Plays the described internet on one interface.
 */
#ifndef POSTERN_TESTS_LAB_SIMNET_SERVE_H
#define POSTERN_TESTS_LAB_SIMNET_SERVE_H

#include "tests/lab/simnet_loop.h"
#include "tests/lab/simnet_net.h"

/* Serves until it is time to end. Returns the exit status. */
int serve_net(struct net *net, const char *interface, const struct loop_options *options);

#endif
