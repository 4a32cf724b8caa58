// Allocations where allocators die: constructors before and after ours, destructors, atexit and on_exit handlers, TLS
// destructors of C++ and of pthread keys in every round, and frees of blocks made in another of those places.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <pthread.h>
#include <string>
#include <thread>
#include <unistd.h>
#include <vector>

static char *early, *late;
static std::vector<std::string> *global = new std::vector<std::string>(100, "made before main, freed after it");

static void use(std::size_t size)
{
	for (int i = 0; i < 20; i++) {
		char *p = static_cast<char *>(std::malloc(size + i)), *q = static_cast<char *>(std::calloc(3, size));
		std::memset(p, i, size + i);
		p = static_cast<char *>(std::realloc(p, size * 3));
		if (p[0] != i || q[size] != 0) _exit(40);
		std::free(q);
		std::free(p);
	}
}

__attribute__((constructor(101))) static void first() { early = strdup("early"); use(10); }
__attribute__((destructor(101))) static void last() { use(500); std::free(late); if (write(1, "last\n", 5) != 5) _exit(41); }
__attribute__((destructor(65000))) static void before_last() { use(100); std::free(early); delete global; late = strdup("late"); }

struct Local {
	std::string text = std::string(100, 'x');
	char *block = static_cast<char *>(std::malloc(300));
	~Local() { use(60); std::free(block); std::vector<int> v(1000, 1); if (v[999] != 1) _exit(42); }
};
static thread_local Local local;
static pthread_key_t key[3];
static int rounds;

static void key_gone(void *value)
{
	use(200);
	std::free(value);
	if (__atomic_fetch_add(&rounds, 1, __ATOMIC_RELAXED) % 4 < 3)
		pthread_setspecific(key[0], std::malloc(70)); // the next round must free it
}

extern "C" __attribute__((noinline, noipa, used)) void frame_mark() { static volatile int frames; frames = frames + 1; }

int main(int argc, char **)
{
	for (auto &k : key) pthread_key_create(&k, key_gone);
	std::atexit([] { use(1000); });
	on_exit([](int, void *p) { use(17); std::free(p); }, std::malloc(77));
	for (int round = 0; round < 100; round++) {
		frame_mark();
		std::thread thread([] {
			local.text += "y";
			for (auto &k : key) pthread_setspecific(k, std::malloc(33));
			frame_mark();
			use(40);
			frame_mark();
		});
		thread.join();
	}
	local.text += "z";
	if (argc > 1) pthread_exit(nullptr); // the main thread ends before the process
	return 0;
}
