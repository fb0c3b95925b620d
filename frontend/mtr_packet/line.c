/*
 * Cuts the client's byte stream into request lines. Runs in mtr-packet; any byte may come, in
 * pieces of any size.
 */
#include "frontend/mtr_packet/line.h"

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

/* No newline is in the buffer. A line that is too long is not kept. */
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
		if (length > 0 && from[length - 1] == '\r')
			length--;
		*line = (struct text){from, length};
		return LINE_TEXT;
	}
}
