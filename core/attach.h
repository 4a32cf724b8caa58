/*
 * What hangs on a block beside its header: blocks whose end means something carry BLOCK_SPECIAL, and a table beside the
 * heap says what. A task ends with the block that its state lies in, a coroutine with its stack, and the API's tasks and
 * guards own blocks that they free at their end.
 */
#ifndef FA_ATTACH_H
#define FA_ATTACH_H

#include "core/base.h"

enum attach_kind {
	ATTACH_TASK, /* object: struct task */
	ATTACH_COROUTINE, /* object: struct coroutine, whose stack lies in the block */
	ATTACH_OWNED, /* object: struct attach_owner */
	ATTACH_HANDED, /* object: struct task, which has handed it on and goes on */
};

struct attachment {
	struct attachment *next; /* in its bucket */
	uintptr_t address; /* that the program knows the block by */
	void *object;
	uint64_t mark; /* whatever attach_add was given: tells a reused object from the one meant */
	enum attach_kind kind;
	bool on_block; /* the address is a live block's, which is special for it */
	struct attachment *older, *newer; /* blocks of the same owner */
};

/* A list of owned blocks. Zero is an empty one. */
struct attach_owner {
	struct base_lock lock;
	bool is_guard; /* who frees a block of it by hand makes a mistake */
	struct attachment *newest;
};

/* Attaches to an address; where a live block begins there, it becomes special. False: no memory for it. Any thread. */
bool attach_add(uintptr_t address, enum attach_kind kind, void *object, uint64_t mark);

/* What of this kind is attached to `address`, copied to *out. False: nothing is. */
bool attach_find(uintptr_t address, enum attach_kind kind, struct attachment *out);

/* Takes off what is attached to `address` and copies it to *out. False: nothing is. */
bool attach_take(uintptr_t address, struct attachment *out);

/* The same of one object only. */
bool attach_take_from(uintptr_t address, const void *object);

/* The address of a block that the owner has; 0: none is left. */
uintptr_t attach_newest(struct attach_owner *owner);

#endif
