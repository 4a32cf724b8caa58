/* One thread flushes all streams, and waits in a full pipe until the first one, in a loop around poll, has read what is there:
   stdio's list of streams is locked meanwhile. Who opens a stream at the first poll waits for ever: the alarm ends it. */
#include "common.h"

#include <poll.h>

enum { BYTES = 1 << 20 };

static FILE *stream;

static void *flushes(void *unused)
{
	fflush(NULL);
	fclose(stream);
	return unused;
}

int main(void)
{
	static char text[BYTES], buffer[2 * BYTES];
	int ends[2];
	pthread_t thread;
	size_t bytes = 0;
	alarm(5);
	CHECK(!pipe(ends));
	stream = fdopen(ends[1], "w");
	CHECK(stream && !setvbuf(stream, buffer, _IOFBF, sizeof buffer));
	memset(text, 'x', sizeof text);
	CHECK(fwrite(text, 1, sizeof text, stream) == sizeof text);
	pthread_create(&thread, NULL, flushes, NULL);
	usleep(200000); /* it has filled the pipe by now, nothing tells */
	for (ssize_t got = 1; got > 0; bytes += (size_t)got) {
		struct pollfd end = {.fd = ends[0], .events = POLLIN};
		poll(&end, 1, -1);
		got = read(ends[0], text, sizeof text);
	}
	pthread_join(thread, NULL);
	CHECK(bytes == BYTES);
	return failures;
}
