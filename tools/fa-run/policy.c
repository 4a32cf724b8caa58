/* The parser is the shim's own, so that both agree. */
#define _GNU_SOURCE
#include "tools/fa-run/policy.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/registry/policy.h"
#include "core/registry/presets.h"
#include "tools/fa-run/say.h"

static struct policy policy;

static void say_line(void *context, const char *line)
{
	(void)context;
	say("%s", line);
}

static int read_file(const char *path)
{
	struct stat status = {0};
	int fd = open(path, O_RDONLY | O_CLOEXEC), error = 0;
	if (fd < 0 || fstat(fd, &status))
		error = errno;
	else if (!S_ISREG(status.st_mode))
		error = S_ISDIR(status.st_mode) ? EISDIR : EINVAL;
	void *text = "";
	if (!error && status.st_size) {
		text = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
		if (text == MAP_FAILED)
			error = errno;
	}
	if (fd >= 0)
		close(fd);
	if (error) {
		say("%s: %s; a policy is an INI file, see fa-policy(5)", path, strerror(error));
		return -EINVAL;
	}
	struct policy_source source = {path, text, (size_t)status.st_size, false};
	uint32_t wrong = policy_read(&policy, &source, say_line, NULL);
	if (status.st_size)
		munmap(text, (size_t)status.st_size);
	return wrong ? -EINVAL : 0;
}

static int add_path(struct command *command, const char *path)
{
	char whole[PATH_MAX];
	if (!realpath(path, whole)) {
		say("%s: %s", path, strerror(errno));
		return -EINVAL;
	}
	command->shim_options = command_append(command->shim_options, "policy", whole);
	return 0;
}

int policy_check(struct command *command)
{
	const struct options *options = &command->options;
	const char *environment = getenv("FA_POLICY"), *path = options->policy[0] ? options->policy : environment;
	int result = 0;
	policy_init(&policy);
	for (uint32_t i = 0; i < options->preset.count; i++)
		if (!preset_find(options->preset.item[i])) {
			say("no preset '%s': fa-run --list-presets shows them", options->preset.item[i]);
			result = -EINVAL;
		}
	if (path && path[0]) {
		if (read_file(path) < 0 || add_path(command, path) < 0)
			result = -EINVAL;
	}
	return result;
}
