/* Stream processing over TCP with a reused buffer: the server adds one to every byte and writes it back. The buffer is
   the stream's task's and is cleared, not freed, between chunks. Server and client run on one libuv loop. */
#include <stdio.h>
#include <uv.h>

#include "framealloc.h"

#define TOTAL 100000

struct stream {
	uv_tcp_t socket;
	fa_task *task;
	char *room; /* the task's: what is read into */
	fa_vec processed; /* the task's: grows to the largest chunk */
	uv_write_t write;
	size_t chunks;
};

static uv_loop_t *loop;
static struct {
	uv_tcp_t socket;
	uv_connect_t connect;
	uv_write_t write;
	char data[TOTAL];
	size_t received, wrong;
} client;

static void stream_closed(uv_handle_t *handle)
{
	struct stream *stream = handle->data;
	fa_task_end(stream->task); /* the buffers with it */
	fa_free(stream);
}

static void give_room(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer)
{
	struct stream *stream = handle->data;
	(void)suggested;
	*buffer = uv_buf_init(stream->room, 16384);
}

static void process_chunk(fa_vec *out, const char *chunk, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++) {
		char changed = (char)(chunk[i] + 1);
		fa_vec_push(out, &changed);
	}
}

static void chunk_written(uv_write_t *request, int status);

static void chunk_read(uv_stream_t *socket, ssize_t bytes, const uv_buf_t *buffer)
{
	struct stream *stream = socket->data;
	if (bytes < 0) {
		uv_close((uv_handle_t *)socket, stream_closed);
		return;
	}
	fa_task_enter(stream->task);
	process_chunk(&stream->processed, buffer->base, (size_t)bytes);
	stream->chunks++;
	uv_buf_t out = uv_buf_init(stream->processed.data, (unsigned)stream->processed.count);
	uv_read_stop(socket); /* one chunk at a time */
	uv_write(&stream->write, socket, &out, 1, chunk_written);
	fa_task_leave(stream->task);
}

static void chunk_written(uv_write_t *request, int status)
{
	struct stream *stream = request->handle->data;
	fa_vec_clear(&stream->processed);
	if (!status)
		uv_read_start((uv_stream_t *)&stream->socket, give_room, chunk_read);
}

static void accepted(uv_stream_t *listener, int status)
{
	if (status)
		return;
	struct stream *stream = fa_heap_alloc(sizeof *stream);
	stream->task = fa_task_new("stream");
	stream->room = fa_task_alloc(stream->task, 16384);
	stream->processed = fa_task_vec(stream->task, 1);
	stream->chunks = 0;
	uv_tcp_init(loop, &stream->socket);
	stream->socket.data = stream;
	uv_accept(listener, (uv_stream_t *)&stream->socket);
	uv_read_start((uv_stream_t *)&stream->socket, give_room, chunk_read);
	uv_close((uv_handle_t *)listener, NULL);
}

static void client_room(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer)
{
	static char room[8192];
	(void)handle, (void)suggested;
	*buffer = uv_buf_init(room, sizeof room);
}

static void client_read(uv_stream_t *socket, ssize_t bytes, const uv_buf_t *buffer)
{
	for (ssize_t i = 0; i < bytes; i++)
		client.wrong += buffer->base[i] != (char)(client.data[client.received++] + 1);
	if (bytes < 0 || client.received == TOTAL)
		uv_close((uv_handle_t *)socket, NULL);
}

static void client_connected(uv_connect_t *request, int status)
{
	(void)request;
	if (status)
		return;
	uv_buf_t buffer = uv_buf_init(client.data, TOTAL);
	uv_write(&client.write, (uv_stream_t *)&client.socket, &buffer, 1, NULL);
	uv_read_start((uv_stream_t *)&client.socket, client_room, client_read);
}

int main(void)
{
	struct sockaddr_in address;
	int size = sizeof address;
	uv_tcp_t listener;
	loop = uv_default_loop();
	for (int i = 0; i < TOTAL; i++)
		client.data[i] = (char)(i * 7);
	uv_tcp_init(loop, &listener);
	uv_ip4_addr("127.0.0.1", 0, &address);
	uv_tcp_bind(&listener, (struct sockaddr *)&address, 0);
	if (uv_listen((uv_stream_t *)&listener, 1, accepted) ||
	    uv_tcp_getsockname(&listener, (struct sockaddr *)&address, &size))
		return 1;
	uv_tcp_init(loop, &client.socket);
	uv_tcp_connect(&client.connect, &client.socket, (struct sockaddr *)&address, client_connected);
	uv_run(loop, UV_RUN_DEFAULT);
	uv_loop_close(loop);
	fa_stats_t stats;
	fa_stats(&stats);
	printf("received %zu, wrong %zu, tasks %d, live %d\n", client.received, client.wrong, (int)stats.tasks_ended,
	       (int)stats.other.live_blocks);
	return 0;
}
