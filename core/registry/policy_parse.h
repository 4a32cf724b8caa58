/*
 * What the parts of the policy parser share: policy_text.c finds lines, policy.c sections and keys; policy_keys.c and
 * policy_whole.c know what each key means. Nobody else includes this.
 */
#ifndef FA_REGISTRY_POLICY_PARSE_H
#define FA_REGISTRY_POLICY_PARSE_H

#include "core/registry/codes.h"
#include "core/registry/policy.h"

#define POLICY_ERRORS_MAX 100u /* of one source: a file that is no policy at all need not be told line by line */

enum policy_section {
	SECTION_NONE, /* before the first header */
	SECTION_SKIPPED, /* its header was refused: its lines are passed over */
	SECTION_PRESET,
	SECTION_MARKERS,
	SECTION_AUTOMATIC,
	SECTION_REGION,
	SECTION_ROLE,
	SECTION_RULE,
	SECTION_THRESHOLDS,
	SECTION_LEVELS,
	SECTION_SUPPRESS,
	SECTION_OPTIONS,
};

struct policy_parse {
	struct policy *policy;
	const struct policy_source *source;
	void (*on_error)(void *context, const char *line);
	void *context;
	uint32_t errors;

	const char *at, *end; /* text not yet read */
	uint32_t line; /* the one inih has, from 1 */
	bool indented; /* it began with white space and is no KEY = : more of what stands before it */
	bool unseen; /* inih has not called back for it */
	bool line_refused; /* the last one that was not indented: indented ones below it are passed over */

	enum policy_section section;
	uint32_t section_line;
	bool broken; /* something of this rule or suppression was refused: all of it is left out */
	uint64_t given; /* bit i: key i of the table was given in this section */

	const struct policy_key *key; /* of the last line that had one; NULL: none, or not from the table */
	bool key_named; /* inih would take an indented line for a further value */
	bool key_refused; /* further values of it are passed over */
	uint32_t empty_line; /* where `key =` stood, to be followed by values on lines of their own; 0: nowhere */

	uint32_t region; /* of SECTION_REGION */
	enum trace_role role; /* of SECTION_ROLE */
	struct policy_rule rule; /* of SECTION_RULE, until the section ends */
	const char *rule_tag;
	uint32_t rule_tag_line;
	struct policy_suppression suppression; /* of SECTION_SUPPRESS */

	const char *tag[POLICY_RULES_MAX]; /* of each rule of this source, a region that may come later */
	uint32_t tag_line[POLICY_RULES_MAX];
};

enum policy_arity { KEY_ONCE, KEY_MANY, KEY_TEXT }; /* TEXT: further lines continue the text */

struct policy_key {
	enum policy_section section;
	const char *name;
	enum policy_arity arity;
	/* Returns 0, -EINVAL (the caller says that `wanted` was expected) or -E2BIG (full, and that has been said). */
	int (*set)(struct policy_parse *parse, const struct policy_key *key, const char *value);
	int argument; /* what `set` makes of it */
	const char *wanted;
};

extern const struct policy_key policy_keys[];
extern const size_t policy_key_count;

/* One error line, of strings; a NULL ends them early. */
#define policy_refuse(parse, line, ...) policy_refuse_pieces(parse, line, (const char *const[]){__VA_ARGS__, NULL})
void policy_refuse_pieces(struct policy_parse *parse, uint32_t line, const char *const *pieces);

/* Says that the policy takes at most `what`; returns -E2BIG. */
int policy_full(struct policy_parse *parse, const char *what);

/* A word of the policy's own; NULL when the text is full, and that has been said. */
const char *policy_keep(struct policy_parse *parse, const char *word);
/* Appends to a text that policy_keep made, or to an empty one; in place when it was kept last. Returns 0 or -E2BIG. */
int policy_join(struct policy_parse *parse, const char **text, const char *separator, const char *more);

/* The next line without white space around it, line end and comment; false at the end of the source. */
bool policy_next_line(struct policy_parse *parse, const char **text, size_t *bytes);
/* Whether an indented line begins with KEY = : people indent keys, and no function's name looks like it. */
bool policy_begins_with_key(const char *text, size_t bytes);

/* The code, or NULL, which has been said. */
const struct code_info *policy_find_code(struct policy_parse *parse, const char *text);
/* Reads what stands behind FUNC in `text` into *marker, whose kind is set, and cuts it off. Returns 0 or -EINVAL. */
int policy_parse_stack(struct policy_marker *marker, char *text);
/* FUNC without @*, for where threads make no sense. */
bool policy_function_alone(const char *value);

enum { RULE_TIER, RULE_SITE, RULE_MODULE, RULE_SIZE, RULE_TAG };
int policy_set_rule(struct policy_parse *parse, const struct policy_key *key, const char *value);
enum { SUPPRESS_CODE, SUPPRESS_PATH, SUPPRESS_WHY };
int policy_set_suppression(struct policy_parse *parse, const struct policy_key *key, const char *value);

/* Opens [region NAME], [role ROLE], [rule NAME], [suppress NAME]; returns 0, -EINVAL or -E2BIG as a key does. */
int policy_open_named(struct policy_parse *parse, const char *name);
/* A rule or suppression is whole or left out. */
void policy_close_named(struct policy_parse *parse);
/* Keys of [thresholds] and [levels]; they say themselves what is wrong. */
void policy_set_threshold(struct policy_parse *parse, const char *key, const char *value);
void policy_set_level(struct policy_parse *parse, const char *key, const char *value);
/* What can only be judged at the end of a source: tags of rules. */
void policy_finish(struct policy_parse *parse);

#endif
