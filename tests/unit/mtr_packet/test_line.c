/*
 * Request lines come out whole, whatever the chunks they arrive in, and a line that is too long
 * is reported once and costs nothing of the next line.
 */
#include <criterion/criterion.h>
#include <string.h>

#include "frontend/mtr_packet/line.h"

static struct line_reader reader;

static void start(void)
{
	memset(&reader, 0, sizeof(reader));
}

TestSuite(mtr_packet_line, .init = start);

static void feed(const char *bytes, size_t length)
{
	size_t room;
	char *space = line_space(&reader, &room);

	cr_assert_leq(length, room);
	memcpy(space, bytes, length);
	line_filled(&reader, length);
}

static void expect_text(const char *bytes, size_t length)
{
	struct text line;

	cr_assert_eq(line_next(&reader, &line), LINE_TEXT);
	cr_assert_eq(line.length, length, "length %zu, not %zu", line.length, length);
	cr_assert_arr_eq(line.bytes, bytes, length);
}

static void expect(enum line_kind kind)
{
	struct text line;

	cr_assert_eq(line_next(&reader, &line), kind);
}

Test(mtr_packet_line, several_in_one_chunk)
{
	feed("one\ntwo\r\n\n\r\nthree", 17);
	expect_text("one", 3);
	expect_text("two", 3);
	expect_text("", 0);
	expect_text("", 0);
	expect(LINE_NONE);
	feed("!\n", 2);
	expect_text("three!", 6);
	expect(LINE_NONE);
}

Test(mtr_packet_line, byte_by_byte)
{
	static const char input[] = "1 send-probe\r\n2 x\n";

	for (size_t i = 0; i < 13; i++) {
		feed(input + i, 1);
		expect(LINE_NONE);
	}
	feed(input + 13, 1);
	expect_text("1 send-probe", 12);
	for (size_t i = 14; i < 17; i++) {
		feed(input + i, 1);
		expect(LINE_NONE);
	}
	feed(input + 17, 1);
	expect_text("2 x", 3);
}

Test(mtr_packet_line, only_one_carriage_return_before_the_newline_goes)
{
	feed("a\r\r\nb\rc\n", 8);
	expect_text("a\r", 2);
	expect_text("b\rc", 3);
}

Test(mtr_packet_line, nul_is_an_ordinary_byte)
{
	feed("a\0b\n\0\n", 6);
	expect_text("a\0b", 3);
	expect_text("\0", 1);
}

static char long_line[3 * LINE_BUFFER_BYTES];

Test(mtr_packet_line, longest_line_passes_and_one_more_byte_does_not)
{
	memset(long_line, 'x', sizeof(long_line));
	feed(long_line, LINE_BYTES);
	expect(LINE_NONE);
	feed("\n", 1);
	expect_text(long_line, LINE_BYTES);

	feed(long_line, LINE_BYTES + 1);
	expect(LINE_TOO_LONG);
	feed("\nnext\n", 6);
	expect_text("next", 4);
}

Test(mtr_packet_line, too_long_line_that_is_complete)
{
	memset(long_line, 'x', sizeof(long_line));
	long_line[LINE_BYTES + 1] = '\n';
	feed(long_line, LINE_BYTES + 2);
	feed("ok\n", 3);
	expect(LINE_TOO_LONG);
	expect_text("ok", 2);
	expect(LINE_NONE);
}

Test(mtr_packet_line, endless_line_is_reported_once)
{
	memset(long_line, 'x', sizeof(long_line));
	feed(long_line, 5000);
	expect(LINE_TOO_LONG);
	for (int i = 0; i < 100; i++) {
		feed(long_line, LINE_BUFFER_BYTES / 2);
		expect(LINE_NONE);
	}
	feed("end\n1 a\n", 8);
	expect_text("1 a", 3);
	expect(LINE_NONE);
}

/* Lines of all the kinds above, cut at many chunk sizes: the same lines come out. */
Test(mtr_packet_line, any_chunking)
{
	static char stream[40000];
	size_t length = 0;

	for (int i = 0; i < 60; i++) {
		size_t run = (size_t)(i * 37 % 300);
		if (i % 20 == 19)
			run = LINE_BYTES + (size_t)i;
		memset(stream + length, 'a' + i % 26, run);
		length += run;
		if (i % 3 == 0)
			stream[length++] = '\r';
		stream[length++] = '\n';
	}
	for (size_t chunk = 1; chunk < 9000; chunk = chunk * 3 + 1) {
		size_t at = 0;
		int line_number = 0;
		struct text line;
		start();
		while (at < length) {
			size_t count = length - at < chunk ? length - at : chunk;
			feed(stream + at, count);
			at += count;
			for (enum line_kind kind; (kind = line_next(&reader, &line)) != LINE_NONE;
			     line_number++) {
				bool is_long = line_number % 20 == 19;
				cr_assert_eq(kind, is_long ? LINE_TOO_LONG : LINE_TEXT);
				cr_assert(is_long ||
					  line.length == (size_t)(line_number * 37 % 300));
				cr_assert(is_long || line.length == 0 ||
					  line.bytes[0] == 'a' + line_number % 26);
			}
		}
		cr_assert_eq(line_number, 60, "chunks of %zu: %d lines", chunk, line_number);
	}
}
