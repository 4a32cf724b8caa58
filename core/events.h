/*
 * Level full, the target's side: each birth and death is appended to the queue that the launcher has made (trace/events.h).
 * The fast paths stand back meanwhile (scope_settle): every operation takes the general way, which comes by here.
 */
#ifndef FA_EVENTS_H
#define FA_EVENTS_H

#include "core/thread.h"

/* Whether events are recorded: NULL where they are not, and in the child of a fork. */
struct events_area;
extern struct events_area *events_area own_data;

/* Maps the area that FA_EVENTS names. Returns 0, -ENOENT (none is named), -EACCES (it cannot be had), -ECHILD (it is for
   another process: this one is followed, and its recording has sums only). */
int events_open(void);

/* The recording that the events from now on belong to. */
void events_recording(const char *path);

/* Any thread, also in signal handlers. Waits where the queue is full, for as long as the launcher goes on taking; errno is
   kept. Call a birth after its pointer is known and before the program knows it, a death before its room is given back. */
void events_push_birth(const struct thread *thread, const void *pointer);
void events_push_death(const struct thread *thread, const void *pointer);
void events_push_frame(const struct thread *thread, bool begins);

static always_inline void events_birth(const struct thread *thread, const void *pointer)
{
	if (unlikely(events_area != NULL))
		events_push_birth(thread, pointer);
}

static always_inline void events_death(const struct thread *thread, const void *pointer)
{
	if (unlikely(events_area != NULL))
		events_push_death(thread, pointer);
}

static always_inline void events_frame(const struct thread *thread, bool begins)
{
	if (unlikely(events_area != NULL))
		events_push_frame(thread, begins);
}

void events_child(void);

#endif
