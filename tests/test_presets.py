"""Every preset at work: each function that one names is found and taken when a library that is opened late exports it,
and the calls of libc when a loop makes them; real programs where Debian has them."""
import os
import re
import shutil

import pytest

import harness
from test_automatic import loops, markers
from test_targets import TARGET

pytestmark = pytest.mark.alone  # loops are told by how regular they are

PRESETS = sorted((harness.ROOT / "presets").glob("*.ini"))
LIBC = set(re.findall(r"^CALL\([^,]*, (\w+),", (harness.ROOT / "core/calls.def").read_text(), re.M))
LOOPS = {"nanosleep": "nanosleep", "clock_nanosleep": "clock", "usleep": "usleep", "poll": "poll", "select": "select",
         "epoll_wait": "epoll"}


def named(preset, keys):
    return re.findall(rf"^(?:{keys}) = (\w+)$", preset.read_text(), re.M)


NAMES = [(p.stem, name) for p in PRESETS for name in dict.fromkeys(named(p, "present|wait|sleep|frame"))]


@pytest.fixture(scope="session")
def functions(tmp_path_factory):
    """A library that exports every function that any preset names."""
    names = sorted({name for _, name in NAMES} - LIBC)
    source = tmp_path_factory.mktemp("presets") / "functions.c"
    # Bodies that differ, or the linker could make one of them.
    source.write_text("#include <stdlib.h>\n" + "".join(f"void {n}(void) {{ free(malloc({i + 10})); }}\n" for i, n in enumerate(names)))
    return harness.compile_to(source.parent / "libfunctions.so", [source], ["-g", "-O1", "-fno-builtin", "-fPIC", "-shared"])


@pytest.mark.parametrize("preset, name", [n for n in NAMES if n[1] not in LIBC])
def test_a_preset_takes_each_of_its_functions(shim, functions, preset, name):
    # A sleep must go on for longer before it is believed.
    calls = 200 if name in named(harness.ROOT / "presets" / f"{preset}.ini", "sleep") else 70
    run = shim.run([harness.program("automatic/by_name"), functions, name, str(calls)], {"preset": preset})
    assert run.stdout == b"done\n"
    found = markers(run)
    assert [(m["name"], m["binding"], m["calls"]) for m in found if m["calls"]] == [(name, "patch", calls)], run.report["markers"]
    assert run.report["frames"]["marker"] == name and run.report["frames"]["count"] >= 15


@pytest.mark.parametrize("preset, name", [n for n in NAMES if n[1] in LOOPS and n[0] != "automatic"])
def test_a_preset_takes_the_calls_of_libc(shim, preset, name):
    run = loops(shim, LOOPS[name], 150, {"preset": preset})
    assert [m["name"] for m in markers(run) if m["calls"]] == [name] and run.report["frames"]["count"] > 10


def test_every_function_of_every_preset_is_tried():
    tried = {n for n in NAMES if n[1] not in LIBC} | {n for n in NAMES if n[1] in LOOPS}
    # Of libc's calls the loops above make the common ones; the others differ from them in name only.
    assert {name for _, name in set(NAMES) - tried} <= LIBC - set(LOOPS)


@pytest.mark.parametrize("preset, target, marker", [
    ("godot", "godot", "nanosleep"), ("sleep", "godot", "nanosleep"), ("love", "love", "SDL_GL_SwapWindow"),
    ("sdl", "love", "SDL_GL_SwapWindow"), ("gl", "love", "glXSwapBuffers"), ("sdl", "doom", "SDL_RenderPresent")])
def test_presets_on_real_programs(shim, tmp_path, preset, target, marker):
    target = TARGET[target]
    target.need()
    run = shim.run(target.command(), {"preset": preset}, env=target.environment(tmp_path), wrapper=target.wrapper,
                   expect=target.status)
    found, = [m for m in markers(run) if m["calls"]]
    # A boundary that is found has been called before it is one: how often, the evidence says.
    before = int(re.match(r"(\d+) calls", found["reason"])[1]) - 1 if found["automatic"] else 0
    assert found["name"] == marker and run.report["frames"]["count"] == found["calls"] - before


def test_the_preset_of_openttd_counts_its_ticks(shim, tmp_path):
    openttd = shutil.which("openttd", path=os.environ["PATH"] + ":/usr/games")
    if not openttd:
        pytest.skip("openttd is not installed (packages openttd openttd-opengfx)")
    run = shim.run([openttd, "-v", "null:ticks=700", "-s", "null", "-m", "null", "-g", "-G", "42", "-x"],
                   {"preset": "openttd"}, env={"HOME": tmp_path, "XDG_DATA_HOME": tmp_path, "XDG_CONFIG_HOME": tmp_path})
    assert run.report["frames"]["count"] == 700


@pytest.mark.parametrize("preset", ["libuv", "epoll"])
def test_presets_on_neovim(shim, tmp_path, preset):
    if not shutil.which("nvim"):
        pytest.skip("nvim is not installed (package neovim)")
    command = ["nvim", "--headless", "-u", "NONE", '+call timer_start(5,{t->0},{"repeat":100})', "+sleep 800m", "+q"]
    run = shim.run(command, {"preset": preset}, env={"HOME": tmp_path})
    found = {m["name"]: m["calls"] for m in markers(run) if m["calls"]}
    assert found.keys() <= {"epoll_wait", "epoll_pwait"} and sum(found.values()) == run.report["frames"]["count"] > 20


def test_the_preset_of_ucontext_counts_switches(shim):
    program = harness.program("automatic/switches")
    run = shim.run([program, "100"], {"preset": "ucontext", "frame": "frame_mark"})
    switches = [m for m in run.report["markers"] if m["kind"] == "switch" and m["calls"]]
    assert {m["name"]: m["calls"] for m in switches} == {"swapcontext": 200}
    # One block of each round is freed before the switch, one after.
    assert run.site_sum("kept", "verdicts", "crossed_await") == 99  # the last is never resumed
    assert run.site_sum("dropped", "verdicts", "died_in_segment") == 100


@pytest.mark.parametrize("name", ["tokio-runtime-w", "tokio-rt-worker"])
def test_the_preset_of_tokio_names_roles(shim, name):
    run = shim.run([harness.program("automatic/switches"), "0", name], {"preset": "tokio"})
    assert [t["role"] for t in run.report["threads"] if t["name"] == name] == ["async"]
