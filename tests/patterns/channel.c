/* A channel with many senders and one receiver: the main thread sends work to four workers, each a task on its own
   thread, and they send results back. A block that crosses is handed on: fa_transfer by who made it outside a task,
   fa_task_release by a task. Who receives it frees it. */
#include <pthread.h>
#include <stdio.h>

#include "framealloc.h"

#define WORKERS 4
#define ITEMS 200

struct message {
	struct message *next;
	int number;
	unsigned value;
};

struct channel {
	pthread_mutex_t lock;
	pthread_cond_t filled;
	struct message *first, **last;
	int closed;
};

static void channel_open(struct channel *channel)
{
	*channel = (struct channel){PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, NULL, &channel->first, 0};
}

static void channel_send(struct channel *channel, struct message *message)
{
	pthread_mutex_lock(&channel->lock);
	message->next = NULL;
	*channel->last = message;
	channel->last = &message->next;
	pthread_cond_signal(&channel->filled);
	pthread_mutex_unlock(&channel->lock);
}

static void channel_close(struct channel *channel)
{
	pthread_mutex_lock(&channel->lock);
	channel->closed = 1;
	pthread_cond_broadcast(&channel->filled);
	pthread_mutex_unlock(&channel->lock);
}

/* Waits; NULL when the channel is closed and empty. */
static struct message *channel_receive(struct channel *channel)
{
	pthread_mutex_lock(&channel->lock);
	while (!channel->first && !channel->closed)
		pthread_cond_wait(&channel->filled, &channel->lock);
	struct message *message = channel->first;
	if (message) {
		channel->first = message->next;
		if (!channel->first)
			channel->last = &channel->first;
	}
	pthread_mutex_unlock(&channel->lock);
	return message;
}

static struct channel work, results;

static void *worker(void *unused)
{
	(void)unused;
	fa_thread_role(FA_ROLE_WORKER);
	fa_task *task = fa_task_new("worker");
	struct message *item;
	while ((item = channel_receive(&work))) {
		fa_task_enter(task);
		unsigned *scratch = fa_task_alloc(task, 16 * sizeof *scratch);
		struct message *result = fa_task_alloc(task, sizeof *result);
		for (unsigned i = 0; i < 16; i++)
			scratch[i] = (unsigned)item->number * (i + 1);
		*result = (struct message){NULL, item->number, 0};
		for (unsigned i = 0; i < 16; i++)
			result->value = result->value * 7 + scratch[i];
		fa_free(scratch);
		fa_free(item);
		fa_task_release(task, result);
		channel_send(&results, result);
		fa_task_leave(task);
	}
	fa_task_end(task);
	return NULL;
}

int main(void)
{
	pthread_t workers[WORKERS];
	unsigned sum = 0;
	channel_open(&work);
	channel_open(&results);
	for (int i = 0; i < WORKERS; i++)
		pthread_create(&workers[i], NULL, worker, NULL);
	for (int i = 0; i < ITEMS; i++) {
		struct message *item = fa_pool_alloc(sizeof *item);
		*item = (struct message){NULL, i, 0};
		fa_transfer(item);
		channel_send(&work, item);
	}
	channel_close(&work);
	for (int i = 0; i < ITEMS; i++) {
		struct message *result = channel_receive(&results);
		sum += result->value;
		fa_free(result);
	}
	for (int i = 0; i < WORKERS; i++)
		pthread_join(workers[i], NULL);
	fa_stats_t stats;
	fa_stats(&stats);
	printf("sum %u, live %d\n", sum, (int)stats.other.live_blocks);
	return 0;
}
