/* What frames have taught about sites: survivors, learned verdicts. What is looked at besides them. Inside a patched
   function: general registers only. */
#include "core/scope.h"

#include "core/account.h"
#include "core/counter.h"
#include "core/node.h"
#include "core/role.h"
#include "core/runtime.h"
#include "core/tier/frame.h"
#include "core/trace/writer.h"
#include "core/violation.h"

#define DEMOTIONS_JUDGED 2u /* a boundary looks at this many demoted sites */

/* Where the site's demotion is remembered. NULL: the thread has as many demoted sites as it can remember. */
static struct thread_demotion *demotion_of(struct thread *thread, uint32_t site)
{
	struct thread_demotion *over = NULL;
	for (uint32_t i = 0; i < thread->demoted_count; i++) {
		struct thread_demotion *demotion = &thread->demoted[i];
		if (demotion->site == site)
			return demotion;
		if (!(counter_of(thread, demotion->site)->route & TRACE_ROUTE_DEMOTED))
			over = demotion;
	}
	if (thread->demoted_count < THREAD_DEMOTED_MAX)
		over = &thread->demoted[thread->demoted_count++];
	if (over)
		*over = (struct thread_demotion){.site = site, .wait_frames = (uint32_t)runtime.promote_frames / 2};
	return over;
}

void scope_demote(struct thread *thread, uint32_t site)
{
	struct trace_counter *counter = counter_of(thread, site);
	if (counter->route & TRACE_ROUTE_DEMOTED)
		return;
	struct thread_demotion *demotion = demotion_of(thread, site);
	if (likely(demotion != NULL)) {
		demotion->wait_frames *= 2;
		demotion->since_frame = thread->frame;
		demotion->escaped = counter->outlived_frame + counter->died_elsewhere;
		demotion->births = trace_counter_births(counter, TRACE_BIRTH_POOL_IN);
		demotion->live_bytes = trace_counter_live(counter);
	}
	account_forget(counter);
	__atomic_fetch_or(&counter->route, TRACE_ROUTE_DEMOTED, __ATOMIC_RELAXED);
	counter->pinned_bytes = 0;
	struct trace_site *record = trace_at(&trace_sites, site);
	__atomic_fetch_add(&record->demotions, 1, __ATOMIC_RELAXED);
}

/* No birth is counted, of 0 bytes neither, so that no plain one is granted. */
static bool is_new(const struct trace_counter *counter)
{
	for (int birth = 0; birth < TRACE_BIRTH_COUNT; birth++)
		if (trace_counter_births(counter, birth))
			return false;
	return true;
}

void scope_begin_outside(struct thread *thread, struct trace_counter *counter, size_t size)
{
	if (!thread->in_frame || thread->in_task || counter->route || size > runtime.pool_block_max || !is_new(counter))
		return;
	frame_look_for_sparse(thread); /* much may have died since */
	if (!thread->spans_sparse)
		return;
	account_forget(counter);
	__atomic_fetch_or(&counter->route, TRACE_ROUTE_DEMOTED, __ATOMIC_RELAXED);
}

void scope_judge_demotions(struct thread *thread)
{
	for (uint32_t n = 0; n < DEMOTIONS_JUDGED && n < thread->demoted_count; n++) {
		if (++thread->demoted_cursor >= thread->demoted_count)
			thread->demoted_cursor = 0;
		struct thread_demotion *demotion = &thread->demoted[thread->demoted_cursor];
		struct trace_counter *counter = counter_of(thread, demotion->site);
		if (!(counter->route & TRACE_ROUTE_DEMOTED) ||
		    thread->frame - demotion->since_frame < demotion->wait_frames)
			continue;
		uint64_t escaped = counter->outlived_frame + counter->died_elsewhere;
		uint64_t births = trace_counter_births(counter, TRACE_BIRTH_POOL_IN);
		bool behaved = escaped == demotion->escaped && trace_counter_live(counter) <= demotion->live_bytes;
		if (behaved && births - demotion->births >= runtime.options.threshold[TRACE_THRESHOLD_MIN_SAMPLES]) {
			struct trace_site *record = trace_at(&trace_sites, demotion->site);
			account_forget(counter);
			__atomic_fetch_and(&counter->route, (uint16_t)~TRACE_ROUTE_DEMOTED, __ATOMIC_RELAXED);
			__atomic_fetch_add(&record->promotions, 1, __ATOMIC_RELAXED);
			continue;
		}
		if (behaved) { /* it was not asked for enough to tell: looked at again in an eighth of its time */
			demotion->since_frame = thread->frame - demotion->wait_frames / 8 * 7;
			continue;
		}
		demotion->since_frame = thread->frame;
		demotion->escaped = escaped;
		demotion->births = births;
		demotion->live_bytes = trace_counter_live(counter);
	}
}

void scope_survivor(struct thread *thread, uint32_t site, size_t share)
{
	struct trace_counter *counter = counter_of(thread, site);
	counter->pinned_bytes += share;
	if (counter->route & TRACE_ROUTE_DEMOTED || counter->pinned_bytes < runtime.demote_bytes)
		return;
	/* A site that escapes now and then earns its place as long as it pins little of what it allocates, and little is pinned. */
	if (counter->pinned_bytes > counter->bytes / 4 || thread->pins_much)
		scope_demote(thread, site);
}

void scope_await_path(struct thread *thread, const uintptr_t *fp)
{
	if (scope_await_path_known(thread, fp))
		return;
	thread->await_node = node_of_call(thread, fp);
	thread->await_return = fp[1];
	thread->await_stack = (uintptr_t)fp;
}

void scope_end_abandoned(struct thread *thread)
{
	if (likely(!atomic_load_explicit(&thread->frame_abandoned, memory_order_relaxed)))
		return;
	atomic_store_explicit(&thread->frame_abandoned, false, memory_order_relaxed);
	if (thread->api_frames)
		return;
	scope_frame_end(thread);
	role_set(thread, TRACE_ROLE_NONE);
}

void scope_check_never_ends(struct thread *thread)
{
	const struct trace_thread *record = thread->record;
	if (!thread->in_frame || thread->frame < 2 || thread->never_ends_frame == thread->frame)
		return;
	struct trace_sums sums = trace_thread_sums(record);
	int64_t piled = sums.live_bytes - thread->at_frame.live_bytes;
	uint64_t limit = runtime.options.threshold[TRACE_THRESHOLD_NEVER_ENDS_BYTES];
	uint64_t limit_ns = runtime.options.threshold[TRACE_THRESHOLD_NEVER_ENDS_MS] * 1000000u;
	if (piled <= (int64_t)limit || clock_now(&thread->clock) - record->open_begin_ns <= limit_ns)
		return;
	struct account_level level = account_level(); /* others may have freed what this thread has made */
	if ((uint64_t)piled > level.live_bytes)
		piled = (int64_t)level.live_bytes;
	if (piled <= (int64_t)limit)
		return;
	thread->never_ends_frame = thread->frame;
	violation_threshold(thread, 604, 0, (uint64_t)piled, limit);
}
