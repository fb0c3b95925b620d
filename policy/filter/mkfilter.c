/*
 * Turns a table of allowed system calls into a BPF program, as a C array for the program that
 * installs it. Runs while building; it trusts the tables that it is linked with.
 *
 * usage: mkfilter NAME MACHINE > filter_NAME.h
 *
 * MACHINE is what the filter is for, by the first name of the compiler's triple (gcc -dumpmachine).
 * libseccomp compiles the comparisons here and not at run time, so that nothing privileged links
 * it.
 */
#include <byteswap.h>
#include <endian.h>
#include <err.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "policy/filter/table.h"

static const struct table *const tables[] = {
	&table_broker,
	&table_mtr_packet,
	&table_tracepath,
	&table_names,
};

/* libseccomp's names of machines that the compiler calls otherwise. */
static const struct {
	const char *compiler, *libseccomp;
} machines[] = {
	{"i386", "x86"},    {"i486", "x86"},        {"i586", "x86"},
	{"i686", "x86"},    {"armv6l", "arm"},      {"armv7l", "arm"},
	{"powerpc", "ppc"}, {"powerpc64", "ppc64"}, {"powerpc64le", "ppc64le"},
};

/* libseccomp's numbers from here down are of calls that a machine does not have. Those from -100 to
 * -120 are socket calls that can also be made by socketcall(2): it refuses to compare their
 * arguments, and no filter is made for such a machine (i386, s390x, powerpc). */
enum { NO_SUCH_CALL = -10000 };

/* On 32-bit machines the C library makes the calls of these names, with the same arguments. */
static const char *const variants[] = {"%s", "%s_time64", "%s64"};

static uint32_t resolve_machine(const char *name)
{
	for (size_t i = 0; i < COUNT(machines); i++)
		if (strcmp(name, machines[i].compiler) == 0)
			name = machines[i].libseccomp;
	uint32_t machine = seccomp_arch_resolve_name(name);
	if (machine == 0)
		errx(EXIT_FAILURE, "libseccomp does not know the machine %s", name);
	return machine;
}

static void check(const char *what, int error)
{
	if (error != 0)
		errx(EXIT_FAILURE, "libseccomp: %s: %s", what, strerror(-error));
}

/* The largest aligned power of two of values that begins at `first` and does not pass `last`. */
static uint64_t block_size(uint64_t first, uint64_t last)
{
	uint64_t size = 1;

	while ((first & (2 * size - 1)) == 0 && first + 2 * size - 1 <= last)
		size *= 2;
	return size;
}

static struct scmp_arg_cmp compare(const struct condition *condition, uint64_t first, uint64_t size)
{
	/* A condition on one value keeps its own mask; a block of a range ignores the low bits. */
	bool is_value = condition->first == condition->last;
	uint64_t mask = is_value ? condition->mask : condition->mask & ~(size - 1);

	if (mask == UINT64_MAX)
		return (struct scmp_arg_cmp){condition->argument, SCMP_CMP_EQ, first, 0};
	return (struct scmp_arg_cmp){condition->argument, SCMP_CMP_MASKED_EQ, mask, first};
}

/* Adds the rules for `entry` from condition `index` on. libseccomp takes one comparison per
 * argument in a rule, so that a range becomes several rules, each with one masked comparison. */
static void add_rules(scmp_filter_ctx filter, int call, const struct entry *entry, size_t index,
		      struct scmp_arg_cmp *comparisons, unsigned used)
{
	const struct condition *condition = &entry->conditions[index];

	if (index == MOST_CONDITIONS || condition->mask == 0) {
		uint32_t answer = entry->answer != 0 ? entry->answer : SCMP_ACT_ALLOW;
		check(entry->reason,
		      seccomp_rule_add_exact_array(filter, answer, call, used, comparisons));
		return;
	}
	for (uint64_t first = condition->first; first <= condition->last;) {
		uint64_t size = block_size(first, condition->last);
		comparisons[used] = compare(condition, first, size);
		add_rules(filter, call, entry, index + 1, comparisons, used + 1);
		first += size;
	}
}

/* The number by which libseccomp takes the call for another machine: this machine's, or one below
 * 0. -1 if that machine has no such call. */
static int resolve_call(const char *name, const char *variant, uint32_t machine)
{
	char text[64];

	snprintf(text, sizeof(text), variant, name);
	int there = seccomp_syscall_resolve_name_arch(machine, text);
	return there <= NO_SUCH_CALL || there == __NR_SCMP_ERROR
		       ? -1
		       : seccomp_syscall_resolve_name(text);
}

static void add_entry(scmp_filter_ctx filter, const struct entry *entry, uint32_t machine,
		      uint8_t priority)
{
	struct scmp_arg_cmp comparisons[MOST_CONDITIONS];
	char *name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, entry->call);

	for (size_t i = 0; name && i < COUNT(variants); i++) {
		int call = resolve_call(name, variants[i], machine);
		if (call == -1)
			continue;
		add_rules(filter, call, entry, 0, comparisons, 0);
		check(name, seccomp_syscall_priority(filter, call, priority));
	}
	free(name);
}

/* Entries are tried in the order of the table: put first what is called most. */
static void add_table(scmp_filter_ctx filter, const struct table *table, uint32_t machine,
		      uint8_t priority)
{
	for (size_t i = 0; i < table->count; i++)
		add_entry(filter, &table->entries[i], machine, priority > 0 ? priority-- : 0);
	if (table->includes)
		add_table(filter, table->includes, machine, priority);
}

static scmp_filter_ctx compile(const struct table *table, uint32_t machine)
{
	scmp_filter_ctx filter = seccomp_init(table->otherwise);

	if (!filter)
		errx(EXIT_FAILURE, "libseccomp gives no filter");
	if (machine != seccomp_arch_native()) {
		/* In this order, since a filter takes machines of one byte order only. */
		check("machine", seccomp_arch_remove(filter, SCMP_ARCH_NATIVE));
		check("machine", seccomp_arch_add(filter, machine));
	}
	/* Whatever the table's answer, a call of a foreign architecture is an attack. */
	check("foreign calls",
	      seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS));
	/* The kernel tries each of its system calls when a filter is entered, which takes half as
	 * long if the right rules are found by binary search. */
	check("binary search", seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2));
	add_table(filter, table, machine, UINT8_MAX);
	return filter;
}

/* libseccomp writes integers in the byte order of the machine that the filter is for. */
static struct sock_filter in_our_order(struct sock_filter instruction, uint32_t machine)
{
	bool is_little = (machine & __AUDIT_ARCH_LE) != 0;

	if (is_little != (__BYTE_ORDER == __LITTLE_ENDIAN)) {
		instruction.code = bswap_16(instruction.code);
		instruction.k = bswap_32(instruction.k);
	}
	return instruction;
}

static void print(const char *name, uint32_t machine, FILE *program)
{
	struct sock_filter instruction;
	bool any = false;

	printf("/* Made by mkfilter from policy/filter/table_%s.c: change it there. */\n", name);
	printf("#include <linux/filter.h>\n\nstatic const struct sock_filter filter_%s[] = {\n",
	       name);
	while (fread(&instruction, sizeof(instruction), 1, program) == 1) {
		instruction = in_our_order(instruction, machine);
		printf("\t{0x%02x, %u, %u, 0x%08x},\n", instruction.code, instruction.jt,
		       instruction.jf, instruction.k);
		any = true;
	}
	printf("};\n");
	if (!any || ferror(program) || fflush(stdout) != 0 || ferror(stdout))
		errx(EXIT_FAILURE, "writing filter %s failed", name);
}

int main(int argc, char **argv)
{
	for (size_t i = 0; argc == 3 && i < COUNT(tables); i++) {
		if (strcmp(argv[1], tables[i]->name) != 0)
			continue;
		uint32_t machine = resolve_machine(argv[2]);
		scmp_filter_ctx filter = compile(tables[i], machine);
		FILE *program = tmpfile();
		if (!program)
			err(EXIT_FAILURE, "temporary file");
		check(argv[1], seccomp_export_bpf(filter, fileno(program)));
		seccomp_release(filter);
		rewind(program);
		print(argv[1], machine, program);
		return EXIT_SUCCESS;
	}
	fputs("usage: mkfilter NAME MACHINE\n", stderr);
	return EXIT_FAILURE;
}
