"""Nested calls of a frame marker count once: what a boundary's function calls, or jumps to, is no boundary."""
import pytest

import harness

INNER = "#include <stdlib.h>\nvoid frame_tick(int n) { (void)n; free(malloc(40)); __asm__ volatile(\"\"); }\n"
OUTER = """#include <dlfcn.h>
static __attribute__((used)) void (*inner)(int);
static __attribute__((constructor)) void find(void)
{ inner = (void (*)(int))dlsym(dlopen("$ORIGIN/inner.so", RTLD_NOW | RTLD_LOCAL), "frame_tick"); }
"""


def jump(name, slot):
    return (f'__asm__(".globl {name}; .type {name}, @function; {name}: endbr64; jmp *{slot}(%rip);"'
            f'".size {name}, .-{name}");\n')


PASSES_ON = {"call": "void frame_tick(int n) { inner(n); __asm__ volatile(\"\"); }\n",
             "jump": jump("frame_tick", "inner"),
             "jump and call": "static void pass_on(int n) { inner(n); __asm__ volatile(\"\"); }\n"
                              "static __attribute__((used)) void (*slot)(int) = pass_on;\n" + jump("frame_tick", "slot"),
             "jumps": "void again(int);\nstatic __attribute__((used)) void (*slot)(int) = again;\n" + jump("frame_tick", "slot")
                      + jump("again", "inner")}
FLAGS = ["-O1", "-fno-builtin", "-shared", "-fPIC"]


def check(run):
    """As many frames as calls from outside, each of which allocates in its own."""
    calls = int(run.stdout)
    assert (run.report["frames"]["count"], sum(m["calls"] for m in run.report["markers"])) == (calls, calls)


@pytest.mark.parametrize("options", [{}, {"stacks": "none"}, {"stack-depth": 1}])
@pytest.mark.parametrize("how", ["recursive", "apart", "jumped"])
def test_a_function_that_calls_itself(shim, how, options):
    """Or another that lies where it lay on the stack: that is a boundary."""
    check(shim.run([harness.program("nested"), how], {"frame": "frame_tick", **options}))


def test_another_marker_is_a_boundary_within_the_last_one(shim):
    check(shim.run([harness.program("nested"), "levels"], {"frame": ["frame_level", "frame_tick"]}))


@pytest.mark.parametrize("how", PASSES_ON)
def test_a_library_that_passes_on_to_another(shim, tmp_path, how):
    """As SDL 2 does where it is made of SDL 3: functions of one name in both."""
    (tmp_path / "inner.c").write_text(INNER)
    (tmp_path / "outer.c").write_text(OUTER + PASSES_ON[how])
    harness.compile_to(tmp_path / "inner.so", [tmp_path / "inner.c"], FLAGS)
    outer = harness.compile_to(tmp_path / "outer.so", [tmp_path / "outer.c"], FLAGS)
    run = shim.run([harness.program("nested"), outer], {"frame": "frame_tick"})
    assert sum(m["binding"] == "patch" for m in run.report["markers"]) == 3  # the program's own as well
    check(run)
