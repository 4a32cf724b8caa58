/* An asset loader: jobs run in parallel on libuv's thread pool, each a task with its own memory; what is loaded is handed
   on to the main thread, which owns the assets. Three types of assets, and one that fails. */
#include <stdio.h>
#include <uv.h>

#include "framealloc.h"

enum type { TEXTURE, MESH, AUDIO };

struct asset {
	enum type type;
	size_t bytes;
	unsigned checksum;
};

struct job {
	uv_work_t work;
	fa_task *task;
	char path[32];
	enum type type;
	struct asset *asset; /* NULL: could not be loaded */
};

/* What a file would hold. */
static unsigned char *read_file(fa_task *task, const char *path, size_t *bytes)
{
	if (strstr(path, "missing"))
		return NULL;
	*bytes = 1000 + 37 * strlen(path);
	unsigned char *data = fa_task_alloc(task, *bytes);
	for (size_t i = 0; i < *bytes; i++)
		data[i] = (unsigned char)(path[i % strlen(path)] + (char)i);
	return data;
}

static unsigned parse_texture(fa_task *task, const unsigned char *data, size_t bytes)
{
	fa_vec pixels = fa_task_vec(task, 4);
	unsigned sum = 0;
	for (size_t i = 0; i + 4 <= bytes; i += 4)
		fa_vec_append(&pixels, data + i, 1);
	for (size_t i = 0; i < pixels.count; i++)
		sum += *(unsigned char *)fa_vec_at(&pixels, i);
	return sum;
}

static unsigned parse_mesh(fa_task *task, const unsigned char *data, size_t bytes)
{
	float *vertices = fa_task_alloc(task, bytes / 8 * sizeof *vertices);
	unsigned sum = 0;
	for (size_t i = 0; i < bytes / 8; i++)
		vertices[i] = (float)data[i * 8] / 2;
	for (size_t i = 0; i < bytes / 8; i++)
		sum += (unsigned)vertices[i];
	return sum;
}

static unsigned parse_audio(fa_task *task, const unsigned char *data, size_t bytes)
{
	short *samples = fa_task_alloc(task, bytes * sizeof *samples);
	unsigned sum = 0;
	for (size_t i = 0; i < bytes; i++)
		samples[i] = (short)(data[i] * 128);
	for (size_t i = 1; i < bytes; i++)
		sum += (unsigned)(samples[i] > samples[i - 1]);
	return sum;
}

/* On a thread of the pool. */
static void load(uv_work_t *work)
{
	struct job *job = work->data;
	size_t bytes;
	fa_task_enter(job->task);
	unsigned char *data = read_file(job->task, job->path, &bytes);
	if (data) {
		struct asset *asset = fa_task_alloc(job->task, sizeof *asset);
		*asset = (struct asset){job->type, bytes, 0};
		asset->checksum = job->type == TEXTURE ? parse_texture(job->task, data, bytes)
				  : job->type == MESH  ? parse_mesh(job->task, data, bytes)
						       : parse_audio(job->task, data, bytes);
		fa_task_release(job->task, asset);
		job->asset = asset;
	}
	fa_task_leave(job->task);
}

/* On the main thread again. */
static void loaded(uv_work_t *work, int status)
{
	struct job *job = work->data;
	(void)status;
	fa_task_end(job->task); /* file and scratch memory; the asset is ours */
}

int main(void)
{
	static const char *const names[] = {"texture", "mesh", "audio"};
	struct job jobs[30];
	unsigned checksum[3] = {0}, count[3] = {0}, failed = 0;
	uv_loop_t *loop = uv_default_loop();
	for (int i = 0; i < 30; i++) {
		jobs[i] = (struct job){.type = (enum type)(i % 3), .task = fa_task_new("load asset")};
		snprintf(jobs[i].path, sizeof jobs[i].path, "%s%d%s", names[i % 3], i, i == 7 ? ".missing" : "");
		jobs[i].work.data = &jobs[i];
		uv_queue_work(loop, &jobs[i].work, load, loaded);
	}
	uv_run(loop, UV_RUN_DEFAULT);
	for (int i = 0; i < 30; i++) {
		struct asset *asset = jobs[i].asset;
		if (!asset) {
			failed++;
			continue;
		}
		count[asset->type]++;
		checksum[asset->type] += asset->checksum + (unsigned)asset->bytes;
		fa_free(asset);
	}
	for (int i = 0; i < 3; i++)
		printf("%s %u: %u\n", names[i], count[i], checksum[i]);
	uv_loop_close(loop);
	fa_stats_t stats;
	fa_stats(&stats);
	printf("failed %u, live %d\n", failed, (int)stats.other.live_blocks);
	return 0;
}
