/*
 * What may be given back to the system though it may be needed again. What a program frees once goes at once: there is credit for as
 * much as there ever was. What it frees and takes by turns stays, since each of its pages would cost a fault each time: only time
 * earns the credit anew. Not thread-safe.
 */
#ifndef FA_CREDIT_H
#define FA_CREDIT_H

#include "core/base.h"

#define CREDIT_PER_MS (4u << 10) /* bytes: 4 MiB a second; a MiB's page faults take some 0.2 ms */

/* All zero: nothing was given back yet. */
struct credit {
	uint64_t spent; /* bytes, less what has been earned since */
	uint64_t earned_ns; /* until when */
};

/* How many bytes can be given back at `now_ns`, where there were `most` at most. A clock that goes back earns nothing. */
static inline uint64_t credit_left(struct credit *credit, uint64_t most, uint64_t now_ns)
{
	uint64_t ms = now_ns > credit->earned_ns ? (now_ns - credit->earned_ns) / 1000000 : 0;
	credit->earned_ns += ms * 1000000;
	uint64_t earned = ms * CREDIT_PER_MS;
	credit->spent -= earned < credit->spent ? earned : credit->spent;
	return most > credit->spent ? most - credit->spent : 0;
}

#endif
