/* Modules as spans of addresses: known ones first, new ones behind them. */
#include "core/newcomers.h"

#include "core/trace/writer.h"

#define MODULES_MAX 1024u

static struct {
	uintptr_t start, end;
	bool there; /* seen in the present look */
} modules[MODULES_MAX];
static uint32_t count, known, beyond; /* no room, in the present look */

static bool meet(void *context, const struct image *image)
{
	(void)context;
	for (uint32_t i = 0; i < count; i++)
		if (modules[i].start == image->start && modules[i].end == image->end) {
			modules[i].there = true;
			return true;
		}
	if (count == MODULES_MAX) {
		beyond++;
		return true;
	}
	modules[count].start = image->start;
	modules[count].end = image->end;
	modules[count++].there = true;
	return true;
}

bool newcomers_look(void (*gone)(uintptr_t start, uintptr_t end))
{
	uint32_t kept = 0, still_known = known;
	for (uint32_t i = 0; i < count; i++)
		modules[i].there = false;
	beyond = 0;
	image_each(meet, NULL);
	if (trace_header)
		trace_raise(&trace_header->losses[TRACE_LOSS_MODULES], beyond);
	for (uint32_t i = 0; i < count; i++) {
		if (modules[i].there) {
			modules[kept++] = modules[i];
			continue;
		}
		gone(modules[i].start, modules[i].end);
		still_known -= i < known;
	}
	count = kept;
	known = still_known;
	return known < count;
}

bool newcomers_hold(uintptr_t address)
{
	for (uint32_t i = known; i < count; i++)
		if (address >= modules[i].start && address < modules[i].end)
			return true;
	return false;
}

bool newcomers_image(const struct image *image)
{
	return newcomers_hold(image->start);
}

void newcomers_met(void)
{
	known = count;
}
