/*
 * The time of markers. The kernel's clock takes 20 ns, most of what a marker may cost; between two readings of it, a tenth of
 * a millisecond at most, the processor's time stamp counter tells what has passed. How fast that counts is learned from the
 * readings themselves, and believed where one stretch of them bears out the one before. Whatever happens to the counter
 * (a thread moves to a processor whose counter differs, a machine moves to another), a time is wrong by a tenth of a
 * millisecond at most, and never before the one before. Who asks more rarely reads the kernel's clock each time.
 */
#ifndef FA_CLOCK_H
#define FA_CLOCK_H

#include <stdint.h>

#include "core/base.h"

/* What one thread knows of the time. All zero: nothing. */
struct clock {
	uint64_t cycles, ns; /* of the last reading; cycles 0: the two do not belong together */
	uint64_t last; /* what was told last */
	uint64_t since_cycles, since_ns; /* where the stretch began that the rate is learned from */
};

#define CLOCK_RATE_BITS 32
extern uint64_t clock_rate own_data; /* nanoseconds a cycle, with CLOCK_RATE_BITS binary places */
extern uint64_t clock_believed_cycles own_data; /* after a reading; 0: the rate is not known */
uint64_t clock_read(struct clock *clock);

/* Nanoseconds of CLOCK_MONOTONIC. `clock` is the calling thread's own. General registers only. */
static always_inline uint64_t clock_now(struct clock *clock)
{
	uint64_t believed = __atomic_load_n(&clock_believed_cycles, __ATOMIC_RELAXED), now;
	uint64_t passed = believed ? __builtin_ia32_rdtsc() - clock->cycles : 0;
	if (likely(passed < believed))
		now = clock->ns + (passed * __atomic_load_n(&clock_rate, __ATOMIC_RELAXED) >> CLOCK_RATE_BITS);
	else
		now = clock_read(clock);
	if (likely(now > clock->last))
		clock->last = now;
	return clock->last;
}

#endif
