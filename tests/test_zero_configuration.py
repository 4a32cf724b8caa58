"""No option at all: more loops than test_automatic.py tries, servers on loopback, screens that come with a late library, and
programs of all kinds that have no loop. The program does what it does without us, and what was found stands in the report."""
import re
import shutil

import pytest

import harness

pytestmark = pytest.mark.alone  # loops are told by how regular they are

EVIDENCE = re.compile(r"(\d+) calls in [\d.]+ (us|ms|s) on thread \d+ \(.+\): every [\d.]+ (us|ms|s), jitter \d+ %")
NOTHING = "nothing that could bound a frame is called periodically"


def own(name):
    return harness.program(f"automatic/{name}")


def markers(run, kind="frame"):
    return [m for m in run.report["markers"] if m["kind"] == kind]


def summary(run):
    done = harness.plain([harness.FA_REPORT, run.recording])
    assert done.status == 0
    return done.stdout.decode()


def same(shim, command, env=None, options=None, **more):
    """Runs a command without us and with us; both must do the same."""
    plain = harness.plain(command, env=env)
    run = shim.run(command, options or {}, env=env, expect=None, **more)
    assert (run.stdout, run.stderr, run.status) == (plain.stdout, plain.stderr, plain.status)
    return run


def frame_thread(run):
    return next(t for t in run.report["threads"] if t["tid"] == run.report["frames"]["thread"])


def assert_found(run, name, calls, share, main=True, module=None):
    """One boundary, found by itself, called so often in all; at least that share of the calls are frames."""
    found = markers(run)
    assert [(m["name"], m["automatic"]) for m in found] == [(name, True)], run.report["markers"]
    assert EVIDENCE.match(found[0]["reason"]), found[0]["reason"]
    frames = run.report["frames"]
    assert frames["marker"] == name and run.report["automatic"] == "found"
    assert calls * share <= frames["count"] <= calls, (calls, frames["count"])
    assert found[0]["calls"] == calls
    assert found[0]["thread"] == frames["thread"]
    thread = frame_thread(run)
    assert (thread["main"], thread["role"]) == (main, "frame")
    assert module is None or found[0]["module"].endswith(module)
    for other in markers(run, "candidate"):
        assert other["reason"] and not other["automatic"]
    text = summary(run)
    assert f"{name}: found by itself" in text and NOTHING not in text


def assert_nothing_found(run):
    assert markers(run) == []
    assert run.report["frames"]["count"] == 0 and run.report["automatic"] == "searched"
    assert run.violations() == []
    assert {t["role"] for t in run.report["threads"]} <= {"none"}, run.report["threads"]
    assert NOTHING in summary(run)


# ---- loops of its own -------------------------------------------------------------------------------------------------

# kind: turns, boundary, calls more than turns, share of the calls that are frames
LOOPS = {
    "serve-epoll": (400, "epoll_wait", 1, 0.8), "serve-epoll-pwait": (400, "epoll_pwait", 1, 0.8),
    "serve-poll": (400, "poll", 1, 0.8), "serve-ppoll": (400, "ppoll", 1, 0.8), "serve-select": (400, "select", 1, 0.8),
    "serve-pselect": (400, "pselect", 1, 0.8), "signals": (250, "sigtimedwait", 0, 0.8),
    "absolute": (500, "clock_nanosleep", 0, 0.8), "burst": (300, "poll", 0, 0.8), "looks": (500, "nanosleep", 0, 0.8),
    "looks-longer": (500, "nanosleep", 0, 0.8), "loaded": (1200, "epoll_wait", 0, 0.3),
    # Works most of the time: it must go on for longer before it is believed.
    "busy": (600, "nanosleep", 0, 0.5), "short-busy": (220, "nanosleep", 0, 0.3), # over within a second
    "scattered": (400, "nanosleep", 0, 0.8), "interrupted": (700, "nanosleep", 0, 0.8),
    # What was before a pause says nothing about the loop that begins after it.
    "asked-late": (400, "poll", 1, 0.8), "loads-first": (400, "nanosleep", 1, 0.8),
    "two-sleeps": (400, "nanosleep", 0, 0.75), "main-among-workers": (400, "nanosleep", 0, 0.8),
}


@pytest.mark.parametrize("kind", LOOPS)
def test_loops(shim, kind):
    turns, name, more, share = LOOPS[kind]
    assert_found(same(shim, [own("waits"), kind, turns]), name, turns + more, share)


@pytest.mark.parametrize("kind", ["workers", "workers-and-work", "main-leaves", "child", "three-sleeps", "backs-off",
                                  "two-bursts", "none"])
def test_what_looks_like_a_loop(shim, kind):
    assert_nothing_found(same(shim, [own("waits"), kind, 200]))


@pytest.mark.xfail(strict=True, reason="a choice that falls silent is given up only for another")
def test_a_choice_that_falls_silent_is_given_up(shim):
    """Three seconds of work are no frame, whatever the sixty sleeps before looked like."""
    run = same(shim, [own("waits"), "loads-then-works", 0])
    assert run.violations() == []
    assert run.report["totals"]["allocs"] * 0.5 < run.report["verdicts"]["outside_scopes"]


def test_none_looks_for_nothing(shim):
    run = same(shim, [own("waits"), "absolute", 150], options={"frame": "none"})
    assert run.report["markers"] == [] and run.report["automatic"] == "off" and run.report["frames"]["count"] == 0


def test_runners_up_have_evidence(shim):
    run = same(shim, [own("waits"), "two-sleeps", 300])
    others = {m["name"]: m for m in markers(run, "candidate")}
    assert set(others) == {"usleep"}
    assert others["usleep"]["calls"] == 300 and EVIDENCE.match(others["usleep"]["reason"]).group(1) == "300"


def test_what_was_found_is_the_same_under_fa_run(shim):
    assert_found(same(shim, [own("waits"), "absolute", 500], via="fa-run"), "clock_nanosleep", 500, 0.8)


# ---- screens ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def game(tmp_path_factory):
    """A library that shows pictures by a libSDL2-2.0.so.0 (and a libGL.so.1) of its own, found by its RUNPATH."""
    folder = harness.OUT / "automatic" / "screen"
    source = harness.PROGRAMS / "automatic"
    flags = ["-g", "-O1", "-fno-builtin", "-fPIC", "-shared", "-Wl,-rpath,$ORIGIN/lib", "-Wl,--enable-new-dtags"]
    gl = harness.compile_to(folder / "lib" / "libGL.so.1", [source / "screen.c"], [*flags, "-DGLX", "-Wl,-soname,libGL.so.1"])
    sdl = harness.compile_to(folder / "lib" / "libSDL2-2.0.so.0", [source / "screen.c"],
                             [*flags, "-Wl,-rpath,$ORIGIN", "-Wl,-soname,libSDL2-2.0.so.0", "-Wl,--no-as-needed"], [gl])
    return harness.compile_to(folder / "game.so", [source / "game.c"], flags, [sdl, f"-Wl,-rpath-link,{folder / 'lib'}"])


def screens(shim, game, kind, count):
    return same(shim, [own("screens"), kind, count], env={"GAME": game})


@pytest.mark.parametrize("kind, name", [("present", "SDL_RenderPresent"), ("swap", "SDL_GL_SwapWindow")])
def test_presents_of_a_late_library(shim, game, kind, name):
    run = screens(shim, game, kind, 150)
    assert_found(run, name, 150, 0.95, module="libSDL2-2.0.so.0")
    assert markers(run)[0]["binding"] == "patch"
    others = {m["name"]: m["calls"] for m in markers(run, "candidate")}
    assert others == ({"nanosleep": 150} if kind == "present" else {"nanosleep": 150, "glXSwapBuffers": 150})


def test_a_loading_screen_is_replaced(shim, game):
    run = screens(shim, game, "loading", 150)
    found = markers(run)
    assert [(m["name"], m["calls"]) for m in found] == [("SDL_RenderPresent", 150)]
    assert found[0]["reason"].endswith("; it replaced nanosleep, taken at first")
    assert [m["calls"] for m in markers(run, "candidate")] == [300]
    assert 150 * 0.95 <= run.report["frames"]["count"] and frame_thread(run)["main"]
    assert "it replaced nanosleep" in summary(run)


def test_a_render_thread_becomes_the_frame_thread(shim, game):
    run = screens(shim, game, "render-thread", 200)
    assert_found(run, "SDL_RenderPresent", 200, 0.95, main=False)
    assert frame_thread(run)["name"] == "render"
    assert next(t for t in run.report["threads"] if t["main"])["role"] == "none"


def test_a_late_render_thread_takes_over(shim, game):
    run = screens(shim, game, "late-render-thread", 200)
    assert [(m["name"], m["calls"]) for m in markers(run)] == [("SDL_RenderPresent", 200)]
    assert markers(run)[0]["reason"].endswith("; it replaced nanosleep, taken at first")
    threads = {t["name"]: t for t in run.report["threads"]}
    assert threads["render"]["role"] == "frame" and threads["screens"]["role"] == "none"
    rendered = next(t for t in run.report["frames"]["per_thread"] if t["thread"] == threads["render"]["tid"])
    assert rendered["count"] >= 190


def test_a_loading_screen_on_the_main_thread_hands_over_to_a_renderer(shim, game):
    run = screens(shim, game, "handed-over", 200)
    assert [(m["name"], m["calls"]) for m in markers(run)] == [("SDL_RenderPresent", 220)]
    assert frame_thread(run)["name"] == "render" and run.report["frames"]["count"] >= 160


def test_a_renderer_that_is_opened_again(shim, game):
    run = screens(shim, game, "restarted", 180)
    assert run.report["frames"]["count"] == 177
    assert_found(run, "SDL_RenderPresent", 180, 0.95)


def test_a_picture_now_and_then_is_no_loop(shim, game):
    assert_nothing_found(screens(shim, game, "few", 0))


def test_sdl_that_comes_with_a_plugin(shim):
    """The pygame case: the program knows nothing of SDL; a module that it loads RTLD_LOCAL needs it."""
    libraries = harness.plain(["/sbin/ldconfig", "-p"]).stdout.decode()
    sdl = re.search(r"libSDL2-2\.0\.so\.0 .*x86-64.* => (\S+)", libraries)
    if not sdl:
        pytest.skip("libSDL2 is not installed (package libsdl2-2.0-0)")
    plugin = harness.compile_to(harness.OUT / "automatic" / "dummy_sdl.so", [harness.PROGRAMS / "automatic/dummy_sdl.c"],
                                ["-g", "-O1", "-fPIC", "-shared"], [sdl.group(1)])
    env = {"SDL_VIDEODRIVER": "dummy", "SDL_AUDIODRIVER": "dummy"}
    run = same(shim, [own("player"), plugin, 150], env=env)
    assert run.stdout == b"150 pictures\n"
    assert_found(run, "SDL_RenderPresent", 150, 0.95, module="libSDL2-2.0.so.0" if "libSDL2-2.0.so.0" in sdl.group(1) else None)


# ---- programs without a loop --------------------------------------------------------------------------------------------

SOURCE = "int puts(const char *);\nint main(void) { return puts(\"x\"); }\n"
PROGRAMS = {
    "ls": "ls -l /usr/bin", "gcc": "gcc -O2 -c a.c -o a.o", "cc1": "$(gcc -print-prog-name=cc1) -quiet -O2 a.c -o -",
    "python": "/usr/bin/python3 -c pass", "sqlite3": "sqlite3 :memory: 'select 6*7'", "true": "true",
    "sort": "sort -r a.c", "git": "git --version", "perl": "perl -e 'print 1+1'", "sleeps": "sleep 0.05 0.05 0.05",
    "python-sleeps": "/usr/bin/python3 -c 'import time\nfor i in range(3): time.sleep(0.1)'",
    "awk": "awk 'BEGIN { for (i = 0; i < 50000; i++) a[i] = i; print length(a) }'",
    "asks": "/usr/bin/python3 -c 'import subprocess; print(subprocess.run([\"echo\", \"1\"], capture_output=True).stdout)'",
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_without_a_loop(shim, name, tmp_path):
    command = PROGRAMS[name]
    if not shutil.which(command.split()[0]) and not command.startswith("$"):
        pytest.skip(f"{command.split()[0]} is not installed")
    (shim.folder / "a.c").write_text(SOURCE)
    plain = harness.plain(["bash", "-c", f"exec {command}"], cwd=shim.folder)
    run = shim.run(["bash", "-c", f"exec {command}"], expect=None)
    assert (run.stdout, run.stderr, run.status) == (plain.stdout, plain.stderr, plain.status)
    assert run.status == 0
    # An exec starts a new recording beside the old.
    recordings = sorted(shim.folder.glob("*.fatrace*"))
    assert len(recordings) >= 2
    for recording in recordings:
        run.recording, run._report = recording, None
        assert_nothing_found(run)
