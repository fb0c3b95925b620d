/*
 * What postern doctor prints. Runs as the user.
 */
#ifndef POSTERN_FRONTEND_DOCTOR_REPORT_H
#define POSTERN_FRONTEND_DOCTOR_REPORT_H

#include <stdbool.h>
#include <stddef.h>

#include "frontend/doctor/causes.h"
#include "frontend/doctor/facts.h"

/* For people, and as one JSON object (postern(1)), on stdout. `works`: everything does. */
void report_text(const struct facts *facts, const struct cause *causes, size_t count, bool works);
void report_json(const struct facts *facts, const struct cause *causes, size_t count, bool works);

#endif
