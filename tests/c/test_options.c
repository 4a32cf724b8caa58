/*
 * Unit tests of the registries: every kind of option value, good and bad, FA_OPTIONS splitting, output templates, and
 * that codes, losses and thresholds are complete. Sources: core/registry/options.c core/registry/words.c
 * core/registry/codes.c
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/registry/codes.h"
#include "core/registry/options.h"
#include "tests/c/check.h"

static struct options options;
static struct options_error error;

static int set(const char *key, const char *value)
{
	error.line[0] = 0;
	return options_set(&options, key, value, &error);
}

static void test_defaults(void)
{
	options_init(&options);
	CHECK(options.mode == TRACE_MODE_ROUTE && options.stacks == TRACE_STACKS_FULL);
	CHECK(!options.level_full && !options.follow && !options.abort_on_heap_error);
	CHECK(strcmp(options.output, "") == 0 && strcmp(options.policy, "") == 0);
	CHECK(options.frame.count == 0 && options.role.count == 0);
	CHECK(options.threshold[TRACE_THRESHOLD_FRAME_LIMIT] == 64ull << 20);
	CHECK(options.threshold[TRACE_THRESHOLD_FRAME_BUDGET] == 0);
}

static void test_choices(void)
{
	options_init(&options);
	CHECK(set("mode", "observe") == 0 && options.mode == TRACE_MODE_OBSERVE);
	CHECK(set("mode", "enforce") == -EINVAL && options.mode == TRACE_MODE_OBSERVE &&
	      strstr(error.line, "not available in this version"));
	CHECK(set("mode", "off") == 0 && options.mode == TRACE_MODE_OFF);
	CHECK(set("mode", "of") == -EINVAL && options.mode == TRACE_MODE_OFF);
	CHECK(strstr(error.line, "observe|route|off"));
	CHECK(set("mode", "") == -EINVAL);
	CHECK(set("stacks", "caller") == 0 && options.stacks == TRACE_STACKS_CALLER);
	CHECK(set("stacks", "none") == 0 && options.stacks == TRACE_STACKS_NONE);
	CHECK(set("stacks", "Full") == -EINVAL);
	CHECK(set("level", "full") == 0 && options.level_full);
	CHECK(set("follow", "1") == 0 && options.follow);
	CHECK(set("follow", "0") == 0 && !options.follow);
	CHECK(set("follow", "yes") == -EINVAL);
	CHECK(set("on-heap-error", "abort") == 0 && options.abort_on_heap_error);
}

static void test_numbers(void)
{
	options_init(&options);
	CHECK(set("budget", "1M") == 0 && options.threshold[TRACE_THRESHOLD_FRAME_BUDGET] == 1 << 20);
	CHECK(set("budget", "3k") == 0 && options.threshold[TRACE_THRESHOLD_FRAME_BUDGET] == 3 << 10);
	CHECK(set("budget", "2GiB") == 0 && options.threshold[TRACE_THRESHOLD_FRAME_BUDGET] == 2ull << 30);
	CHECK(set("budget", "17") == 0 && options.threshold[TRACE_THRESHOLD_FRAME_BUDGET] == 17);
	CHECK(set("budget", "0") == 0 && options.threshold[TRACE_THRESHOLD_FRAME_BUDGET] == 0);
	static const char *const bad[] = {"",
					  "M",
					  "-1",
					  "+1",
					  "1x",
					  "1MM",
					  "1 ",
					  " 1",
					  "0x10",
					  "1.5M",
					  "2048G",
					  "18446744073709551616",
					  "99999999999G"};
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		CHECK(set("budget", bad[i]) == -EINVAL);
	CHECK(options.threshold[TRACE_THRESHOLD_FRAME_BUDGET] == 0);
	CHECK(set("survival", "30%") == 0 && options.threshold[TRACE_THRESHOLD_SURVIVAL] == 30);
	CHECK(set("survival", "101") == -EINVAL && strstr(error.line, "a percentage from 1 to 100"));
	CHECK(set("survival", "1K") == -EINVAL);
	CHECK(set("never-ends-ms", "2s") == 0 && options.threshold[TRACE_THRESHOLD_NEVER_ENDS_MS] == 2000);
	CHECK(set("never-ends-ms", "1500ms") == 0 && options.threshold[TRACE_THRESHOLD_NEVER_ENDS_MS] == 1500);
	CHECK(set("never-ends-ms", "1K") == -EINVAL);
	CHECK(set("hot-loop", "2K") == 0 && options.threshold[TRACE_THRESHOLD_HOT_LOOP] == 2048);
	CHECK(set("hot-loop", "2KB") == -EINVAL);
	CHECK(set("frame-limit", "1023K") == -EINVAL && strstr(error.line, "from 1M to 16G"));
}

static void test_lists(void)
{
	options_init(&options);
	CHECK(set("frame", "nanosleep") == 0 && set("frame", "none") == 0 && set("frame", "a::b(int, char)@*") == 0);
	CHECK(set("frame", "libgame.so!tick") == 0 && set("frame", "game+0x1aF0@*") == 0 &&
	      set("frame", "operator+") == 0);
	CHECK(options.frame.count == 6 && strcmp(options.frame.item[2], "a::b(int, char)@*") == 0);
	static const char *const bad[] = {
		"", "@*", "!tick", "mod!", "mod!@*", "mod+0x", "mod+0xg", "+0x10", "mod+0x11112222333344445"};
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		CHECK(set("frame", bad[i]) == -EINVAL);
	CHECK(options.frame.count == 6);
	CHECK(set("role", "worker=Job*") == 0 && set("role", "io=disk=1") == 0 && options.role.count == 2);
	CHECK(set("role", "boss=x") == -EINVAL && set("role", "worker=") == -EINVAL && set("role", "=x") == -EINVAL);
	CHECK(set("role", "frameworker=x") == -EINVAL && set("role", "worker") == -EINVAL);
	CHECK(set("preset", "sdl") == 0 && set("preset", "../x") == -EINVAL && options.preset.count == 1);
	CHECK(set("await", "f") == 0 && set("task", "f") == 0 && set("frame-scope", "f") == 0);

	options_init(&options);
	for (int i = 0; i < OPTIONS_FUNCS_MAX; i++)
		CHECK(set("frame", "f") == 0);
	CHECK(set("frame", "f") == -E2BIG && options.frame.count == OPTIONS_FUNCS_MAX);
}

static void test_text_is_bounded(void)
{
	static char long_name[3000];
	memset(long_name, 'x', sizeof long_name - 1);
	options_init(&options);
	CHECK(set("await", long_name) == 0 && set("await", long_name) == 0);
	CHECK(set("await", long_name) == -E2BIG && options.await.count == 2);
	CHECK(set("output", long_name) == -EINVAL && strlen(error.line) < sizeof error.line);
	CHECK(set("await", "short") == 0 && strcmp(options.await.item[2], "short") == 0);
}

static void test_unknown_keys(void)
{
	options_init(&options);
	CHECK(set("mdoe", "route") == -ENOENT && strstr(error.line, "did you mean 'mode'"));
	CHECK(set("frame-limt", "1") == -ENOENT && strstr(error.line, "did you mean 'frame-limit'"));
	CHECK(set("zzz", "1") == -ENOENT && !strstr(error.line, "did you mean"));
	CHECK(set("", "1") == -ENOENT);
	CHECK(set("a-key-that-is-longer-than-any-known-one-by-far", "1") == -ENOENT);
	CHECK(set("bad\nkey\033", "1") == -ENOENT && !strchr(error.line, '\n') && !strchr(error.line, 033));
}

static char seen[4][256];
static int seen_count;

static void note_error(void *context, const char *line)
{
	CHECK(context == &seen_count);
	if (seen_count < 4)
		strcpy(seen[seen_count], line);
	seen_count++;
}

static void parse(const char *text)
{
	seen_count = 0;
	options_init(&options);
	options_parse(&options, text, note_error, &seen_count);
}

static void test_parse(void)
{
	parse("");
	CHECK(seen_count == 0);
	parse("mode=observe,frame=a,frame=b\\,c, budget=1K,follow,output=/tmp/%e-%p.fatrace,");
	CHECK(seen_count == 0 && options.mode == TRACE_MODE_OBSERVE && options.frame.count == 2 && options.follow);
	CHECK(strcmp(options.frame.item[1], "b,c") == 0);
	CHECK(options.threshold[TRACE_THRESHOLD_FRAME_BUDGET] == 1024);
	CHECK(strcmp(options.output, "/tmp/%e-%p.fatrace") == 0);
	parse("frame=a\\\\,frame=b\\c");
	CHECK(options.frame.count == 2 && strcmp(options.frame.item[0], "a\\") == 0);
	CHECK(strcmp(options.frame.item[1], "b\\c") == 0);
	parse("frame=a\\\\,frame=b\\\\");
	CHECK(seen_count == 0 && options.frame.count == 2 && strcmp(options.frame.item[1], "b\\") == 0);
	parse("frame=a,frame=b\\");
	CHECK(seen_count == 1 && options.frame.count == 1);
	CHECK(strcmp(seen[0], "FA_OPTIONS: a lone backslash at the end: \\\\ is a backslash, \\, a comma") == 0);
	parse("mode=fast,frame=f,nokey,frame-limit=x");
	CHECK(seen_count == 3 && options.mode == TRACE_MODE_ROUTE && options.frame.count == 1);
	CHECK(strncmp(seen[0], "FA_OPTIONS: bad value 'fast' for 'mode'", 39) == 0);
	CHECK(strncmp(seen[1], "FA_OPTIONS: unknown option 'nokey'", 34) == 0);

	static char big[5000];
	memset(big, 'x', sizeof big - 1);
	memcpy(big, "frame=", 6);
	memcpy(big + sizeof big - 9, ",frame=f", 9);
	parse(big);
	CHECK(seen_count == 1 && options.frame.count == 1 && strcmp(options.frame.item[0], "f") == 0);
	options_parse(&options, "nonsense=1", NULL, NULL);
}

static void test_output(void)
{
	char out[32];
	options_init(&options);
	CHECK(set("output", "a%e%p%%") == 0 && set("output", "%x") == -EINVAL && set("output", "a%") == -EINVAL);
	CHECK(options_expand(out, sizeof out, options.output, "game", 4294967295u) == 0);
	CHECK(strcmp(out, "agame4294967295%") == 0);
	CHECK(options_expand(out, 5, "abcd", "", 0) == 0 && strcmp(out, "abcd") == 0);
	CHECK(options_expand(out, 4, "abcd", "", 0) == -ENAMETOOLONG);
	CHECK(options_expand(out, sizeof out, "%p", "", 0) == 0 && strcmp(out, "0") == 0);
}

static void test_codes(void)
{
	CHECK(codes_count() >= 22);
	uint32_t before = 0;
	for (size_t i = 0; i < codes_count(); i++) {
		const struct code_info *info = codes_at(i);
		CHECK(info->number > before && codes_find(info->number) == info);
		CHECK(info->name[0] && info->sentence[0] && info->help[0]);
		before = info->number;
	}
	CHECK(!codes_find(999) && !codes_find(0));
	CHECK(codes_find(601)->by_lifetime_rule && codes_find(601)->level == TRACE_LEVEL_WARN);
	CHECK(!codes_find(901)->by_lifetime_rule && codes_find(901)->level == TRACE_LEVEL_ERROR);
	CHECK(codes_find(510)->level == TRACE_LEVEL_HINT);
	for (int i = 0; i < TRACE_LOSS_COUNT; i++)
		CHECK(codes_loss_text((enum trace_loss)i)[0]);
	for (int i = 0; i < TRACE_THRESHOLD_COUNT; i++)
		CHECK(codes_threshold_key((enum trace_threshold)i)[0]);
	CHECK(strcmp(codes_threshold_key(TRACE_THRESHOLD_FRAME_BUDGET), "budget") == 0);
}

int main(void)
{
	test_defaults();
	test_choices();
	test_numbers();
	test_lists();
	test_text_is_bounded();
	test_unknown_keys();
	test_parse();
	test_output();
	test_codes();
	if (failures)
		fprintf(stderr, "%d checks failed\n", failures);
	return failures ? EXIT_FAILURE : EXIT_SUCCESS;
}
