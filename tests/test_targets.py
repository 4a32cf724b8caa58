"""Real, unmodified, stripped programs: they do what they do without us, frames are found, and what is counted agrees with
an independent counter."""
import os
import re
import shutil
import struct
from dataclasses import dataclass
from pathlib import Path

import pytest

import harness

pytestmark = pytest.mark.alone  # runs of an engine are compared with each other

TARGETS = harness.TESTS / "targets"
XVFB = ("xvfb-run", "-a", "-s", "-screen 0 640x480x24")
DOOM_WAD = "/usr/share/games/doom/freedoom1.wad"
DOOM_WIPES = 40  # frames beside those of the demo, in which the first screen comes in


def doom_tics():
    """Of the demo that is played, a turn of the game each; releases of Freedoom have demos of their own. 0: there is none."""
    wad = Path(DOOM_WAD).read_bytes() if Path(DOOM_WAD).exists() else b"PWAD" + bytes(8)
    count, at = struct.unpack_from("<ii", wad, 4)
    for start, size, name in struct.iter_unpack("<ii8s", wad[at:at + 16 * count]):
        if name.rstrip(b"\0") == b"DEMO1":
            return (size - 14) // 4
    return 0


DOOM_FRAMES = doom_tics() + DOOM_WIPES


@dataclass
class Target:
    packages: str
    program: str
    arguments: list
    boundary: str
    frames: range
    env: dict
    wrapper: tuple = ()
    status: int = 0
    files: tuple = ()
    varies: float = 0.001 # share of its allocations by which two runs differ, as the counter alone sees them

    def need(self):
        """Skips, telling which package, where something is missing."""
        for name in (self.program, *(self.wrapper[:1])):
            if not shutil.which(name, path=os.environ["PATH"] + ":/usr/games"):
                pytest.skip(f"{name} is not installed (packages {self.packages})")
        for path in self.files:
            if not Path(path).exists():
                pytest.skip(f"{path} is missing (packages {self.packages})")

    def command(self):
        return [shutil.which(self.program, path=os.environ["PATH"] + ":/usr/games"), *self.arguments]

    def environment(self, folder):
        home = Path(folder) / "home"
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir()
        return {"HOME": home, "SDL_AUDIODRIVER": "dummy", **self.env}


TARGET = {
    "godot": Target("godot3-server", "godot3-server", ["--fixed-fps", "60", "--path", str(TARGETS / "godot")], "nanosleep",
                    range(600, 641), {"SDL_VIDEODRIVER": "dummy"}, files=(TARGETS / "godot" / "project.godot",)),
    # One rendering thread and no shader cache on disk: how often their threads allocate, and which shaders are
    # compiled again while they write, is a matter of luck.
    "love": Target("love xvfb libgl1-mesa-dri", "love", [str(TARGETS / "love")], "SDL_GL_SwapWindow", range(599, 602),
                   {"LP_NUM_THREADS": "0", "MESA_SHADER_CACHE_DISABLE": "true"}, XVFB, files=(TARGETS / "love" / "main.lua",),
                   varies=0.003), # 415,583 to 415,936 in seven runs of the counter
    "doom": Target("chocolate-doom freedoom", "chocolate-doom",
                   ["-iwad", DOOM_WAD, "-timedemo", "demo1", "-nosound", "-nogui"], "SDL_RenderPresent",
                   range(DOOM_FRAMES, DOOM_FRAMES + 1),
                   {"SDL_VIDEODRIVER": "dummy"}, status=255, files=(DOOM_WAD,)),
}


@pytest.fixture(scope="module", params=TARGET)
def target(request):
    TARGET[request.param].need()
    return TARGET[request.param]


@pytest.fixture(scope="module")
def witness(target, tmp_path_factory):
    """(run without anything, what the counter saw)"""
    folder = tmp_path_factory.mktemp("witness")
    plain = harness.plain([*target.wrapper, *target.command()], env=target.environment(folder))
    assert plain.status == target.status, plain.stderr
    counted, tally = harness.count_independently(target.command(), target.boundary, folder, target.environment(folder),
                                                 target.wrapper)
    assert counted.status == target.status
    assert tally["lost"] == 0
    return plain, tally


@pytest.fixture(scope="module")
def shimmed(built, target, tmp_path_factory):
    """target's runs by mode, each made once"""
    runs = {}

    def run(mode):
        if mode not in runs:
            folder = tmp_path_factory.mktemp(mode)
            runs[mode] = harness.Shim(folder).run(target.command(), {"mode": mode, "frame": target.boundary}, "fa-run",
                                                  target.environment(folder), expect=None, wrapper=target.wrapper)
        return runs[mode]

    return run


def steady(output):
    """A program's output without times, addresses and the name of its home."""
    output = re.sub(rb"0x[0-9a-f]+", b"ADDRESS", re.sub(rb"\S*/home\b", b"HOME", output))
    return [line for line in output.splitlines() if b"realtics" not in line]


@pytest.mark.parametrize("mode", ["route", "observe"])
def test_same_output_and_status(target, witness, shimmed, mode):
    plain, _ = witness
    run = shimmed(mode)
    assert run.status == target.status
    assert steady(run.stdout) == steady(plain.stdout)
    assert steady(run.stderr) == steady(plain.stderr)


@pytest.mark.parametrize("mode", ["route", "observe"])
def test_frames(target, witness, shimmed, mode):
    frames = shimmed(mode).report["frames"]
    assert frames["count"] in target.frames
    markers = [m for m in shimmed(mode).report["markers"] if m["name"] == target.boundary]
    libraries = 2 if any("/libSDL3" in m["module"] for m in markers) else 1  # SDL 2 may be made of it
    assert [m["binding"] for m in markers] == ["patch"] * libraries


@pytest.mark.parametrize("mode", ["route", "observe"])
def test_allocations_agree_with_the_counter(target, witness, shimmed, mode):
    _, tally = witness
    report = shimmed(mode).report
    assert report["totals"]["allocs"] == pytest.approx(tally["allocations"], rel=target.varies, abs=5)
    assert report["totals"]["frees"] == pytest.approx(tally["frees"], rel=target.varies, abs=5)
    assert report["tiers"]["foreign"]["frees"] <= 5
    assert sum(report["verdicts"].values()) == report["totals"]["allocs"]


@pytest.mark.parametrize("mode", ["route", "observe"])
def test_share_that_dies_before_the_next_boundary(target, witness, shimmed, mode):
    _, tally = witness
    verdicts = shimmed(mode).report["verdicts"]
    before = verdicts["died_in_segment"] + verdicts["died_in_frame"] + verdicts["died_elsewhere"]
    deaths = before + verdicts["outlived_frame"] + verdicts["crossed_await"]
    assert deaths == pytest.approx(tally["scoped_frees"], rel=0.001, abs=5)
    assert before / deaths == pytest.approx(tally["scoped_frees_before_boundary"] / tally["scoped_frees"], abs=0.01)


def test_recording_is_small_and_reading_it_is_quick(target, witness, shimmed):
    run = shimmed("route")
    assert run.recording.stat().st_size <= 16 << 20
    begin = harness.plain([harness.FA_REPORT, run.recording])
    assert begin.status == 0 and begin.seconds <= 2.0
    assert not [v for v in run.violations() if v["code"] in ("FA901", "FA902")]
    assert not run.report["losses"]["events"], run.report["losses"]


def test_text_names_the_escaping_sites(target, witness, shimmed):
    run = shimmed("route")
    text = harness.plain([harness.FA_REPORT, run.recording]).stdout.decode()
    if target.program == "chocolate-doom":
        assert not [v for v in run.violations() if v["level"] == "error"]
        return
    escapes = run.violations("FA601")
    assert escapes and "FA601" in harness.plain([harness.FA_REPORT, "violations", run.recording]).stdout.decode()
    assert "escaping" in text
    top = max(escapes, key=lambda v: v["count"])
    frame = next(f for f in top["born"]["stack"] if f["function"] or f["module"])
    assert (frame["function"] or os.path.basename(frame["module"])).split("::")[-1] in text


@pytest.mark.parametrize("spec", ["_Z8GameLoopv", "GameLoop()", "openttd!GameLoop"])
def test_boundary_at_a_function_of_a_stripped_program(shim, tmp_path, spec):
    openttd = shutil.which("openttd", path=os.environ["PATH"] + ":/usr/games")
    if not openttd:
        pytest.skip("openttd is not installed (packages openttd openttd-opengfx)")
    run = shim.run([openttd, "-v", "null:ticks=700", "-s", "null", "-m", "null", "-g", "-G", "42", "-x"], {"frame": spec},
                   env={"HOME": tmp_path, "XDG_DATA_HOME": tmp_path, "XDG_CONFIG_HOME": tmp_path})
    assert run.report["frames"]["count"] == 700
    assert [m["binding"] for m in run.report["markers"]] == ["patch"]


@pytest.mark.parametrize("method, kind", [("EffectVehicle::Tick", "frame"), ("EffectVehicle::Tick", "frame-scope"),
                                          ("Vehicle::UpdateViewport", "frame")])
def test_calls_of_a_stripped_method_agree_with_gdb(shim, tmp_path, method, kind):
    openttd = shutil.which("openttd", path=os.environ["PATH"] + ":/usr/games")
    if not openttd or not shutil.which("gdb"):
        pytest.skip("openttd or gdb is not installed (packages openttd openttd-opengfx gdb)")
    command = [openttd, "-v", "null:ticks=500", "-s", "null", "-m", "null", "-g", "-G", "42", "-x"]
    env = {"HOME": tmp_path, "XDG_DATA_HOME": tmp_path, "XDG_CONFIG_HOME": tmp_path}
    listed = harness.plain(["nm", "-DC", "--defined-only", openttd]).stdout.decode()
    offset = next(line.split()[0] for line in listed.splitlines() if f" T {method}(" in line)
    script = tmp_path / "count.gdb"
    # The load address is where the first mapping of the program begins.
    script.write_text("set pagination off\nset confirm off\nstarti\npython\nimport gdb\n"
                      "base = next(int(l.split()[0], 16) for l in gdb.execute('info proc mappings', to_string=True).splitlines() "
                      f"if l.rstrip().endswith('{openttd}'))\n"
                      f"gdb.execute('break *%d' % (base + 0x{offset}))\ngdb.execute('ignore 1 100000000')\nend\n"
                      "continue\ninfo breakpoints\n")
    counted = harness.plain(["gdb", "-batch", "-x", script, "--args", *command], env=env)
    hits = int(re.search(r"already hit (\d+) times?", counted.stdout.decode()).group(1))
    run = shim.run(command, {kind: f"{method}@*"}, env=env)
    assert hits > 100
    # Several functions may bear the name (overloads): the one that gdb counted is told by its place.
    calls = {m["offset"]: m["calls"] for m in run.report["markers"]}
    assert calls[int(offset, 16)] == hits
