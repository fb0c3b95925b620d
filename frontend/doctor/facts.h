/*
 * What postern doctor finds out before it looks for causes: the files, the rights of this process,
 * the network of this host, and what was tried. Runs as the user, without privilege and outside the
 * sandbox, since it reads files. Trusts the kernel.
 */
#ifndef POSTERN_FRONTEND_DOCTOR_FACTS_H
#define POSTERN_FRONTEND_DOCTOR_FACTS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "frontend/doctor/trial.h"

/* A program that is found by its name, as mtr and people find it. */
struct found_program {
	const char *name;
	const char *variable; /* which names it in place of PATH; NULL: PATH did */
	char *path;           /* NULL: there is none */
	bool is_postern;
};

enum { FOUND_PROGRAMS = 2 };

struct facts {
	uint32_t wanted; /* features: what is to work */

	/* The broker's file. */
	char path[4096];
	bool path_named;        /* by --broker */
	int file_error;         /* errno: there is none, or it cannot be run; 0: it can */
	char *closed_directory; /* above it, where this user may not enter; NULL: none */
	struct stat file;       /* all zero with closed_directory, or if there is none */
	bool has_capability;    /* cap_net_raw in the permitted set of the file */
	bool capability_effective;
	bool keeps_capabilities; /* the file system does */
	bool nosuid, noexec;     /* the mount is */

	/* The socket of a service manager. */
	const char *service;
	bool service_named; /* by POSTERN_BROKER */
	int service_error;  /* errno: there is none, or this user may not connect; 0: it can */
	struct stat service_file;

	/* This process. */
	bool has_proc;
	bool has_null; /* /dev/null is there and can be used */
	bool no_new_privs;
	bool bounded;             /* CAP_NET_RAW is not in the bounding set */
	bool is_user_namespace;   /* of its own */
	bool has_foreign_network; /* the network namespace belongs to another user namespace */
	char denied_calls[1024];  /* by a seccomp filter; empty: none */
	bool ping_closed;         /* ping_group_range does not have this user's groups */

	/* The network. */
	bool loopback_down;
	bool kernel_has_ipv6;
	const char *ipv6_switch; /* the sysctl that disables IPv6; NULL: none */
	bool has_route[2];       /* IPv4, IPv6: to other networks */

	struct found_program program[FOUND_PROGRAMS];

	struct trial trial;
	bool has_comparison;     /* `comparison` was possible */
	struct trial comparison; /* the same in a private network namespace */
};

/* `broker_path`: NULL, or the one that the user named. */
void facts_find(const char *broker_path, uint32_t wanted, struct facts *facts);

#endif
