/* The live line on the terminal, read from the growing recording. */
#ifndef FA_RUN_STATUS_H
#define FA_RUN_STATUS_H

#include <stdbool.h>

#include "tools/fa-run/recording.h"

struct status {
	struct recording *recording;
	bool drawn; /* the line stands on the terminal */
};

/* Does nothing before the handshake, in the background, or while the program has the terminal in raw mode. */
void status_draw(struct status *status);
void status_clear(struct status *status);

#endif
