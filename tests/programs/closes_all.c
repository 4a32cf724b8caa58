/* closes_all: allocates below frames that no frame or stack pointer leads out of, and closes all descriptors, as a daemon
   does. Those that it opens then have the numbers that whoever opened some for himself has: nothing may come to them. */
#include "by_rbx.h"
#include "common.h"

#include <fcntl.h>
#include <sys/socket.h>

enum { WALKS = 30, NUMBERS = 64, SOCKETS = 4 };

SITE void work(void)
{
	free(malloc(100));
}

/* Pages further down each time: what asks whether memory can be read asks anew. */
SITE void deep(int depth)
{
	volatile char room[5000];
	room[0] = (char)depth;
	if (depth)
		deep(depth - 1);
	else
		below_by_rbx(work);
	room[1] = room[0];
}

static uint64_t open_now(void)
{
	uint64_t is_open = 0;
	for (int fd = 0; fd < NUMBERS; fd++)
		is_open |= (uint64_t)(fcntl(fd, F_GETFD) >= 0) << fd;
	return is_open;
}

int main(void)
{
	uint64_t before = open_now();
	int fds[SOCKETS];
	deep(0);
	CHECK(open_now() == before);
	for (int fd = 3; fd < NUMBERS; fd++)
		close(fd);
	CHECK(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds));
	CHECK(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds + 2));
	for (int i = 0; i < SOCKETS; i++)
		CHECK(write(fds[i], "0123456789", 10) == 10);
	for (int depth = 0; depth < WALKS; depth++)
		deep(depth);
	for (int i = 0; i < SOCKETS; i++) {
		char text[64];
		CHECK(read(fds[i], text, sizeof text) == 10 && !memcmp(text, "0123456789", 10));
	}
	return failures;
}
