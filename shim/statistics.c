/* The questions glibc's allocator answers about itself. Ours are about all tiers; where the shim stands aside the next
   allocator answers. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>

#include "core/mark/mark.h"
#include "core/region/region.h"
#include "core/runtime.h"
#include "core/tier/heap.h"
#include "core/trace/writer.h"
#include "shim/hooks.h"

static uintptr_t aside(const char *name)
{
	if (runtime_current() != RUNTIME_ASIDE)
		return 0;
	return finder_next(name, (uintptr_t)&runtime_phase);
}

static struct mallinfo2 describe(void)
{
	size_t allocated, active, mapped;
	heap_stats(&allocated, &active, &mapped);
	size_t spans = region_span_committed();
	size_t in_use = allocated;
	if (trace_header)
		for (uint32_t i = 0; i < trace_count(&trace_threads); i++) {
			const struct trace_thread *thread = trace_at(&trace_threads, i);
			in_use += (size_t)(thread->tier[TRACE_TIER_FRAME].live_bytes +
					   thread->tier[TRACE_TIER_POOL].live_bytes);
		}
	size_t arena = mapped + spans;
	return (struct mallinfo2){.arena = arena,
				  .ordblks = 1,
				  .uordblks = in_use < arena ? in_use : arena,
				  .fordblks = in_use < arena ? arena - in_use : 0};
}

EXPORT struct mallinfo2 mallinfo2(void)
{
	uintptr_t other = aside("mallinfo2");
	return other ? ((__typeof__(mallinfo2) *)other)() : describe();
}

EXPORT struct mallinfo mallinfo(void)
{
	struct mallinfo2 wide = mallinfo2();
	return (struct mallinfo){.arena = (int)wide.arena,
				 .ordblks = (int)wide.ordblks,
				 .uordblks = (int)wide.uordblks,
				 .fordblks = (int)wide.fordblks};
}

EXPORT void malloc_stats(void)
{
	uintptr_t other = aside("malloc_stats");
	if (other) {
		((void (*)(void))other)();
		return;
	}
	struct mallinfo2 info = describe();
	int state;
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state); /* glibc's is no cancellation point */
	fprintf(stderr, "framealloc: %zu bytes in use, %zu bytes mapped\n", info.uordblks, info.arena);
	pthread_setcancelstate(state, NULL);
}

EXPORT int malloc_trim(size_t pad)
{
	uintptr_t other = aside("malloc_trim");
	if (other)
		return ((int (*)(size_t))other)(pad);
	size_t allocated, active, before, after;
	heap_stats(&allocated, &before, &active);
	heap_trim();
	region_span_keep((uint32_t)(pad >> REGION_CHUNK_BITS));
	heap_stats(&allocated, &after, &active);
	return after < before;
}

/* Tuning for another allocator: accepted, without effect. */
EXPORT int mallopt(int parameter, int value)
{
	uintptr_t other = aside("mallopt");
	return other ? ((int (*)(int, int))other)(parameter, value) : 1;
}

EXPORT int malloc_info(int options, FILE *out)
{
	uintptr_t other = aside("malloc_info");
	if (other)
		return ((int (*)(int, FILE *))other)(options, out);
	if (options) {
		errno = EINVAL;
		return -1;
	}
	struct mallinfo2 info = describe();
	fprintf(out,
		"<malloc version=\"1\">\n<heap nr=\"0\">\n</heap>\n<total type=\"rest\" count=\"1\" size=\"%zu\"/>\n"
		"<system type=\"current\" size=\"%zu\"/>\n</malloc>\n",
		info.fordblks, info.arena);
	return 0;
}
