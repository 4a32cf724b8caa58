// C++ operators in all their forms, containers, exceptions that pass through frames of allocation, and bad_alloc.
#include <cstdint>
#include <cstdio>
#include <map>
#include <memory>
#include <new>
#include <string>
#include <thread>
#include <vector>

extern "C" __attribute__((noinline, noipa, used)) void frame_mark() { static volatile int frames; frames = frames + 1; }

static int failures;
#define CHECK(c) do { if (!(c)) { std::fprintf(stderr, "%d: failed: %s\n", __LINE__, #c); failures++; } } while (0)

struct alignas(256) Wide { char bytes[700]; };
struct Counted { static int alive; std::string text{"a string that is too long for the small buffer"}; Counted() { if (++alive == 50) throw alive; } ~Counted() { alive--; } };
int Counted::alive;

static void everything()
{
	for (int i = 0; i < 200; i++) {
		auto *one = new Wide; auto *many = new Wide[3];
		CHECK(reinterpret_cast<std::uintptr_t>(one) % 256 == 0 && reinterpret_cast<std::uintptr_t>(many) % 256 == 0);
		delete one; delete[] many;
		::operator delete(::operator new(100), std::size_t(100));
		::operator delete[](::operator new[](100, std::align_val_t(64)), std::align_val_t(64));
		::operator delete(::operator new(100, std::nothrow));
	}
	const volatile std::size_t huge = std::size_t(-1) / 2 - 100;
	CHECK(::operator new(huge, std::nothrow) == nullptr);
	bool thrown = false;
	try { ::operator delete(::operator new(huge)); } catch (const std::bad_alloc &) { thrown = true; }
	CHECK(thrown);
	int at = 0;
	try { std::vector<std::unique_ptr<Counted>> all; for (;;) all.push_back(std::make_unique<Counted>()); } catch (int n) { at = n; }
	CHECK(at == 50);
	Counted::alive = 0;
	std::map<std::string, std::vector<int>> map;
	for (int i = 0; i < 3000; i++) map["key number " + std::to_string(i % 700)].push_back(i);
	int sum = 0;
	for (auto &[key, values] : map) for (int v : values) sum += v;
	CHECK(sum == 2999 * 3000 / 2);
}

int main()
{
	everything();
	for (int i = 0; i < 4; i++) { frame_mark(); everything(); }
	std::thread other(everything);
	other.join();
	frame_mark();
	std::printf("done %d\n", failures);
	return failures != 0;
}
