/*
 * The allocation surface and its semantics, as glibc has them. Runs the same checks outside every frame, inside a frame,
 * and on a second thread. Usage: surface
 */
#include "common.h"

#include <dlfcn.h>
#include <malloc.h>

extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t), *__libc_valloc(size_t), *__libc_pvalloc(size_t);
extern void __libc_free(void *);

static const size_t huge = (size_t)PTRDIFF_MAX + 1;

static void fill(void *p, size_t n)
{
	memset(p, 0x5a, n);
}

static void check_block(void *p, size_t n, size_t align)
{
	CHECK(p);
	if (!p)
		return;
	CHECK((uintptr_t)p % align == 0);
	size_t usable = malloc_usable_size(p);
	CHECK(usable >= n);
	fill(p, usable);
	CHECK(malloc_usable_size(p) == usable);
}

static void sizes(void)
{
	static const size_t size[] = {0,     1,     8,     15,    16,      17,      24,           100,  255,
				      256,   257,   1000,  2048,  4095,    4096,    4097,         8192, 16368,
				      16383, 16384, 16385, 40000, 1 << 20, 3 << 20, (1 << 20) + 1};
	void *block[64];
	for (size_t i = 0; i < sizeof size / sizeof size[0]; i++) {
		block[2 * i] = malloc(size[i]);
		check_block(block[2 * i], size[i], 16);
		unsigned char *zeroed = block[2 * i + 1] = calloc(1, size[i]);
		for (size_t k = 0; k < size[i]; k++)
			if (zeroed[k]) {
				CHECK(!"calloc gives zeros");
				break;
			}
		check_block(zeroed, size[i], 16);
		for (size_t k = 0; k < 2 * i; k++)
			CHECK(block[k] != block[2 * i]);
	}
	for (size_t i = 0; i < sizeof size / sizeof size[0]; i++) {
		free(block[2 * i]);
		unsigned char *again = calloc(size[i], 1); /* a used address must come back zeroed */
		for (size_t k = 0; k < size[i]; k++)
			if (again[k]) {
				CHECK(!"calloc gives zeros on used memory");
				break;
			}
		free(again);
		free(block[2 * i + 1]);
	}
	void *a = malloc(0), *b = malloc(0), *c = calloc(0, 8), *d = realloc(NULL, 0);
	CHECK(a && b && c && d && a != b && b != c && c != d && a != c);
	free(a), free(b), free(c), free(d);
	free(NULL);
	CHECK(malloc_usable_size(NULL) == 0);
}

static void aligned(void)
{
	for (size_t align = 8; align <= 1 << 21; align *= 2) {
		for (int odd = 0; odd < 4; odd++) {
			size_t size = (size_t)((int[]){1, 77, 4096, 20001})[odd];
			void *p = NULL;
			CHECK(posix_memalign(&p, align, size) == 0);
			check_block(p, size, align);
			void *q = aligned_alloc(align, size), *r = memalign(align, size);
			check_block(q, size, align);
			check_block(r, size, align);
			memset(q, 7, size);
			q = realloc(q, size + 5000);
			CHECK(((char *)q)[0] == 7 && ((char *)q)[size - 1] == 7);
			free(q);
			r = realloc(r, size / 2 + 1);
			check_block(r, size / 2 + 1, 16);
			free(r);
			free(p);
		}
	}
	void *v = valloc(100), *pv = pvalloc(100), *pv0 = pvalloc(4097);
	check_block(v, 100, 4096);
	check_block(pv, 4096, 4096);
	check_block(pv0, 8192, 4096);
	free(v), free(pv), free(pv0);
	v = aligned_alloc(16, 0);
	CHECK(v);
	free(v);
	v = memalign(24, 100); /* glibc rounds up to a power of two */
	check_block(v, 100, 32);
	free(v);
	v = memalign(0, 100);
	check_block(v, 100, 16);
	free(v);
	void *untouched = &failures;
	errno = 77;
	CHECK(posix_memalign(&untouched, 3, 10) == EINVAL && untouched == &failures && errno == 77);
	CHECK(posix_memalign(&untouched, 0, 10) == EINVAL && posix_memalign(&untouched, 4, 10) == EINVAL);
	CHECK(posix_memalign(&untouched, 48, 10) == EINVAL && untouched == &failures && errno == 77);
	bool shimmed = getenv("LD_PRELOAD") && strstr(getenv("LD_PRELOAD"), "framealloc");
	CHECK(posix_memalign(&untouched, 64, huge) == ENOMEM && untouched == &failures);
	CHECK(posix_memalign(&untouched, 64, SIZE_MAX - 32) == ENOMEM && untouched == &failures);
	CHECK(errno == 77 || !shimmed); /* glibc itself sets it */
	errno = 0;
	CHECK(!aligned_alloc(64, SIZE_MAX - 10) && errno == ENOMEM);
	errno = 0;
	CHECK(!memalign(1u << 20, SIZE_MAX - 10) && errno == ENOMEM);
	errno = 0;
	CHECK(!valloc(SIZE_MAX - 10) && errno == ENOMEM);
	errno = 0;
	CHECK(!pvalloc(SIZE_MAX - 10) && errno == ENOMEM);
}

#define FAILS_ENOMEM(call) (errno = 0, (call) == NULL && errno == ENOMEM)

static void too_large(void)
{
	CHECK(FAILS_ENOMEM(malloc(huge)));
	CHECK(FAILS_ENOMEM(malloc(SIZE_MAX)));
	CHECK(FAILS_ENOMEM(malloc(SIZE_MAX - 4095)));
	CHECK(FAILS_ENOMEM(malloc(PTRDIFF_MAX)));
	CHECK(FAILS_ENOMEM(calloc(1, huge)));
	CHECK(FAILS_ENOMEM(calloc(SIZE_MAX, 2)));
	CHECK(FAILS_ENOMEM(calloc((size_t)1 << 33, (size_t)1 << 33)));
	CHECK(FAILS_ENOMEM(calloc(SIZE_MAX / 2 + 2, 2)));
	CHECK(FAILS_ENOMEM(reallocarray(NULL, SIZE_MAX / 2 + 2, 2)));
	static const size_t size[] = {10, 5000, 100000};
	for (int i = 0; i < 3; i++) {
		char *p = malloc(size[i]);
		fill(p, size[i]);
		CHECK(FAILS_ENOMEM(realloc(p, huge)));
		CHECK(FAILS_ENOMEM(realloc(p, SIZE_MAX)));
		CHECK(FAILS_ENOMEM(realloc(p, SIZE_MAX - 4200)));
		CHECK(FAILS_ENOMEM(reallocarray(p, SIZE_MAX / 4, 8)));
		CHECK(p[0] == 0x5a && p[size[i] - 1] == 0x5a); /* the old block stays */
		free(p);
	}
}

static void reallocs(void)
{
	static const size_t step[] = {1,    15,    16,    17,    200,     4000,          4096,  4097,
				      9000, 16384, 16385, 20000, 1 << 20, 70000,         16384, 16380,
				      300,  70000, 64,    5000,  2 << 20, (1 << 20) + 1, 100,   16};
	unsigned char *p = NULL;
	size_t have = 0;
	for (size_t i = 0; i < sizeof step / sizeof step[0]; i++) {
		p = i % 3 ? realloc(p, step[i]) : reallocarray(p, step[i], 1);
		CHECK(p && (uintptr_t)p % 16 == 0 && malloc_usable_size(p) >= step[i]);
		for (size_t k = 0; k < (have < step[i] ? have : step[i]); k++)
			if (p[k] != (unsigned char)(k * 7 + k / 251)) {
				dprintf(2, "realloc %zu -> %zu loses byte %zu\n", have, step[i], k);
				failures++;
				break;
			}
		have = malloc_usable_size(p);
		for (size_t k = 0; k < have; k++)
			p[k] = (unsigned char)(k * 7 + k / 251);
	}
	errno = 55;
	CHECK(realloc(p, 0) == NULL && errno == 55);
	p = malloc(10);
	CHECK(reallocarray(p, 0, 8) == NULL);
	p = realloc(NULL, 33);
	check_block(p, 33, 16);
	free(p);
}

/* free keeps errno also where it gives memory back to the system. */
static void errno_kept(void)
{
	static const size_t size[] = {1, 300, 5000, 20000, 1 << 20, 64 << 20};
	for (int i = 0; i < 6; i++) {
		void *p = malloc(size[i]);
		memset(p, 1, size[i] < 100000 ? size[i] : 100000);
		errno = 4321;
		free(p);
		CHECK(errno == 4321);
	}
	errno = 99;
	void *p = malloc(64);
	CHECK(errno == 99);
	p = realloc(p, 128);
	CHECK(errno == 99);
	free(p);
	free(NULL);
	CHECK(errno == 99);
}

static void by_name(void)
{
	void (*sized)(void *, size_t) = (void (*)(void *, size_t))dlsym(RTLD_DEFAULT, "free_sized");
	void (*aligned_sized)(void *, size_t, size_t) =
		(void (*)(void *, size_t, size_t))dlsym(RTLD_DEFAULT, "free_aligned_sized");
	void (*old_free)(void *) = (void (*)(void *))dlsym(RTLD_DEFAULT, "cfree");
	void *(*libc_reallocarray)(void *, size_t, size_t) =
		(void *(*)(void *, size_t, size_t))dlsym(RTLD_DEFAULT, "__libc_reallocarray");
	bool shimmed = getenv("LD_PRELOAD") && strstr(getenv("LD_PRELOAD"), "framealloc");
	CHECK(!shimmed || (sized && aligned_sized && old_free && libc_reallocarray));
	for (int i = 0; i < 1000 && sized; i++) {
		sized(malloc(50), 50);
		aligned_sized(aligned_alloc(64, 128), 64, 128);
		sized(malloc(100000), 100000);
		sized(NULL, 0);
	}
	if (old_free)
		old_free(malloc(10));
	if (libc_reallocarray)
		free(libc_reallocarray(malloc(3), 3, 3));
}

static void aliases(void)
{
	for (size_t size = 1; size < 100000; size = size * 3 + 1) {
		char *p = __libc_malloc(size);
		check_block(p, size, 16);
		p = realloc(p, size + 1);
		p = __libc_realloc(p, size + 100);
		check_block(p, size + 100, 16);
		__libc_free(p);
		free(__libc_calloc(2, size));
		__libc_free(malloc(size));
		p = __libc_memalign(256, size);
		check_block(p, size, 256);
		free(p);
		p = __libc_valloc(size);
		check_block(p, size, 4096);
		free(p);
		free(__libc_pvalloc(size));
	}
}

static void *all(void *unused)
{
	sizes();
	aligned();
	too_large();
	reallocs();
	errno_kept();
	by_name();
	aliases();
	return unused;
}

int main(void)
{
	pthread_t thread;
	all(NULL); /* outside every frame */
	frame_mark();
	all(NULL);
	frame_mark();
	all(NULL);
	pthread_create(&thread, NULL, all, NULL);
	pthread_join(thread, NULL);
	frame_mark();
	return failures != 0;
}
