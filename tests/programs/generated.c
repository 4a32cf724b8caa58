/* generated KIND: allocates through generated code, which has no unwind tables. "pointer": it keeps a frame pointer. "none": it
   has another value in rbp. */
#include <sys/mman.h>

#include "common.h"

SITE void work(void)
{
	free(malloc(40));
}

int main(int argc, char **argv)
{
	static const uint8_t keeps[] = {0x55, 0x48, 0x89, 0xe5,
					0xff, 0xd7, 0x5d, 0xc3}, /* push, mov, call *%rdi, pop, ret */
		clears[] = {0x55, 0x31, 0xed, 0x90, 0xff, 0xd7, 0x5d, 0xc3}; /* xor %ebp, %ebp instead of mov */
	CHECK(argc == 2);
	void *code = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(code != MAP_FAILED);
	memcpy(code, strcmp(argv[1], "none") ? keeps : clears, sizeof keeps);
	for (volatile int i = 0; i < 100; i++)
		((void (*)(void (*)(void)))code)(work);
	return failures != 0;
}
