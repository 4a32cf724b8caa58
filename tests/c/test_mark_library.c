/*
 * More than 200 named functions of libc, libm, libz and libSDL2 are called before they are patched, with entry markers,
 * and with scopes around them: results, what they wrote, errno and floating-point flags are the same. The callbacks
 * overwrite every register that they may. Groups of functions share a prototype, and with it the arguments tried.
 * Sources: core/mark/finder.c core/mark/finder_next.c core/mark/image.c core/mark/symbols.c core/mark/names.c
 * core/mark/demangle.c core/mark/decode.c core/mark/extent.c core/mark/near.c core/mark/refuse.c core/mark/patch.c
 * core/mark/patch_relocate.c core/mark/patch_scan.c core/mark/patch_index.c core/mark/patch_stub.c core/mark/patch_stub.S
 * core/mark/patch_run.c core/mark/arguments.c core/mark/got.c core/mark/got_stub.S core/path/cfi.c core/path/eh_frame.c
 * core/path/module.c core/base.c core/library.c  Libs: -lm
 * (no sanitizer)
 */
#define _GNU_SOURCE
#include <complex.h>
#include <dlfcn.h>
#include <errno.h>
#include <fenv.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/mark/mark.h"

#define COUNT(array) (sizeof(array) / sizeof(array)[0])
#define WANTED 200

/* FNV-1a over everything that a call is seen to have done. Written without calls: any of them may be patched. */
static void see(uint64_t *digest, const void *bytes, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		*digest = (*digest ^ ((const volatile uint8_t *)bytes)[i]) * 0x100000001b3u;
		__asm__ volatile("");
	}
}

#define SEE(value)                                                                                                     \
	do {                                                                                                           \
		__typeof__(value) seen_value = (value);                                                                \
		int seen_errno = errno;                                                                                \
		see(digest, &seen_value,                                                                               \
		    sizeof seen_value > 10 && sizeof seen_value == sizeof(long double) ? 10 : sizeof seen_value);      \
		see(digest, &seen_errno, sizeof seen_errno);                                                           \
		errno = 0;                                                                                             \
	} while (0)

static const double numbers[] = {
	0.0,  -0.0,  1.0,   -1.0,  0.5,    2.75,   -3.25,      10.5,      100.125,         1e-5,
	1e10, -1e10, 700.0, 1e308, -1e308, 5e-324, 3.14159265, 1.0 / 3.0, __builtin_inf(), -__builtin_inf()};
static const char *const texts[] = {"",
				    "a",
				    "42",
				    "-17",
				    "0x1f",
				    "  99 bottles",
				    "3.25e2xyz",
				    "1e999",
				    "99999999999999999999999",
				    "abcabcabd",
				    "Hello, World",
				    "/nonexistent/file",
				    "UPPER lower 123"};

/* A read-only buffer's copy with room, the same before each call. */
static char room[256];
static void fresh_room(const char *text)
{
	for (size_t i = 0; i < sizeof room; i++)
		((volatile char *)room)[i] = '.';
	size_t i = 0;
	for (; text[i]; i++)
		((volatile char *)room)[i] = text[i];
	room[i] = 0;
}

static intptr_t place(const char *result, const char *text)
{
	return result ? result - text : -1;
}

#define GROUP(name) static void name(void *function, uint64_t *digest)
#define EACH(variable, list) for (size_t variable = 0; variable < COUNT(list); variable++)

GROUP(double_of_double)
{
	EACH(i, numbers) SEE(((double (*)(double))function)(numbers[i]));
}

GROUP(float_of_float)
{
	EACH(i, numbers) SEE(((float (*)(float))function)((float)numbers[i]));
}

GROUP(long_double_of_long_double)
{
	EACH(i, numbers) SEE(((long double (*)(long double))function)(numbers[i]));
}

GROUP(complex_of_complex)
{
	EACH(i, numbers) SEE(((double complex (*)(double complex))function)(numbers[i] + 0.5 * I));
}

GROUP(double_of_two)
{
	EACH(i, numbers) EACH(k, numbers) SEE(((double (*)(double, double))function)(numbers[i], numbers[k]));
}

GROUP(float_of_two)
{
	EACH(i, numbers)
	EACH(k, numbers) SEE(((float (*)(float, float))function)((float)numbers[i], (float)numbers[k]));
}

GROUP(long_of_double)
{
	EACH(i, numbers) SEE(((long (*)(double))function)(numbers[i]));
}

GROUP(int_of_double)
{
	EACH(i, numbers) SEE(((int (*)(double))function)(numbers[i]));
}

GROUP(double_and_int)
{
	EACH(i, numbers)
	for (int power = -40; power < 40; power += 13)
		SEE(((double (*)(double, int))function)(numbers[i], power));
}

GROUP(double_of_three)
{
	EACH(i, numbers)
	EACH(k, numbers) SEE(((double (*)(double, double, double))function)(numbers[i], numbers[k], 0.75));
}

GROUP(double_and_out)
{
	EACH(i, numbers)
	{
		int64_t out = 0;
		SEE(((double (*)(double, void *))function)(numbers[i], &out));
		SEE(out);
	}
}

GROUP(int_of_int)
{
	for (int c = 0; c < 256; c++)
		SEE(!!((int (*)(int))function)(c));
}

GROUP(changed_int)
{
	for (int c = -1; c < 300; c++)
		SEE(((int (*)(int))function)(c));
}

GROUP(long_of_text)
{
	EACH(i, texts) SEE(((long (*)(const char *))function)(texts[i]));
}

GROUP(int_of_text)
{
	EACH(i, texts) SEE(((int (*)(const char *))function)(texts[i]));
}

GROUP(double_of_text)
{
	EACH(i, texts) SEE(((double (*)(const char *))function)(texts[i]));
}

static int sign(int value)
{
	return (value > 0) - (value < 0);
}

GROUP(order_of_texts)
{
	EACH(i, texts) EACH(k, texts) SEE(sign(((int (*)(const char *, const char *))function)(texts[i], texts[k])));
}

GROUP(order_of_parts)
{
	EACH(i, texts)
	EACH(k, texts) SEE(sign(((int (*)(const char *, const char *, size_t))function)(texts[i], texts[k], 2)));
}

GROUP(size_of_texts)
{
	EACH(i, texts)
	EACH(k, texts) SEE(((unsigned long (*)(const char *, const char *))function)(texts[i], texts[k]));
}

GROUP(size_of_part)
{
	EACH(i, texts) SEE(((unsigned long (*)(const char *, size_t))function)(texts[i], 5));
}

GROUP(place_of_text)
{
	EACH(i, texts)
	EACH(k, texts) SEE(place(((char *(*)(const char *, const char *))function)(texts[i], texts[k]), texts[i]));
}

GROUP(place_of_char)
{
	EACH(i, texts) SEE(place(((char *(*)(const char *, int))function)(texts[i], 'b'), texts[i]));
}

GROUP(place_of_byte)
{
	EACH(i, texts)
	SEE(place(((char *(*)(const char *, int, size_t))function)(texts[i], 'l', strlen(texts[i])), texts[i]));
}

GROUP(copy_text)
{
	EACH(i, texts)
	{
		fresh_room("start ");
		SEE(place(((char *(*)(char *, const char *))function)(room, texts[i]), room));
		see(digest, room, sizeof room);
	}
}

GROUP(copy_part)
{
	EACH(i, texts)
	{
		fresh_room("start ");
		SEE(place(((char *(*)(char *, const char *, size_t))function)(room, texts[i], strlen(texts[i]) + 1),
			  room));
		see(digest, room, sizeof room);
	}
}

GROUP(copy_sized)
{
	EACH(i, texts)
	{
		fresh_room("start ");
		SEE(((unsigned long (*)(char *, const char *, size_t))function)(room, texts[i], 12));
		see(digest, room, sizeof room);
	}
}

GROUP(fill_room)
{
	for (size_t count = 0; count < 200; count += 7) {
		fresh_room("x");
		SEE(place(((char *(*)(void *, int, size_t))function)(room, 'q', count), room));
		see(digest, room, sizeof room);
	}
}

GROUP(change_room)
{
	EACH(i, texts)
	{
		fresh_room(texts[i]);
		SEE(place(((char *(*)(char *))function)(room), room));
		see(digest, room, sizeof room);
	}
}

GROUP(integer_in_text)
{
	EACH(i, texts)
	for (int base = 0; base < 20; base += base ? 6 : 10) {
		char *end;
		SEE(((long (*)(const char *, char **, int))function)(texts[i], &end, base));
		SEE(place(end, texts[i]));
	}
}

GROUP(double_in_text)
{
	EACH(i, texts)
	{
		char *end;
		SEE(((double (*)(const char *, char **))function)(texts[i], &end));
		SEE(place(end, texts[i]));
	}
}

GROUP(float_in_text)
{
	EACH(i, texts)
	{
		char *end;
		SEE(((float (*)(const char *, char **))function)(texts[i], &end));
		SEE(place(end, texts[i]));
	}
}

GROUP(long_double_in_text)
{
	EACH(i, texts)
	{
		char *end;
		SEE(((long double (*)(const char *, char **))function)(texts[i], &end));
		SEE(place(end, texts[i]));
	}
}

/* Fail with errno. */
GROUP(bad_descriptor)
{
	SEE(((int (*)(int))function)(-1));
}

GROUP(bad_descriptor_and_numbers)
{
	SEE(((long (*)(int, long, long, long))function)(-1, 0, 0, 0));
}

GROUP(bad_path)
{
	SEE(((int (*)(const char *))function)("/nonexistent/file"));
}

GROUP(bad_path_and_room)
{
	SEE(((long (*)(const char *, void *, size_t))function)("/nonexistent/file", room, sizeof room));
}

GROUP(bad_path_and_number)
{
	SEE(((int (*)(const char *, int))function)("/nonexistent/file", 0));
}

GROUP(bad_paths)
{
	SEE(((int (*)(const char *, const char *))function)("/nonexistent/file", "/nonexistent/other"));
}

GROUP(of_nothing)
{
	SEE(((int (*)(void))function)());
}

static int by_value(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b;
}

GROUP(sort)
{
	int values[300];
	for (int i = 0; i < 300; i++)
		values[i] = i * 7919 % 1009;
	((void (*)(void *, size_t, size_t, int (*)(const void *, const void *)))function)(values, 300, sizeof *values,
											  by_value);
	see(digest, values, sizeof values);
}

GROUP(print)
{
	EACH(i, numbers)
	{
		fresh_room("");
		SEE(((int (*)(char *, size_t, const char *, ...))function)(room, 60, "%d %s %g %c %lx|%f", 42,
									   texts[i % COUNT(texts)], numbers[i], 'x',
									   1ul << 40, numbers[i]));
		see(digest, room, sizeof room);
	}
}

GROUP(scan)
{
	int number = 0;
	char word[20] = "";
	double real = 0;
	SEE(((int (*)(const char *, const char *, ...))function)("12 word 2.5e3", "%d %19s %lf", &number, word, &real));
	SEE(number);
	SEE(real);
	see(digest, word, sizeof word);
}

GROUP(broken_time)
{
	for (time_t when = -1000000000; when < 4000000000; when += 777777777) {
		struct tm out = {.tm_sec = 0};
		SEE(((struct tm * (*)(const time_t *, struct tm *)) function)(&when, &out) == &out);
		SEE(out.tm_sec + 60 * (out.tm_min + 60 * (out.tm_hour + 24 * (out.tm_yday + 366 * out.tm_year))));
	}
}

GROUP(whole_time)
{
	for (int year = 0; year < 200; year += 9) {
		struct tm in = {.tm_year = year, .tm_mon = 17, .tm_mday = 40};
		SEE(((long (*)(struct tm *))function)(&in));
		SEE(in.tm_mon);
	}
}

GROUP(checksum)
{
	EACH(i, texts)
	SEE(((unsigned long (*)(unsigned long, const void *, unsigned))function)(1, texts[i],
										 (unsigned)strlen(texts[i])));
}

GROUP(checksums_joined)
{
	for (long bytes = 0; bytes < 1000; bytes += 77)
		SEE(((unsigned long (*)(unsigned long, unsigned long, long))function)(0x12345678, 0x9abcdef0, bytes));
}

GROUP(squeeze)
{
	unsigned long bytes;
	static char in[4000], out[4100];
	for (size_t i = 0; i < sizeof in; i++)
		in[i] = (char)(i * i / 7);
	bytes = sizeof out;
	SEE(((int (*)(void *, unsigned long *, const void *, unsigned long))function)(out, &bytes, in, sizeof in));
	SEE(bytes);
	see(digest, out, bytes);
}

GROUP(long_of_long)
{
	for (long value = 0; value < 100000; value += 7777)
		SEE(((long (*)(long))function)(value));
}

struct rectangle {
	int x, y, w, h;
};

static const struct rectangle rectangles[] = {
	{0, 0, 10, 10}, {5, 5, 20, 3}, {-4, 2, 6, 30}, {100, 100, 1, 1}, {0, 0, 0, 0}};

GROUP(two_rectangles)
{
	EACH(i, rectangles)
	EACH(k, rectangles)
	{
		struct rectangle out = {0, 0, 0, 0};
		SEE(((unsigned char (*)(const void *, const void *, void *))function)(&rectangles[i], &rectangles[k],
										      &out));
		see(digest, &out, sizeof out);
	}
}

GROUP(rectangle_around_two)
{
	EACH(i, rectangles)
	EACH(k, rectangles)
	{
		struct rectangle out = {0, 0, 0, 0};
		((void (*)(const void *, const void *, void *))function)(&rectangles[i], &rectangles[k], &out);
		see(digest, &out, sizeof out);
	}
}

GROUP(rectangle_and_line)
{
	EACH(i, rectangles)
	{
		int x1 = -5, y1 = 3, x2 = 60, y2 = 9;
		SEE(((unsigned char (*)(const void *, int *, int *, int *, int *))function)(&rectangles[i], &x1, &y1,
											    &x2, &y2));
		SEE(x1 + 1000 * y1 + 1000000 * (x2 + 1000 * y2));
	}
}

GROUP(six_numbers)
{
	for (int value = 1; value < 6; value++)
		SEE(((unsigned (*)(int, int, int, int, int, int))function)(value, 2, 1, 4, value, 1));
}

GROUP(text_of_number)
{
	for (uint32_t value = 0; value < 300; value++) {
		const char *text = ((const char *(*)(uint32_t))function)(value * 0x01010101u);
		see(digest, text ? text : "", text ? strlen(text) : 0);
	}
}

static const struct {
	const char *library, *names;
	void (*call)(void *function, uint64_t *digest);
} groups[] = {
	{"libm.so.6",
	 "sin cos tan asin acos atan sinh cosh tanh asinh acosh atanh exp exp2 exp10 expm1 log log2 log10 log1p sqrt "
	 "cbrt floor "
	 "ceil trunc round roundeven rint nearbyint fabs erf erfc tgamma lgamma logb j0 j1 y0 y1 significand",
	 double_of_double},
	{"libm.so.6",
	 "sinf cosf tanf asinf acosf atanf sinhf coshf tanhf asinhf acoshf atanhf expf exp2f expm1f logf log2f log10f "
	 "log1pf "
	 "sqrtf cbrtf floorf ceilf truncf roundf rintf nearbyintf fabsf erff erfcf tgammaf lgammaf logbf j0f y1f",
	 float_of_float},
	{"libm.so.6",
	 "sinl cosl tanl asinl acosl atanl sinhl coshl expl exp2l expm1l logl log2l sqrtl cbrtl floorl ceill truncl "
	 "roundl "
	 "rintl fabsl erfl tgammal logbl",
	 long_double_of_long_double},
	{"libm.so.6", "csin ccos ctan csinh ccosh cexp clog csqrt casin cacos catan cproj conj", complex_of_complex},
	{"libm.so.6", "pow atan2 fmod hypot copysign nextafter fdim fmax fmin remainder", double_of_two},
	{"libm.so.6", "powf atan2f fmodf hypotf copysignf nextafterf fdimf fmaxf fminf remainderf", float_of_two},
	{"libm.so.6", "lrint llrint lround llround", long_of_double},
	{"libm.so.6", "ilogb", int_of_double},
	{"libm.so.6", "ldexp scalbn jn", double_and_int},
	{"libm.so.6", "fma", double_of_three},
	{"libm.so.6", "modf frexp lgamma_r", double_and_out},
	{"libc.so.6",
	 "isalpha isdigit isalnum isspace isupper islower ispunct isprint isgraph iscntrl isxdigit isblank iswalpha "
	 "iswdigit "
	 "iswalnum iswspace iswupper iswlower iswpunct iswprint iswcntrl iswxdigit",
	 int_of_int},
	{"libc.so.6", "toupper tolower towupper towlower abs ffs htonl htons wctob btowc", changed_int},
	{"libc.so.6", "strlen atol atoll inet_network", long_of_text},
	{"libc.so.6", "atoi inet_addr", int_of_text},
	{"libc.so.6", "atof", double_of_text},
	{"libc.so.6", "strcmp strcasecmp strcoll strverscmp", order_of_texts},
	{"libc.so.6", "strncmp strncasecmp", order_of_parts},
	{"libc.so.6", "strspn strcspn", size_of_texts},
	{"libc.so.6", "strnlen", size_of_part},
	{"libc.so.6", "strstr strpbrk strcasestr", place_of_text},
	{"libc.so.6", "strchr strrchr strchrnul index rindex", place_of_char},
	{"libc.so.6", "memchr memrchr", place_of_byte},
	{"libc.so.6", "strcpy stpcpy strcat", copy_text},
	{"libc.so.6", "memcpy memmove mempcpy strncpy stpncpy strncat", copy_part},
	{"libc.so.6", "strxfrm", copy_sized},
	{"libc.so.6", "memset", fill_room},
	{"libc.so.6", "strtol strtoul strtoll strtoull", integer_in_text},
	{"libc.so.6", "strtod", double_in_text},
	{"libc.so.6", "strtof", float_in_text},
	{"libc.so.6", "strtold", long_double_in_text},
	{"libc.so.6", "close dup fsync fdatasync isatty fchdir syncfs", bad_descriptor},
	{"libc.so.6", "read write lseek pread pwrite ftruncate readv writev dup3", bad_descriptor_and_numbers},
	{"libc.so.6", "unlink rmdir chdir", bad_path},
	{"libc.so.6", "readlink statfs stat lstat", bad_path_and_room},
	{"libc.so.6", "access open chmod truncate", bad_path_and_number},
	{"libc.so.6", "rename link", bad_paths},
	{"libc.so.6", "getpid getppid getuid geteuid getgid getegid getpgrp getpagesize", of_nothing},
	{"libc.so.6", "qsort", sort},
	{"libc.so.6", "snprintf", print},
	{"libc.so.6", "sscanf", scan},
	{"libc.so.6", "gmtime_r localtime_r", broken_time},
	{"libc.so.6", "timegm mktime", whole_time},
	{"libc.so.6", "labs llabs", long_of_long},
	{"libz.so.1", "crc32 adler32", checksum},
	{"libz.so.1", "crc32_combine adler32_combine", checksums_joined},
	{"libz.so.1", "compress", squeeze},
	{"libz.so.1", "compressBound", long_of_long},
	{"libSDL2-2.0.so.0", "SDL_sin SDL_cos SDL_tan SDL_exp SDL_log SDL_sqrt SDL_fabs SDL_floor SDL_ceil SDL_atan",
	 double_of_double},
	{"libSDL2-2.0.so.0", "SDL_sinf SDL_cosf SDL_tanf SDL_expf SDL_sqrtf", float_of_float},
	{"libSDL2-2.0.so.0", "SDL_pow SDL_atan2 SDL_fmod SDL_copysign", double_of_two},
	{"libSDL2-2.0.so.0", "SDL_isdigit SDL_isspace SDL_isupper SDL_islower", int_of_int},
	{"libSDL2-2.0.so.0", "SDL_toupper SDL_tolower SDL_abs", changed_int},
	{"libSDL2-2.0.so.0", "SDL_strlen", long_of_text},
	{"libSDL2-2.0.so.0", "SDL_atoi", int_of_text},
	{"libSDL2-2.0.so.0", "SDL_strcmp SDL_strcasecmp", order_of_texts},
	{"libSDL2-2.0.so.0", "SDL_strncmp SDL_strncasecmp", order_of_parts},
	{"libSDL2-2.0.so.0", "SDL_strstr", place_of_text},
	{"libSDL2-2.0.so.0", "SDL_strchr SDL_strrchr", place_of_char},
	{"libSDL2-2.0.so.0", "SDL_strlcpy SDL_strlcat SDL_utf8strlcpy", copy_sized},
	{"libSDL2-2.0.so.0", "SDL_strrev SDL_strupr SDL_strlwr", change_room},
	{"libSDL2-2.0.so.0", "SDL_strtol SDL_strtoul SDL_strtoll", integer_in_text},
	{"libSDL2-2.0.so.0", "SDL_strtod", double_in_text},
	{"libSDL2-2.0.so.0", "SDL_qsort", sort},
	{"libSDL2-2.0.so.0", "SDL_snprintf", print},
	{"libSDL2-2.0.so.0", "SDL_HasIntersection SDL_IntersectRect", two_rectangles},
	{"libSDL2-2.0.so.0", "SDL_UnionRect", rectangle_around_two},
	{"libSDL2-2.0.so.0", "SDL_IntersectRectAndLine", rectangle_and_line},
	{"libSDL2-2.0.so.0", "SDL_ComposeCustomBlendMode", six_numbers},
	{"libSDL2-2.0.so.0", "SDL_GetPixelFormatName SDL_GetScancodeName", text_of_number},
};

static struct called {
	char name[48];
	void *function;
	void (*call)(void *function, uint64_t *digest);
	struct mark_function found;
	uint64_t plain;
	long entries, leaves;
	bool patched, wrapped;
} called[512];
static size_t called_count;
static int failures;
static long loud; /* callbacks do damage only while a function under test is called */

#define GENERAL_ONLY __attribute__((target("general-regs-only")))

static void wreck_vectors(void *unused, void *unused_too)
{
	(void)unused, (void)unused_too;
	__asm__ volatile("pcmpeqd %%xmm0,%%xmm0; pcmpeqd %%xmm1,%%xmm1; pcmpeqd %%xmm2,%%xmm2; pcmpeqd %%xmm3,%%xmm3;"
			 "pcmpeqd %%xmm7,%%xmm7; pcmpeqd %%xmm15,%%xmm15" ::
				 : "xmm0", "xmm1", "xmm2", "xmm3", "xmm7", "xmm15");
	errno = 4321;
}

GENERAL_ONLY static void wreck(void)
{
	if (loud)
		patch_guarded(wreck_vectors, NULL, NULL);
	__asm__ volatile(
		"mov $-1,%%rax; mov %%rax,%%rcx; mov %%rax,%%rdx; mov %%rax,%%rsi; mov %%rax,%%rdi; mov %%rax,%%r8;"
		"mov %%rax,%%r9; mov %%rax,%%r10; mov %%rax,%%r11; add %%rax,%%rax" ::
			: "rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "cc");
}

GENERAL_ONLY static void on_entry(void *context, const uintptr_t *fp)
{
	(void)fp;
	((struct called *)context)->entries++;
	wreck();
}

GENERAL_ONLY static bool on_enter(void *context, const uintptr_t *fp, bool returns)
{
	on_entry(context, fp);
	return returns;
}

GENERAL_ONLY static void on_leave(void *context, const uintptr_t *fp)
{
	(void)fp;
	((struct called *)context)->leaves++;
	wreck();
}

static bool take_same(void *context, const struct mark_function *function)
{
	struct called *one = context;
	if (function->address == (uintptr_t)one->function)
		one->found = *function;
	return true;
}

static void find(const char *library, void *handle, const char *name, size_t length,
		 void (*call)(void *function, uint64_t *digest))
{
	struct called *one = &called[called_count];
	char spec[128];
	const char *reason;
	*one = (struct called){.call = call};
	snprintf(one->name, sizeof one->name, "%.*s", (int)length, name);
	snprintf(spec, sizeof spec, "%s!%s", library, one->name);
	one->function = dlsym(handle, one->name);
	if (one->function)
		finder_each(spec, take_same, one, &reason);
	if (!one->found.address) {
		printf("%s: not found\n", spec);
		failures++;
		return;
	}
	called_count++;
}

static void find_all(void)
{
	for (size_t i = 0; i < COUNT(groups); i++) {
		void *handle = dlopen(groups[i].library, RTLD_NOW | RTLD_LOCAL);
		if (!handle) {
			printf("%s is not here\n", groups[i].library);
			continue;
		}
		for (const char *name = groups[i].names; *name;) {
			size_t length = strcspn(name, " ");
			find(groups[i].library, handle, name, length, groups[i].call);
			name += length + (name[length] == ' ');
		}
	}
}

static uint64_t call(struct called *one)
{
	uint64_t digest = 0xcbf29ce484222325u;
	feclearexcept(FE_ALL_EXCEPT);
	errno = 0;
	loud = 1;
	one->call(one->function, &digest);
	loud = 0;
	int raised = fetestexcept(FE_ALL_EXCEPT);
	see(&digest, &raised, sizeof raised);
	return digest;
}

/* How many different functions were called through a patch with the same result. */
static size_t compare(const char *how)
{
	size_t same = 0;
	for (size_t i = 0; i < called_count; i++) {
		struct called *one = &called[i];
		long entries = one->entries, leaves = one->leaves;
		bool alias = false;
		if (call(one) != one->plain) {
			printf("%s, %s: DIFFERS\n", one->name, how);
			failures++;
			continue;
		}
		for (size_t k = 0; k < i; k++)
			alias |= called[k].function == one->function;
		if (one->patched && one->entries == entries) {
			printf("%s, %s: never entered\n", one->name, how);
			failures++;
		}
		same += !alias && (one->wrapped ? one->leaves > leaves : one->patched);
	}
	printf("%zu functions, %s: same\n", same, how);
	return same;
}

int main(void)
{
	if (patch_init()) {
		puts("Zydis is missing");
		return 1;
	}
	find_all();
	/* Twice: what a first call sets up (locale, time zone) is set up then. */
	for (size_t i = 0; i < called_count; i++)
		call(&called[i]), called[i].plain = call(&called[i]);
	for (size_t i = 0; i < called_count; i++) {
		const char *reason;
		called[i].patched = !patch_entry(&called[i].found, on_entry, &called[i], &reason);
		if (!called[i].patched)
			printf("%s: %s\n", called[i].name, reason);
	}
	patch_release();
	size_t entered = compare("entry markers");
	for (size_t i = 0; i < called_count; i++) {
		const char *reason;
		called[i].wrapped = !patch_around(&called[i].found, on_enter, on_leave, &called[i], false, &reason);
	}
	patch_release();
	size_t wrapped = compare("scopes around");
	if (entered < WANTED || wrapped < WANTED) {
		printf("%d wanted\n", WANTED);
		failures++;
	}
	return failures != 0;
}
