/* Inside a patched function: general registers only. */
#include "core/clock.h"

#include "core/base.h"
#include "core/mark/mark.h"

#define BELIEVED_NS 100000u /* after a reading */
#define TOGETHER_CYCLES 4096u /* a reading of both that took longer was interrupted */
#define STRETCH_NS 20000000u /* the rate's error is that of two readings, some 50 ns, in so many */
#define STRETCH_MAX_NS 2000000000u

uint64_t clock_rate, clock_believed_cycles;

static bool agrees(uint64_t rate_now, uint64_t before)
{
	return rate_now && rate_now - before + before / 1024 <= before / 512;
}

static void learn(struct clock *clock)
{
	static uint64_t learned;
	uint64_t ns = clock->ns - clock->since_ns, cycles = clock->cycles - clock->since_cycles;
	if (ns < STRETCH_NS)
		return;
	if (ns <= STRETCH_MAX_NS) {
		uint64_t now = (ns << CLOCK_RATE_BITS) / (cycles | 1),
			 before = __atomic_exchange_n(&learned, now, __ATOMIC_RELAXED);
		__atomic_store_n(&clock_rate, now, __ATOMIC_RELAXED);
		__atomic_store_n(&clock_believed_cycles,
				 agrees(now, before) ? ((uint64_t)BELIEVED_NS << CLOCK_RATE_BITS) / now : 0,
				 __ATOMIC_RELAXED);
	}
	clock->since_cycles = clock->cycles;
	clock->since_ns = clock->ns;
}

static void read_both(void *given, void *now)
{
	struct clock *clock = given;
	uint64_t before = __builtin_ia32_rdtsc(), ns = base_now_ns(), after = __builtin_ia32_rdtsc();
	*(uint64_t *)now = ns;
	clock->cycles = 0;
	if (after - before >= TOGETHER_CYCLES)
		return;
	clock->cycles = after; /* what is told is rather late than early */
	clock->ns = ns;
	learn(clock);
}

uint64_t clock_read(struct clock *clock)
{
	uint64_t now;
	patch_guarded(read_both, clock, &now);
	return now;
}
