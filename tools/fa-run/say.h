/* Everything fa-run says: whole lines to standard error, one write each, so that they never mix with the program's. */
#ifndef FA_RUN_SAY_H
#define FA_RUN_SAY_H

/* Exit statuses of fa-run itself, as env(1) and nohup(1) have them. */
enum { EXIT_FA_RUN = 125, EXIT_CANNOT_RUN = 126, EXIT_NOT_FOUND = 127 };

void say(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
