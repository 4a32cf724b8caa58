/* Evidence of the candidates, and the choice. A candidate's evidence is written by one thread: the main thread for waits
   and sleeps, the first to call it for the others. The choice itself is made under a lock. */
#include "core/automatic.h"

#include "core/role.h"
#include "core/runtime.h"
#include "core/scope.h"
#include "core/slot.h"
#include "core/trace/writer.h"

#define WATCHED_MAX 64u
#define MS 1000000ull

/* What it takes to be called periodical: calls, and how long they went on. Presents leave no doubt; a few sleeps in a
   row may be a program that waits for something to load. */
static const struct {
	uint32_t calls;
	uint64_t span_ns;
} enough[] = {
	[POLICY_PRESENT - POLICY_PRESENT] = {4, 0},
	[POLICY_WAIT - POLICY_PRESENT] = {8, 100 * MS},
	[POLICY_SLEEP - POLICY_PRESENT] = {8, 250 * MS},
};
/* A loop that has nothing to do waits most of the time. One that is busy must go on for longer: talking to the X server
   at start-up looks the same at first. Many sleeps at even distances are a loop's that may be over within the second. */
#define WAITED_PERCENT 50u
#define LOOKS_PERCENT 6u
#define BUSY_SPAN_NS (1000 * MS)
#define EVEN_SPAN_NS (500 * MS)
#define EVEN_CALLS 100u
#define EVEN_JITTER_PERCENT 50u
#define PERIOD_MAX_NS (2000 * MS) /* slower than this is no loop that frames could follow */
#define EARLY_NS (60000 * MS) /* a choice may change this long after it was made */
#define SILENT_PERIODS 20u
#define SILENT_NS (1000 * MS)
#define PATIENCE 64u /* calls after which a candidate waits for no better one any more */

static struct {
	struct base_lock lock;
	struct binding *watched[WATCHED_MAX];
	uint32_t count;
	_Atomic(struct binding *) chosen;
	uint64_t first_choice_ns;
	bool changed;
} table;

_Atomic bool automatic_is_settled;
static _Atomic bool stopped;

void automatic_watch(struct binding *binding, uint32_t order)
{
	if (table.count == WATCHED_MAX)
		return;
	binding->evidence.order = order;
	table.watched[table.count++] = binding;
	if (trace_header->automatic == TRACE_AUTOMATIC_OFF)
		trace_header->automatic = TRACE_AUTOMATIC_SEARCHED;
}

static unsigned class_of(const struct binding *binding)
{
	return binding->described.candidate - POLICY_PRESENT;
}

static uint64_t period_ns(const struct evidence *evidence)
{
	return evidence->calls > 1 ? (evidence->last_ns - evidence->first_ns) / (evidence->calls - 1) : 0;
}

static uint64_t jitter_percent(const struct evidence *evidence)
{
	uint64_t span = evidence->last_ns - evidence->first_ns;
	return span ? evidence->deviation_ns * 100 / span : 0;
}

/* A wait that hardly waits: what paces the loop is another call. */
static bool only_looks(const struct binding *binding)
{
	const struct evidence *evidence = &binding->evidence;
	return class_of(binding) == POLICY_WAIT - POLICY_PRESENT && !binding->address &&
	       evidence->waited_ns < (evidence->last_ns - evidence->first_ns) / 100 * LOOKS_PERCENT;
}

/* Of two that are called about as often. */
static bool better(const struct binding *a, const struct binding *b)
{
	if (only_looks(a) != only_looks(b))
		return only_looks(b);
	return class_of(a) != class_of(b) ? class_of(a) < class_of(b) : a->evidence.order < b->evidence.order;
}

/* What is called as a loop would that has more to do than to wait. */
static bool goes_on(const struct binding *binding, uint64_t span)
{
	const struct evidence *evidence = &binding->evidence;
	return span >= BUSY_SPAN_NS ||
	       (class_of(binding) == POLICY_SLEEP - POLICY_PRESENT && span >= EVEN_SPAN_NS &&
		evidence->calls >= EVEN_CALLS && jitter_percent(evidence) <= EVEN_JITTER_PERCENT);
}

/* Two bursts with a pause between them are no period, nor are waits that double: no gap may be a third of the whole. */
static bool is_periodic(const struct binding *binding)
{
	const struct evidence *evidence = &binding->evidence;
	uint64_t span = evidence->last_ns - evidence->first_ns;
	unsigned class = class_of(binding);
	return evidence->calls >= enough[class].calls && span >= enough[class].span_ns &&
	       (class == 0 || evidence->gap_max_ns <= span / 3) && period_ns(evidence) <= PERIOD_MAX_NS &&
	       (class == 0 || binding->address || goes_on(binding, span) ||
		evidence->waited_ns >= span / 100 * WAITED_PERCENT);
}

/* A better candidate that is called about as often is about to qualify as well. */
static bool better_is_near(const struct binding *binding, uint64_t now)
{
	const struct evidence *own = &binding->evidence;
	for (uint32_t i = 0; i < table.count && own->calls < PATIENCE; i++) {
		const struct evidence *other = &table.watched[i]->evidence;
		if (table.watched[i] != binding && better(table.watched[i], binding) &&
		    other->calls * 2 >= own->calls && now - other->last_ns < 2 * period_ns(own) + MS)
			return true;
	}
	return false;
}

static char *add_text(char *at, const char *end, const char *text)
{
	return at + base_text_copy(at, (size_t)(end - at), text);
}

static char *add_number(char *at, const char *end, uint64_t value)
{
	char digits[24];
	*base_text_number(digits, value) = 0;
	return add_text(at, end, digits);
}

static char *add_time(char *at, const char *end, uint64_t ns)
{
	uint64_t unit = ns >= 1000 * MS ? 1000 * MS : ns >= MS ? MS : 1000;
	at = add_number(at, end, ns / unit);
	if (ns / unit < 100) {
		at = add_text(at, end, ".");
		at = add_number(at, end, ns % unit * 10 / unit);
	}
	return add_text(at, end, unit == MS ? " ms" : unit == 1000 ? " us" : " s");
}

/* "12 calls in 410 ms on thread 1234 (name): every 34.1 ms, jitter 3 %". */
static void describe(const struct binding *binding, const struct binding *before)
{
	const struct evidence *evidence = &binding->evidence;
	const struct trace_thread *thread = trace_at(&trace_threads, evidence->thread - 1);
	char *at = binding->record->reason;
	const char *end = at + sizeof binding->record->reason;
	at = add_number(at, end, evidence->calls);
	at = add_text(at, end, evidence->calls == 1 ? " call" : " calls");
	if (evidence->calls > 1) {
		at = add_text(at, end, " in ");
		at = add_time(at, end, evidence->last_ns - evidence->first_ns);
	}
	at = add_text(at, end, " on thread ");
	at = add_number(at, end, thread->tid);
	at = add_text(at, end, " (");
	at = add_text(at, end, thread->name);
	at = add_text(at, end, ")");
	if (evidence->calls > 1) {
		at = add_text(at, end, ": every ");
		at = add_time(at, end, period_ns(evidence));
		at = add_text(at, end, ", jitter ");
		at = add_number(at, end, jitter_percent(evidence));
		at = add_text(at, end, " %");
	}
	if (before) {
		at = add_text(at, end, "; it replaced ");
		at = add_text(at, end, before->described.name);
		add_text(at, end, ", taken at first");
	}
	binding->record->period_ns = period_ns(evidence);
	binding->record->jitter_percent = (uint32_t)jitter_percent(evidence);
	binding->record->thread = evidence->thread;
}

static void take(struct binding *binding, struct binding *before, uint64_t now)
{
	if (!marker_record(binding))
		return;
	if (before) {
		atomic_store_explicit(&before->kind, (uint32_t)before->described.candidate, memory_order_relaxed);
		before->record->kind = TRACE_MARKER_CANDIDATE;
		before->record->automatic = 0;
		describe(before, NULL);
		table.changed = true;
	} else {
		table.first_choice_ns = now;
	}
	binding->record->automatic = 1;
	binding->record->kind = TRACE_MARKER_FRAME;
	describe(binding, before);
	trace_header->automatic = TRACE_AUTOMATIC_FOUND;
	atomic_store_explicit(&binding->kind, POLICY_FRAME, memory_order_relaxed);
	atomic_store_explicit(&table.chosen, binding, memory_order_release);
}

static bool should_replace(const struct binding *binding, const struct binding *chosen, uint64_t now)
{
	if (table.changed || now - table.first_choice_ns > EARLY_NS)
		return false;
	bool as_often = period_ns(&binding->evidence) < 2 * period_ns(&chosen->evidence);
	if (better(binding, chosen) && (class_of(binding) < class_of(chosen) || (only_looks(chosen) && as_often)))
		return true;
	const struct trace_thread *thread = trace_at(&trace_threads, chosen->evidence.thread - 1);
	uint64_t silence = now - thread->open_begin_ns, period = period_ns(&chosen->evidence);
	return silence > SILENT_NS && silence > SILENT_PERIODS * period && binding->evidence.first_ns + SILENT_NS < now;
}

static void judge(struct binding *binding, uint64_t now)
{
	if (!is_periodic(binding) || !base_lock(&table.lock))
		return;
	struct binding *chosen = atomic_load(&table.chosen);
	if (atomic_load(&stopped)) {
		base_unlock(&table.lock);
		return;
	}
	if (!chosen ? !better_is_near(binding, now) : chosen != binding && should_replace(binding, chosen, now))
		take(binding, chosen, now);
	base_unlock(&table.lock);
}

/* No change is possible any more. */
static bool is_over(uint64_t now)
{
	bool over = atomic_load_explicit(&table.chosen, memory_order_relaxed) &&
		    (table.changed || now - table.first_choice_ns > EARLY_NS);
	if (over)
		atomic_store_explicit(&automatic_is_settled, true, memory_order_relaxed);
	return over;
}

static bool record_call(struct thread *thread, struct binding *binding, uint64_t now)
{
	struct evidence *evidence = &binding->evidence;
	if (!evidence->thread) {
		evidence->thread = thread->record_index + 1;
		evidence->first_ns = now;
		marker_record(binding);
	} else if (evidence->thread != thread->record_index + 1) {
		return false;
	} else {
		uint64_t gap = now - evidence->last_ns, period = period_ns(evidence);
		if (gap > PERIOD_MAX_NS && atomic_load_explicit(&table.chosen, memory_order_relaxed) != binding) {
			evidence->first_ns = now; /* what was before a pause says nothing about what begins now */
			evidence->calls = 0;
			evidence->deviation_ns = evidence->gap_max_ns = evidence->waited_ns = gap = 0;
		}
		if (evidence->calls > 1)
			evidence->deviation_ns += gap > period ? gap - period : period - gap;
		if (gap > evidence->gap_max_ns)
			evidence->gap_max_ns = gap;
	}
	evidence->last_ns = trace_header->last_ns = now;
	evidence->calls++;
	return true;
}

/* The boundary moved to another thread: this one's frame ends here. */
static void retire(struct thread *thread, const struct binding *binding)
{
	if (likely(!thread->in_frame || !binding->record || thread->record->boundary_marker != binding->index + 1))
		return;
	scope_frame_end(thread);
	role_set(thread, TRACE_ROLE_NONE);
}

/* Another thread calls what is the boundary: a loading screen's was the main thread's, the game's is the renderer's. It
   takes over when it has called as often as it takes and the first has fallen silent meanwhile. */
static bool takes_over(struct thread *thread, struct binding *binding, uint64_t now)
{
	static struct {
		uint32_t thread, calls;
		uint64_t since_ns;
	} rival;
	const struct trace_thread *record = trace_at(&trace_threads, binding->evidence.thread - 1);
	bool taken = false;
	if (!base_lock(&table.lock))
		return false;
	if (rival.thread != thread->record_index || record->open_begin_ns > rival.since_ns) {
		rival.thread = thread->record_index;
		rival.calls = 0;
		rival.since_ns = now;
	}
	if (++rival.calls >= enough[0].calls && now - rival.since_ns > period_ns(&binding->evidence)) {
		struct thread *before = slot_at(record->slot);
		binding->evidence.thread = thread->record_index + 1;
		describe(binding, NULL);
		if (before && before->record == record)
			atomic_store_explicit(&before->frame_abandoned, true, memory_order_relaxed);
		if (thread->role == TRACE_ROLE_NONE)
			role_set(thread, TRACE_ROLE_FRAME);
		taken = true;
	}
	base_unlock(&table.lock);
	return taken;
}

bool automatic_seen(struct thread *thread, struct binding *binding)
{
	if (atomic_load_explicit(&binding->kind, memory_order_relaxed) == POLICY_FRAME) {
		if (takes_over(thread, binding, base_now_ns()))
			return true;
		trace_add(&binding->record->calls_elsewhere, 1);
		return false;
	}
	if (class_of(binding) && thread->record->tid != trace_header->pid)
		return false;
	uint64_t now = base_now_ns();
	if (unlikely(is_over(now)) || !record_call(thread, binding, now)) {
		if (binding->record)
			trace_add(&binding->record->calls_elsewhere, 1);
		retire(thread, binding);
		return false;
	}
	judge(binding, now);
	if (atomic_load_explicit(&binding->kind, memory_order_relaxed) == POLICY_FRAME) {
		if (thread->role == TRACE_ROLE_NONE)
			role_set(thread, TRACE_ROLE_FRAME);
		return true;
	}
	if (binding->record)
		trace_add(&binding->record->calls_elsewhere, 1);
	retire(thread, binding);
	return false;
}

void automatic_waited(struct binding *binding)
{
	binding->evidence.waited_ns += base_now_ns() - binding->evidence.last_ns;
}

void automatic_stop(void)
{
	if (atomic_load_explicit(&stopped, memory_order_relaxed) || !base_lock(&table.lock))
		return;
	struct binding *chosen = atomic_load(&table.chosen);
	if (chosen) {
		atomic_store(&chosen->kind, (uint32_t)chosen->described.candidate);
		chosen->record->kind = TRACE_MARKER_CANDIDATE;
		chosen->record->automatic = 0;
		atomic_store(&table.chosen, NULL);
	}
	trace_header->automatic = TRACE_AUTOMATIC_OFF;
	atomic_store(&stopped, true);
	atomic_store(&automatic_is_settled, true);
	base_unlock(&table.lock);
}

void automatic_child(void)
{
	atomic_store(&stopped, false);
	for (uint32_t i = 0; i < table.count; i++) {
		struct binding *binding = table.watched[i];
		binding->evidence = (struct evidence){.order = binding->evidence.order};
		binding->owner = NULL;
		atomic_store(&binding->kind, (uint32_t)binding->described.candidate);
	}
	atomic_store(&table.chosen, NULL);
	atomic_store(&automatic_is_settled, false);
	table.changed = false;
	trace_header->automatic = table.count ? TRACE_AUTOMATIC_SEARCHED : TRACE_AUTOMATIC_OFF;
}

void automatic_finish(void)
{
	for (uint32_t i = 0; i < table.count; i++) {
		struct binding *binding = table.watched[i];
		if (binding->record && binding->evidence.calls &&
		    atomic_load(&binding->kind) == (uint32_t)binding->described.candidate)
			describe(binding, NULL);
	}
}
