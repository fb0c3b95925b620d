/*
 * Cuts the client's byte stream into request lines, however it is chunked. Pure memory, no
 * descriptor; runs in the packet front end and takes every byte as hostile.
 */
#include "frontend/packet_line.h"

#include <string.h>

char *line_space(struct line_reader *reader, size_t *room)
{
	size_t left = reader->end - reader->start;

	if (reader->start > 0) {
		memmove(reader->bytes, reader->bytes + reader->start, left);
		reader->scanned -= reader->start;
		reader->start = 0;
		reader->end = left;
	}
	*room = sizeof(reader->bytes) - reader->end;
	return reader->bytes + reader->end;
}

void line_filled(struct line_reader *reader, size_t count)
{
	reader->end += count;
}

/* No newline is in the buffer. Of a line that is too long already nothing needs to be kept. */
static enum line_kind line_unfinished(struct line_reader *reader)
{
	reader->scanned = reader->end;
	if (reader->skipping) {
		reader->start = reader->end;
		return LINE_NONE;
	}
	if (reader->end - reader->start <= LINE_BYTES)
		return LINE_NONE;
	reader->skipping = true;
	reader->start = reader->end;
	return LINE_TOO_LONG;
}

/* A line without its newline, and without a carriage return before that. */
static struct text without_return(const char *from, size_t length)
{
	if (length > 0 && from[length - 1] == '\r')
		length--;
	return (struct text){from, length};
}

enum line_kind line_next(struct line_reader *reader, struct text *line)
{
	for (;;) {
		const char *from = reader->bytes + reader->start;
		const char *newline = memchr(reader->bytes + reader->scanned, '\n',
					     reader->end - reader->scanned);
		if (!newline)
			return line_unfinished(reader);

		size_t length = (size_t)(newline - from);
		reader->start += length + 1;
		reader->scanned = reader->start;
		if (reader->skipping) {
			reader->skipping = false;
			continue;
		}
		if (length > LINE_BYTES)
			return LINE_TOO_LONG;
		*line = without_return(from, length);
		return LINE_TEXT;
	}
}

bool line_ahead(const struct line_reader *reader, size_t *ahead, struct text *line)
{
	const char *from = reader->bytes + reader->start + *ahead;
	const char *end = reader->bytes + reader->end;
	const char *newline = memchr(from, '\n', (size_t)(end - from));

	if (!newline)
		return false;
	*ahead += (size_t)(newline - from) + 1;
	*line = without_return(from, (size_t)(newline - from));
	return true;
}
