"""Markers that bind by themselves: the frame boundary that zero configuration finds, libraries that are loaded later,
tables where code must not be written."""
import re
import shutil
import subprocess

import pytest

import harness
from test_targets import DOOM_FRAMES, TARGET, XVFB

pytestmark = pytest.mark.alone  # loops are told by how regular they are


def library(name):
    return harness.program(f"automatic/{name}", shared=True)


def markers(run, kind="frame"):
    return [m for m in run.report["markers"] if m["kind"] == kind]


def loops(shim, kind, count, options=None, **more):
    program = harness.program("automatic/loops")
    env = {"PRESENT_LIBRARY": library("present")}
    plain = harness.plain([program, kind, count], env=env)
    run = shim.run([program, kind, str(count)], options or {}, env=env, **more)
    assert (run.stdout, run.status) == (plain.stdout, plain.status)
    return run


# kind of loop: turns, what is found, least share of the turns that are frames
FOUND = {
    "nanosleep": (250, "nanosleep", 0.5), "clock": (250, "clock_nanosleep", 0.5), "usleep": (250, "usleep", 0.5),
    "poll": (250, "poll", 0.7), "select": (250, "select", 0.7), "epoll": (250, "epoll_wait", 0.7),
    "looks": (250, "nanosleep", 0.5), "burst": (250, "poll", 0.7), "present": (100, "SDL_RenderPresent", 0.95),
    "present-thread": (100, "SDL_RenderPresent", 0.95), "long-burst": (200, "poll", 0.5),
    "late-present": (100, "SDL_RenderPresent", 0.95),
}
REPLACED = {"long-burst": "nanosleep", "late-present": "nanosleep"}


@pytest.mark.parametrize("kind", FOUND)
def test_the_boundary_is_found(shim, kind):
    count, name, share = FOUND[kind]
    run = loops(shim, kind, count)
    found = markers(run)
    assert [(m["name"], m["automatic"]) for m in found] == [(name, True)]
    evidence = found[0]["reason"]
    assert re.match(r"\d+ calls in [\d.]+ (us|ms|s) on thread \d+ \(.+\): every [\d.]+ (us|ms|s), jitter \d+ %", evidence)
    assert found[0]["calls"] == count and found[0]["period_ns"] > 0
    assert run.report["automatic"] == "found"
    frames = run.report["frames"]
    # Frames that the boundary taken at first made are frames too.
    assert frames["marker"] == name and frames["count"] >= share * count
    assert kind in REPLACED or frames["count"] <= count
    thread = next(t for t in run.report["threads"] if t["tid"] == frames["thread"])
    assert thread["role"] == "frame" and thread["main"] == (kind != "present-thread")
    assert found[0]["thread"] == thread["tid"]
    if kind in REPLACED:
        assert evidence.endswith(f"; it replaced {REPLACED[kind]}, taken at first")
        assert [m["name"] for m in markers(run, "candidate") if m["name"] == REPLACED[kind]]
    summary = harness.plain([harness.FA_REPORT, run.recording]).stdout.decode()
    assert f"{name}: found by itself" in summary


@pytest.mark.parametrize("kind", ["worker", "irregular", "few", "none"])
def test_what_is_no_loop_has_no_frames(shim, kind):
    run = loops(shim, kind, 200)
    assert markers(run) == [] and run.report["frames"]["count"] == 0 and run.report["automatic"] == "searched"
    assert run.violations() == []
    summary = harness.plain([harness.FA_REPORT, run.recording]).stdout.decode()
    assert "nothing that could bound a frame is called periodically" in summary


def test_none_turns_it_off(shim):
    run = loops(shim, "nanosleep", 150, {"frame": "none"})
    assert run.report["markers"] == [] and run.report["frames"]["count"] == 0 and run.report["automatic"] == "off"


def test_runners_up_are_told(shim):
    run = loops(shim, "present", 150)
    assert [(m["name"], m["calls"]) for m in markers(run, "candidate")] == [("nanosleep", 150)]
    assert "150 calls" in markers(run, "candidate")[0]["reason"]


def test_a_preset_narrows_the_choice(shim):
    run = loops(shim, "present", 150, {"preset": "sleep"})
    assert [m["name"] for m in markers(run)] == ["nanosleep"]


COMMANDS = [["ls", "/"], ["/usr/bin/python3", "-c", "print(sum(range(1000)))"], ["sqlite3", ":memory:", "select 1"],
            ["bash", "-c", "echo one; (echo two)"], ["perl", "-e", "print 3"], ["git", "--version"]]


@pytest.mark.parametrize("command", COMMANDS, ids=[c[0].split("/")[-1] for c in COMMANDS])
def test_programs_without_a_loop(shim, command):
    if not shutil.which(command[0]):
        pytest.skip(f"{command[0]} is not installed")
    plain, run = harness.plain(command), shim.run(command)
    assert (run.stdout, run.stderr, run.status) == (plain.stdout, plain.stderr, plain.status)
    assert run.report["frames"]["count"] == 0 and run.violations() == []


# ---- real programs ------------------------------------------------------------------------------------------------------


# How soon a boundary is found depends on the machine; what it was found by and what follows are each of its calls.
@pytest.mark.parametrize("name, marker, calls", [("godot", "nanosleep", 600), ("love", "SDL_GL_SwapWindow", 600),
                                                 ("doom", "SDL_RenderPresent", DOOM_FRAMES)])
def test_real_engines(shim, tmp_path, name, marker, calls):
    target = TARGET[name]
    target.need()
    run = shim.run(target.command(), {}, env=target.environment(tmp_path), wrapper=target.wrapper, expect=target.status)
    found, = markers(run)
    assert (found["name"], found["automatic"], found["calls"]) == (marker, True, calls)
    evidence = int(re.match(r"(\d+) calls", found["reason"])[1])
    frames, expected = run.report["frames"]["count"], calls - evidence + 1
    if "it replaced" in found["reason"]: # where the start takes a second, another waiting call bounds frames meanwhile
        assert frames > expected
    else:
        assert frames == expected
    assert next(t for t in run.report["threads"] if t["tid"] == run.report["frames"]["thread"])["main"]


def test_neovim_turns(shim, tmp_path):
    if not shutil.which("nvim"):
        pytest.skip("nvim is not installed (package neovim)")
    command = ["nvim", "--headless", "-u", "NONE", '+call timer_start(5,{t->0},{"repeat":100})', "+sleep 800m", "+q"]
    run = shim.run(command, {}, env={"HOME": tmp_path})
    assert [(m["name"], m["automatic"]) for m in markers(run)] == [("uv_run", True)]
    assert run.report["frames"]["count"] > 50


def test_node_turns(shim):
    if not shutil.which("node"):
        pytest.skip("node is not installed (package nodejs)")
    script = "let n = 0; const t = setInterval(() => { if (++n == 150) { clearInterval(t); console.log(n) } }, 3)"
    run = shim.run(["node", "-e", script])
    assert run.stdout == b"150\n"
    # Node's own libuv waits by epoll_pwait, Debian's by epoll_wait.
    assert [(m["name"], m["automatic"]) for m in markers(run)] in ([("epoll_pwait", True)], [("epoll_wait", True)])
    assert next(t for t in run.report["threads"] if t["tid"] == run.report["frames"]["thread"])["main"]


PYGAME = """
import ctypes, time
sdl = ctypes.CDLL("libSDL2-2.0.so.0")
for name in ("SDL_CreateWindow", "SDL_CreateRenderer"):
    getattr(sdl, name).restype = ctypes.c_void_p
assert sdl.SDL_Init(0x20) == 0
window = ctypes.c_void_p(sdl.SDL_CreateWindow(b"x", 0, 0, 64, 48, 0))
renderer = ctypes.c_void_p(sdl.SDL_CreateRenderer(window, -1, 1))
for i in range(100):
    sdl.SDL_RenderClear(renderer)
    sdl.SDL_RenderPresent(renderer)
    time.sleep(0.002)
print("played")
"""


def test_sdl_loaded_with_rtld_local(shim):
    probe = harness.plain(["/usr/bin/python3", "-c", 'import ctypes; ctypes.CDLL("libSDL2-2.0.so.0")'])
    if probe.status:
        pytest.skip("libSDL2 is not installed (package libsdl2-2.0-0)")
    run = shim.run(["/usr/bin/python3", "-c", PYGAME], {}, env={"SDL_VIDEODRIVER": "dummy"})
    assert run.stdout == b"played\n"
    assert [(m["name"], m["binding"], m["calls"]) for m in markers(run)] == [("SDL_RenderPresent", "patch", 100)]
    assert run.report["frames"]["count"] == 97


# ---- libraries that are loaded later -----------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", ["plugin_tick", "plugin_t*", "tick!plugin_tick", "tick.so!plug*"])
@pytest.mark.parametrize("how", ["lazy", "now", "global", "elsewhere"])
def test_late_modules_bind_before_their_constructors(shim, spec, how):
    run = shim.run([harness.program("automatic/late"), library("tick"), "3", how], {"frame": f"{spec}@*"})
    assert run.stdout == b"done\n"
    # Two calls by the constructor, ten by the program, three times.
    assert sum(m["calls"] for m in markers(run)) == 36 and run.report["frames"]["count"] == 36
    assert {m["binding"] for m in markers(run)} == {"patch"}


def test_late_modules_with_scopes_and_under_fa_run(shim):
    run = shim.run([harness.program("automatic/late"), library("tick"), "3", "now"], {"frame-scope": "plugin_tick"}, via="fa-run")
    assert run.report["frames"]["count"] == 36
    assert run.site_sum("plugin_tick", "verdicts", "died_in_segment") == 36


def test_a_marker_that_no_module_brings_says_so(shim):
    run = shim.run([harness.program("automatic/late"), library("tick"), "1", "now"], {"frame": "nobody_has_this"})
    assert [(m["bound"], m["reason"]) for m in markers(run)] == [(False, "no function of this name in the modules loaded so far")]


@pytest.mark.parametrize("flags", [("-Wl,-z,now", "-Wl,-z,relro"), ("-Wl,-z,lazy",)], ids=["now", "lazy"])
@pytest.mark.parametrize("mode", ["route", "observe", "off"])
@pytest.mark.parametrize("arguments", [(), ("fork",)], ids=["plain", "fork"])
def test_plugins_with_a_scope_of_their_own_share_the_heap(shim, arguments, mode, flags):
    """RTLD_DEEPBIND, as PHP opens its extensions: libc's free would get our blocks."""
    plugin = harness.compile_to(harness.OUT / "automatic" / f"deep{len(flags)}.so", [harness.PROGRAMS / "automatic/deep.c"],
                                ["-g", "-O1", "-fno-builtin", "-fPIC", "-shared", *flags])
    run = shim.run([harness.program("automatic/deepbind"), plugin, *arguments], {"mode": mode})
    assert run.stdout == b"done\n"
    if mode != "off":
        assert run.report["tiers"]["foreign"]["frees"] == 0
        assert run.site_sum("deep_make", "allocs") == 400


# ---- where code must not be written ------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["frame", "frame-scope"])
def test_tables_where_code_cannot_be_written(shim, key):
    plugin = library("tick")
    program = harness.compile_to(harness.OUT / "automatic" / "calls_tick", [harness.PROGRAMS / "automatic/calls_tick.c"],
                                 ["-g", "-O1"], [plugin, f"-Wl,-rpath,{plugin.parent}"])
    run = shim.run([program], {key: "plugin_tick"}, wrapper=[harness.program("automatic/no_exec")])
    assert run.stdout == b"done\n"
    found = markers(run, key)
    assert [(m["binding"], m["calls"]) for m in found] == [("got", 25)]
    assert found[0]["reason"].startswith("policy forbids writing code")
    assert run.report["frames"]["count"] == 25
    assert any("modules loaded later" in r for r in run.report["losses"]["reasons"])


def test_waits_are_seen_by_their_calls_where_code_cannot_be_written(shim):
    run = shim.run([harness.program("automatic/loops"), "nanosleep", "50"], {"frame": "nanosleep"},
                   wrapper=[harness.program("automatic/no_exec")])
    assert [(m["binding"], m["calls"]) for m in markers(run)] == [("call", 50)]


# ---- the patched function's registers ----------------------------------------------------------------------------------


def test_code_inside_patched_functions_uses_general_registers_only(built):
    """What runs with the marked function's vector registers in place must not touch them (Makefile: GENERAL_ONLY)."""
    listed = re.search(r"^GENERAL_ONLY := (.*)$", (harness.ROOT / "Makefile").read_text(), re.M).group(1).split()
    assert "core/marker" in listed
    for name in listed:
        code = subprocess.run(["objdump", "-d", "--no-show-raw-insn", built / "shim" / f"{name}.o"], capture_output=True,
                              text=True, check=True).stdout
        assert code.count("\n") > 20 and not re.search(r"%[xyz]mm|%st\b|%k[0-7]\b", code), name
        assert not re.search(r"<mem(cpy|set|move|cmp)|<str", code), name
