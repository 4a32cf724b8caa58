/* Where the recording of this process goes, and what its header says of the process. At start-up, and in a followed child. */
#ifndef FA_RECORDING_H
#define FA_RECORDING_H

#include <stdbool.h>
#include <stdint.h>

/* Arguments and options, before the program runs, which may write over all of it: nginx does, before it forks. */
void recording_note_start(void);

/* Makes the recording at the name that the options give, or a free one beside it. `is_target`: `process` is the one that was to
   be recorded, whose name is that of an earlier run as well, not a child of it. As trace_open, but for -EEXIST. */
int recording_open(uint32_t process, bool is_target);

/* Fills the header. */
void recording_describe(uint32_t process);

#endif
