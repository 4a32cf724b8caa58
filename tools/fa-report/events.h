/* Reads the events beside a recording (core/trace/events.h) one after the other, in bounded memory. */
#ifndef FA_REPORT_EVENTS_H
#define FA_REPORT_EVENTS_H

#include <stdbool.h>
#include <stddef.h>

#include "core/trace/events.h"

struct events_event {
	enum events_op op;
	uint32_t tier; /* enum trace_tier; of a mark: enum events_mark */
	uint32_t thread; /* its record */
	uint32_t frame; /* births: the frame it was born in, 0: none; marks: which frame */
	uint32_t site; /* births */
	uint64_t size; /* births: requested bytes */
	uint64_t birth; /* births and deaths: number of the birth, from 0 */
};

struct events_totals {
	uint64_t births, deaths, unknown_deaths, bytes; /* bytes: of the file */
	uint64_t lost; /* found no place in the queue */
	bool closed; /* the launcher came to the end: `lost` is final */
	char damage[512]; /* one line where something is missing, else empty */
};

/* Calls `each` for every event of RECORDING.events; NULL: only counts them. False: there is no such file. `progress`: tell how
   far it is on standard error, where that is a terminal. */
bool events_read(const char *recording, void (*each)(void *context, const struct events_event *event), void *context,
		 bool progress, struct events_totals *totals);

#endif
