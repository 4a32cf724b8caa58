/*
 * How a binding is connected to the function that was found for it (bind.c), so that the callbacks of marker.h are called.
 */
#ifndef FA_CONNECT_H
#define FA_CONNECT_H

#include "core/mark/mark.h"
#include "core/marker.h"

/* What a marker asks of its connection. */
struct connect_wish {
	struct binding *first; /* of the same function and way, which this one joins; NULL: there is none */
	const char *call; /* of libc, which waits: the hook of that name will do as well; NULL: it is none */
	bool around; /* not only its entry */
	bool registers_only; /* the callbacks keep to general registers, so that others need not be saved */
	bool tables; /* the runtime's tables of functions will do as well */
	bool reads_arguments;
};

/* Sets binding->described.binding, and where it is not a patch its reason. */
void connect_function(struct binding *binding, const struct mark_function *function, const struct connect_wish *wish);

/* By the shim's own hook of a call. False: it has none of this name. */
bool connect_call(struct binding *binding, const char *name);

/* enum call of this name, or -1. */
int connect_call_of(const char *name);

#endif
