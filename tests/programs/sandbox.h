/* A filter of system calls, for good. */
#ifndef TEST_SANDBOX_H
#define TEST_SANDBOX_H

#include "common.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define IF_IS(value, then, otherwise) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, then, otherwise)
#define RETURN(action) BPF_STMT(BPF_RET | BPF_K, action)
#define MAY(call) IF_IS(SYS_##call, 0, 1), RETURN(SECCOMP_RET_ALLOW)

#define SANDBOX(filter) sandbox(filter, sizeof(filter) / sizeof *(filter))
static inline void sandbox(struct sock_filter *filter, unsigned short length)
{
	struct sock_fprog program = {length, filter};
	CHECK(!prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) && !prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0));
}

/* The same by calls that no library sees. */
#define SANDBOX_UNSEEN(filter) sandbox_unseen(filter, sizeof(filter) / sizeof *(filter))
static inline void sandbox_unseen(struct sock_filter *filter, unsigned short length)
{
	struct sock_fprog program = {length, filter};
	CHECK(!syscall(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) &&
	      !syscall(SYS_prctl, PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0));
}

/* No mapping gets more room where it moves to. */
static inline void refuse_room(void)
{
	struct sock_filter filter[] = {LOAD(nr),
				       IF_IS(SYS_mremap, 0, 5),
				       LOAD(args[1]),
				       BPF_STMT(BPF_MISC | BPF_TAX, 0),
				       LOAD(args[2]),
				       BPF_JUMP(BPF_JMP | BPF_JGT | BPF_X, 0, 0, 1),
				       RETURN(SECCOMP_RET_ERRNO | ENOMEM),
				       RETURN(SECCOMP_RET_ALLOW)};
	SANDBOX_UNSEEN(filter);
}

#endif
