/*
 * Cuts the client's byte stream into request lines. Runs in mtr-packet; any byte may come, in
 * pieces of any size.
 */
#ifndef POSTERN_FRONTEND_MTR_PACKET_LINE_H
#define POSTERN_FRONTEND_MTR_PACKET_LINE_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

enum {
	/* The protocol's limit, without the newline. */
	LINE_BYTES = 4095,
	/* The capacity of a pipe: one read takes all that is there. */
	LINE_BUFFER_BYTES = 65536,
};

/* Text without a NUL at its end: NUL is an ordinary byte in requests. */
struct text {
	const char *bytes;
	size_t length;
};

/* The text of a string literal. */
#define TEXT(literal) ((struct text){(literal), sizeof(literal) - 1})

static inline bool text_equals(struct text a, struct text b)
{
	return a.length == b.length && memcmp(a.bytes, b.bytes, a.length) == 0;
}

enum line_kind {
	LINE_NONE,     /* no complete line is left: read more */
	LINE_TEXT,     /* a line, without its newline and a carriage return before that */
	LINE_TOO_LONG, /* a line over LINE_BYTES, reported once and skipped */
};

/* All zero: empty. */
struct line_reader {
	size_t start;   /* the first byte of the next line */
	size_t scanned; /* no newline between start and here */
	size_t end;     /* the end of the bytes in the buffer */
	bool skipping;  /* the next line is the rest of one that was too long */
	char bytes[LINE_BUFFER_BYTES];
};

/* Where to put bytes that are read, and how many at most: at least one after LINE_NONE. Moves the
 * rest of the buffer to its front, which makes earlier texts invalid. */
char *line_space(struct line_reader *reader, size_t *room);
void line_filled(struct line_reader *reader, size_t count);

/* The next line. Its text is valid until line_space(). */
enum line_kind line_next(struct line_reader *reader, struct text *line);

#endif
