/* Events into blocks of a file: columns, then zstd. One file at a time. */
#ifndef FA_RUN_PACK_H
#define FA_RUN_PACK_H

#include "core/trace/events.h"

struct pack;

/* Begins the file at `path`, replacing what stands there. NULL, with errno. */
struct pack *pack_open(const char *path);

/* The next event. 0, or the -errno of what failed first: the disk is full or gone; nothing more is written, what was stays
   whole. */
int pack_event(struct pack *pack, const struct events_raw *event);

/* Writes what is left and how many events were lost. As above. */
int pack_close(struct pack *pack, uint64_t lost);

#endif
