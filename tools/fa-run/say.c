/* One line to standard error, prefixed with the tool's name; cut at 4 KiB. Lost when standard error is closed. */
#include "tools/fa-run/say.h"

#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

void say(const char *format, ...)
{
	char line[4096] = "fa-run: ";
	size_t prefix = sizeof "fa-run: " - 1, room = sizeof line - prefix - 1;
	va_list arguments;
	va_start(arguments, format);
	int length = vsnprintf(line + prefix, room, format, arguments);
	va_end(arguments);
	if (length < 0)
		return;
	size_t bytes = prefix + ((size_t)length < room ? (size_t)length : room - 1);
	line[bytes++] = '\n';
	ssize_t ignored = write(STDERR_FILENO, line, bytes);
	(void)ignored;
}
