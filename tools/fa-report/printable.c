/* What a recording has as names is anybody's: a stream for text that lets no control character through but line ends, tabs and
   the report's own colours. */
#define _GNU_SOURCE
#include <stdlib.h>

#include "tools/fa-report/report.h"

#define COLOUR_BYTES 8

struct printable {
	FILE *out;
	bool color;
	char held[COLOUR_BYTES]; /* of what may be a colour */
	size_t held_bytes;
	unsigned char before;
};

static void put_plain(struct printable *text, unsigned char byte)
{
	bool control = (byte < 0x20 && byte != '\n' && byte != '\t') || byte == 0x7f;
	if (text->before == 0xc2 && byte >= 0x80 && byte < 0xa0) /* the same as one character of UTF-8 */
		byte = 0xbf;
	putc(control ? '?' : byte, text->out);
	text->before = byte;
}

/* Of ESC [ digits and semicolons m: whether `byte` may follow what is held. */
static bool goes_on(const struct printable *text, char byte)
{
	if (text->held_bytes < 2)
		return byte == (text->held_bytes ? '[' : '\033');
	return text->held_bytes < COLOUR_BYTES - 1 && ((byte >= '0' && byte <= '9') || byte == ';' || byte == 'm');
}

static void put(struct printable *text, char byte)
{
	if (text->color && goes_on(text, byte)) {
		text->held[text->held_bytes++] = byte;
		if (byte != 'm')
			return;
		fwrite(text->held, 1, text->held_bytes, text->out);
		text->held_bytes = 0;
		return;
	}
	for (size_t i = 0; i < text->held_bytes; i++)
		put_plain(text, (unsigned char)text->held[i]);
	bool again = text->held_bytes && byte == '\033';
	text->held_bytes = 0;
	if (again)
		put(text, byte);
	else
		put_plain(text, (unsigned char)byte);
}

static ssize_t write_printable(void *cookie, const char *data, size_t bytes)
{
	struct printable *text = cookie;
	for (size_t i = 0; i < bytes; i++)
		put(text, data[i]);
	return ferror(text->out) ? 0 : (ssize_t)bytes;
}

static int close_printable(void *cookie)
{
	free(cookie);
	return 0;
}

FILE *printable_open(FILE *out, bool color)
{
	struct printable *text = calloc(1, sizeof *text);
	if (!text)
		return NULL;
	*text = (struct printable){.out = out, .color = color};
	FILE *stream =
		fopencookie(text, "w", (cookie_io_functions_t){.write = write_printable, .close = close_printable});
	if (!stream)
		free(text);
	return stream;
}
