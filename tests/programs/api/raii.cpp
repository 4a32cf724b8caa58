/* The objects of framealloc.hpp: frames, tasks, polls, guards, awaits and vectors end with their scopes, also by throw. */
#include <atomic>
#include <cassert>
#include <cstdio>
#include <stdexcept>
#include <thread>

#include "framealloc.hpp"

static char *parse(const char *text)
{
	fa::guard guard;
	auto *copy = static_cast<char *>(fa_pool_alloc(strlen(text) + 1));
	strcpy(copy, text);
	if (!copy[0])
		throw std::runtime_error("empty");
	guard.release(copy);
	return copy;
}

int main()
{
	for (int i = 0; i < 3; i++) {
		fa::frame frame;
		fa::vec<int> numbers(FA_FRAME);
		for (int n = 0; n < 100; n++)
			numbers.push_back(n);
		int sum = 0;
		for (int n : numbers)
			sum += n;
		assert(sum == 4950 && numbers[50] == 50 && numbers.size() == 100);
		numbers.clear();
	}
	{
		fa::task task("task"), child(task, "child");
		fa::vec<char> text(task);
		for (int i = 0; i < 4; i++) {
			fa::poll poll(task);
			assert(poll && !fa::poll(task));
			text.push_back('x');
			static_cast<char *>(task.alloc(100))[99] = 1;
		}
		{
			fa::poll poll(child);
			fa::await await;
		}
		char *taken = text.take();
		assert(taken[3] == 'x');
		fa_free(taken);
		assert(!child.end() && !child.end());
		fa::task moved = std::move(task);
		assert(!task.get() && !moved.end() && !moved.end());
	}
	try {
		fa_free(parse("text"));
		parse("");
		assert(false);
	} catch (const std::runtime_error &) {
	}
	try {
		fa::frame frame;
		fa::guard guard;
		fa::vec<int> numbers(FA_POOL); /* ends before the guard that owns its array */
		for (int n = 0; n < 100; n++)
			numbers.push_back(numbers.size() ? numbers[0] : n);
		FA_AWAIT(parse("")); /* the await ends with the throw */
	} catch (const std::runtime_error &) {
		fa::frame frame;
		fa_frame_alloc(10);
	}
	{
		fa::task elsewhere("elsewhere");
		std::atomic<int> turn{0};
		std::thread other([&] {
			fa::poll poll(elsewhere);
			turn = 1;
			while (turn != 2)
				;
		});
		while (turn != 1)
			;
		assert(elsewhere.end() == -EBUSY && elsewhere.get());
		turn = 2;
		other.join();
	}
	fa_stats_t stats;
	fa_stats(&stats);
	printf("frames %d, tasks %d %d, polls %d, live %d, misuse %d\n", static_cast<int>(stats.frames),
	       static_cast<int>(stats.tasks_started), static_cast<int>(stats.tasks_ended), static_cast<int>(stats.polls),
	       static_cast<int>(stats.frame.live_blocks + stats.other.live_blocks), static_cast<int>(stats.misuse));
}
