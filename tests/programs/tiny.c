/* Allocates and prints; also built statically. */
#include "common.h"

int main(void)
{
	char *p = malloc(100);
	strcpy(p, "still here");
	puts(p);
	free(p);
	return 7;
}
