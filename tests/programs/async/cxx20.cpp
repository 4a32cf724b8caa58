/* C++20 coroutines: each resumption makes one block that dies in it and one that the next one frees; every third
   coroutine is destroyed before its end. usage: cxx20 COROUTINES RESUMPTIONS */
#include <coroutine>
#include <cstdio>
#include <cstdlib>
#include <vector>

static int sum;

static volatile int made; /* two functions of the same code would become one */

static __attribute__((noinline)) void *crossing(size_t size)
{
	made = 1;
	return malloc(size);
}

static __attribute__((noinline)) void *staying(size_t size)
{
	made = 2;
	return malloc(size);
}

struct job {
	struct promise_type {
		job get_return_object()
		{
			return {std::coroutine_handle<promise_type>::from_promise(*this)};
		}
		std::suspend_always initial_suspend()
		{
			return {};
		}
		std::suspend_always final_suspend() noexcept
		{
			return {};
		}
		void return_void()
		{
		}
		void unhandled_exception()
		{
			abort();
		}
	};
	std::coroutine_handle<promise_type> handle;
};

static job work(int resumptions)
{
	for (int turn = 0; turn < resumptions; turn++) {
		char *kept = static_cast<char *>(crossing(48)), *passing = static_cast<char *>(staying(32));
		kept[0] = passing[0] = 1;
		free(passing);
		co_await std::suspend_always{};
		free(kept);
		sum++;
	}
}

int main(int argc, char **argv)
{
	int count = argc > 1 ? atoi(argv[1]) : 2, resumptions = argc > 2 ? atoi(argv[2]) : 100;
	std::vector<job> jobs;
	for (int i = 0; i < count; i++)
		jobs.push_back(work(resumptions));
	for (int turn = 0; turn <= resumptions; turn++)
		for (auto &each : jobs)
			each.handle.resume();
	for (auto &each : jobs)
		each.handle.destroy();
	printf("%d\n", sum);
	return 0;
}
