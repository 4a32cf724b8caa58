/*
 * Functions to be patched, for test_mark_calls.c, which builds this file with many compilers and options. targets_run
 * calls all of them and writes what they did as text: the same text must come out when they are patched. Each counts
 * its own calls, so that the test knows how many entries it must have seen.
 */
#include <csetjmp>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <immintrin.h>
#include <stdexcept>

#if defined(__clang__)
#define TARGET extern "C" __attribute__((noinline, visibility("default")))
#else
#define TARGET extern "C" __attribute__((noipa, visibility("default")))
#endif

extern "C" {
__attribute__((visibility("default"))) long targets_calls;
__attribute__((visibility("default"))) uintptr_t targets_return, targets_cfa;
}

struct block64 {
	long v[8];
};
struct block200 {
	long v[25];
};

TARGET long t_recurse(int depth)
{
	targets_calls++;
	volatile char room[32];
	room[0] = (char)depth;
	return depth == 0 ? 1 : t_recurse(depth - 1) + room[0];
}

TARGET double t_many(int a, long b, int c, long d, int e, long f, int g, long h, int i, long j, int k, long l, double m,
                     double n, double o, double p, double q, double r, double s, double t, double u, double v,
                     block64 w)
{
	targets_calls++;
	double sum = a + 2.0 * b + 3 * c + 4.0 * d + 5 * e + 6.0 * f;
	sum += 7 * g + 8.0 * h + 9 * i + 10.0 * j + 11 * k + 12.0 * l;
	sum += m + 2 * n + 3 * o + 4 * p + 5 * q + 6 * r + 7 * s + 8 * t + 9 * u + 10 * v;
	for (int x = 0; x < 8; x++)
		sum += (x + 1) * w.v[x];
	return sum;
}

TARGET double t_variadic(int count, ...)
{
	targets_calls++;
	va_list list;
	va_start(list, count);
	double sum = 0;
	for (int i = 0; i < count; i++)
		sum = sum * 2 + va_arg(list, int) + va_arg(list, double);
	va_end(list);
	return sum;
}

TARGET block200 t_large(long seed)
{
	targets_calls++;
	block200 result;
	for (int i = 0; i < 25; i++)
		result.v[i] = seed * i + 1;
	return result;
}

TARGET void t_throw(int value)
{
	targets_calls++;
	if (value >= 0)
		throw value;
	throw std::runtime_error("thrown");
}

TARGET void t_jump(jmp_buf *to)
{
	targets_calls++;
	longjmp(*to, 5);
}

TARGET void t_where()
{
	targets_calls++;
	targets_return = (uintptr_t)__builtin_extract_return_addr(__builtin_return_address(0));
	targets_cfa = (uintptr_t)__builtin_dwarf_cfa();
}

static __attribute__((noinline)) int t_private(int a)
{
	targets_calls++;
	return a * 7 + 3;
}

TARGET __attribute__((target("avx"))) __m256d t_avx(__m256d a, __m256d b, __m256d c, __m256d d)
{
	targets_calls++;
	return _mm256_add_pd(_mm256_mul_pd(a, b), _mm256_sub_pd(c, d));
}

TARGET __attribute__((target("avx512f"))) __m512d t_avx512(__m512d a, __m512d b, __m512d c, __m512d d)
{
	targets_calls++;
	return _mm512_add_pd(_mm512_mul_pd(a, b), _mm512_sub_pd(c, d));
}

/* First instructions of every awkward kind. They count no calls. Hidden: only .symtab tells of them. */
#define BEGIN(name) ".p2align 4\n.globl " name "\n.hidden " name "\n.type " name ",@function\n" name ":\n"
#define END(name) ".size " name ", .-" name "\n"
__asm__(".text\n"
        BEGIN("a_jump") "jmp a_body\n" END("a_jump") ".p2align 4, 0xcc\n"
        BEGIN("a_return") "xchg %ax,%ax\nlea 5(%rdi),%eax\nret\n" END("a_return")
        BEGIN("a_tiny") "ret\n" END("a_tiny") ".p2align 4\n"
        BEGIN("a_body") "lea 100(%rdi,%rdi),%eax\nret\n" END("a_body")
        BEGIN("a_short") "ret\n" END("a_short")
        ".globl a_next\n.hidden a_next\n.type a_next,@function\n"
        "a_next:\nmov %edi,%eax\nnop\nnop\nnop\nret\n" END("a_next")
        BEGIN("a_branch") "test %edi,%edi\nje 1f\nlea 1(%rdi),%eax\nret\n1:mov $77,%eax\nret\n" END("a_branch")
        BEGIN("a_counting") "mov %rdi,%rcx\njrcxz 1f\nlea 2(%rdi),%eax\nret\n1:mov $78,%eax\nret\n" END("a_counting")
        BEGIN("a_call") "call a_body\nadd $1,%eax\nret\n" END("a_call")
        BEGIN("a_pushcall")
        "push %rbx\nlea a_body(%rip),%rax\nmov %rsp,%rbx\nand $-16,%rsp\ncall *%rax\nmov %rbx,%rsp\npop %rbx\nret\n"
        END("a_pushcall")
        BEGIN("a_pointer") "sub $8,%rsp\ncall *a_table(%rip)\nadd $8,%rsp\nret\n" END("a_pointer")
        BEGIN("a_register") "lea a_body(%rip),%rax\ncall *%rax\ninc %eax\nret\n" END("a_register")
        BEGIN("a_early") "call *%rsi\ninc %eax\nret\n" END("a_early")
        BEGIN("a_relative") "mov a_datum(%rip),%eax\nadd %edi,%eax\nret\n" END("a_relative")
        BEGIN("a_compare") "cmpl $5,a_datum(%rip)\nsete %al\nmovzbl %al,%eax\nadd %edi,%eax\nret\n" END("a_compare")
        BEGIN("a_inside") "xor %eax,%eax\n1:inc %eax\ndec %edi\njg 1b\nret\n" END("a_inside")
        BEGIN("a_head") "inc %eax\ndec %edi\njg a_head\nmov $9,%eax\nret\n" END("a_head")
        ".data\n.p2align 2\na_datum: .long 5\n.p2align 3\na_table: .quad a_body\n.text\n");

extern "C" {
int a_jump(int), a_return(int), a_branch(int), a_counting(long), a_call(int), a_pushcall(int), a_relative(int);
int a_pointer(int), a_register(int);
int a_compare(int), a_inside(int), a_head(int), a_next(int);
void a_tiny(), a_short();
}

static int awkward(int x)
{
	a_tiny();
	a_short();
	return a_jump(x) + 3 * a_return(x) + 5 * a_branch(x) + 7 * a_counting(x) + 11 * a_call(x) + 13 * a_pushcall(x) +
	       17 * a_relative(x) + 19 * a_compare(x) + 23 * a_inside(x) + 29 * a_head(x) + 31 * a_next(x) +
	       37 * a_pointer(x) + 41 * a_register(x);
}

static __attribute__((target("avx"))) double run_avx()
{
	double out[4];
	_mm256_storeu_pd(out, t_avx(_mm256_set_pd(1, 2, 3, 4), _mm256_set_pd(5, 6, 7, 8), _mm256_set_pd(9, 8, 7, 6),
	                            _mm256_set1_pd(.5)));
	return out[0] + 10 * out[1] + 100 * out[2] + 1000 * out[3];
}

static __attribute__((target("avx512f"))) double run_avx512()
{
	double out[8], sum = 0;
	_mm512_storeu_pd(out, t_avx512(_mm512_set_pd(1, 2, 3, 4, 5, 6, 7, 8), _mm512_set_pd(8, 7, 6, 5, 4, 3, 2, 1),
	                               _mm512_set1_pd(3.25), _mm512_set_pd(1, 1, 2, 3, 5, 8, 13, 21)));
	for (int i = 0; i < 8; i++)
		sum = sum * 3 + out[i];
	return sum;
}

static int run_throws(int times)
{
	int caught = 0;
	for (int i = 0; i < times; i++) {
		try {
			t_throw(i % 3 - 1);
		} catch (int value) {
			caught += value + 1;
		} catch (const std::exception &error) {
			caught += (int)strlen(error.what());
		}
	}
	return caught;
}

static int run_jumps(int times)
{
	static jmp_buf to;
	static volatile int done;
	done = 0;
	while (done < times)
		if (setjmp(to) == 0)
			t_jump(&to);
		else
			done = done + 1;
	return done;
}

extern "C" __attribute__((visibility("default"))) void targets_run(char *out, size_t bytes)
{
	block64 block = {{1, 2, 3, 4, 5, 6, 7, 8}};
	block200 large = t_large(17);
	long sum = 0;
	for (long v : large.v)
		sum = sum * 3 + v;
	t_where();
	double many =
	        t_many(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, .1, .2, .3, .4, .5, .6, .7, .8, .9, 1., block);
	int length = snprintf(out, bytes, "%ld %.17g %.17g %ld %d %d %d %d %d", t_recurse(1000),
	                      many,
	                      t_variadic(9, 1, .5, 2, .25, 3, .125, 4, 1., 5, 2., 6, 3., 7, 4., 8, 5., 9, 6.), sum,
	                      run_throws(2000), run_jumps(1000), t_private((int)bytes), awkward(0), awkward(6));
	if (__builtin_cpu_supports("avx"))
		length += snprintf(out + length, bytes - length, " %.17g", run_avx());
	if (__builtin_cpu_supports("avx512f"))
		snprintf(out + length, bytes - length, " %.17g", run_avx512());
}
