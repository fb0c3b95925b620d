/*
 * What the sanitizers are to overlook in the program of unit tests: libcriterion itself loses a few
 * bytes. Without sanitizers nothing calls this.
 */
const char *__lsan_default_suppressions(void);

const char *__lsan_default_suppressions(void)
{
	return "leak:libcriterion.so\n";
}
