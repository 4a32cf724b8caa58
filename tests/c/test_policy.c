/*
 * Unit tests of the policy parser: each section into its table, several sources into one policy, lines of every shape,
 * full tables, and bytes that are no policy.
 * Sources: core/registry/policy.c core/registry/policy_text.c core/registry/policy_keys.c core/registry/policy_stacks.c core/registry/policy_whole.c
 * core/registry/options.c core/registry/words.c core/registry/codes.c Libs: -linih
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/registry/policy.h"
#include "tests/c/check.h"

static struct policy policy;
static char told[256][1600];
static uint32_t told_count;

static void keep_error(void *context, const char *line)
{
	CHECK(context == &policy);
	if (told_count < 256)
		snprintf(told[told_count++], sizeof told[0], "%s", line);
}

static uint32_t read_bytes(const char *text, size_t bytes, bool preset)
{
	struct policy_source source = {.name = "p.ini", .text = text, .bytes = bytes, .preset = preset};
	uint32_t before = policy.errors;
	told_count = 0;
	errno = EXDEV;
	uint32_t errors = policy_read(&policy, &source, keep_error, &policy);
	CHECK(errno == EXDEV);
	CHECK(errors == told_count && policy.errors == before + errors);
	return errors;
}

static uint32_t add(const char *text)
{
	return read_bytes(text, strlen(text), false);
}

static uint32_t read_alone(const char *text)
{
	policy_init(&policy);
	return add(text);
}

static bool marker_is(uint32_t i, enum policy_marker_kind kind, const char *function)
{
	return i < policy.marker_count && policy.marker[i].kind == kind &&
	       strcmp(policy.marker[i].function, function) == 0;
}

static void test_sections(void)
{
	CHECK(read_alone("[markers]\nframe=a\nframe-scope = b\ntask : c\nawait=d@*\ntransfer=m!e\n"
			 "[automatic]\npresent=p\nwait=w\nsleep=s\n") == 0);
	CHECK(policy.marker_count == 8 && policy.automatic_given);
	CHECK(marker_is(0, POLICY_FRAME, "a") && marker_is(1, POLICY_FRAME_SCOPE, "b") &&
	      marker_is(2, POLICY_TASK, "c"));
	CHECK(marker_is(3, POLICY_AWAIT, "d@*") && marker_is(4, POLICY_TRANSFER, "m!e") &&
	      marker_is(5, POLICY_PRESENT, "p"));
	CHECK(marker_is(6, POLICY_WAIT, "w") && marker_is(7, POLICY_SLEEP, "s") && !policy.marker[0].optional);

	CHECK(read_alone("[region a]\nscope=f\nbudget=2M\n[region b]\nmodule=*.so\n[region a]\nscope=g\nbudget=3K\n") ==
	      0);
	CHECK(policy.region_count == 3 && policy_region_named(&policy, "a") == 1 &&
	      policy_region_named(&policy, "b") == 2);
	CHECK(policy_region_named(&policy, "c") == 0 && policy.region[1].budget_bytes == 3072);
	CHECK(marker_is(1, POLICY_REGION, "g") && policy.marker[1].region == 1);
	CHECK(policy.module_count == 1 && policy.module[0].region == 2 && strcmp(policy.module[0].glob, "*.so") == 0);

	CHECK(read_alone("[role frame]\nmain=yes\npresents=yes\n[role "
			 "io]\nname=x*\nstart=f\ncreator=async\nbudget=1G\n") == 0);
	CHECK(policy.role_count == 5 && policy.role[0].test == POLICY_ROLE_MAIN &&
	      policy.role[1].test == POLICY_ROLE_PRESENTS);
	CHECK(policy.role[4].role == TRACE_ROLE_IO && policy.role[4].creator == TRACE_ROLE_ASYNC);
	CHECK(policy.role_budget_bytes[TRACE_ROLE_IO] == 1ull << 30);

	CHECK(read_alone("[thresholds]\nbudget=1M\nhot-loop=7\n[levels]\nFA601=deny\nframe-escape=hint\nfa702=allow\n"
			 "[options]\nmode=observe\nstacks=caller\n") == 0);
	CHECK(policy.threshold_given[TRACE_THRESHOLD_FRAME_BUDGET] && policy.threshold[TRACE_THRESHOLD_HOT_LOOP] == 7);
	CHECK(!policy.threshold_given[TRACE_THRESHOLD_SURVIVAL]);
	CHECK(policy.level_count == 2 && policy.level[0].level == TRACE_LEVEL_HINT && policy.level[1].code == 603);
	CHECK(policy.mode_given && policy.mode == TRACE_MODE_OBSERVE && policy.stacks == TRACE_STACKS_CALLER);

	CHECK(read_alone("[suppress s]\ncode=FA201\npath=*\nwhy=it is\n  so\n\n  always ; comment\n") == 0);
	CHECK(policy.suppression_count == 1 && policy.suppression[0].code == 201);
	CHECK(strcmp(policy.suppression[0].why, "it is so always") == 0);
}

static bool size_is(const char *value, uint64_t min, uint64_t max)
{
	char text[64];
	snprintf(text, sizeof text, "[rule r]\ntier=pool\nsize=%s", value);
	return read_alone(text) == 0 && policy.rule[0].size_min == min && policy.rule[0].size_max == max;
}

static void test_rules(void)
{
	CHECK(read_alone("[rule r]\ntier=heap\nsite=f\nmodule=m*\ntag=later\n[rule q]\ntier=frame\n[region later]\n") ==
	      0);
	CHECK(policy.rule_count == 2 && policy.rule[0].tier == TRACE_TIER_HEAP && policy.rule[0].region == 1);
	CHECK(!policy.rule[1].site && !policy.rule[1].module && policy.rule[1].region == 0);
	CHECK(policy.rule[1].size_min == 0 && policy.rule[1].size_max == UINT64_MAX);
	CHECK(size_is("64", 64, 64) && size_is("1K..4K", 1024, 4096) && size_is("..16", 0, 16) &&
	      size_is("0..0", 0, 0));
	CHECK(size_is("1 .. 2M", 1, 2 << 20) && size_is("1G..", 1 << 30, UINT64_MAX));
	CHECK(!size_is("..", 0, 0) && policy.rule_count == 0 && !size_is("4..3", 0, 0) && !size_is("x..", 0, 0));
	CHECK(!size_is("1..2..3", 0, 0) && !size_is("99999999999999999999", 0, 0));
	CHECK(read_alone("[rule r]\ntier=pool\nmodul=x\n") == 1 && policy.rule_count == 0);
	CHECK(read_alone("[rule r]\ntier=pool\nsite=f\n  g\n") == 1 && policy.rule_count == 0);
	CHECK(read_alone("[rule r]\ntier=pool\njunk\n") == 1 && policy.rule_count == 0);
	CHECK(read_alone("[rule a]\ntier=pool\ntag=x\n[rule b]\ntier=heap\n") == 1 && policy.rule_count == 1);
	CHECK(strcmp(policy.rule[0].name, "b") == 0);
	CHECK(add("[rule c]\ntier=pool\ntag=y\n[region y]\n") == 0 && policy.rule_count == 2 &&
	      policy.rule[1].region == 1);
}

static void test_sources_add_up(void)
{
	static const char preset[] =
		"[preset]\nabout=one\n two\ntried=x\ntried=y\n  z\n[markers]\nframe=f\n[thresholds]\nbudget=1M\n";
	policy_init(&policy);
	CHECK(read_bytes(preset, sizeof preset - 1, true) == 0 && policy.marker[0].optional);
	CHECK(strcmp(policy.about, "one two") == 0 && strcmp(policy.tried, "x; y; z") == 0);
	CHECK(add("[markers]\nframe=f\nframe=g\n[thresholds]\nbudget=2M\n") == 0);
	CHECK(policy.marker_count == 2 && !policy.marker[0].optional && !policy.automatic_given);
	CHECK(policy.threshold[TRACE_THRESHOLD_FRAME_BUDGET] == 2 << 20);
	CHECK(add("[automatic]\n") == 0 && policy.automatic_given && policy.marker_count == 2);
	CHECK(read_bytes("[markers]\n", 10, true) == 1 && strstr(told[0], "tried"));
}

static void test_lines(void)
{
	CHECK(read_alone("") == 0 && read_alone("\n\n") == 0 && read_alone("; x\n# y\n  ; z") == 0);
	CHECK(read_alone("\xef\xbb\xbf[markers]\r\n  frame = a\r\n  frame = b\r\n\tc\r\n\r\n  World::step(int) ; "
			 "why\r\n") == 0);
	CHECK(policy.marker_count == 4 && marker_is(3, POLICY_FRAME, "World::step(int)"));
	CHECK(read_alone("[markers]\nframe =\n  a\n  [a-z]*q\n  b") == 0 && policy.marker_count == 3);
	CHECK(read_alone("[markers]\nframe =\nframe = b") == 1 && strncmp(told[0], "p.ini:2: ", 9) == 0);
	CHECK(read_alone("[markers]\nframe =\n") == 1 && strncmp(told[0], "p.ini:2: ", 9) == 0);
	CHECK(read_alone("[markers]\n  frame = a\n  [automatic]\n  wait = b\n") == 0 && policy.automatic_given);
	CHECK(read_bytes("[options]\nmode=\0observe\nstacks=none", 35, false) == 1 && !policy.mode_given &&
	      policy.stacks_given);
	CHECK(read_alone("[markers]\nframe=\1\x1b[2J\x7f+0xz") == 1 && strstr(told[0], "'??[2J?+0xz'"));

	static char big[1 << 20];
	memset(big, 'x', sizeof big);
	memcpy(big, "[markers]\nframe=", 16);
	memcpy(big + sizeof big - 30, "\n  y\nframe=z\n;", 14);
	policy_init(&policy);
	CHECK(read_bytes(big, sizeof big, false) == 1 && strncmp(told[0], "p.ini:2: ", 9) == 0);
	CHECK(policy.marker_count == 1 && marker_is(0, POLICY_FRAME, "z"));

	char line[300] = "[markers]\nframe=";
	memset(line + 16, 'f', 192);
	CHECK(read_alone(line) == 0 && strlen(policy.marker[0].function) == 192);
	line[16 + 192] = 'f';
	CHECK(read_alone(line) == 1 && strstr(told[0], "198") && policy.marker_count == 0);
}

/* `count` times `format` with a number. */
static uint32_t read_many(const char *header, const char *format, unsigned count)
{
	static char text[256 << 10];
	size_t used = (size_t)snprintf(text, sizeof text, "%s", header);
	for (unsigned i = 0; i < count; i++)
		used += (size_t)snprintf(text + used, sizeof text - used, format, i);
	return read_alone(text);
}

static void test_full(void)
{
	CHECK(read_many("[markers]\n", "frame=f%u\n", 256) == 0 && policy.marker_count == 256);
	CHECK(read_many("[markers]\n", "frame=f%u\n", 258) == 2 && strstr(told[0], "p.ini:258: ") &&
	      strstr(told[0], "256"));
	CHECK(read_many("", "[region r%u]\n", 63) == 0 && read_many("", "[region r%u]\n", 64) == 1 &&
	      policy.region_count == 64);
	CHECK(read_many("[region r]\n", "module=%u\n", 129) == 1 && read_many("[role io]\n", "name=%u\n", 65) == 1);
	CHECK(read_many("", "[rule %u]\ntier=pool\n", 33) == 1 && policy.rule_count == 32);
	CHECK(read_many("", "[suppress %u]\ncode=1\npath=*\nwhy=w\n", 65) == 1 && policy.suppression_count == 64);
	CHECK(read_many("[role io]\n", "name=%0180u\n", 64) == 0);
	CHECK(read_many("[preset]\n", "tried=%0180u\n", 400) > 0 && strstr(told[0], "64 KiB") &&
	      policy.text_used <= POLICY_TEXT_BYTES);
	CHECK(read_many("", "junk%u\n", 1000) == 101 && strstr(told[100], "p.ini:101: too much is wrong"));
}

static uint64_t random_state = 88172645463325252ull;
static uint32_t random_below(uint32_t bound)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return (uint32_t)(random_state >> 33) % bound;
}

/* The fuzzer looks deeper; this is what every test run can afford. */
static void test_soup(void)
{
	static const char *const pieces[] = {"[markers]\n",
					     "[rule r]\n",
					     "[region a]\n",
					     "[role io]\n",
					     "[suppress s]\n",
					     "[levels]\n",
					     "[preset]\n",
					     "frame =",
					     "tier = pool",
					     "tag = a",
					     "why = ",
					     "about = x",
					     "FA601=deny",
					     "\n",
					     "\n ",
					     "\r\n",
					     "=",
					     "[",
					     "]",
					     ";",
					     "\xef\xbb\xbf",
					     ".."};
	char text[4096];
	for (unsigned round = 0; round < 20000; round++) {
		size_t used = 0, length = random_below(round % 20 ? 200 : sizeof text);
		while (used < length) {
			const char *piece = pieces[random_below(sizeof pieces / sizeof pieces[0])];
			if (random_below(4) && used + strlen(piece) < sizeof text) {
				memcpy(text + used, piece, strlen(piece));
				used += strlen(piece);
			} else {
				text[used++] = (char)random_below(256);
			}
		}
		char *exact = memcpy(malloc(used + !used), text, used); /* a byte too far is seen */
		policy_init(&policy);
		read_bytes(exact, used, round & 1);
		for (uint32_t i = 0; i < told_count; i++)
			CHECK(strncmp(told[i], "p.ini:", 6) == 0 && !strpbrk(told[i], "\n\r\x1b"));
		free(exact);
	}
}

int main(void)
{
	test_sections();
	test_rules();
	test_sources_add_up();
	test_lines();
	test_full();
	test_soup();
	return failures != 0;
}
