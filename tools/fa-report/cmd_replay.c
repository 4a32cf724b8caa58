/* What would have been, had other tiers served some sites: every event again, on a model of the tiers' room. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tools/fa-report/events.h"
#include "tools/fa-report/report.h"

#define SPAN_BYTES 65536u /* of the frame tier, with its header: core/tier/frame.h */
#define SPAN_FIRST 64u
#define HEADER_BYTES 16u
#define FRAME_MAX 16384u /* largest blocks of the tiers, by default: core/registry/thresholds.def */
#define POOL_MAX 4096u
#define THREADS 4096u

struct span {
	uint32_t live;
	bool full;
};

/* The frame tier of one thread: spans that are filled one after the other, and taken again when nothing in them lives. */
struct arena {
	size_t room; /* left in the current span */
	uint32_t span; /* its number in `spans`, + 1 */
};

/* One way to serve everything. */
struct way {
	struct {
		uint64_t allocs, bytes;
		int64_t live, peak;
	} tier[TRACE_TIERS];
	uint64_t escapes; /* blocks of the frame tier alive at the end of their frame */
	uint64_t frame_ends, pinned, pinned_most; /* spans pinned, summed and at once */
	struct span *spans;
	uint32_t span_count, span_room, full; /* full: left with something alive in them */
	uint32_t *free_spans, free_count;
	struct arena arena[THREADS];
	uint64_t alive_in_frame[THREADS];
};

struct living {
	uint64_t birth; /* + 1; 0: empty */
	uint64_t usable;
	uint32_t frame;
	uint16_t thread;
	uint8_t tier[2];
	uint32_t span[2]; /* + 1 */
};

struct replay {
	struct way way[2]; /* as it was, as it would be */
	struct living *table;
	size_t room, used;
	uint32_t open_frame[THREADS]; /* by thread, 0: none */
	const int8_t *route; /* by site: a tier, -1 as it was */
	size_t sites;
	bool out_of_memory;
};

static struct living *find(struct replay *replay, uint64_t birth)
{
	size_t at = (size_t)(birth * 0x9e3779b97f4a7c15u >> 20) & (replay->room - 1);
	while (replay->table[at].birth && replay->table[at].birth != birth + 1)
		at = (at + 1) & (replay->room - 1);
	return &replay->table[at];
}

static bool make_room(struct replay *replay)
{
	if ((replay->used + 1) * 4 <= replay->room * 3)
		return true;
	struct living *old = replay->table;
	size_t room = replay->room;
	replay->table = calloc(room * 2, sizeof *old);
	if (!replay->table) {
		replay->table = old;
		return false;
	}
	replay->room = room * 2;
	for (size_t i = 0; i < room; i++)
		if (old[i].birth)
			*find(replay, old[i].birth - 1) = old[i];
	free(old);
	return true;
}

static void forget(struct replay *replay, struct living *gone)
{
	size_t mask = replay->room - 1, hole = (size_t)(gone - replay->table);
	for (size_t at = (hole + 1) & mask; replay->table[at].birth; at = (at + 1) & mask) {
		size_t home = (size_t)((replay->table[at].birth - 1) * 0x9e3779b97f4a7c15u >> 20) & mask;
		if (((at - home) & mask) >= ((at - hole) & mask)) {
			replay->table[hole] = replay->table[at];
			hole = at;
		}
	}
	replay->table[hole].birth = 0;
	replay->used--;
}

static bool spans_grow(struct way *way)
{
	uint32_t room = way->span_room ? way->span_room * 2 : 64;
	struct span *spans = realloc(way->spans, room * sizeof *spans);
	if (!spans)
		return false;
	way->spans = spans;
	uint32_t *free_spans = realloc(way->free_spans, room * sizeof *free_spans);
	if (!free_spans)
		return false;
	way->free_spans = free_spans;
	way->span_room = room;
	return true;
}

/* The span that `bytes` of this thread's frame memory lie in, + 1; 0: no memory for the model. */
static uint32_t span_take(struct way *way, uint32_t thread, size_t bytes)
{
	struct arena *arena = &way->arena[thread];
	if (arena->span && bytes <= arena->room) {
		arena->room -= bytes;
		way->spans[arena->span - 1].live++;
		return arena->span;
	}
	if (arena->span) {
		struct span *left = &way->spans[arena->span - 1];
		left->full = left->live != 0;
		way->full += left->full;
		if (!left->full)
			way->free_spans[way->free_count++] = arena->span - 1;
	}
	uint32_t number;
	if (way->free_count) {
		number = way->free_spans[--way->free_count];
	} else {
		if (way->span_count == way->span_room && !spans_grow(way))
			return 0;
		number = way->span_count++;
	}
	way->spans[number] = (struct span){.live = 1};
	*arena = (struct arena){SPAN_BYTES - SPAN_FIRST - bytes, number + 1};
	return arena->span;
}

static void span_give(struct way *way, uint32_t thread, uint32_t span)
{
	struct span *of = &way->spans[span - 1];
	if (--of->live)
		return;
	if (way->arena[thread].span == span)
		way->arena[thread].room = SPAN_BYTES - SPAN_FIRST;
	if (!of->full)
		return;
	of->full = false;
	way->full--;
	way->free_spans[way->free_count++] = span - 1;
}

static uint32_t allowed(int route, const struct events_event *event)
{
	if (route < 0)
		return event->tier;
	if (route == TRACE_TIER_FRAME && event->frame && event->size <= FRAME_MAX)
		return TRACE_TIER_FRAME;
	return route != TRACE_TIER_HEAP && event->size <= POOL_MAX ? TRACE_TIER_POOL : TRACE_TIER_HEAP;
}

static void birth(struct replay *replay, const struct events_event *event)
{
	if (!make_room(replay)) {
		replay->out_of_memory = true;
		return;
	}
	uint32_t thread = event->thread % THREADS;
	struct living *living = find(replay, event->birth);
	replay->used += !living->birth;
	*living = (struct living){.birth = event->birth + 1,
				  .usable = event->size ? (event->size + 15) & ~15ull : 16,
				  .frame = event->frame,
				  .thread = (uint16_t)thread};
	for (int w = 0; w < 2; w++) {
		struct way *way = &replay->way[w];
		int route = w && event->site < replay->sites ? replay->route[event->site] : -1;
		uint32_t tier = allowed(route, event);
		living->tier[w] = (uint8_t)tier;
		way->tier[tier].allocs++;
		way->tier[tier].bytes += event->size;
		way->tier[tier].live += (int64_t)living->usable;
		if (way->tier[tier].live > way->tier[tier].peak)
			way->tier[tier].peak = way->tier[tier].live;
		if (tier != TRACE_TIER_FRAME)
			continue;
		if (living->usable + HEADER_BYTES <= SPAN_BYTES - SPAN_FIRST)
			living->span[w] = span_take(way, thread, living->usable + HEADER_BYTES);
		way->alive_in_frame[thread] += event->frame != 0;
	}
	if (event->frame)
		replay->open_frame[thread] = event->frame;
}

static void death(struct replay *replay, const struct events_event *event)
{
	struct living *living = find(replay, event->birth);
	if (!living->birth)
		return; /* of a block of events that could not be read */
	for (int w = 0; w < 2; w++) {
		struct way *way = &replay->way[w];
		way->tier[living->tier[w]].live -= (int64_t)living->usable;
		if (living->span[w])
			span_give(way, living->thread, living->span[w]);
		if (living->tier[w] == TRACE_TIER_FRAME && living->frame &&
		    living->frame == replay->open_frame[living->thread])
			way->alive_in_frame[living->thread]--;
	}
	forget(replay, living);
}

static void frame_end(struct replay *replay, uint32_t thread)
{
	for (int w = 0; w < 2; w++) {
		struct way *way = &replay->way[w];
		struct arena *arena = &way->arena[thread];
		uint64_t pinned = way->full + (arena->span && way->spans[arena->span - 1].live);
		way->frame_ends++;
		way->pinned += pinned;
		if (pinned > way->pinned_most)
			way->pinned_most = pinned;
		way->escapes += way->alive_in_frame[thread];
		way->alive_in_frame[thread] = 0;
	}
	replay->open_frame[thread] = 0;
}

static void each(void *context, const struct events_event *event)
{
	struct replay *replay = context;
	if (event->op == EVENTS_BIRTH)
		birth(replay, event);
	else if (event->op == EVENTS_DEATH)
		death(replay, event);
	else if (event->op == EVENTS_MARK && event->tier == EVENTS_FRAME_END)
		frame_end(replay, event->thread % THREADS);
}

static const char *change(uint64_t before, uint64_t after)
{
	static char text[4][32];
	static int next;
	char *out = text[next++ % 4];
	if (before == after)
		return "";
	snprintf(out, sizeof text[0], "  (%+.1f %%)",
		 before ? 100.0 * ((double)after - (double)before) / (double)before : 100.0);
	return out;
}

static void print(struct report *report, const struct replay *replay, size_t routed)
{
	const struct way *was = &replay->way[0], *is = &replay->way[1];
	fprintf(report->out, "%s\n  replayed    %zu sites routed anew\n", report->path, routed);
	for (int tier = 0; tier < TRACE_TIERS; tier++)
		fprintf(report->out, "  %-11s %s -> %s allocations, %s -> %s requested, peak %s -> %s%s\n",
			text_tier(tier), text_count(was->tier[tier].allocs), text_count(is->tier[tier].allocs),
			text_bytes((double)was->tier[tier].bytes), text_bytes((double)is->tier[tier].bytes),
			text_bytes((double)was->tier[tier].peak), text_bytes((double)is->tier[tier].peak),
			change((uint64_t)was->tier[tier].peak, (uint64_t)is->tier[tier].peak));
	fprintf(report->out, "  escapes     %s -> %s blocks of the frame tier alive at the end of their frame%s\n",
		text_count(was->escapes), text_count(is->escapes), change(was->escapes, is->escapes));
	double ends = was->frame_ends ? (double)was->frame_ends : 1;
	fprintf(report->out, "  pinned      %s -> %s of frame memory at a frame's end, at most %s -> %s\n",
		text_bytes((double)was->pinned * SPAN_BYTES / ends), text_bytes((double)is->pinned * SPAN_BYTES / ends),
		text_bytes((double)was->pinned_most * SPAN_BYTES), text_bytes((double)is->pinned_most * SPAN_BYTES));
}

/* SITE=TIER, where SITE is a number as in the JSON, a function's name as in the text, or `all`. Returns how many sites. */
static size_t route_one(struct report *report, const char *text, int8_t *route)
{
	const char *equals = strrchr(text, '=');
	int tier = -1;
	for (int t = 0; equals && t < TRACE_TIERS; t++)
		if (!strcmp(equals + 1, text_tier(t)))
			tier = t;
	if (tier < 0) {
		fprintf(stderr, "fa-report: --route %s: SITE=frame, SITE=pool or SITE=heap\n", text);
		exit(2);
	}
	size_t length = (size_t)(equals - text), found = 0;
	char *end;
	unsigned long number = strtoul(text, &end, 10);
	bool all = length == 3 && !strncmp(text, "all", 3);
	for (size_t i = 0; i < report->model.site_count; i++) {
		const struct model_site *site = &report->model.sites[i];
		const struct symbol_frame *frame =
			end == equals || all ? NULL : text_headline(report, site->record->node).frame;
		bool named = frame && frame->function && strlen(frame->function) == length &&
			     !strncmp(frame->function, text, length);
		if (!(all || named || (end == equals && site->index == number)))
			continue;
		route[i] = (int8_t)tier;
		found++;
	}
	if (!found) {
		fprintf(stderr, "fa-report: --route %s: no such site; `fa-report sites` names them\n", text);
		exit(2);
	}
	return found;
}

void cmd_replay(struct report *report)
{
	if (!report->reader.header.level_full) {
		fprintf(stderr, "fa-report: %s was recorded without events; fa-run --level full records them\n",
			report->path);
		exit(2);
	}
	struct replay *replay = calloc(1, sizeof *replay);
	int8_t *route = malloc(report->model.site_count + 1);
	struct events_totals totals;
	size_t routed = 0;
	if (replay)
		replay->table = calloc(replay->room = 1 << 16, sizeof *replay->table);
	if (!replay || !route || !replay->table) {
		fprintf(stderr, "fa-report: %s: out of memory\n", report->path);
		exit(2);
	}
	memset(route, -1, report->model.site_count + 1);
	for (size_t i = 0; i < report->options.routes; i++)
		routed += route_one(report, report->options.route[i], route);
	replay->route = route;
	replay->sites = report->model.site_count;
	if (!events_read(report->path, each, replay, true, &totals)) {
		fprintf(stderr, "fa-report: %s.events: there are no events; they are recorded by fa-run --level full\n",
			report->path);
		exit(2);
	}
	if (totals.damage[0])
		fprintf(stderr, "fa-report: %s\n", totals.damage);
	if (totals.lost || replay->out_of_memory)
		fprintf(stderr, "fa-report: %s events are missing from the replay\n",
			replay->out_of_memory ? "for want of memory, some" : text_count(totals.lost));
	print(report, replay, routed);
	for (int w = 0; w < 2; w++) {
		free(replay->way[w].spans);
		free(replay->way[w].free_spans);
	}
	free(replay->table);
	free(replay);
	free(route);
}
