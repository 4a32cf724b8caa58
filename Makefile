# framealloc-shim. `make help` lists the targets; V=1 shows commands, DEBUG=1 builds with assertions, SAN=... sanitizes the tools.
PREFIX ?= /usr/local
DESTDIR ?=
BUILD ?= build
# One spelling for a folder, however it was given: dependency files name their targets by it.
override BUILD := $(patsubst $(CURDIR)/%,%,$(abspath $(BUILD)))
CC ?= gcc
OBJCOPY ?= objcopy
Q := $(if $(V),,@)

VERSION := 0.1.0
WARNINGS := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wpointer-arith $(if $(WERROR),-Werror)
OPTIMIZE := $(if $(DEBUG),-O1 -DFA_DEBUG=1,-O2)
SANITIZE := $(if $(SAN),-fsanitize=$(SAN) -fno-sanitize-recover=all)
CFLAGS_ALL := -std=gnu11 -g $(OPTIMIZE) $(WARNINGS) -MMD -MP -I. -DFA_VERSION='"$(VERSION)"' $(CFLAGS)
# In the target: hidden symbols, initial-exec TLS, no stack protector calls before libc is up, frame pointers for the hooks.
CFLAGS_shim := -fPIC -fvisibility=hidden -ftls-model=initial-exec -fno-stack-protector -fno-tree-slp-vectorize -fexceptions -fasynchronous-unwind-tables -fno-plt

READER_SRC := $(wildcard core/trace/reader*.c)
PRESETS := $(sort $(wildcard presets/*.ini))
REGISTRY_SRC := $(wildcard core/registry/*.c) $(BUILD)/presets_text.c
SHIM_SRC := $(filter-out shim/jemalloc_names.c,$(wildcard shim/*.c)) $(filter-out $(READER_SRC) $(REGISTRY_SRC),$(wildcard core/*.c core/*/*.c)) $(REGISTRY_SRC)
SHIM_ASM := $(wildcard shim/*.S core/*.S core/*/*.S)
REPORT_SRC := $(wildcard tools/fa-report/*.c) $(READER_SRC) $(REGISTRY_SRC)
RUN_SRC := $(wildcard tools/fa-run/*.c) $(READER_SRC) $(REGISTRY_SRC)

SHIM_OBJ := $(SHIM_SRC:%.c=$(BUILD)/shim/%.o) $(SHIM_ASM:%.S=$(BUILD)/shim/%.asm.o)
REPORT_OBJ := $(REPORT_SRC:%.c=$(BUILD)/tool/%.o)
RUN_OBJ := $(RUN_SRC:%.c=$(BUILD)/tool/%.o)

# The parser of policies, linked statically: nothing of it is seen from outside.
INIH ?= /usr/lib/x86_64-linux-gnu/libinih.a

LIBS_report := $(INIH) -ldw -lelf -liberty -ljansson -lzstd
LIBS_run := $(INIH) -lzstd -pthread

.PHONY: all clean help install uninstall test soak bench fuzz check format lint
all: $(BUILD)/libframealloc.so $(BUILD)/libframealloc-jemalloc.so $(BUILD)/fa-run $(BUILD)/fa-report ## build the library and both tools

$(BUILD)/shim/%.o: %.c
	$(Q)mkdir -p $(@D)
	$(if $(V),,@echo "  CC   $<")
	$(Q)$(CC) $(CFLAGS_ALL) $(CFLAGS_shim) -c -o $@ $<

$(BUILD)/shim/%.asm.o: %.S
	$(Q)mkdir -p $(@D)
	$(if $(V),,@echo "  AS   $<")
	$(Q)$(CC) -g -fPIC -MMD -MP -I. -c -o $@ $<

$(BUILD)/tool/%.o: %.c
	$(Q)mkdir -p $(@D)
	$(if $(V),,@echo "  CC   $<")
	$(Q)$(CC) $(CFLAGS_ALL) $(SANITIZE) -c -o $@ $<

$(BUILD)/libframealloc.so: $(SHIM_OBJ) $(BUILD)/jemalloc.a $(BUILD)/export.map
	$(if $(V),,@echo "  LD   $@")
	$(Q)$(CC) -shared -o $@ $(SHIM_OBJ) $(BUILD)/jemalloc.a $(INIH) -Wl,--exclude-libs,ALL -Wl,--version-script=$(BUILD)/export.map \
		-Wl,-z,nodelete,-z,now,-z,relro -Wl,-soname,libframealloc.so -Wl,--no-undefined -Wl,--as-needed -Wl,--gc-sections

$(BUILD)/libframealloc-jemalloc.so: shim/jemalloc_names.c shim/jemalloc_api.h $(BUILD)/libframealloc.so
	$(if $(V),,@echo "  LD   $@")
	$(Q)$(CC) $(CFLAGS_ALL) $(CFLAGS_shim) -O2 -shared -o $@ $< $(BUILD)/libframealloc.so -Wl,-z,now,-z,relro -Wl,-soname,libframealloc-jemalloc.so -Wl,-rpath,'$$ORIGIN'

# The hook table is the list of what is exported.
$(BUILD)/export.map: shim/hooks.def core/calls.def shim/jumps.def
	$(Q)mkdir -p $(BUILD) && { echo '{ global: fa_*;'; sed -n -e 's/^JUMP(\(.*\))$$/\1;/p' -e 's/^HOOK(\(.*\))$$/\1;/p' -e 's/^CALL([^,]*, \([a-z0-9_]*\),.*/\1;/p' $^; echo 'local: *; };'; } > $@

# What runs inside a patched function, with its vector registers in place (core/mark/mark.h, patch_guarded).
GENERAL_ONLY := core/clock core/frame_switch core/frames core/marker core/marker_task core/nesting core/scope core/scope_stack core/scope_switch core/segment core/task_switch core/mark/patch_run
$(GENERAL_ONLY:%=$(BUILD)/shim/%.o): CFLAGS_shim += -mgeneral-regs-only -fno-tree-loop-distribute-patterns -fno-builtin

# The hooks hand their frame address to core.
$(BUILD)/shim/shim/%.o: CFLAGS_shim += -fno-omit-frame-pointer -fno-optimize-sibling-calls -fno-builtin
# What engines run thousands of times a frame: its speed is not to depend on what lies before it.
$(BUILD)/shim/shim/hot.o: CFLAGS_shim += -fomit-frame-pointer -foptimize-sibling-calls -falign-functions=64

# The presets as C strings, a table sorted by name. The folder itself is newer when a preset came or went.
$(BUILD)/presets_text.c: $(PRESETS) presets
	$(Q)mkdir -p $(@D) && { echo '#include "core/registry/presets.h"'; echo 'const struct preset presets[] = {'; \
		for file in $(PRESETS); do name=$$(basename $$file .ini); \
			text=$$(sed -e 's/[\\"]/\\&/g' -e 's/.*/"&\\n"/' $$file); \
			printf '{"%s", %s, sizeof(%s) - 1},\n' "$$name" "$$text" "$$text"; done; \
		echo '};'; echo 'const size_t preset_count = sizeof presets / sizeof presets[0];'; } > $@

# Our copy of jemalloc: its public names get our prefix, its system calls for memory go to the region (core/tier/heap.c).
JEMALLOC_PIC ?= /usr/lib/x86_64-linux-gnu/libjemalloc_pic.a
$(BUILD)/jemalloc.a: $(JEMALLOC_PIC) shim/jemalloc.syms shim/jemalloc.weak
	$(if $(V),,@echo "  JE   $@")
	$(Q)mkdir -p $(BUILD) && cp $(JEMALLOC_PIC) $@.tmp && chmod u+w $@.tmp && ar d $@.tmp jemalloc_cpp.pic.o
	$(Q)$(OBJCOPY) --redefine-syms=shim/jemalloc.syms --weaken-symbols=shim/jemalloc.weak --remove-section=.init_array --remove-section=.rela.init_array $@.tmp && mv $@.tmp $@

$(BUILD)/fa-report: $(REPORT_OBJ)
	$(if $(V),,@echo "  LD   $@")
	$(Q)$(CC) $(SANITIZE) -o $@ $(REPORT_OBJ) $(LIBS_report)

$(BUILD)/fa-run: $(RUN_OBJ)
	$(if $(V),,@echo "  LD   $@")
	$(Q)$(CC) $(SANITIZE) -o $@ $(RUN_OBJ) $(LIBS_run)

test: all ## run every test
	$(Q)/usr/bin/python3 -m pytest -q tests

bench: all ## measure against other allocators (minutes, on an idle machine)
	$(Q)scripts/bench

soak: all ## run the tests that take minutes
	$(Q)/usr/bin/python3 -m pytest -q -ra -m soak tests

# libFuzzer on the parser of policies, from the presets on; what it finds stays in the corpus between runs.
FUZZ_SECONDS ?= 3600
FUZZ_SRC := tests/fuzz/policy.c $(filter core/registry/policy%.c core/registry/words.c core/registry/options.c core/registry/codes.c,$(REGISTRY_SRC))
$(BUILD)/fuzz-policy: $(FUZZ_SRC) $(wildcard core/registry/*.h core/registry/*.def)
	$(if $(V),,@echo "  LD   $@")
	$(Q)mkdir -p $(@D) && clang -std=gnu11 -g -O1 $(WARNINGS) -I. -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all -o $@ $(FUZZ_SRC) $(INIH)

fuzz: $(BUILD)/fuzz-policy ## fuzz the policy parser for FUZZ_SECONDS (clang)
	$(Q)mkdir -p $(BUILD)/fuzz/policy
	$(Q)$(BUILD)/fuzz-policy -max_total_time=$(FUZZ_SECONDS) -max_len=16384 -timeout=10 -dict=tests/fuzz/policy.dict \
		-artifact_prefix=$(BUILD)/fuzz/ $(BUILD)/fuzz/policy presets

check: ## set up the machine, build, run every test
	$(Q)scripts/check

FORMATTED := $(wildcard $(foreach d,bench shim core core/* tools/* tests tests/* tests/*/*,$(d)/*.c $(d)/*.h))

format: ## format the sources in place
	$(Q)clang-format -i $(FORMATTED)

LINTED := $(wildcard $(foreach d,shim core core/* tools/*,$(d)/*.c))
# cppcheck 2.17 takes a declaration with a register or a symbol's name for an error and leaves the file; 2.10 reads them.
UNREAD_BY_CPPCHECK := core/base.c core/node.c core/calls.def core/mark/near.c
LINT_JOBS := $(shell nproc)

lint: ## formatting, cppcheck and clang-tidy over the sources
	$(Q)clang-format --dry-run -Werror $(FORMATTED)
	$(Q)cppcheck --quiet -j$(LINT_JOBS) --std=c11 --enable=warning,portability --inline-suppr --error-exitcode=1 --suppress=normalCheckLevelMaxBranches \
		-I. -DFA_VERSION='""' $(UNREAD_BY_CPPCHECK:%=--suppress=syntaxError:%) shim core tools
	$(Q)printf '%s\n' $(LINTED) | xargs -P$(LINT_JOBS) -n4 sh -c \
		'clang-tidy --quiet "$$@" -- -std=gnu11 -I. -DFA_DEBUG=1 -DFA_VERSION=\"\" 2>/dev/null' clang-tidy

install: all ## install into DESTDIR/PREFIX
	$(Q)install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/lib/framealloc $(DESTDIR)$(PREFIX)/share/framealloc/presets \
		$(DESTDIR)$(PREFIX)/share/man/man1 $(DESTDIR)$(PREFIX)/share/man/man5 $(DESTDIR)$(PREFIX)/share/man/man3 \
		$(DESTDIR)$(PREFIX)/include
	$(Q)install -m 755 $(BUILD)/fa-run $(BUILD)/fa-report $(DESTDIR)$(PREFIX)/bin
	$(Q)install -m 755 $(BUILD)/libframealloc.so $(BUILD)/libframealloc-jemalloc.so $(DESTDIR)$(PREFIX)/lib/framealloc
	$(Q)install -m 644 $(PRESETS) $(DESTDIR)$(PREFIX)/share/framealloc/presets
	$(Q)install -m 644 man/fa-run.1 man/fa-report.1 $(DESTDIR)$(PREFIX)/share/man/man1
	$(Q)install -m 644 man/fa-policy.5 $(DESTDIR)$(PREFIX)/share/man/man5
	$(Q)install -m 644 man/framealloc.h.3 $(DESTDIR)$(PREFIX)/share/man/man3
	$(Q)install -m 644 shim/framealloc.h shim/framealloc.hpp $(DESTDIR)$(PREFIX)/include

uninstall: ## remove what install put there
	$(Q)rm -f $(DESTDIR)$(PREFIX)/bin/fa-run $(DESTDIR)$(PREFIX)/bin/fa-report \
		$(DESTDIR)$(PREFIX)/share/man/man1/fa-run.1 $(DESTDIR)$(PREFIX)/share/man/man1/fa-report.1 \
		$(DESTDIR)$(PREFIX)/share/man/man5/fa-policy.5 $(DESTDIR)$(PREFIX)/share/man/man3/framealloc.h.3 \
		$(DESTDIR)$(PREFIX)/include/framealloc.h $(DESTDIR)$(PREFIX)/include/framealloc.hpp
	$(Q)rm -rf $(DESTDIR)$(PREFIX)/lib/framealloc $(DESTDIR)$(PREFIX)/share/framealloc

clean: ## remove the build folder
	$(Q)rm -rf $(BUILD)

help: ## this list
	@awk -F':.*## ' '/^[a-z]+:.*## /{printf "  %-10s %s\n", $$1, $$2}' Makefile

-include $(SHIM_OBJ:.o=.d) $(REPORT_OBJ:.o=.d) $(RUN_OBJ:.o=.d)
