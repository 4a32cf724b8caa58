/* Task-scoped allocation: a connection's state and buffer belong to its task, and end with it. The task is polled once
   for each message, as an event loop would, and may be polled on any thread. */
#include <stdio.h>

#include "framealloc.h"

struct connection {
	fa_task *task;
	unsigned *checksum; /* the task's */
	fa_vec buffer; /* the task's: grows to the longest message, and is used again */
};

static void open_connection(struct connection *connection)
{
	connection->task = fa_task_new("connection");
	connection->checksum = fa_task_alloc(connection->task, sizeof *connection->checksum);
	*connection->checksum = 0;
	connection->buffer = fa_task_vec(connection->task, 1);
}

static void receive(struct connection *connection, const char *message)
{
	fa_task_enter(connection->task);
	fa_vec_append(&connection->buffer, message, strlen(message));
	for (size_t i = 0; i < connection->buffer.count; i++)
		*connection->checksum =
			*connection->checksum * 31 + *(unsigned char *)fa_vec_at(&connection->buffer, i);
	fa_vec_clear(&connection->buffer);
	fa_task_leave(connection->task);
}

int main(void)
{
	static const char *const messages[] = {"hello", "a longer message, for which the buffer grows", "bye"};
	unsigned checksum = 0;
	for (int n = 0; n < 100; n++) {
		struct connection connection;
		open_connection(&connection);
		for (int i = 0; i < 3; i++)
			receive(&connection, messages[i]);
		checksum += *connection.checksum * (unsigned)n;
		fa_task_end(connection.task); /* state and buffer with it */
	}
	fa_stats_t stats;
	fa_stats(&stats);
	printf("checksum %u, tasks %d, polls %d, live %d\n", checksum, (int)stats.tasks_ended, (int)stats.polls,
	       (int)stats.other.live_blocks);
	return 0;
}
