// The `cpp` workload: map, string and vector churn. Prints nanoseconds per container operation, median of the rounds.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <map>
#include <string>
#include <unordered_map>
#include <vector>

extern "C" __attribute__((noinline)) void bench_frame()
{
	__asm__ volatile("" ::: "memory");
}

static double now_ns()
{
	timespec time;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
	return double(time.tv_sec) * 1e9 + double(time.tv_nsec);
}

static size_t turn(uint32_t seed)
{
	size_t operations = 0;
	bench_frame();
	std::map<uint32_t, std::string> names;
	std::unordered_map<std::string, std::vector<int>> lists;
	for (uint32_t i = 0; i < 200; i++, operations += 3) {
		uint32_t key = (seed + i) * 2654435761u % 1000;
		std::string name = "a name that does not fit inside " + std::to_string(key);
		names[key] = name;
		lists[name].push_back(int(i));
		for (int j = 0; j < 10; j++, operations++)
			lists[name].push_back(j);
	}
	for (auto at = names.begin(); at != names.end(); operations++)
		at = at->first & 1 ? names.erase(at) : std::next(at);
	return operations;
}

int main(int argc, char **argv)
{
	double factor = argc > 1 ? atof(argv[1]) : 1;
	std::vector<double> rounds;
	for (int r = -1; r < 9; r++) {
		double begin = now_ns();
		size_t operations = 0;
		for (uint32_t i = 0; i < uint32_t(100 * factor) + 1; i++)
			operations += turn(i);
		if (r >= 0)
			rounds.push_back((now_ns() - begin) / double(operations));
	}
	std::sort(rounds.begin(), rounds.end());
	printf("%.3f\n", rounds[rounds.size() / 2]);
}
