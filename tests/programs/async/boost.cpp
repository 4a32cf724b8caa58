/* Coroutines on boost::context: each resumption makes one block that dies in it and one that the next one frees.
   usage: boost FIBERS RESUMPTIONS */
#include <boost/context/fiber.hpp>
#include <cstdio>
#include <cstdlib>
#include <vector>

namespace context = boost::context;

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

int main(int argc, char **argv)
{
	int count = argc > 1 ? atoi(argv[1]) : 2, resumptions = argc > 2 ? atoi(argv[2]) : 100, sum = 0;
	std::vector<context::fiber> fibers;
	for (int i = 0; i < count; i++)
		fibers.emplace_back(std::allocator_arg, context::fixedsize_stack(65536), [&](context::fiber &&home) {
			for (int turn = 0; turn < resumptions; turn++) {
				char *kept = static_cast<char *>(crossing(48)), *passing = static_cast<char *>(staying(32));
				kept[0] = passing[0] = 1;
				free(passing);
				home = std::move(home).resume();
				free(kept);
				sum++;
			}
			return std::move(home);
		});
	for (int turn = 0; turn <= resumptions; turn++)
		for (auto &fiber : fibers)
			fiber = std::move(fiber).resume();
	printf("%d\n", sum);
	return 0;
}
