/*
 * What stands between jemalloc and the system, and what it is given before it is set up, so that nothing can be refused then. By
 * one thread at a time, but for what jemalloc calls.
 */
#ifndef FA_TIER_HEAP_SYS_H
#define FA_TIER_HEAP_SYS_H

#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <sys/types.h>

#include "core/base.h"

/* At the start: what jemalloc asks about the machine. A filter of system calls may come before it asks. */
void heap_sys_note_machine(void);
/* Somebody has said how jemalloc is to work, and wants to be told of mistakes in that at once. */
bool heap_sys_has_options(void);
/* At the start: memory for all that it maps as it is set up. False: there is none. */
bool heap_sys_room_take(void);
/* A MiB of stack for that, its top; NULL: no room was taken. */
void *heap_sys_room_stack(void);
/* It is set up: the stack and what is left go back. */
void heap_sys_room_give_back(void);

void *heap_sys_mmap(void *address, size_t bytes, int prot, int flags, int fd, off_t offset);
int heap_sys_munmap(void *address, size_t bytes);
long heap_sys_syscall(long number, long a, long b, long c);
int heap_sys_getaffinity(pid_t pid, size_t bytes, cpu_set_t *set);
char *heap_sys_getenv(const char *name);
ssize_t heap_sys_readlink(const char *path, char *out, size_t bytes);
void *heap_sys_sbrk(intptr_t increment);
double heap_sys_log(double x);
double heap_sys_exp(double x);
double heap_sys_round(double x);
int heap_sys_unwind_backtrace(void *callback, void *context);
uintptr_t heap_sys_unwind_getip(void *context);
void heap_sys_stack_chk_fail(void);
int heap_sys_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *),
			    void *argument);
/* These are in heap.c. */
int heap_sys_pthread_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void));
int heap_sys_pthread_key_create(pthread_key_t *key, void (*destructor)(void *value));

#endif
