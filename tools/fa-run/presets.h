/* `fa-run --list-presets`. */
#ifndef FA_RUN_PRESETS_H
#define FA_RUN_PRESETS_H

/* Prints the presets that are built in: name, what it is for, on what it was tried. */
void presets_list(void);

#endif
