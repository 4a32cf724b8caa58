/* C++ exceptions and scopes: thrown through, rethrown, caught inside, kept for later, with cleanups, without a handler.
   throws CASE [COUNT] */
#include "scopes.h"

#include <exception>
#include <stdexcept>

static volatile long sum;
static void *volatile escaped;
static long count;

struct Cleanup {
	void (*made)();
	~Cleanup() { made(); }
};

SITE void thrower(long value)
{
	inside();
	throw value;
}

SITE static void m_throw(long value)
{
	escaped = escaping();
	thrower(value);
}

SITE static void m_outer(long value)
{
	inside();
	m_throw(value);
	sum = -1;
}

SITE static void m_rethrow(long value)
{
	try {
		m_throw(value);
	} catch (long &caught) {
		inside();
		caught++;
		throw;
	}
}

static void after()
{
	outside();
	free(escaped);
	outside();
}

template <class Call> static void catching(Call call)
{
	/* Values that live in registers across the call: the unwinder must give them back. */
	long a = count, b = a * 3, c = b ^ 0x5555, d = c + 7, e = d * 5, f = e ^ a;
	__asm__ volatile("" : "+r"(a), "+r"(b), "+r"(c), "+r"(d), "+r"(e), "+r"(f));
	for (long i = 0; i < count; i++) {
		scopes_begun++;
		try {
			call(i);
			sum += 1000;
		} catch (long value) {
			after();
			sum += value * 7 + a + b + c + d + e + f;
		}
		outside();
		a += i, b ^= i, c += a, d ^= b, e += c, f ^= d;
	}
}

/* The scope stays open where an exception is caught inside it. */
SITE static void catcher(long value)
{
	try {
		thrower(value);
	} catch (long caught) {
		inside();
		sum += caught;
	}
}

SITE static void m_catcher_inside(long value)
{
	inside();
	catcher(value);
	inside();
	escaped = escaping();
	inside();
}

/* A marked function throws into the marked function that called it, which goes on. */
SITE static void m_nested_catch(long value)
{
	try {
		m_throw(value);
	} catch (long caught) {
		sum += caught;
		inside();
		free(held = malloc(1));
	}
	inside();
}

SITE static void m_cleanup(long value)
{
	Cleanup cleanup = {inside};
	m_throw(value);
}

SITE static void outer_cleanup(long value)
{
	Cleanup cleanup = {outside};
	m_cleanup(value);
}

static std::exception_ptr kept;

SITE static void m_keep(long value)
{
	try {
		m_throw(value);
	} catch (...) {
		kept = std::current_exception();
	}
	inside();
}

SITE static void keep_and_rethrow(long value)
{
	m_keep(value);
	outside();
	std::rethrow_exception(kept);
}

SITE static void m_noexcept(long value) noexcept
{
	m_throw(value);
}


/* On a thread that ends by an exception's handler, a thousand times. */
static void *thrown_on_thread(void *argument)
{
	long value = (long)argument;
	try {
		m_outer(value);
	} catch (long caught) {
		after();
		COUNT(scopes_begun);
		__atomic_fetch_add((long *)&sum, caught * 3, __ATOMIC_RELAXED);
	}
	return nullptr;
}

static void on_threads()
{
	for (long i = 0; i < count; i++) {
		pthread_t thread;
		CHECK(pthread_create(&thread, nullptr, thrown_on_thread, (void *)i) == 0);
		pthread_join(thread, nullptr);
	}
}

static void terminated()
{
	printf("terminated: %s\n", std::current_exception() ? "an exception" : "none");
	fflush(stdout);
	abort();
}

int main(int, char **argv)
{
	const char *name = argv[1];
	count = number(argv, 2, 100);
	std::set_terminate(terminated);
	outside();
	if (!strcmp(name, "through"))
		catching(m_throw);
	else if (!strcmp(name, "through-two"))
		catching(m_outer);
	else if (!strcmp(name, "rethrown"))
		catching(m_rethrow);
	else if (!strcmp(name, "cleanups"))
		catching(outer_cleanup);
	else if (!strcmp(name, "kept"))
		catching(keep_and_rethrow);
	else if (!strcmp(name, "caught-inside"))
		for (long i = 0; i < count; i++) {
			scopes_begun++;
			m_catcher_inside(i);
			after();
		}
	else if (!strcmp(name, "caught-by-marked"))
		for (long i = 0; i < count; i++) {
			scopes_begun++;
			m_nested_catch(i);
			after();
		}
	else if (!strcmp(name, "threads"))
		on_threads();
	else if (!strcmp(name, "uncaught"))
		m_outer(1);
	else if (!strcmp(name, "noexcept"))
		m_noexcept(1);
	else
		return 2;
	printf("%ld\n", sum);
	return finish();
}
