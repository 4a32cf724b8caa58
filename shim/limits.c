/* Resource limits that the program sets for itself: when its address space is limited, or its data (private memory that may be
   written to), the region is reserved no longer; before its files are, the recording's has its length. And memory that it locks. */
#define _GNU_SOURCE
#include <errno.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "core/region/region.h"
#include "core/runtime.h"
#include "core/tier/heap.h"
#include "core/trace/writer.h"
#include "shim/hooks.h"

static int set_limit(pid_t pid, int resource, const struct rlimit64 *limit, struct rlimit64 *old)
{
	bool own = pid == 0 || pid == (pid_t)syscall(SYS_getpid);
	if (limit && own && resource == RLIMIT_FSIZE && limit->rlim_cur < TRACE_MAX_BYTES &&
	    runtime_current() == RUNTIME_RECORDING)
		trace_keep_room();
	bool of_memory = resource == RLIMIT_AS || resource == RLIMIT_DATA;
	if (limit && own && of_memory && runtime_owns_memory()) { /* first: what is reserved counts */
		heap_before_limits();
		region_limit(limit->rlim_cur == RLIM64_INFINITY ? SIZE_MAX : limit->rlim_cur);
	}
	return (int)syscall(SYS_prlimit64, pid, resource, limit, old);
}

/* All memory that the machine has. */
static size_t machine_bytes(void)
{
	struct sysinfo machine;
	return sysinfo(&machine) ? SIZE_MAX : (machine.totalram + machine.totalswap) * machine.mem_unit;
}

/* What is reserved would be locked as well, and count; tables would be filled. */
EXPORT int mlockall(int flags)
{
	bool valid = flags && !(flags & ~(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT)),
	     ours = valid && runtime_owns_memory();
	int saved = errno;
	if (ours) {
		heap_before_limits();
		region_lock(machine_bytes());
	}
	errno = saved;
	int error = (int)syscall(SYS_mlockall, flags);
	if (ours && !error && flags & MCL_FUTURE)
		base_maps_are_locked();
	if (ours && !error && flags & MCL_CURRENT)
		region_locked();
	return error;
}

/* On x86-64 the two structs are one. */
_Static_assert(sizeof(struct rlimit) == sizeof(struct rlimit64), "64-bit limits");

EXPORT int setrlimit(__rlimit_resource_t resource, const struct rlimit *limit)
{
	return set_limit(0, (int)resource, (const struct rlimit64 *)limit, NULL);
}

EXPORT int setrlimit64(__rlimit_resource_t resource, const struct rlimit64 *limit)
{
	return set_limit(0, (int)resource, limit, NULL);
}

EXPORT int prlimit(pid_t pid, __rlimit_resource_t resource, const struct rlimit *limit, struct rlimit *old)
{
	return set_limit(pid, (int)resource, (const struct rlimit64 *)limit, (struct rlimit64 *)old);
}

EXPORT int prlimit64(pid_t pid, __rlimit_resource_t resource, const struct rlimit64 *limit, struct rlimit64 *old)
{
	return set_limit(pid, (int)resource, limit, old);
}
