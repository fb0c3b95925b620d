/*
 * Which programs the names mtr-packet and tracepath lead to. Runs in postern doctor, as the user,
 * and starts what it finds, as the user's mtr would.
 */
#ifndef POSTERN_FRONTEND_DOCTOR_PROGRAM_H
#define POSTERN_FRONTEND_DOCTOR_PROGRAM_H

#include "frontend/doctor/facts.h"

/* Finds `name` in PATH, or what the environment variable names instead, if `variable` is not NULL
 * and set. The path is allocated. It is Postern's if it is this program, or one or a script that
 * answers --version as Postern does. */
struct found_program program_find(const char *name, const char *variable);

/* The directory of this program, absolute and allocated; NULL: unknown. */
char *program_own_directory(void);

#endif
