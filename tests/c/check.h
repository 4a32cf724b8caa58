/* What the unit tests share: a check that says where it failed, and lets the rest be checked. main returns `failures != 0`. */
#ifndef TEST_CHECK_H
#define TEST_CHECK_H

#include <stdio.h>

static int failures;

#define CHECK(condition)                                                                                               \
	do {                                                                                                           \
		if (!(condition)) {                                                                                    \
			printf("%s:%d: %s\n", __FILE__, __LINE__, #condition);                                         \
			failures++;                                                                                    \
		}                                                                                                      \
	} while (0)

#endif
