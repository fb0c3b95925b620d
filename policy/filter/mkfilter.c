/*
 * Turns a table of allowed system calls into a BPF program, as a C array for the program that
 * installs it. Runs while building, as whoever builds; it trusts the tables it is linked with.
 *
 * usage: mkfilter NAME > filter_NAME.h
 *
 * libseccomp compiles the comparisons, here instead of at run time: so nothing privileged links it,
 * and entering a filter is one system call.
 */
#include <err.h>
#include <errno.h>
#include <linux/filter.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "policy/filter/table.h"

static const struct table *const tables[] = {
	&table_broker,
	&table_packet,
	&table_tracepath,
	&table_resolver,
};

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
static void add_rules(scmp_filter_ctx filter, const struct entry *entry, size_t index,
		      struct scmp_arg_cmp *comparisons, unsigned used)
{
	const struct condition *condition = &entry->conditions[index];

	if (index == MOST_CONDITIONS || condition->mask == 0) {
		uint32_t answer = entry->answer != 0 ? entry->answer : SCMP_ACT_ALLOW;
		int error = seccomp_rule_add_exact_array(filter, answer, entry->call, used,
							 comparisons);
		if (error == 0)
			return;
		char *name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, entry->call);
		errx(EXIT_FAILURE, "rule for %s: %s", name ? name : "?", strerror(-error));
	}
	for (uint64_t first = condition->first; first <= condition->last;) {
		uint64_t size = block_size(first, condition->last);
		comparisons[used] = compare(condition, first, size);
		add_rules(filter, entry, index + 1, comparisons, used + 1);
		first += size;
	}
}

/* Entries are tried in the order of the table: put first what is called most. */
static void add_table(scmp_filter_ctx filter, const struct table *table, unsigned *priority)
{
	struct scmp_arg_cmp comparisons[MOST_CONDITIONS];

	for (size_t i = 0; i < table->count; i++) {
		const struct entry *entry = &table->entries[i];
		/* A call that this architecture does not have needs no rule. */
		if (entry->call < 0)
			continue;
		add_rules(filter, entry, 0, comparisons, 0);
		int error = seccomp_syscall_priority(filter, entry->call, (uint8_t)*priority);
		if (error != 0)
			errx(EXIT_FAILURE, "priority: %s", strerror(-error));
		if (*priority > 0)
			--*priority;
	}
	if (table->includes)
		add_table(filter, table->includes, priority);
}

static scmp_filter_ctx compile(const struct table *table)
{
	unsigned priority = UINT8_MAX;
	scmp_filter_ctx filter = seccomp_init(table->otherwise);

	if (!filter)
		errx(EXIT_FAILURE, "libseccomp gives no filter");
	/* Whatever the table's answer, a call of a foreign architecture is an attack. */
	int error = seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
	if (error != 0)
		errx(EXIT_FAILURE, "foreign architectures: %s", strerror(-error));
	/* The kernel tries each of its system calls when a filter is entered, which takes half as
	 * long if the right rules are found by binary search. */
	error = seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	if (error != 0)
		errx(EXIT_FAILURE, "binary search: %s", strerror(-error));
	add_table(filter, table, &priority);
	return filter;
}

static void print(const char *name, FILE *program)
{
	struct sock_filter instruction;
	bool any = false;

	printf("/* Made by mkfilter from policy/filter/table_%s.c: change it there. */\n", name);
	printf("#include <linux/filter.h>\n\nstatic const struct sock_filter filter_%s[] = {\n",
	       name);
	while (fread(&instruction, sizeof(instruction), 1, program) == 1) {
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
	for (size_t i = 0; argc == 2 && i < COUNT(tables); i++) {
		if (strcmp(argv[1], tables[i]->name) != 0)
			continue;
		FILE *program = tmpfile();
		if (!program)
			err(EXIT_FAILURE, "temporary file");
		scmp_filter_ctx filter = compile(tables[i]);
		int error = seccomp_export_bpf(filter, fileno(program));
		if (error != 0)
			errx(EXIT_FAILURE, "filter %s: %s", argv[1], strerror(-error));
		seccomp_release(filter);
		rewind(program);
		print(argv[1], program);
		return EXIT_SUCCESS;
	}
	fputs("usage: mkfilter broker|packet|tracepath|resolver\n", stderr);
	return EXIT_FAILURE;
}
