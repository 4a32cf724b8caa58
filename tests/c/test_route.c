/* sources: core/check.c core/registry/codes.c; libs: */
/* The pure decisions: which tier serves a block, and what a death means. Every row of DESIGN's tables. */
#include <assert.h>
#include <stdio.h>

#include "core/check.h"
#include "core/route.h"
#include "core/tier/pool.h"

static enum trace_tier pick(enum trace_role role, bool in_frame, bool in_task, bool demoted, size_t size, size_t align)
{
	struct route_request request = {.size = size,
					.align = align,
					.role = role,
					.in_frame = in_frame,
					.in_task = in_task,
					.demoted = demoted,
					.frame_max = 16384,
					.pool_max = 4096};
	return route_pick(&request);
}

static void test_route(void)
{
	assert(pick(TRACE_ROLE_NONE, false, false, false, 64, 0) == TRACE_TIER_HEAP);
	assert(pick(TRACE_ROLE_FRAME, false, false, false, 64, 0) == TRACE_TIER_HEAP);
	assert(pick(TRACE_ROLE_FRAME, true, false, false, 64, 0) == TRACE_TIER_FRAME);
	assert(pick(TRACE_ROLE_FRAME, true, false, false, 16384, 16) == TRACE_TIER_FRAME);
	assert(pick(TRACE_ROLE_FRAME, true, false, false, 16385, 0) == TRACE_TIER_HEAP);
	assert(pick(TRACE_ROLE_FRAME, true, false, false, 64, 32) == TRACE_TIER_HEAP);
	assert(pick(TRACE_ROLE_FRAME, true, false, true, 64, 0) == TRACE_TIER_POOL);
	assert(pick(TRACE_ROLE_FRAME, true, false, true, 4097, 0) == TRACE_TIER_HEAP);
	assert(pick(TRACE_ROLE_FRAME, true, true, false, 64, 0) == TRACE_TIER_POOL);
	assert(pick(TRACE_ROLE_WORKER, false, false, false, 4096, 0) == TRACE_TIER_POOL);
	assert(pick(TRACE_ROLE_ASYNC, false, false, false, 4097, 0) == TRACE_TIER_HEAP);
	assert(pick(TRACE_ROLE_IO, false, false, false, 1, 0) == TRACE_TIER_POOL);
	assert(route_resize(TRACE_TIER_FRAME, TRACE_TIER_HEAP, 64, 4096) == TRACE_TIER_HEAP);
	assert(route_resize(TRACE_TIER_FRAME, TRACE_TIER_FRAME, 64, 4096) == TRACE_TIER_POOL);
	assert(route_resize(TRACE_TIER_FRAME, TRACE_TIER_FRAME, 5000, 4096) == TRACE_TIER_HEAP);
	assert(route_resize(TRACE_TIER_HEAP, TRACE_TIER_FRAME, 64, 4096) == TRACE_TIER_HEAP);
}

static void expect(struct check_birth birth, struct check_death death, uint32_t owner_frame, enum check_verdict verdict,
		   uint32_t code, uint32_t lifetime)
{
	struct check_result result = check_death(&birth, &death, owner_frame);
	assert(result.verdict == verdict);
	assert(result.code == code);
	assert(result.lifetime_frames == lifetime);
}

static void test_check(void)
{
	struct check_birth open = {.in_scope = true, .scope_open = true, .thread = 1, .frame = 7, .awaits = 2};
	struct check_birth ended = {.in_scope = true, .scope_open = false, .thread = 1, .frame = 7, .awaits = 2};
	struct check_birth outside = {.thread = 1};
	expect(outside, (struct check_death){.thread = 2, .frame = 9}, 9, CHECK_OUTSIDE_SCOPES, 0, 0);
	expect(open, (struct check_death){.thread = 1, .frame = 7, .awaits = 2}, 7, CHECK_DIED_IN_FRAME, 0, 0);
	expect(open, (struct check_death){.thread = 1, .frame = 7, .awaits = 3}, 7, CHECK_CROSSED_AWAIT, 603, 0);
	expect(open, (struct check_death){.thread = 2, .awaits = 2}, 7, CHECK_DIED_ELSEWHERE, 201, 0);
	expect(ended, (struct check_death){.thread = 1, .frame = 8, .awaits = 2}, 8, CHECK_OUTLIVED_FRAME, 601, 1);
	expect(ended, (struct check_death){.thread = 1, .frame = 70, .awaits = 9}, 70, CHECK_OUTLIVED_FRAME, 601, 63);
	expect(ended, (struct check_death){.thread = 2}, 12, CHECK_OUTLIVED_FRAME, 205, 5);
	expect(ended, (struct check_death){.thread = 2}, 7, CHECK_OUTLIVED_FRAME, 205, 1); /* the owner has exited */
	/* A frame block that ends inside a task: another code, the same verdict; none where the frame's own code has none. */
	struct check_death in_task = {.thread = 1, .frame = 7, .awaits = 2, .task = 5, .task_awaits = 9};
	expect(open, in_task, 7, CHECK_DIED_IN_FRAME, 0, 0);
	in_task.awaits = 3;
	expect(open, in_task, 7, CHECK_CROSSED_AWAIT, 703, 0);
	expect(open, (struct check_death){.thread = 2, .task = 5}, 7, CHECK_DIED_ELSEWHERE, 703, 0);
	expect(ended, (struct check_death){.thread = 1, .frame = 8, .task = 5}, 8, CHECK_OUTLIVED_FRAME, 703, 1);
	/* A task's block: no code, whatever becomes of it. */
	struct check_birth task = {.in_scope = true, .scope_open = true, .thread = 1, .task = 5, .awaits = 4};
	expect(task, (struct check_death){.thread = 1, .task = 5, .task_awaits = 4}, 0, CHECK_DIED_IN_FRAME, 0, 0);
	expect(task, (struct check_death){.thread = 3, .task = 5, .task_awaits = 6}, 0, CHECK_CROSSED_AWAIT, 0, 0);
	expect(task, (struct check_death){.thread = 1, .task = 6, .task_awaits = 4}, 0, CHECK_DIED_ELSEWHERE, 0, 0);
	expect(task, (struct check_death){.thread = 1, .frame = 3, .awaits = 4}, 0, CHECK_DIED_ELSEWHERE, 0, 0);
	task.scope_open = false;
	expect(task, (struct check_death){.thread = 1, .task = 6}, 0, CHECK_OUTLIVED_FRAME, 0, 0);
	assert(check_level(601, false) == TRACE_LEVEL_WARN);
	assert(check_level(601, true) == TRACE_LEVEL_ERROR);
	assert(check_level(901, false) == TRACE_LEVEL_ERROR);
	assert(check_level(602, true) == TRACE_LEVEL_HINT);
}

static void test_pool_classes(void)
{
	for (size_t usable = 16; usable <= 8192; usable += 16) {
		uint32_t class_index = pool_class(usable);
		assert(class_index < THREAD_POOL_CLASSES);
		assert(pool_class_bytes(class_index) >= usable);
		assert(class_index == 0 || pool_class_bytes(class_index - 1) < usable);
		assert(pool_class_bytes(class_index) % 16 == 0);
		assert(pool_class_bytes(class_index) - usable <= usable / 4);
	}
}

static void test_format(void)
{
	uint32_t last = 0;
	for (uint64_t value = 0; value < 1ull << 42; value += 1 + value / 977) {
		uint32_t bucket = trace_hist_bucket(value);
		assert(bucket >= last && bucket < TRACE_HIST_BUCKETS);
		assert(trace_hist_low(bucket) <= value);
		assert(bucket + 1 == TRACE_HIST_BUCKETS || trace_hist_low(bucket + 1) > value);
		last = bucket;
	}
	for (uint64_t frames = 1; frames < 100000; frames++) {
		uint32_t bucket = trace_lifetime_bucket(frames);
		assert(bucket < TRACE_LIFETIME_BUCKETS && trace_lifetime_low(bucket) <= frames);
		assert(bucket + 1 == TRACE_LIFETIME_BUCKETS || trace_lifetime_low(bucket + 1) > frames);
	}
}

int main(void)
{
	test_route();
	test_check();
	test_pool_classes();
	test_format();
	puts("route, check, classes, histograms: ok");
	return 0;
}
