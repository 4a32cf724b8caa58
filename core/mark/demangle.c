/*
 * Two ways to a readable name. The first parses _Z names made of plain identifiers, which covers ordinary functions and
 * methods, constructors, destructors and operators, with neither memory nor libraries. The second is the C++ runtime's
 * own demangler. finder.c uses the second only when a spec found nothing without it.
 */
#define _GNU_SOURCE
#include "core/mark/demangle.h"

#include <dlfcn.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/base.h"
#include "core/library.h"
#include "core/mark/mark.h"

struct writer {
	char *at, *end; /* end: where the NUL must fit */
	bool full;
};

static void put(struct writer *out, const char *text, size_t length)
{
	if (length > (size_t)(out->end - out->at)) {
		out->full = true;
		return;
	}
	memcpy(out->at, text, length);
	out->at += length;
}

static void put_text(struct writer *out, const char *text)
{
	put(out, text, base_text_length(text));
}

struct operator_name {
	char code[3];
	const char *text;
};

static const struct operator_name operators[] = {
	{"nw", " new"}, {"na", " new[]"}, {"dl", " delete"}, {"da", " delete[]"}, {"aw", " co_await"}, {"ps", "+"},
	{"ng", "-"},    {"ad", "&"},      {"de", "*"},       {"co", "~"},         {"pl", "+"},         {"mi", "-"},
	{"ml", "*"},    {"dv", "/"},      {"rm", "%"},       {"an", "&"},         {"or", "|"},         {"eo", "^"},
	{"aS", "="},    {"pL", "+="},     {"mI", "-="},      {"mL", "*="},        {"dV", "/="},        {"rM", "%="},
	{"aN", "&="},   {"oR", "|="},     {"eO", "^="},      {"ls", "<<"},        {"rs", ">>"},        {"lS", "<<="},
	{"rS", ">>="},  {"eq", "=="},     {"ne", "!="},      {"lt", "<"},         {"gt", ">"},         {"le", "<="},
	{"ge", ">="},   {"ss", "<=>"},    {"nt", "!"},       {"aa", "&&"},        {"oo", "||"},        {"pp", "++"},
	{"mm", "--"},   {"cm", ","},      {"pm", "->*"},     {"pt", "->"},        {"cl", "()"},        {"ix", "[]"},
};

static const char *operator_of(const char *code)
{
	for (size_t i = 0; i < sizeof operators / sizeof operators[0]; i++)
		if (code[0] == operators[i].code[0] && code[1] == operators[i].code[1])
			return operators[i].text;
	return NULL;
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* `17h` and sixteen hexadecimal digits close every legacy Rust path: a hash, not a name. */
static bool is_rust_hash(const char *text, size_t length)
{
	if (length != 17 || text[0] != 'h')
		return false;
	for (size_t i = 1; i < length; i++)
		if (!is_digit(text[i]) && !(text[i] >= 'a' && text[i] <= 'f'))
			return false;
	return true;
}

static void put_identifier(struct writer *out, const char *text, size_t length)
{
	static const char anonymous[] = "_GLOBAL__N_";
	if (length >= sizeof anonymous - 1 && !memcmp(text, anonymous, sizeof anonymous - 1))
		put_text(out, "(anonymous namespace)");
	else
		put(out, text, length);
}

/* One component at *at: a source name, a constructor or destructor, an operator, with ABI tags. `last` is the component
   before it, which names constructors. */
static bool component(const char **at, struct writer *out, const char **last, size_t *last_length)
{
	const char *c = *at;
	if (*c == 'L')
		c++;
	if (is_digit(*c)) {
		size_t length = 0;
		while (is_digit(*c) && length < 100000)
			length = length * 10 + (size_t)(*c++ - '0');
		if (!length || strnlen(c, length) != length)
			return false;
		*last = c;
		*last_length = length;
		put_identifier(out, c, length);
		c += length;
	} else if ((c[0] == 'C' && c[1] >= '1' && c[1] <= '5') || (c[0] == 'D' && c[1] >= '0' && c[1] <= '5')) {
		if (!*last)
			return false;
		put(out, "~", c[0] == 'D');
		put(out, *last, *last_length);
		c += 2;
	} else {
		const char *text = operator_of(c);
		if (!text)
			return false;
		put_text(out, "operator");
		put_text(out, text);
		c += 2;
	}
	while (c[0] == 'B' && is_digit(c[1])) {
		size_t length = 0;
		for (c++; is_digit(*c) && length < 100000;)
			length = length * 10 + (size_t)(*c++ - '0');
		if (strnlen(c, length) != length)
			return false;
		put_text(out, "[abi:");
		put(out, c, length);
		put_text(out, "]");
		c += length;
	}
	*at = c;
	return true;
}

static bool nested(const char *c, struct writer *out)
{
	const char *last = NULL;
	size_t last_length = 0;
	while (*c == 'r' || *c == 'V' || *c == 'K')
		c++;
	if (*c == 'R' || *c == 'O')
		c++;
	bool first = true;
	if (c[0] == 'S' && c[1] == 't') {
		put_text(out, "std");
		c += 2;
		first = false;
	}
	while (*c != 'E') {
		char *before = out->at;
		if (!first)
			put_text(out, "::");
		first = false;
		if (!component(&c, out, &last, &last_length))
			return false;
		if (*c == 'E' && last && is_rust_hash(last, last_length))
			out->at = before;
	}
	return !first;
}

bool demangle_path(const char *linkage, char *out, size_t out_bytes)
{
	struct writer writer = {.at = out, .end = out + out_bytes - 1};
	const char *c = linkage, *last = NULL;
	size_t last_length = 0;
	if (c[0] != '_' || c[1] != 'Z')
		return false;
	c += 2;
	bool known;
	if (*c == 'N') {
		known = nested(c + 1, &writer);
	} else {
		if (c[0] == 'S' && c[1] == 't') {
			put_text(&writer, "std::");
			c += 2;
		}
		known = component(&c, &writer, &last, &last_length) && *c != 'I';
	}
	*writer.at = 0;
	return known && !writer.full;
}

typedef char *(*demangler_fn)(const char *, char *, size_t *, int *);

static demangler_fn demangler(void)
{
	static demangler_fn found;
	static bool tried;
	if (!tried) {
		tried = true;
		found = (demangler_fn)finder_next("__cxa_demangle", 0);
		void *library = found ? NULL : library_open("libstdc++.so.6");
		if (library)
			found = (demangler_fn)dlsym(library, "__cxa_demangle");
	}
	return found;
}

void demangle_open(void)
{
	demangler();
}

bool demangle_full(const char *linkage, char *out, size_t out_bytes)
{
	demangler_fn demangle = linkage[0] == '_' && linkage[1] == 'Z' ? demangler() : NULL;
	int status = -1;
	char *name = demangle ? demangle(linkage, NULL, NULL, &status) : NULL;
	if (!name)
		return false;
	bool fits = status == 0 && base_text_length(name) < out_bytes;
	if (fits)
		base_text_copy(out, out_bytes, name);
	free(name);
	return fits;
}
