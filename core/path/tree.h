/*
 * The candidates of a call-path cache: for each return address and frame address a tree of checks (walk.h). Paths that begin
 * alike share what they have in common; where they part, the next word of the stack says which way to go.
 *
 *   run     checks that follow from one word, then either an answer (the path ends here) or a place to look next
 *   word    what leads to a run: the return address of a root, else the value found at its owner's `branch`
 *   owner   the run before it; of a root: the tag and where the frame is (more of that stands in its word)
 *   chunk   four checks. Which of a run's are of frame pointers is told by a bit each, behind the last chunk, if any are
 *   tail    the last checks of runs that end alike, kept once: most of a path are the callers that it has in common with others.
 *           A run that no word leads to; its offsets count from its first check
 *
 * Invariant: every word that was read to come to an answer was compared whole, and lay where the words before it put it:
 * a slot is read only when those before it hold, since it may be past the end of another stack. Hence a tree that answers
 * has proven the path.
 */
#ifndef FA_PATH_TREE_H
#define FA_PATH_TREE_H

#include <assert.h>

#include "core/base.h"
#include "core/path/walk.h"

#define TREE_TABLE_BITS 15
#define TREE_TABLE (1u << TREE_TABLE_BITS)
#define TREE_TABLE_FIRST 1024u /* a page */
#define TREE_UNIT 16u /* bytes; links are multiples of it */
#define TREE_BYTES (1u << 21)
#define TREE_REMOVED TREE_UNIT
#define TREE_FIRST (3 * TREE_UNIT) /* what is before looks like a run that no word leads to */
#define TREE_ROOT (1u << 31) /* owner of roots: | tag and frame address */
#define TREE_TAIL (UINT32_MAX - 1) /* owner of tails; their word is a hash of what they hold */
#define TREE_CHUNK 4
#define TREE_CHECKS_PAGES (5 * 4096)
#define TREE_FEW_CHECKS (12 * TREE_CHUNK)
#define TREE_WAYS 3
#define TREE_LAST_TAILS 8

struct tree_chunk {
	int32_t offset[TREE_CHUNK]; /* without bit 0; a run's last chunk repeats what it has */
	uint64_t value[TREE_CHUNK];
};

struct tree_run {
	uint64_t word;
	uint32_t owner;
	int32_t branch; /* offset of the word that leads on; 0: the path ends here */
	uint16_t units; /* of chunks */
	bool is_plain; /* the path ends here, without what follows */
	bool has_pointers : 1, has_tail : 1;
	union {
		struct { /* where the path ends */
			uint32_t answer;
			union {
				int32_t guess_slot; /* -1: none */
				int32_t tail_at; /* what the tail's offsets count from */
			};
			union { /* the walk's; `beyond` without a guess */
				int32_t guess_sp, beyond;
				uint32_t tail; /* link */
			};
		};
		/* At a branch: where it led of late, the last first; a link below some bits of the word. */
		uint32_t way[TREE_WAYS];
	};
	struct tree_chunk chunk[];
};
static_assert(sizeof(struct tree_run) == 2 * TREE_UNIT && sizeof(struct tree_chunk) == 3 * TREE_UNIT, "units");

/* All zero is empty. Links are distances from the tree. The table holds them, by open addressing; TREE_REMOVED is that of a
   run that nothing leads to. A link is not used twice before tree_clear, since what comes after a removed run stays.
   The table and the room for a run's checks are small at first: most threads know few paths, and there may be many threads. */
struct tree {
	union {
		struct {
			uint32_t used; /* bytes of the arena, from TREE_FIRST */
			uint32_t places; /* of the table, not empty */
			uint32_t owner; /* 0, which is nobody's: of what looks like a run */
			uint32_t mask; /* the table's places less one; 0: there is none yet */
		};
		uint8_t arena[TREE_BYTES]; /* of runs */
	};
	union {
		struct { /* a run's, unpacked */
			int32_t offset[WALK_CHECKS_MAX];
			uint64_t value[WALK_CHECKS_MAX];
		} checks;
		uint8_t checks_pages[TREE_CHECKS_PAGES]; /* so that the table begins on its page where the tree does */
	};
	uint32_t table[TREE_TABLE];
	struct {
		int32_t offset[TREE_FEW_CHECKS];
		uint64_t value[TREE_FEW_CHECKS];
	} few_checks; /* the same, of a short run */
	/* Tails that the path ends with that was put in last. 0 checks: none. */
	struct {
		uint32_t checks, link;
	} last_tail[TREE_LAST_TAILS];
	uint32_t last_tail_next;
	uint32_t filled; /* base_fill_ahead */
};

static_assert(sizeof(((struct tree *)NULL)->checks) <= TREE_CHECKS_PAGES, "whole pages");

static always_inline struct tree_run *tree_run_at(const struct tree *tree, uint32_t link)
{
	return (struct tree_run *)((uintptr_t)tree + link);
}

static always_inline uint32_t tree_link_of(const struct tree *tree, const struct tree_run *run)
{
	return (uint32_t)((uintptr_t)run - (uintptr_t)tree);
}

/* The owner of a root: of a path by its frame's address, since frame pointers are checked as they stand, and slots found by them
   where they were then; and of innermost frames that may be the same ones at any depth, whose frame pointers are checked by how
   far from the frame address they point. A tree holds the ones or the others, of which there are two kinds: few frames that
   stand for all paths with them, and those of paths that are deeper than the cap. */
#define TREE_ANY_DEPTH (1u << 30)
#define TREE_CUT 1u
#define TREE_TAG_SHIFT 24
#define TREE_TAGS (1u << (30 - TREE_TAG_SHIFT))
static always_inline uint32_t tree_root_owner(const uintptr_t *fp, uint32_t tag)
{
	return TREE_ROOT | tag << TREE_TAG_SHIFT | ((uint32_t)((uintptr_t)fp >> 3) & ((1u << TREE_TAG_SHIFT) - 1));
}

static always_inline uint32_t tree_folded_owner(uint32_t tag)
{
	return TREE_ROOT | TREE_ANY_DEPTH | tag << TREE_TAG_SHIFT;
}

static always_inline uint32_t tree_cut_owner(uint32_t tag)
{
	return tree_folded_owner(tag) | TREE_CUT;
}

/* The word of a root that has an address: the return address, and above it those bits of the frame's that the owner has no room
   for, but for three: two frames are told apart unless they lie a multiple of 16 TiB from each other. */
static always_inline uint64_t tree_root_word(const uintptr_t *fp)
{
	return fp[1] ^ (uintptr_t)fp >> (TREE_TAG_SHIFT + 3) << WALK_ADDRESS_BITS;
}

/* Where in the table the search for a run begins. */
static always_inline uint32_t tree_hash(const struct tree *tree, uint64_t word, uint32_t owner)
{
	return (uint32_t)((word ^ (uint64_t)owner << 32) * 0x9e3779b97f4a7c15u >> (64 - TREE_TABLE_BITS)) & tree->mask;
}

static always_inline bool tree_is_led_to(const struct tree_run *run, uint64_t word, uint32_t owner)
{
	return likely(run->word == word) && likely(run->owner == owner);
}

struct tree_run *tree_root_other(struct tree *tree, uint64_t word, uint32_t owner);
/* The root of a return address, a tag and a depth, or NULL. Cost: a hash and two loads, mostly. */
static always_inline struct tree_run *tree_root(struct tree *tree, uint64_t word, uint32_t owner)
{
	struct tree_run *run = tree_run_at(tree, tree->table[tree_hash(tree, word, owner)]);
	return tree_is_led_to(run, word, owner) ? run : tree_root_other(tree, word, owner);
}

/* What the stack says at a branch. */
static always_inline uint64_t tree_word(const uint8_t *base, int32_t branch)
{
	return *(const uint64_t *)(base + (branch & ~(int32_t)WALK_POINTER));
}

static always_inline bool tree_differ(const struct tree_chunk *chunk, const uint8_t *base, size_t i)
{
	return *(const uint64_t *)(base + chunk->offset[i]) != chunk->value[i];
}

/* Cost: two loads and a compare for each check. Plain instructions: gathering the words into a vector takes half as long
   again on the processors tried. */
static always_inline bool tree_run_holds(const struct tree_run *run, const uint8_t *base)
{
	const struct tree_chunk *chunk = run->chunk,
				*end = (const void *)((const uint8_t *)chunk + run->units * TREE_UNIT);
	for (; chunk != end; chunk++)
		if (unlikely(tree_differ(chunk, base, 0)) || unlikely(tree_differ(chunk, base, 1)) ||
		    unlikely(tree_differ(chunk, base, 2)) || unlikely(tree_differ(chunk, base, 3)))
			return false;
	return true;
}

/* Where a path ends for want of unwind information: is it still so? */
cold_path bool tree_guess_holds(const struct tree_run *run, const uint8_t *base);

/* From a branch to where `word` leads, or NULL: by the other ways or the table. */
struct tree_run *tree_way_other(const struct tree *tree, struct tree_run *run, uint64_t word);

/* The same, mostly by the first way. Cost: two compares. */
static always_inline struct tree_run *tree_way(const struct tree *tree, struct tree_run *run, uint64_t word)
{
	struct tree_run *next = tree_run_at(tree, run->way[0] % TREE_BYTES);
	return tree_is_led_to(next, word, tree_link_of(tree, run)) ? next : tree_way_other(tree, run, word);
}

static always_inline bool tree_tail_holds(const struct tree *tree, const struct tree_run *run, const uint8_t *base)
{
	return tree_run_holds(tree_run_at(tree, run->tail), base + run->tail_at);
}

/* The run where the path that the stack now holds ends, or NULL. Cost: for each run, and for a tail, two loads on top of its
   checks, and what tree_way takes. What is read of a compiler's paths is half as much as without tails. */
static always_inline const struct tree_run *tree_find(struct tree *tree, const uintptr_t *fp, uint32_t root_owner)
{
	const uint8_t *base = (const uint8_t *)fp;
	struct tree_run *run = tree_root(tree, tree_root_word(fp), root_owner);
	for (;;) {
		if (unlikely(!run) || unlikely(!tree_run_holds(run, base)))
			return NULL;
		if (likely(run->is_plain))
			return run;
		if (!run->branch) {
			bool ends =
				likely(run->has_tail) ? tree_tail_holds(tree, run, base) : tree_guess_holds(run, base);
			return likely(ends) ? run : NULL;
		}
		run = tree_way(tree, run, tree_word(base, run->branch));
	}
}

/* The same of innermost frames, at any depth. */
const struct tree_run *tree_find_at_any_depth(struct tree *tree, const uintptr_t *fp, uint32_t root_owner);

/* Keeps the path of `walk`, which must be cacheable. What it has in common with its last walk is not looked at again, if that was
   put in here last. */
void tree_insert(struct tree *tree, const uintptr_t *fp, uint32_t root_owner, const struct walk *walk, uint32_t answer);
/* The same of innermost frames, to be found at any depth. `walk` must not end in a guess. */
void tree_insert_at_any_depth(struct tree *tree, const uintptr_t *fp, uint32_t root_owner, const struct walk *walk,
			      uint32_t answer);
/* The return addresses that `run` stands for, innermost first; returns how many. */
size_t tree_path(struct tree *tree, const struct tree_run *run, uintptr_t *pcs, size_t max);
/* The pages with a word that the path of `run` was proven by: a bit each, from the page of `fp` on. Who has just found it may read
   them. */
uint64_t tree_pages(struct tree *tree, const struct tree_run *run, const uintptr_t *fp);
void tree_remove(struct tree *tree, const struct tree_run *run);
/* Drops every path through (start, end]. */
void tree_drop_range(struct tree *tree, uintptr_t start, uintptr_t end);
void tree_clear(struct tree *tree);
/* What was put in last is not the last walk of the next. */
void tree_forget_last(struct tree *tree);

#endif
