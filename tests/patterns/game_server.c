/* A game server whose frame loop runs an event loop inside the frame: network events come in by libuv and TCP, each
   connection is a task, and the frame works on the events with frame memory. What a frame made before it runs the event
   loop is not touched after it: that would be frame data across an await. */
#include <stdio.h>
#include <uv.h>

#include "framealloc.h"

#define PLAYERS 3
#define MOVES 20

struct event {
	struct event *next;
	int player, move;
};

/* The server's side of a player. */
struct connection {
	uv_tcp_t socket;
	fa_task *task;
	char *line; /* the task's: what came of a message so far */
	size_t length;
};

struct player {
	uv_tcp_t socket;
	uv_connect_t connect;
	uv_write_t write[MOVES];
	char text[MOVES][16];
	int number, sent;
};

static uv_loop_t loop;
static struct event *events, **last_event = &events;
static int open_connections, total;

/* An event outlives the poll that made it: the task hands it on to the frame loop. */
static void emit(struct connection *connection)
{
	struct event *event = fa_task_alloc(connection->task, sizeof *event);
	event->next = NULL;
	sscanf(connection->line, "%d %d", &event->player, &event->move);
	fa_task_release(connection->task, event);
	*last_event = event;
	last_event = &event->next;
}

static void give_room(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer)
{
	static char room[256]; /* one loop reads one message at a time */
	(void)handle, (void)suggested;
	*buffer = uv_buf_init(room, sizeof room);
}

static void connection_closed(uv_handle_t *handle)
{
	struct connection *connection = handle->data;
	fa_task_end(connection->task);
	fa_free(connection);
	open_connections--;
}

static void received(uv_stream_t *stream, ssize_t bytes, const uv_buf_t *buffer)
{
	struct connection *connection = stream->data;
	if (bytes < 0) {
		uv_close((uv_handle_t *)stream, connection_closed);
		return;
	}
	fa_task_enter(connection->task);
	for (ssize_t i = 0; i < bytes; i++) {
		connection->line[connection->length++] = buffer->base[i];
		if (buffer->base[i] != '\n')
			continue;
		connection->line[connection->length] = 0;
		emit(connection);
		connection->length = 0;
	}
	fa_task_leave(connection->task);
}

static void accepted(uv_stream_t *listener, int status)
{
	if (status)
		return;
	struct connection *connection = fa_heap_alloc(sizeof *connection);
	connection->task = fa_task_new("connection");
	connection->line = fa_task_alloc(connection->task, 64);
	connection->length = 0;
	uv_tcp_init(&loop, &connection->socket);
	connection->socket.data = connection;
	uv_accept(listener, (uv_stream_t *)&connection->socket);
	uv_read_start((uv_stream_t *)&connection->socket, give_room, received);
	open_connections++;
}

static void connected(uv_connect_t *request, int status)
{
	struct player *player = request->data;
	for (int i = 0; i < MOVES && !status; i++) {
		int bytes = snprintf(player->text[i], sizeof player->text[i], "%d %d\n", player->number,
				     i * player->number);
		uv_buf_t buffer = uv_buf_init(player->text[i], (unsigned)bytes);
		uv_write(&player->write[i], (uv_stream_t *)&player->socket, &buffer, 1, NULL);
	}
}

static int handle_events(int moves[PLAYERS + 1])
{
	fa_vec seen = fa_frame_vec(sizeof(struct event)); /* made after the event loop ran: it stays inside the frame */
	for (struct event *event = events, *next; event; event = next) {
		next = event->next;
		fa_vec_push(&seen, event);
		fa_free(event);
	}
	events = NULL;
	last_event = &events;
	for (size_t i = 0; i < seen.count; i++) {
		const struct event *event = fa_vec_at(&seen, i);
		moves[event->player]++;
		total += event->move;
	}
	return (int)seen.count;
}

int main(void)
{
	struct sockaddr_in address;
	struct player players[PLAYERS] = {0};
	uv_tcp_t listener;
	int size = sizeof address, moves[PLAYERS + 1] = {0}, handled = 0, frames = 0;
	uv_loop_init(&loop);
	uv_tcp_init(&loop, &listener);
	uv_ip4_addr("127.0.0.1", 0, &address);
	uv_tcp_bind(&listener, (struct sockaddr *)&address, 0);
	if (uv_listen((uv_stream_t *)&listener, 16, accepted) ||
	    uv_tcp_getsockname(&listener, (struct sockaddr *)&address, &size))
		return 1;
	for (int i = 0; i < PLAYERS; i++) {
		players[i].number = i + 1;
		players[i].connect.data = &players[i];
		uv_tcp_init(&loop, &players[i].socket);
		uv_tcp_connect(&players[i].connect, &players[i].socket, (struct sockaddr *)&address, connected);
	}
	for (bool leaving = false; handled < PLAYERS * MOVES || open_connections; frames++) {
		fa_frame_begin();
		fa_await_begin(); /* the event loop has the thread */
		uv_run(&loop, UV_RUN_NOWAIT);
		fa_await_end();
		handled += handle_events(moves);
		fa_frame_end();
		if (handled == PLAYERS * MOVES && !leaving)
			for (int i = 0; i < PLAYERS; i++)
				uv_close((uv_handle_t *)&players[i].socket, NULL);
		leaving |= handled == PLAYERS * MOVES;
		uv_sleep(1);
	}
	uv_close((uv_handle_t *)&listener, NULL);
	uv_run(&loop, UV_RUN_DEFAULT);
	uv_loop_close(&loop);
	fa_stats_t stats;
	fa_stats(&stats);
	printf("moves %d %d %d, total %d, tasks %d, live %d\n", moves[1], moves[2], moves[3], total,
	       (int)stats.tasks_ended, (int)(stats.frame.live_blocks + stats.other.live_blocks));
	return frames == (int)stats.frames ? 0 : 1;
}
