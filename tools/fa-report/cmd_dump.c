/* `fa-report dump`: the recording's records as they lie in the file, one line each; nothing is summed or looked up. */
#include <inttypes.h>

#include "core/registry/codes.h"
#include "tools/fa-report/report.h"

static void dump_header(FILE *out, const struct trace_header *h)
{
	fprintf(out, "version %u, pid %u, shim %s, mode %s, stacks %s (asked %s)\n", h->version, h->pid,
		h->build_version, text_mode(h->mode), text_stacks(h->stacks), text_stacks(h->stacks_asked));
	fprintf(out, "exe %s\noptions %s\n", h->exe, h->options);
	fprintf(out, "start %" PRIu64 " ns (unix %" PRIu64 "), last %" PRIu64 ", end %" PRIu64 ", ended %u value %d\n",
		h->start_ns, h->start_unix_ns, h->last_ns, h->end_ns, h->ended, h->end_value);
	fprintf(out, "chunks %u, pages %u, segments leased %" PRIu64 ", lifetimes clamped %" PRIu64 "\n",
		h->chunk_count, h->file_pages, h->segments_leased, h->clamped_lifetimes);
	fprintf(out,
		"peak %" PRIu64 " bytes (at most %" PRIu64 " more), foreign frees %" PRIu64 ", untracked %" PRIu64 "\n",
		h->peak_bytes, h->peak_error_bytes, h->foreign_frees, h->untracked_allocs);
	for (int tier = 0; tier < TRACE_TIERS; tier++)
		fprintf(out, "tier %s: peak %" PRIu64 " bytes, footprint %" PRIu64 ", at its peak %" PRIu64 "\n",
			text_tier(tier), h->tier_peak_bytes[tier], h->tier_footprint_bytes[tier],
			h->tier_footprint_peak_bytes[tier]);
	fprintf(out,
		"call paths: %" PRIu64 " unwound, %" PRIu64 " from the cache, %" PRIu64 " re-verified, %" PRIu64
		" wrong\n",
		h->stack_captures, h->stack_hits, h->stack_checks, h->stack_wrong);
	for (int i = 0; i < TRACE_THRESHOLD_COUNT; i++)
		fprintf(out, "threshold %s = %" PRIu64 "\n", codes_threshold_key((enum trace_threshold)i),
			h->thresholds[i]);
	for (int i = 0; i < TRACE_LOSS_COUNT; i++)
		if (h->losses[i])
			fprintf(out, "loss: %" PRIu64 " %s\n", h->losses[i], codes_loss_text((enum trace_loss)i));
}

static void dump_module(FILE *out, uint32_t index, const struct trace_module *m)
{
	fprintf(out, "module %u: %s at 0x%" PRIx64 ", mapped 0x%" PRIx64 "-0x%" PRIx64 ", build-id ", index, m->path,
		m->base, m->start, m->end);
	for (uint32_t i = 0; i < m->build_id_bytes && i < sizeof m->build_id; i++)
		fprintf(out, "%02x", m->build_id[i]);
	fprintf(out, "%s%s\n", m->build_id_bytes ? "" : "none", m->unloaded_ns ? ", unloaded" : "");
}

static void dump_node(FILE *out, uint32_t index, const struct trace_node *n)
{
	fprintf(out, "node %u: parent %u, ", index, n->parent);
	if (n->module == TRACE_NO_MODULE)
		fprintf(out, "no module");
	else
		fprintf(out, "module %u", n->module);
	fprintf(out, " +0x%" PRIx64 "%s%s\n", (uint64_t)TRACE_NODE_OFFSET(n->offset),
		n->offset & TRACE_NODE_EXACT ? ", entry" : "", n->offset & TRACE_NODE_CUT ? ", cut" : "");
}

static void dump_site(FILE *out, uint32_t index, const struct trace_site *s)
{
	fprintf(out,
		"site %u: node %u, class %u, role %u, at the peak %" PRIu64 " bytes in %" PRIu64
		" blocks, demoted %u, promoted %u%s\n",
		index, s->node, s->class_bytes, s->role, s->live_bytes_at_peak, s->live_blocks_at_peak, s->demotions,
		s->promotions, s->folded ? ", folded" : "");
}

static void dump_counter(FILE *out, uint32_t slot, uint32_t site, const struct trace_counter *c)
{
	uint64_t births = 0;
	for (int b = 0; b < TRACE_BIRTH_COUNT; b++)
		births += trace_counter_births(c, b);
	uint64_t deaths = c->died_in_segment + c->died_in_segment_outside + c->died_in_frame + c->outlived_frame +
			  c->died_outside + c->crossed_await + c->died_elsewhere;
	if (!births && !deaths)
		return;
	fprintf(out, "counter slot %u site %u: births", slot, site);
	for (int b = 0; b < TRACE_BIRTH_COUNT; b++)
		fprintf(out, " %" PRIu64, trace_counter_births(c, b));
	fprintf(out,
		", bytes %" PRIu64 ", live %" PRId64 ", peak %" PRId64 ", frame %" PRIu32 " old %" PRId64
		", died in segment %" PRIu64 "+%" PRIu64 ", frame %" PRIu64 ", later %" PRIu64 ", outside %" PRIu64
		", await %" PRIu64 ", elsewhere %" PRIu64 ", moves %" PRIu64 "\n",
		c->bytes, trace_counter_live(c), c->peak_bytes, c->frame, trace_counter_old(c), c->died_in_segment,
		c->died_in_segment_outside, c->died_in_frame, c->outlived_frame, c->died_outside, c->crossed_await,
		c->died_elsewhere, c->tier_moves);
}

static void dump_thread(FILE *out, uint32_t index, const struct trace_thread *t)
{
	fprintf(out, "thread %u: tid %u, slot %u, role %s, flags %u, name %s, start %" PRIu64 ", end %" PRIu64 "\n",
		index, t->tid, t->slot, text_role(t->role), t->flags, t->name, t->start_ns, t->end_ns);
	for (int tier = 0; tier < TRACE_TIERS; tier++)
		fprintf(out, "  %s: allocs %" PRIu64 ", frees %" PRIu64 ", bytes %" PRIu64 ", live %" PRId64 "\n",
			text_tier(tier), t->tier[tier].allocs, t->tier[tier].frees, t->tier[tier].bytes,
			trace_live(&t->tier[tier]));
	fprintf(out,
		"  frames %" PRIu64 ", whole %" PRIu64
		" of %u kept, marker %u, merged records %u of %u frames, folded threads %" PRIu64 "\n",
		t->frames, t->frames_whole, t->ring_capacity, t->boundary_marker, t->merged_used, t->merged_span,
		t->folded_threads);
}

static void dump_frame(FILE *out, uint32_t thread, const struct trace_frame *f)
{
	fprintf(out,
		"frame %u of thread %u: %" PRIu64 "-%" PRIu64 ", allocs %u (%u %u %u), bytes %" PRIu64
		", frees %u, escapes %u, pinned %u, violations %u, live %u KiB\n",
		f->number, thread, f->begin_ns, f->end_ns, f->allocs, f->allocs_tier[0], f->allocs_tier[1],
		f->allocs_tier[2], f->bytes, f->frees, f->escapes, f->pinned_bytes, f->violations, f->live_kib);
}

static void dump_merged(FILE *out, uint32_t thread, const struct trace_frame_merged *f)
{
	fprintf(out,
		"frames %u+%u of thread %u: %" PRIu64 "-%" PRIu64 ", allocs %" PRIu64 ", bytes %" PRIu64
		", frees %" PRIu64 ", escapes %" PRIu64 ", violations %" PRIu64 "\n",
		f->number, f->count, thread, f->begin_ns, f->end_ns, f->allocs, f->bytes, f->frees, f->escapes,
		f->violations);
}

static void dump_lifetime(FILE *out, const struct trace_lifetime *l)
{
	fprintf(out, "lifetime of site %u: max %" PRIu64 ";", l->site, l->max);
	for (uint32_t b = 0; b < TRACE_LIFETIME_BUCKETS; b++)
		if (l->bucket[b])
			fprintf(out, " %" PRIu64 ":%u", trace_lifetime_low(b), l->bucket[b]);
	fputc('\n', out);
}

static void dump_violation(FILE *out, uint32_t index, const struct trace_violation *v)
{
	fprintf(out,
		"violation %u: FA%03u site %u, other node %u, level %u, count %" PRIu64 ", bytes %" PRIu64
		", frames %" PRIu64 "-%" PRIu64 ", worst %" PRIu64 ", value %" PRIu64 " limit %" PRIu64 ", thread %u\n",
		index, v->code, v->site, v->other, v->level, v->count, v->bytes, v->first_frame, v->last_frame,
		v->worst_lifetime_frames, v->value, v->limit, v->thread);
	for (uint32_t i = 0; i < v->occurrences && i < TRACE_OCCURRENCES; i++) {
		const struct trace_occurrence *o = &v->occurrence[i];
		fprintf(out,
			"  born on thread %u in frame %u, its scope ended at node %u, died on thread %u in frame %u at "
			"node %u\n",
			o->born_thread, o->born_frame, o->scope_end_node, o->died_thread, o->died_frame, o->died_node);
	}
}

static void dump_tally(FILE *out, const struct trace_tally *t)
{
	fprintf(out,
		"of violation %u by slot %u: count %" PRIu64 ", bytes %" PRIu64 ", last frame %" PRIu64
		", worst %" PRIu64 "\n",
		t->violation, t->slot, t->count, t->bytes, t->last_frame, t->worst_lifetime_frames);
}

static void dump_marker(FILE *out, uint32_t index, const struct trace_marker *m)
{
	const char *binding = text_binding(m->binding);
	fprintf(out, "marker %u: %s, %s, %s, module %d +0x%" PRIx64 ", calls %" PRIu64 "%s%s%s\n", index, m->name,
		text_marker_kind(m->kind), binding ? binding : "not bound", (int)m->module, m->offset,
		trace_marker_calls(m), m->automatic ? ", automatic" : "", m->reason[0] ? ", " : "", m->reason);
}

static void dump_task_type(FILE *out, uint32_t index, const struct trace_task_type *t)
{
	fprintf(out,
		"task type %u: %s, node %u, born at site %u, live peak %" PRIu64 ", polls max %" PRIu64
		", bytes peak %" PRIu64 ", lifetime max %" PRIu64 " ns, %s\n",
		index, text_task_kind(t->kind), t->node, t->birth_site, t->live_peak, t->polls_max, t->bytes_peak,
		t->lifetime_max_ns, t->name);
}

static void dump_task_count(FILE *out, const struct trace_task_count *c)
{
	fprintf(out,
		"tasks of type %u, slot %u: started %" PRIu64 ", ended %" PRIu64 ", polls %" PRIu64 ", allocs %" PRIu64
		", bytes %" PRIu64 ", crossed %" PRIu64 ", left %" PRIu64 " (%" PRIu64 " bytes), lifetime %" PRIu64
		" ns\n",
		c->type, c->slot, c->started, c->ended, c->polls, c->allocs, c->bytes, c->crossed_await, c->left_blocks,
		c->left_bytes, c->lifetime_ns);
}

static void dump_tag(FILE *out, uint32_t index, const struct trace_tag *t)
{
	fprintf(out, "region %u: %s, budget %" PRIu64 ", at most %" PRIu64 " bytes a frame, %" PRIu64 " frames over\n",
		index, t->name, t->budget_bytes, t->frame_bytes_max, t->frames_over);
}

static void dump_suppression(FILE *out, uint32_t index, const struct trace_suppression *s)
{
	fprintf(out, "suppression %u: %s, FA%03u at %s: %s\n", index, s->name, s->code, s->path, s->why);
}

static void dump_group(struct report *report, uint32_t index, const struct trace_group *group)
{
	const struct trace_group_label *label =
		reader_at(reader_array(&report->reader, TRACE_KIND_GROUP_LABEL, 0), index);
	for (uint32_t i = 0; label && label->first_site != UINT32_MAX && i < TRACE_GROUP_SITES; i++)
		dump_counter(report->out, label->slot, label->first_site + i, &group->counter[i]);
}

static void dump_record(struct report *report, const struct reader_array *array, uint32_t index)
{
	const void *record = reader_at(array, index);
	switch (array->kind) {
	case TRACE_KIND_MODULE:
		dump_module(report->out, index, record);
		break;
	case TRACE_KIND_NODE:
		dump_node(report->out, index, record);
		break;
	case TRACE_KIND_SITE:
		dump_site(report->out, index, record);
		break;
	case TRACE_KIND_GROUP:
		dump_group(report, index, record);
		break;
	case TRACE_KIND_THREAD:
		dump_thread(report->out, index, record);
		break;
	case TRACE_KIND_FRAME:
		dump_frame(report->out, array->owner, record);
		break;
	case TRACE_KIND_FRAME_MERGED:
		dump_merged(report->out, array->owner, record);
		break;
	case TRACE_KIND_LIFETIME:
		dump_lifetime(report->out, record);
		break;
	case TRACE_KIND_VIOLATION:
		dump_violation(report->out, index, record);
		break;
	case TRACE_KIND_MARKER:
		dump_marker(report->out, index, record);
		break;
	case TRACE_KIND_TAG:
		dump_tag(report->out, index, record);
		break;
	case TRACE_KIND_TASK_TYPE:
		dump_task_type(report->out, index, record);
		break;
	case TRACE_KIND_TASK_COUNT:
		dump_task_count(report->out, record);
		break;
	case TRACE_KIND_TALLY:
		dump_tally(report->out, record);
		break;
	case TRACE_KIND_SUPPRESSION:
		dump_suppression(report->out, index, record);
		break;
	default: /* labels are shown with their groups; a histogram's buckets tell nobody anything */
		break;
	}
}

void cmd_dump(struct report *report)
{
	static const char *const kinds[TRACE_KIND_COUNT] = {
		"none",       "module",    "node",       "site",         "group label",
		"group",      "thread",    "frame",      "merged frame", "frame histogram",
		"lifetime",   "violation", "marker",     "region",       "task type",
		"task count", "tally",     "suppression"};
	dump_header(report->out, &report->reader.header);
	for (size_t i = 0; i < report->reader.array_count; i++) {
		const struct reader_array *array = &report->reader.arrays[i];
		fprintf(report->out, "\n%s records, owner %u: %u of %u bytes\n", kinds[array->kind], array->owner,
			array->count, array->record_bytes);
		for (uint32_t r = 0; r < array->count; r++)
			dump_record(report, array, r);
	}
	text_losses(report);
}
