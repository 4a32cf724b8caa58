/* What jemalloc calls instead of libc: objcopy puts these in the place of what it calls (shim/jemalloc.syms). Its memory comes from
   the region, it obeys FA_MALLOC_CONF instead of the target's MALLOC_CONF, and makes no system calls but those for memory. */
#define _GNU_SOURCE
#include "core/tier/heap_sys.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/region/region.h"
#include "core/runtime.h"

#define ROOM_BYTES ((size_t)12 << 20) /* it takes 10 */
#define ROOM_STACK_BYTES ((size_t)1 << 20) /* the last of them, meanwhile */
#define OPTIONS "FA_MALLOC_CONF"
#define OVERCOMMIT "/proc/sys/vm/overcommit_memory"
#define OVERCOMMIT_FD (1 << 30) /* what answers for it */

static struct {
	bool noted;
	cpu_set_t processors;
	char overcommit; /* its first byte; 0: it could not be read */
} machine;

void heap_sys_note_machine(void)
{
	int saved = errno, fd = base_open(OVERCOMMIT, O_RDONLY | O_CLOEXEC, 0);
	if (fd >= 0) {
		if (base_read(fd, &machine.overcommit, 1) != 1)
			machine.overcommit = 0;
		base_close(fd);
	}
	machine.noted = !sched_getaffinity(0, sizeof machine.processors, &machine.processors);
	errno = saved;
}

bool heap_sys_has_options(void)
{
	return runtime_environment(OPTIONS);
}

int heap_sys_getaffinity(pid_t pid, size_t bytes, cpu_set_t *set)
{
	if (!machine.noted)
		return sched_getaffinity(pid, bytes, set);
	memcpy(set, &machine.processors, bytes < sizeof *set ? bytes : sizeof *set);
	return 0;
}

long heap_sys_syscall(long number, long a, long b, long c)
{
	if (number == SYS_open && base_text_equal((const char *)a, OVERCOMMIT) && machine.overcommit)
		return OVERCOMMIT_FD;
	if (number == SYS_open &&
	    !heap_sys_has_options()) { /* whether huge pages are to be had: it does not ask for them */
		errno = ENOENT;
		return -1;
	}
	if (number == SYS_read && a == OVERCOMMIT_FD) {
		*(char *)b = machine.overcommit;
		return 1;
	}
	if (number == SYS_close && a == OVERCOMMIT_FD)
		return 0;
	return syscall(number, a, b, c);
}

/* What jemalloc maps while it is set up, in a row, taken at the start: it does not expect to be refused then. Its pages are none until
   it writes to them. */
static struct {
	char *start, *next; /* NULL: there is none, or not any more */
} room;

bool heap_sys_room_take(void)
{
	room.start = room.next = region_heap_map(ROOM_BYTES, PROT_READ | PROT_WRITE);
	return room.start;
}

void *heap_sys_room_stack(void)
{
	return room.start ? room.start + ROOM_BYTES : NULL;
}

void heap_sys_room_give_back(void)
{
	if (room.next)
		region_heap_unmap(room.next, ROOM_BYTES - (size_t)(room.next - room.start));
	room.start = room.next = NULL;
}

/* Aligned as region_heap_map does. NULL: not from there. */
static void *room_take(size_t bytes)
{
	size_t align = bytes >= REGION_HUGE_BYTES ? REGION_HUGE_BYTES : REGION_CHUNK_BYTES;
	bytes = round_up(bytes, REGION_CHUNK_BYTES);
	char *start = (char *)round_up((uintptr_t)room.next, align);
	if (!room.next || (size_t)(start - room.start) + bytes > ROOM_BYTES - ROOM_STACK_BYTES)
		return NULL;
	if (start != room.next)
		region_heap_unmap(room.next, (size_t)(start - room.next));
	room.next = start + bytes;
	return start;
}

void *heap_sys_mmap(void *address, size_t bytes, int prot, int flags, int fd, off_t offset)
{
	/* Without a region the shim stands aside, and is asked for statistics. */
	if (flags & MAP_FIXED || !region.bytes)
		return mmap(address, bytes, prot, flags, fd, offset);
	if (address) { /* a wish for neighbouring addresses: jemalloc gives back what does not fit */
		errno = ENOMEM;
		return MAP_FAILED;
	}
	void *start = room_take(bytes);
	if (!start)
		start = region_heap_map(bytes, prot);
	if (start)
		return start;
	errno = ENOMEM;
	return MAP_FAILED;
}

int heap_sys_munmap(void *address, size_t bytes)
{
	if (!region_holds(address))
		return munmap(address, bytes);
	region_heap_unmap(address, bytes);
	return 0;
}

char *heap_sys_getenv(const char *name)
{
	/* Only the variable that names jemalloc's options is ever asked for. */
	char *options = base_text_equal(name, "MALLOC_CONF") ? (char *)runtime_environment(OPTIONS) : NULL;
	/* A thread whose arena cannot be made, for want of addresses, crashes; the first is there. */
	static char one_arena[] = "narenas:1";
	return !options && region_is_limited() ? one_arena : options;
}

ssize_t heap_sys_readlink(const char *path, char *out, size_t bytes)
{
	(void)path, (void)out, (void)bytes;
	errno = ENOENT; /* /etc/malloc.conf is the target's */
	return -1;
}

void *heap_sys_sbrk(intptr_t increment)
{
	(void)increment;
	errno = ENOMEM;
	return (void *)-1;
}

/* jemalloc's statistics and sampling want three functions of libm, which would be another library to load. */
double heap_sys_log(double x)
{
	long double result;
	__asm__("fldln2\n\tfldt %1\n\tfyl2x" : "=t"(result) : "m"((long double){x}) : "st(1)");
	return (double)result;
}

double heap_sys_exp(double x)
{
	long double scaled = (long double)x * 1.442695040888963407359924681L; /* log2(e) */
	long long whole = (long long)(scaled < 0 ? scaled - 0.5L : scaled + 0.5L);
	long double fraction = scaled - (long double)whole, power;
	__asm__("f2xm1" : "=t"(power) : "0"(fraction));
	power += 1.0L;
	__asm__("fscale" : "+t"(power) : "u"((long double)whole));
	return (double)power;
}

double heap_sys_round(double x)
{
	double whole = (double)(long long)(x < 0 ? x - 0.5 : x + 0.5);
	return x > 9e15 || x < -9e15 ? x : whole;
}

/* Its own heap profiler is off: the shim knows the call paths. */
int heap_sys_unwind_backtrace(void *callback, void *context)
{
	(void)callback, (void)context;
	return 0;
}

uintptr_t heap_sys_unwind_getip(void *context)
{
	(void)context;
	return 0;
}

void heap_sys_stack_chk_fail(void)
{
	__builtin_trap();
}

int heap_sys_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *), void *argument)
{
	(void)thread, (void)attributes, (void)start, (void)argument;
	return EAGAIN; /* background_thread stays off */
}
