/*
 * The first law under random load: no live byte is ever handed out twice. Threads allocate, grow, shrink and free blocks of
 * every size and alignment, hand them to each other, and cross frame boundaries; every block carries a pattern over all
 * its usable bytes that is checked before each realloc and free. Usage: stress SEED THREADS OPERATIONS
 */
#include "common.h"

#include <malloc.h>
#include <stdatomic.h>

enum { MINE = 400, SHARED = 256 };
struct held {
	unsigned char *p;
	size_t size;
	unsigned tag;
};
static struct held *_Atomic mailbox[SHARED];
static long operations;
static unsigned seed;
static _Atomic long corrupt;

static unsigned next_random(uint64_t *state)
{
	*state = *state * 6364136223846793005u + 1442695040888963407u;
	return (unsigned)(*state >> 33);
}

static size_t pick_size(uint64_t *state)
{
	unsigned kind = next_random(state) % 100, r = next_random(state);
	if (kind < 55)
		return r % 200;
	if (kind < 80)
		return r % 4200;
	if (kind < 93)
		return r % 17000;
	if (kind < 99)
		return r % 70000;
	return r % (1200 << 10);
}

/* Large blocks are patterned at their ends and every 64 bytes between: enough to see any overlap of 64 bytes. */
static size_t step(size_t at, size_t size)
{
	return size < 4096 || at < 512 || at + 512 > size ? 1 : 64;
}

static void paint(struct held *h)
{
	for (size_t i = 0; i < h->size; i += step(i, h->size))
		h->p[i] = (unsigned char)(h->tag + i * 31);
}

static void check(const struct held *h, size_t size, const char *when)
{
	for (size_t i = 0; i < size; i += step(i, h->size))
		if (h->p[i] != (unsigned char)(h->tag + i * 31)) {
			dprintf(2, "seed %u: %p + %zu of %zu is overwritten at %s\n", seed, (void *)h->p, i, h->size,
				when);
			corrupt++;
			return;
		}
}

static struct held make(uint64_t *state)
{
	struct held h = {NULL, pick_size(state), next_random(state)};
	size_t align = (size_t)16 << next_random(state) % 9;
	switch (next_random(state) % 8) {
	case 0:
		h.p = calloc(1, h.size);
		for (size_t i = 0; i < h.size; i += step(i, h.size))
			if (h.p[i]) {
				dprintf(2, "seed %u: calloc gave a byte that is not zero\n", seed);
				corrupt++;
				break;
			}
		break;
	case 1:
		h.p = aligned_alloc(align, h.size);
		if ((uintptr_t)h.p % align)
			corrupt++;
		break;
	case 2:
		if (posix_memalign((void **)&h.p, align, h.size))
			corrupt++;
		break;
	default:
		h.p = malloc(h.size);
	}
	if (!h.p || (uintptr_t)h.p % 16) {
		corrupt++;
		_exit(3);
	}
	h.size = malloc_usable_size(h.p) < h.size ? (corrupt++, 0) : malloc_usable_size(h.p);
	paint(&h);
	return h;
}

static void drop(struct held *h)
{
	if (!h->p)
		return;
	check(h, h->size, "free");
	memset(h->p, 0xdd, h->size < 256 ? h->size : 256);
	free(h->p);
	h->p = NULL;
}

static void resize(struct held *h, uint64_t *state)
{
	check(h, h->size, "realloc");
	size_t size = pick_size(state) + 1, kept = h->size < size ? h->size : size;
	unsigned char *p = realloc(h->p, size);
	if (!p)
		_exit(4);
	h->p = p;
	for (size_t i = 0; i < kept; i += step(i, h->size))
		if (p[i] != (unsigned char)(h->tag + i * 31)) {
			dprintf(2, "seed %u: realloc %zu to %zu loses byte %zu\n", seed, h->size, size, i);
			corrupt++;
			break;
		}
	h->size = malloc_usable_size(p);
	paint(h);
}

static void *run(void *argument)
{
	uint64_t state = seed * 1000003u + (unsigned)(uintptr_t)argument;
	struct held *mine = calloc(MINE, sizeof *mine);
	for (long i = 0; i < operations && !corrupt; i++) {
		struct held *h = &mine[next_random(&state) % (next_random(&state) % 4 ? 40 : MINE)];
		unsigned what = next_random(&state) % 100;
		if (what < 45) {
			drop(h);
			*h = make(&state);
		} else if (what < 65) {
			drop(h);
		} else if (what < 80 && h->p) {
			resize(h, &state);
		} else if (what < 98 && h->p) { /* hand it on, and free what lay there: mostly another thread's */
			struct held *parcel = malloc(sizeof *parcel);
			*parcel = *h;
			h->p = NULL;
			struct held *old = atomic_exchange(&mailbox[next_random(&state) % SHARED], parcel);
			if (old) {
				if (next_random(&state) % 4 == 0)
					resize(old, &state);
				drop(old);
				free(old);
			}
		} else {
			frame_mark();
		}
	}
	for (int i = 0; i < MINE; i++)
		drop(&mine[i]);
	free(mine);
	return NULL;
}

int main(int argc, char **argv)
{
	if (argc != 4)
		return 2;
	seed = (unsigned)atoi(argv[1]);
	long threads = atol(argv[2]);
	operations = atol(argv[3]);
	for (int generation = 0; generation < 3; generation++) { /* later threads inherit what earlier ones left */
		pthread_t thread[16];
		for (long i = 1; i < threads; i++)
			pthread_create(&thread[i], NULL, run, (void *)(i + 16 * generation));
		run((void *)(uintptr_t)(16 * generation));
		for (long i = 1; i < threads; i++)
			pthread_join(thread[i], NULL);
	}
	for (int i = 0; i < SHARED; i++)
		if (mailbox[i]) {
			drop(mailbox[i]);
			free(mailbox[i]);
		}
	return corrupt != 0;
}
