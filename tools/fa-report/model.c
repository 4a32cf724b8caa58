/* The sums. A recording may be read while it grows: figures of one moment may be apart by a few operations in flight. */
#define _GNU_SOURCE
#include "tools/fa-report/model.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/registry/codes.h"
#include "tools/fa-report/model_frames.h"

/* Level counters may hold anything in a damaged recording: sums wrap instead of overflowing. */
static void add_level(int64_t *sum, int64_t value)
{
	*sum = (int64_t)((uint64_t)*sum + (uint64_t)value);
}

static uint64_t births_in(const uint64_t births[TRACE_BIRTH_COUNT])
{
	return births[TRACE_BIRTH_FRAME_IN] + births[TRACE_BIRTH_POOL_IN] + births[TRACE_BIRTH_HEAP_IN];
}

/* The record of the thread that last owned `slot` and ran frames; NULL when none did. */
static const struct trace_thread *slot_owner(const struct model *model, uint32_t slot)
{
	const struct reader_array *threads = reader_array(model->reader, TRACE_KIND_THREAD, 0);
	for (uint32_t i = threads->count; i--;) {
		const struct trace_thread *thread = reader_at(threads, i);
		if (thread->slot == slot)
			return thread;
	}
	return NULL;
}

/* What one slot adds to a site. `old_births` gathers births whose frame has ended. */
static void add_counter(struct model_site *site, const struct trace_counter *c, const struct trace_thread *owner,
			uint64_t *young)
{
	for (int b = 0; b < TRACE_BIRTH_COUNT; b++) {
		site->births[b] += trace_counter_births(c, b);
		site->allocs += trace_counter_births(c, b);
	}
	site->bytes += c->bytes;
	int64_t live = trace_counter_live(c), peak = c->peak_bytes > live ? c->peak_bytes : live;
	add_level(&site->live_bytes, live);
	add_level(&site->peak_bytes, peak > 0 ? peak : 0);
	site->verdicts.died_in_segment += c->died_in_segment;
	site->verdicts.died_in_frame += c->died_in_frame;
	site->verdicts.crossed_await += c->crossed_await;
	site->verdicts.outlived_frame += c->outlived_frame;
	site->verdicts.died_elsewhere += c->died_elsewhere;
	site->died_in_segment_outside += c->died_in_segment_outside;
	site->died_outside += c->died_outside;
	site->task_alive += c->task_alive;
	site->in_tasks |= c->in_tasks != 0;
	site->tier_moves += c->tier_moves;
	if (c->first_move_frame && (!site->first_move_frame || c->first_move_frame < site->first_move_frame))
		site->first_move_frame = c->first_move_frame;
	if (c->last_move_frame > site->last_move_frame)
		site->last_move_frame = c->last_move_frame;
	/* Alive and born in the open frame: alive in all, less those that were alive when it began and still are. */
	if (owner && c->frame && !owner->end_ns && owner->open_begin_ns && c->frame == (uint32_t)owner->frames) {
		uint64_t in_scope = trace_counter_births_in_scopes(c);
		uint64_t died = c->died_in_segment + c->died_in_frame + c->crossed_await + c->died_elsewhere;
		*young += in_scope - died - (uint64_t)trace_counter_old(c);
	}
}

static void site_finish(struct model_site *site, uint64_t young)
{
	struct model_verdicts *v = &site->verdicts;
	v->outside_scopes = site->births[TRACE_BIRTH_POOL_OUT] + site->births[TRACE_BIRTH_HEAP_OUT];
	uint64_t in_scope = births_in(site->births);
	uint64_t died =
		v->died_in_segment + v->died_in_frame + v->crossed_await + v->outlived_frame + v->died_elsewhere;
	v->never_died = in_scope > died ? in_scope - died : 0;
	site->frees = died + site->died_in_segment_outside + site->died_outside;
	site->live_blocks = (int64_t)(site->allocs - site->frees);
	uint64_t not_old = young + ((int32_t)site->task_alive > 0 ? site->task_alive : 0);
	site->old_alive = not_old < v->never_died ? v->never_died - not_old : 0;
	if (site->peak_bytes < site->live_bytes)
		site->peak_bytes = site->live_bytes;
	if (site->record->live_bytes_at_peak > (uint64_t)site->peak_bytes)
		site->peak_bytes = (int64_t)site->record->live_bytes_at_peak;
}

static void add_verdicts(struct model_verdicts *sum, const struct model_verdicts *v)
{
	sum->died_in_segment += v->died_in_segment;
	sum->died_in_frame += v->died_in_frame;
	sum->crossed_await += v->crossed_await;
	sum->outlived_frame += v->outlived_frame;
	sum->died_elsewhere += v->died_elsewhere;
	sum->never_died += v->never_died;
	sum->outside_scopes += v->outside_scopes;
}

static int sum_sites(struct model *model)
{
	const struct reader *reader = model->reader;
	const struct reader_array *sites = reader_array(reader, TRACE_KIND_SITE, 0);
	const struct reader_array *labels = reader_array(reader, TRACE_KIND_GROUP_LABEL, 0);
	const struct reader_array *groups = reader_array(reader, TRACE_KIND_GROUP, 0);
	model->site_count = sites->count;
	model->sites = calloc(sites->count + 1u, sizeof *model->sites);
	uint64_t *young = calloc(sites->count + 1u, sizeof *young);
	if (!model->sites || !young) {
		free(young);
		return -ENOMEM;
	}
	for (uint32_t i = 0; i < sites->count; i++) {
		model->sites[i].index = i;
		model->sites[i].record = reader_at(sites, i);
	}
	for (uint32_t g = 0; g < labels->count && g < groups->count; g++) {
		const struct trace_group_label *label = reader_at(labels, g);
		const struct trace_group *group = reader_at(groups, g);
		if (label->first_site >= sites->count)
			continue;
		const struct trace_thread *owner = slot_owner(model, label->slot);
		for (uint32_t i = 0; i < TRACE_GROUP_SITES && label->first_site + i < sites->count; i++)
			add_counter(&model->sites[label->first_site + i], &group->counter[i], owner,
				    &young[label->first_site + i]);
	}
	for (uint32_t i = 0; i < sites->count; i++) {
		struct model_site *site = &model->sites[i];
		/* The sum of what the slots say: more than there was, where one allocates what another frees. */
		int64_t most = (int64_t)(reader->header.peak_bytes + reader->header.peak_error_bytes);
		if (site->peak_bytes > most)
			site->peak_bytes = most;
		site_finish(site, young[i]);
		add_verdicts(&model->verdicts, &site->verdicts);
		add_level(&model->live_blocks, site->live_blocks);
		model->frees_outside += site->died_in_segment_outside + site->died_outside;
		model->frees_outside_in_segment += site->died_in_segment_outside;
	}
	free(young);
	return 0;
}

/* Lifetimes of all dead in-scope blocks: zero for those that died in their frame. */
static void lifetimes(struct model *model)
{
	const struct reader_array *records = reader_array(model->reader, TRACE_KIND_LIFETIME, 0);
	for (uint32_t i = 0; i < records->count; i++) {
		const struct trace_lifetime *record = reader_at(records, i);
		if (record->site >= model->site_count)
			continue;
		struct model_site *site = &model->sites[record->site];
		uint64_t zero = site->verdicts.died_in_segment + site->verdicts.died_in_frame +
				site->verdicts.crossed_await + site->verdicts.died_elsewhere;
		uint64_t total = zero, seen = zero;
		for (uint32_t b = 0; b < TRACE_LIFETIME_BUCKETS; b++)
			total += record->bucket[b];
		uint64_t *quantile[2] = {&site->lifetime_p50, &site->lifetime_p95};
		uint64_t rank[2] = {(total + 1) / 2, (total * 95 + 99) / 100};
		for (uint32_t b = 0; b < TRACE_LIFETIME_BUCKETS; b++) {
			seen += record->bucket[b];
			for (int q = 0; q < 2; q++)
				if (!*quantile[q] && rank[q] > zero && seen >= rank[q])
					*quantile[q] = trace_lifetime_low(b) < record->max ? trace_lifetime_low(b)
											   : record->max;
		}
		site->lifetime_max = record->max;
	}
}

static int sum_regions(struct model *model)
{
	const struct reader_array *tags = reader_array(model->reader, TRACE_KIND_TAG, 0);
	if (tags->count < 2)
		return 0;
	model->regions = calloc(tags->count, sizeof *model->regions);
	if (!model->regions)
		return -ENOMEM;
	model->region_count = tags->count;
	for (uint32_t i = 0; i < tags->count; i++) {
		model->regions[i].tag = i;
		model->regions[i].record = reader_at(tags, i);
	}
	for (size_t i = 0; i < model->site_count; i++) {
		const struct model_site *site = &model->sites[i];
		if (site->record->tag >= tags->count)
			continue;
		struct model_region *region = &model->regions[site->record->tag];
		region->allocs += site->allocs;
		region->frees += site->frees;
		region->bytes += site->bytes;
		add_level(&region->live_blocks, site->live_blocks);
		add_level(&region->live_bytes, site->live_bytes);
		region->live_bytes_at_peak += site->record->live_bytes_at_peak;
		add_verdicts(&region->verdicts, &site->verdicts);
		if (site->record->tag_owner)
			region->foreign += site->allocs;
	}
	return 0;
}

static void add_task(struct model_task *sum, const struct trace_task_count *count)
{
	sum->started += count->started;
	sum->ended += count->ended;
	sum->polls += count->polls;
	sum->allocs += count->allocs;
	sum->bytes += count->bytes;
	sum->crossed_await += count->crossed_await;
	sum->left_blocks += count->left_blocks;
	sum->left_bytes += count->left_bytes;
	sum->lifetime_ns += count->lifetime_ns;
}

static int sum_tasks(struct model *model)
{
	const struct reader_array *types = reader_array(model->reader, TRACE_KIND_TASK_TYPE, 0);
	const struct reader_array *counts = reader_array(model->reader, TRACE_KIND_TASK_COUNT, 0);
	model->tasks = calloc(types->count + 1u, sizeof *model->tasks);
	if (!model->tasks)
		return -ENOMEM;
	model->task_count = types->count;
	for (uint32_t i = 0; i < types->count; i++)
		model->tasks[i].record = reader_at(types, i);
	for (uint32_t i = 0; i < counts->count; i++) {
		const struct trace_task_count *count = reader_at(counts, i);
		if (count->type >= types->count)
			continue;
		add_task(&model->tasks[count->type], count);
		add_task(&model->task_total, count);
	}
	return 0;
}

static void sum_threads(struct model *model)
{
	const struct reader_array *threads = reader_array(model->reader, TRACE_KIND_THREAD, 0);
	for (uint32_t i = 0; i < threads->count; i++) {
		const struct trace_thread *thread = reader_at(threads, i);
		for (int tier = 0; tier < TRACE_TIERS; tier++) {
			const struct trace_sums *sums = &thread->tier[tier];
			model->tier[tier].allocs += sums->allocs;
			model->tier[tier].frees += sums->frees;
			model->tier[tier].bytes += sums->bytes;
			add_level(&model->tier[tier].live_bytes, trace_live(sums));
			model->allocs += sums->allocs;
			model->frees += sums->frees;
			model->bytes += sums->bytes;
			add_level(&model->live_bytes, trace_live(sums));
		}
	}
	model->peak_bytes = model->reader->header.peak_bytes;
	uint64_t most = model->peak_bytes + model->reader->header.peak_error_bytes;
	if (model->live_bytes > (int64_t)model->peak_bytes)
		model->peak_bytes = (uint64_t)model->live_bytes;
	model->peak_error_bytes = most > model->peak_bytes ? most - model->peak_bytes : 0;
	for (int tier = 0; tier < TRACE_TIERS; tier++) {
		model->tier[tier].peak_bytes = model->reader->header.tier_peak_bytes[tier];
		if (model->tier[tier].live_bytes > (int64_t)model->tier[tier].peak_bytes)
			model->tier[tier].peak_bytes = (uint64_t)model->tier[tier].live_bytes;
	}
}

static int add_violation(struct model *model, struct model_violation violation)
{
	struct model_violation *grown = realloc(model->violations, (model->violation_count + 1) * sizeof *grown);
	if (!grown)
		return -ENOMEM;
	model->violations = grown;
	grown[model->violation_count++] = violation;
	return 0;
}

static struct model_violation derived(const struct model_site *site, uint32_t code, uint64_t count, uint64_t value,
				      uint64_t limit)
{
	const struct code_info *info = codes_find(code);
	uint64_t mean = site->allocs ? site->bytes / site->allocs : 0;
	return (struct model_violation){.code = code,
					.level = info ? info->level : TRACE_LEVEL_WARN,
					.site = site->index,
					.count = count,
					.bytes = count * mean,
					.value = value,
					.limit = limit,
					.thread = UINT32_MAX};
}

uint32_t model_path(const struct model *model, const struct model_violation *v)
{
	uint32_t born = v->site && v->site < model->site_count ? model->sites[v->site].record->node : 0;
	return born ? born : v->other;
}

bool model_is_derived(uint32_t code)
{
	return code == 502 || code == 510 || code == 520 || code == 801;
}

/* The codes that are rates over a site's blocks, and blocks that never died though their frame ended. */
static int derive(struct model *model, const struct model_site *site)
{
	const uint64_t *limit = model->reader->header.thresholds;
	const struct model_verdicts *v = &site->verdicts;
	/* A share of nothing is none, whatever a damaged recording has for a limit. */
	uint64_t samples = limit[TRACE_THRESHOLD_MIN_SAMPLES] ? limit[TRACE_THRESHOLD_MIN_SAMPLES] : 1;
	uint64_t in_scope = births_in(site->births);
	uint64_t survived = v->outlived_frame + site->old_alive;
	int error = 0;
	if (site->births[TRACE_BIRTH_FRAME_IN] && in_scope >= samples &&
	    survived * 100 > in_scope * limit[TRACE_THRESHOLD_SURVIVAL])
		error = add_violation(model, derived(site, 502, survived, survived * 100 / in_scope,
						     limit[TRACE_THRESHOLD_SURVIVAL]));
	uint64_t pool = site->births[TRACE_BIRTH_POOL_IN] + site->births[TRACE_BIRTH_POOL_OUT];
	uint64_t scratch = v->died_in_segment + site->died_in_segment_outside;
	if (!error && !site->in_tasks && pool >= samples && site->allocs >= pool && pool * 2 > site->allocs &&
	    scratch * 100 >= site->allocs * limit[TRACE_THRESHOLD_SCRATCH])
		error = add_violation(model, derived(site, 510, scratch, scratch * 100 / site->allocs,
						     limit[TRACE_THRESHOLD_SCRATCH]));
	uint64_t span = site->last_move_frame >= site->first_move_frame
				? site->last_move_frame - (uint64_t)site->first_move_frame + 1
				: 1;
	if (!error && site->tier_moves >= samples && site->tier_moves * 100 > span * limit[TRACE_THRESHOLD_CHURN]) {
		struct model_violation churn = derived(site, 520, site->tier_moves, site->tier_moves * 100 / span,
						       limit[TRACE_THRESHOLD_CHURN]);
		churn.first_frame = site->first_move_frame;
		churn.last_frame = site->last_move_frame;
		error = add_violation(model, churn);
	}
	if (!error && site->record->tag_owner && site->allocs) {
		struct model_violation mismatch = derived(site, 801, site->allocs, 0, 0);
		mismatch.bytes = site->bytes;
		mismatch.tag = site->record->tag;
		error = add_violation(model, mismatch);
	}
	if (!error && site->old_alive) {
		struct model_violation escape = derived(site, 601, site->old_alive, 0, 0);
		escape.never_died = true;
		error = add_violation(model, escape);
	}
	return error;
}

static int recorded(struct model *model)
{
	const struct reader_array *records = reader_array(model->reader, TRACE_KIND_VIOLATION, 0);
	int error = 0;
	for (uint32_t i = 0; i < records->count && !error; i++) {
		const struct trace_violation *r = reader_at(records, i);
		if (r->code && r->count)
			error = add_violation(
				model, (struct model_violation){.code = r->code,
								.level = r->level <= TRACE_LEVEL_ERROR
										 ? (enum trace_level)r->level
										 : TRACE_LEVEL_ERROR,
								.site = r->site,
								.other = r->other,
								.count = r->count,
								.bytes = r->bytes,
								.first_frame = r->first_frame,
								.last_frame = r->last_frame,
								.worst_lifetime_frames = r->worst_lifetime_frames,
								.value = r->value,
								.limit = r->limit,
								.thread = r->thread,
								.tag = r->tag,
								.role = r->role,
								.record = r});
	}
	return error;
}

bool model_policy_level(const struct model *model, uint32_t code, enum trace_level *level)
{
	int place = codes_place(code);
	uint8_t given = place >= 0 && place < 64 ? model->reader->header.code_level[place] : 0;
	if (!given || given > TRACE_LEVEL_ERROR + 1)
		return false;
	*level = (enum trace_level)(given - 1);
	return true;
}

static void take_levels(struct model *model)
{
	for (size_t i = 0; i < model->violation_count; i++) {
		struct model_violation *v = &model->violations[i];
		v->denied = model_policy_level(model, v->code, &v->level) && v->level == TRACE_LEVEL_ERROR;
	}
}

static int take_suppressions(struct model *model)
{
	const struct reader_array *records = reader_array(model->reader, TRACE_KIND_SUPPRESSION, 0);
	model->suppressions = calloc(records->count + 1, sizeof *model->suppressions);
	if (!model->suppressions)
		return -ENOMEM;
	model->suppression_count = records->count;
	for (uint32_t i = 0; i < records->count; i++)
		model->suppressions[i].record = reader_at(records, i);
	return 0;
}

static int by_weight(const void *left, const void *right)
{
	const struct model_violation *a = left, *b = right;
	if (a->level != b->level)
		return a->level < b->level ? 1 : -1;
	if (a->bytes != b->bytes)
		return a->bytes < b->bytes ? 1 : -1;
	if (a->count != b->count)
		return a->count < b->count ? 1 : -1;
	return a->code < b->code ? -1 : a->code > b->code ? 1 : a->site < b->site ? -1 : 1;
}

static bool still_running(const struct trace_header *header)
{
	char path[64], text[1024];
	snprintf(path, sizeof path, "/proc/%u/stat", header->pid);
	FILE *file = fopen(path, "r");
	size_t bytes = file ? fread(text, 1, sizeof text - 1, file) : 0;
	if (file)
		fclose(file);
	text[bytes] = 0;
	char *cursor = strrchr(text, ')');
	if (!cursor || cursor[1] != ' ' || cursor[2] == 'Z')
		return false;
	for (int field = 2; cursor && field < 22; field++)
		cursor = strchr(cursor + 1, ' ');
	return cursor && strtoull(cursor, NULL, 10) == header->start_ticks;
}

static void describe_end(struct model *model)
{
	const struct trace_header *header = &model->reader->header;
	uint64_t end = header->end_ns ? header->end_ns : header->last_ns;
	if (header->ended == TRACE_ENDED_EXIT) {
		model->ended = "exit";
	} else if (header->ended == TRACE_ENDED_SIGNAL) {
		model->ended = "signal";
	} else if (still_running(header)) {
		model->ended = "running";
		end = reader_now_ns();
	} else {
		model->ended = "unknown";
		model->lived_longer = true;
	}
	model->duration_ns = end > header->start_ns ? end - header->start_ns : 0;
}

int model_build(struct model *model, const struct reader *reader)
{
	*model = (struct model){.reader = reader};
	int error = sum_sites(model);
	if (error)
		return error;
	lifetimes(model);
	sum_threads(model);
	describe_end(model);
	error = sum_regions(model);
	if (!error)
		error = sum_tasks(model);
	if (!error)
		error = model_frames_build(model);
	if (!error)
		error = recorded(model);
	for (size_t i = 1; i < model->site_count && !error; i++)
		error = derive(model, &model->sites[i]);
	if (!error)
		error = take_suppressions(model);
	take_levels(model);
	model->violations_lost = reader->header.losses[TRACE_LOSS_VIOLATIONS];
	if (model->violation_count)
		qsort(model->violations, model->violation_count, sizeof *model->violations, by_weight);
	return error;
}

void model_free(struct model *model)
{
	for (size_t i = 0; i < model->frames_count; i++)
		free(model->frames[i].series);
	free(model->frames);
	free(model->violations);
	free(model->suppressions);
	free(model->regions);
	free(model->tasks);
	free(model->sites);
	*model = (struct model){0};
}
