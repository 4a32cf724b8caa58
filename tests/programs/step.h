/* Single steps: between the two the processor raises SIGTRAP after each instruction. */
#ifndef TEST_STEP_H
#define TEST_STEP_H

#include <ucontext.h>

#define STEP_FLAG 0x100ll /* of the flags register */

#define STEP_ON()                                                                                                      \
	__asm__ volatile("sub $128, %%rsp; pushf; orl $0x100, (%%rsp); popf; add $128, %%rsp" ::: "memory", "cc")
#define STEP_OFF()                                                                                                     \
	__asm__ volatile("sub $128, %%rsp; pushf; andl $~0x100, (%%rsp); popf; add $128, %%rsp" ::: "memory", "cc")

/* In the handler of SIGTRAP, which was given this context: there is no further step. */
static inline void step_no_more(void *context)
{
	((ucontext_t *)context)->uc_mcontext.gregs[REG_EFL] &= ~STEP_FLAG;
}

#endif
