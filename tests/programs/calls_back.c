/* A library that calls back. LARGE: it has no room where another was. */
int enter(void (*call)(void));

#ifdef LARGE
char room[1 << 22];
#endif

int enter(void (*call)(void))
{
	call();
	return 1;
}
