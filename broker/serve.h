/*
 * The broker's loop. Runs in the broker after lock-down, until the front end is gone.
 */
#ifndef POSTERN_BROKER_SERVE_H
#define POSTERN_BROKER_SERVE_H

#include <stdint.h>

#include "common/record.h"

_Noreturn void serve(const uint16_t held_port[RECORD_PROBE_IDS]);

#endif
