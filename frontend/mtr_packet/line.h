/*
 * Cuts the client's byte stream into request lines, however it is chunked. Pure memory, no
 * descriptor; runs in the packet front end and takes every byte as hostile.
 */
#ifndef POSTERN_FRONTEND_PACKET_LINE_H
#define POSTERN_FRONTEND_PACKET_LINE_H

#include <stdbool.h>
#include <stddef.h>

enum {
	/* Without the newline; the protocol's limit. */
	LINE_BYTES = 4095,
	/* What a pipe holds: one read takes all there is. */
	LINE_BUFFER_BYTES = 65536,
};

/* A piece of text that ends by its length: NUL is an ordinary byte in requests. */
struct text {
	const char *bytes;
	size_t length;
};

enum line_kind {
	LINE_NONE,     /* no complete line is left: read more */
	LINE_TEXT,     /* a line, without its newline and a carriage return before that */
	LINE_TOO_LONG, /* a line over LINE_BYTES; told once for each, it is skipped */
};

struct line_reader {
	size_t start;   /* first byte of the line being looked for */
	size_t scanned; /* up to here there is no newline */
	size_t end;     /* bytes in the buffer end here */
	bool skipping;  /* the rest of a line that was too long comes next */
	char bytes[LINE_BUFFER_BYTES];
};

/* A reader that is all zero is an empty one. */

/* Where to put bytes read, and how many at most: never none after line_next() said LINE_NONE. Moves
 * what is left to the front: texts given before are no longer valid. */
char *line_space(struct line_reader *reader, size_t *room);
void line_filled(struct line_reader *reader, size_t count);

/* The next line; its text stays valid until line_space(). */
enum line_kind line_next(struct line_reader *reader, struct text *line);

/* Looks ahead at the complete line, of any length, that begins *ahead bytes behind the next one,
 * and moves *ahead behind it; line_next() knows nothing of that. False: there is none. */
bool line_ahead(const struct line_reader *reader, size_t *ahead, struct text *line);

#endif
