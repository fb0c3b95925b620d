/*
 * A cause becomes one line that fits, without its remedy, and names postern doctor.
 */
#include <criterion/criterion.h>

#include "frontend/process/advice.h"

#define ADVICE " (see postern doctor)"

Test(advice, is_one_short_line)
{
	static const char many[] =
		"012345678901234567890123456789012345678901234567890123456789abcdefgh";
	static const struct {
		const char *why, *line;
	} cases[] = {
		{"", ADVICE},
		{"broker: ended by signal 9", "broker: ended by signal 9" ADVICE},
		{"broker: no privilege (set the capability)", "broker: no privilege" ADVICE},
		{many, "012345678901234567890123456789012345678901234567890123456789abcd" ADVICE},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		char line[ADVICE_BYTES];
		advice_write(line, cases[i].why);
		cr_expect_str_eq(line, cases[i].line, "case %zu", i);
	}
}
