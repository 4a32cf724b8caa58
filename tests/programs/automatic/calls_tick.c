/* Calls a function of another library, by a table entry and by a pointer that the loader filled in. */
#include <stdio.h>

void plugin_tick(int n);
void (*volatile tick_pointer)(int) = plugin_tick;

int main(void)
{
	for (int i = 0; i < 20; i++)
		plugin_tick(i);
	for (int i = 0; i < 5; i++)
		tick_pointer(i);
	puts("done");
	return 0;
}
