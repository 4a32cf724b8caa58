/*
 * waits KIND TURNS: more ways to turn a loop, and some that only look like one. Each prints how many turns it made.
 * What is expected of each stands in test_zero_configuration.py.
 */
#include "common.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/wait.h>

static long turns;
static void *kept;

SITE void turn(void)
{
	free(malloc(100));
	free(kept);
	kept = malloc(40);
	turns++;
}

static void sleep_us(long us)
{
	struct timespec time = {us / 1000000, us % 1000000 * 1000};
	nanosleep(&time, NULL);
}

static long now_us(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static void compute_us(long us)
{
	long end = now_us() + us;
	while (now_us() < end)
		free(malloc(64));
}

/* Servers on loopback: a client on another thread asks every 2 ms. */

struct client {
	uint16_t port;
	int requests;
};

static void *ask(void *given)
{
	const struct client *client = given;
	struct sockaddr_in to = {
		.sin_family = AF_INET, .sin_port = client->port, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	char answer;
	CHECK(!connect(fd, (struct sockaddr *)&to, sizeof to));
	for (int i = 0; i < client->requests; i++) {
		char letter = (char)('a' + i % 26);
		CHECK(send(fd, &letter, 1, 0) == 1 && recv(fd, &answer, 1, 0) == 1 && answer == letter - 32);
		sleep_us(2000);
	}
	close(fd);
	return NULL;
}

static int listen_to(struct client *client)
{
	struct sockaddr_in own = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t length = sizeof own;
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	CHECK(!bind(fd, (struct sockaddr *)&own, sizeof own) && !listen(fd, 5));
	CHECK(!getsockname(fd, (struct sockaddr *)&own, &length));
	client->port = own.sin_port;
	return fd;
}

/* Waits until `fd` can be read, in one of several ways. */
static void wait_by(const char *how, int epoll, int fd)
{
	struct epoll_event event;
	struct pollfd one = {.fd = fd, .events = POLLIN};
	fd_set set;
	FD_ZERO(&set);
	FD_SET(fd, &set);
	if (!strcmp(how, "epoll"))
		epoll_wait(epoll, &event, 1, -1);
	else if (!strcmp(how, "epoll-pwait"))
		epoll_pwait(epoll, &event, 1, -1, NULL);
	else if (!strcmp(how, "poll"))
		poll(&one, 1, -1);
	else if (!strcmp(how, "ppoll"))
		ppoll(&one, 1, NULL, NULL);
	else if (!strcmp(how, "select"))
		select(fd + 1, &set, NULL, NULL, NULL);
	else
		pselect(fd + 1, &set, NULL, NULL, NULL, NULL);
}

static void serve(int n, const char *how)
{
	struct client client = {0, n};
	pthread_t thread;
	int listener = listen_to(&client), epoll = epoll_create1(0);
	pthread_create(&thread, NULL, ask, &client);
	int fd = accept(listener, NULL, NULL);
	struct epoll_event event = {.events = EPOLLIN};
	epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
	for (char letter;;) {
		wait_by(how, epoll, fd);
		if (recv(fd, &letter, 1, 0) != 1)
			break;
		turn();
		letter -= 32;
		send(fd, &letter, 1, 0);
	}
	pthread_join(thread, NULL);
	close(fd), close(epoll), close(listener);
}
static void serve_epoll(int n)
{
	serve(n, "epoll");
}
static void serve_epoll_pwait(int n)
{
	serve(n, "epoll-pwait");
}
static void serve_poll(int n)
{
	serve(n, "poll");
}
static void serve_ppoll(int n)
{
	serve(n, "ppoll");
}
static void serve_select(int n)
{
	serve(n, "select");
}
static void serve_pselect(int n)
{
	serve(n, "pselect");
}

static void loop_signals(int n)
{
	sigset_t set;
	struct timespec time = {0, 3000000};
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, NULL);
	while (n--)
		turn(), sigtimedwait(&set, NULL, &time);
}
/* Until an absolute time, as engines with a fixed step do. */
static void loop_absolute(int n)
{
	for (long at = now_us(); n--;) {
		turn();
		long now = now_us();
		at = at + 6000 < now ? now : at + 3000; /* as games do: what a stall took is not caught up with */
		struct timespec time = {at / 1000000, at % 1000000 * 1000};
		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, NULL);
	}
}
/* A burst of short sleeps while something loads, then an event loop. */
static void loop_burst(int n)
{
	for (int i = 0; i < 40; i++)
		sleep_us(1000);
	while (n--)
		turn(), poll(NULL, 0, 3);
}
/* Looks for events in several ways without waiting, then paces itself. */
static void loop_looks(int n)
{
	struct timeval zero = {0, 0};
	struct timespec none = {0, 0};
	while (n--) {
		turn();
		for (int i = 0; i < 3; i++)
			poll(NULL, 0, 0);
		select(0, NULL, NULL, NULL, &zero);
		ppoll(NULL, 0, &none, NULL);
		sleep_us(3000);
	}
}
/* The same by a wait of a moment, as one that must not be zero. It is a small part of the turn, however long it takes to wake up;
   but for what is rather a stall of the machine. */
static void loop_looks_longer(int n)
{
	while (n--) {
		turn();
		struct timeval moment = {0, 1};
		long begin = now_us();
		select(0, NULL, NULL, NULL, &moment);
		long rest = (now_us() - begin) * 40;
		sleep_us(rest < 5000 ? 5000 : rest < 2000000 ? rest : 2000000);
	}
}
/* There is always something to do, and now and then it sleeps. */
static void loop_loaded(int n)
{
	int always = eventfd(1, 0), epoll = epoll_create1(0);
	struct epoll_event event = {.events = EPOLLIN};
	epoll_ctl(epoll, EPOLL_CTL_ADD, always, &event);
	for (int i = 0; i < n; i++) {
		turn();
		epoll_wait(epoll, &event, 1, -1);
		compute_us(2000);
		if (i % 50 == 0)
			usleep(5000);
	}
	close(always), close(epoll);
}
/* Busy most of the time, and sleeps what is left of 4 ms. */
static void loop_busy(int n)
{
	while (n--)
		turn(), compute_us(3500), sleep_us(500);
}
/* Times between sleeps that scatter, 0.1 ms to 8 ms: a loop all the same. */
static void loop_scattered(int n)
{
	for (unsigned seed = 7; n--;) {
		turn();
		seed = seed * 1103515245 + 12345;
		sleep_us(100 + (seed >> 16) % 8000);
	}
}
static void handled(int number)
{
	(void)number;
}
/* Every sleep is cut short by a signal. */
static void loop_interrupted(int n)
{
	struct itimerspec every = {{0, 2000000}, {0, 2000000}};
	struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGALRM};
	timer_t timer;
	signal(SIGALRM, handled);
	timer_create(CLOCK_MONOTONIC, &event, &timer);
	timer_settime(timer, 0, &every, NULL);
	while (n--)
		turn(), sleep_us(500000);
	timer_delete(timer);
}
/* Both of a class in each turn. */
static void loop_two_sleeps(int n)
{
	while (n--)
		turn(), usleep(1000), sleep_us(2000);
}
/* A pool of workers with event loops of their own; the main thread only waits for their end. */
static void *work(void *count)
{
	int epoll = epoll_create1(0);
	struct epoll_event event;
	for (long i = 0; i < (long)(intptr_t)count; i++) {
		free(malloc(30));
		epoll_wait(epoll, &event, 1, 2);
		sleep_us(500);
		poll(NULL, 0, 1);
	}
	close(epoll);
	return NULL;
}
static void loop_workers(int n)
{
	pthread_t thread[3];
	for (int i = 0; i < 3; i++)
		pthread_create(&thread[i], NULL, work, (void *)(intptr_t)n);
	for (int i = 0; i < 3; i++)
		pthread_join(thread[i], NULL);
}
/* The same while the main thread computes, and sleeps three times. */
static void loop_workers_and_work(int n)
{
	pthread_t thread;
	pthread_create(&thread, NULL, work, (void *)(intptr_t)n);
	for (int i = 0; i < 3; i++)
		compute_us(200000), sleep_us(1000);
	pthread_join(thread, NULL);
}
/* The main thread turns a loop among workers that do the same, faster. */
static void loop_main_among_workers(int n)
{
	pthread_t thread[2];
	for (int i = 0; i < 2; i++)
		pthread_create(&thread[i], NULL, work, (void *)(intptr_t)n);
	while (n--)
		turn(), sleep_us(4000);
	for (int i = 0; i < 2; i++)
		pthread_join(thread[i], NULL);
}
/* Main leaves; a worker goes on. */
static void *go_on(void *count)
{
	work(count);
	printf("%ld turns\n", turns);
	exit(0);
}
static void loop_main_leaves(int n)
{
	pthread_t thread;
	pthread_create(&thread, NULL, go_on, (void *)(intptr_t)n);
	pthread_exit(NULL);
}
/* A child sleeps periodically; the parent waits for it. */
static void loop_child(int n)
{
	pid_t child = fork();
	if (!child) {
		while (n--)
			sleep_us(2000);
		_exit(0);
	}
	int status;
	CHECK(waitpid(child, &status, 0) == child && !status);
}
static void loop_three_sleeps(int n)
{
	(void)n;
	for (int i = 0; i < 3; i++)
		turn(), sleep_us(100000);
}
/* Waits twice as long each time for something that never comes. */
static void loop_backs_off(int n)
{
	(void)n;
	for (long us = 1000; us < 600000; us *= 2)
		turn(), sleep_us(us);
}
/* Ten sleeps at start and ten at end, with work between. */
static void loop_two_bursts(int n)
{
	(void)n;
	for (int burst = 0; burst < 2; burst++) {
		for (int i = 0; i < 10; i++)
			sleep_us(2000);
		if (!burst)
			compute_us(600000);
	}
}
/* Waits for its loader so long that it looks like a loop, and never sleeps again. */
static void loop_loads_then_works(int n)
{
	(void)n;
	for (int i = 0; i < 60; i++)
		turn(), sleep_us(10000);
	compute_us(3000000);
}
/* Nobody asks anything for a while; or it loads. Then the loop begins. */
static void loop_asked_late(int n)
{
	poll(NULL, 0, 4000);
	for (; n--; turn())
		poll(NULL, 0, 5);
}
static void loop_loads_first(int n)
{
	sleep_us(1000);
	compute_us(4000000);
	for (; n--; turn())
		sleep_us(5000);
}
static void loop_none(int n)
{
	while (n--)
		turn();
}

int main(int argc, char **argv)
{
	static const struct {
		const char *kind;
		void (*run)(int);
	} kinds[] = {{"serve-epoll", serve_epoll},
		     {"serve-epoll-pwait", serve_epoll_pwait},
		     {"serve-poll", serve_poll},
		     {"serve-ppoll", serve_ppoll},
		     {"serve-select", serve_select},
		     {"serve-pselect", serve_pselect},
		     {"signals", loop_signals},
		     {"absolute", loop_absolute},
		     {"burst", loop_burst},
		     {"looks", loop_looks},
		     {"looks-longer", loop_looks_longer},
		     {"loaded", loop_loaded},
		     {"busy", loop_busy},
		     {"short-busy", loop_busy},
		     {"scattered", loop_scattered},
		     {"interrupted", loop_interrupted},
		     {"two-sleeps", loop_two_sleeps},
		     {"workers", loop_workers},
		     {"workers-and-work", loop_workers_and_work},
		     {"main-among-workers", loop_main_among_workers},
		     {"main-leaves", loop_main_leaves},
		     {"child", loop_child},
		     {"three-sleeps", loop_three_sleeps},
		     {"backs-off", loop_backs_off},
		     {"two-bursts", loop_two_bursts},
		     {"loads-then-works", loop_loads_then_works},
		     {"asked-late", loop_asked_late},
		     {"loads-first", loop_loads_first},
		     {"none", loop_none}};
	bool known = false;
	for (size_t i = 0; argc > 2 && i < sizeof kinds / sizeof *kinds; i++)
		if (!strcmp(argv[1], kinds[i].kind)) {
			kinds[i].run(atoi(argv[2]));
			known = true;
		}
	CHECK(known);
	free(kept);
	printf("%ld turns\n", turns);
	return failures;
}
