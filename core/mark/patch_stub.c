/*
 * Which of the routines of patch_stub.S this machine gets. Decided once, in patch_init, by what both the processor and
 * the kernel offer; a register that exists is always kept.
 */
#include "core/mark/patch_stub.h"

#include "core/base.h"
#include "core/mark/mark.h"

#include <cpuid.h>
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>

#define XCR0_AVX 0x6u /* SSE and upper halves */
#define XCR0_AVX512 0xe6u /* and masks, upper halves of zmm0-15, zmm16-31 */
#define XCR0_KEPT 0xe7u /* x87 besides */
#define XSAVE_LEGACY_BYTES 576

__attribute__((visibility("hidden"))) extern uint64_t stub_xsave_bytes;
__attribute__((visibility("hidden"))) extern uint32_t stub_xsave_mask;
uint64_t stub_xsave_bytes = XSAVE_LEGACY_BYTES;
uint32_t stub_xsave_mask = 3;

static const struct stub_guard guards[] = {
	{"sse", mark_guard_sse},
	{"avx", mark_guard_avx},
	{"avx512", mark_guard_avx512},
	{"xsave", mark_guard_xsave},
};
enum { SSE, AVX, AVX512, XSAVE, GUARDS };

static bool available[GUARDS];
static const struct stub_guard *used;

static uint32_t enabled_state(void)
{
	uint32_t low, high;
	__asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
	return low;
}

/* Each question to the processor takes microseconds in a virtual machine. */
static void measure_xsave(uint32_t mask)
{
	uint32_t bytes, offset, unused_c, unused_d;
	stub_xsave_mask = mask;
	for (uint32_t component = 2; component < 8; component++) {
		if (!(mask >> component & 1))
			continue;
		__cpuid_count(0xd, component, bytes, offset, unused_c, unused_d);
		if (offset + bytes > stub_xsave_bytes)
			stub_xsave_bytes = offset + bytes;
	}
	stub_xsave_bytes = (stub_xsave_bytes + 63) & ~(uint64_t)63;
}

const struct stub_guard *stub_pick(void)
{
	uint32_t a, b = 0, c = 0, d, state = 0;
	__cpuid(1, a, b, c, d);
	if (c & bit_OSXSAVE)
		state = enabled_state();
	bool avx = (c & bit_AVX) && (state & XCR0_AVX) == XCR0_AVX;
	b = 0;
	__get_cpuid_count(7, 0, &a, &b, &c, &d);
	/* The routine stores masks as 64 bits and zmm16-31 by halves. */
	bool words_and_lengths = b & bit_AVX512BW && b & bit_AVX512VL;
	available[AVX512] = (state & XCR0_AVX512) == XCR0_AVX512 && words_and_lengths;
	available[AVX] = avx && !(state & (XCR0_AVX512 & ~XCR0_AVX));
	available[SSE] = !avx;
	available[XSAVE] = state != 0;
	return available[AVX512] ? &guards[AVX512]
	       : available[AVX]  ? &guards[AVX]
	       : available[SSE]  ? &guards[SSE]
				 : &guards[XSAVE];
}

const struct stub_guard *stub_at(size_t index)
{
	return index < GUARDS ? &guards[index] : NULL;
}

void stub_use(const struct stub_guard *guard)
{
	if (guard == &guards[XSAVE])
		measure_xsave(enabled_state() & XCR0_KEPT);
	used = guard;
}

const struct stub_guard *stub_used(void)
{
	return used;
}

struct guarded {
	void (*function)(void *a, void *b);
	void *a, *b;
	bool within; /* something else that is guarded */
};

__thread bool patch_is_guarded;
_Atomic bool patch_cancels_anywhere;

/* What is guarded may take locks: a thread that may be cancelled at any instruction must not be here, and no handler may jump
   away from here. It may out of a wait that is marked, as out of any call that is safe in handlers. */
static void run_guarded(void *given, void *unused)
{
	const struct guarded *guarded = given;
	bool shuts = !guarded->within && !base_spares_calls();
	uint64_t signals = shuts ? base_shut_signals(BASE_SIGNALS_OF_CODE) : 0;
	int type = PTHREAD_CANCEL_DEFERRED;
	(void)unused;
	if (patch_cancels_anywhere)
		pthread_setcanceltype(PTHREAD_CANCEL_DEFERRED, &type);
	guarded->function(guarded->a, guarded->b);
	patch_is_guarded = guarded->within; /* here already: nothing below may come to run */
	if (type != PTHREAD_CANCEL_DEFERRED)
		pthread_setcanceltype(type, NULL);
	if (shuts)
		base_let_signals(signals);
}

void patch_guarded(void (*function)(void *a, void *b), void *a, void *b)
{
	struct guarded guarded = {function, a, b, .within = patch_is_guarded};
	patch_is_guarded = true; /* before all else: the marked function may be one of these */
	int saved = errno;
	if (used)
		used->run(run_guarded, &guarded, NULL);
	else
		run_guarded(&guarded, NULL); /* nothing is patched yet */
	errno = saved;
}
