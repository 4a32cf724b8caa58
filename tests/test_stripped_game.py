"""A stripped C++ game that exports 35,000 functions and objects: markers on its methods count what gdb's breakpoints count.
SuperTuxKart, a race of fixed length driven by the computer, without graphics. Its data is a package of 628 MB: soak."""
import re
import shutil

import pytest

import harness

GAME = "/usr/games/supertuxkart"
# Called once a step (120 a second, and the steps before the start); once a step and kart.
METHODS = {"World::update": 1, "SkiddingAI::update": 3, "Kart::update": 3, "LinearWorld::update": 1}
EXPORTED = 30000

pytestmark = pytest.mark.soak


@pytest.fixture(scope="module")
def game():
    if not shutil.which(GAME):
        pytest.skip("supertuxkart is not installed (package supertuxkart)")
    listed = harness.plain(["nm", "-D", "--defined-only", GAME]).stdout.decode().splitlines()
    assert len(listed) > EXPORTED
    assert b"no symbols" in harness.plain(["nm", GAME]).stderr
    return {"command": [GAME, "--no-graphics", "--profile-time=20", "--track=lighthouse", "--numkarts=3", "--seed=1"],
            "exported": {line.split()[-1]: int(line.split()[0], 16) for line in listed}}


def home(tmp_path):
    return {k: tmp_path for k in ("HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME")}


def mangled(method):
    name, function = method.split("::")
    return f"_ZN{len(name)}{name}{len(function)}{function}Ei"


@pytest.fixture(scope="module")
def counted(game, tmp_path_factory):
    """How often gdb's breakpoints at the methods' first bytes are hit, by method."""
    if not shutil.which("gdb"):
        pytest.skip("gdb is not installed (package gdb)")
    folder = tmp_path_factory.mktemp("gdb")
    script = folder / "count.gdb"
    offsets = [game["exported"][mangled(m)] for m in METHODS]
    script.write_text("set pagination off\nset confirm off\nstarti\npython\nimport gdb\n"
                      "base = next(int(l.split()[0], 16) for l in gdb.execute('info proc mappings', to_string=True).splitlines() "
                      f"if l.rstrip().endswith('{GAME}'))\n"
                      f"for n, offset in enumerate({offsets}, 1):\n"
                      "    gdb.execute('break *%d' % (base + offset))\n    gdb.execute('ignore %d 100000000' % n)\nend\n"
                      "continue\ninfo breakpoints\n")
    done = harness.plain(["gdb", "-batch", "-x", script, "--args", *game["command"]], env=home(folder), timeout=300)
    hits = [int(n) for n in re.findall(r"already hit (\d+) times?", done.stdout.decode(errors="replace"))]
    assert len(hits) == len(METHODS), done.stdout[-2000:]
    return dict(zip(METHODS, hits))


# Frames nest as one, whichever marker opened them: scopes of which one calls the other are tried one by one.
@pytest.mark.parametrize("kind, methods", [("frame", list(METHODS)), ("region", list(METHODS)), ("frame-scope", ["World::update"]),
                                           ("frame-scope", ["LinearWorld::update"]),
                                           ("frame-scope", ["SkiddingAI::update"])])
def test_calls_agree_with_gdb(shim, game, counted, tmp_path, kind, methods):
    options = {kind: [f"{m}@*" for m in methods]}
    if kind == "region":
        options = {"policy": tmp_path / "regions.ini"}
        options["policy"].write_text("".join(f"[region r{n}]\nscope = {m}\n" for n, m in enumerate(methods)))
    run = shim.run(game["command"], options, env=home(tmp_path))
    frames = int(re.search(rb"Number of frames: (\d+)", run.stdout).group(1))
    markers = {m["name"].removesuffix("@*"): m for m in run.report["markers"]}
    for method in methods:
        marker, times = markers[method], METHODS[method]
        assert (marker["bound"], marker["binding"], marker["offset"]) == (True, "patch", game["exported"][mangled(method)])
        assert marker["calls"] == counted[method] == times * frames, method


@pytest.mark.parametrize("spec", ["World::update", "World::update(int)", "_ZN5World6updateEi", "supertuxkart!World::update"])
def test_frames_by_one_method(shim, game, tmp_path, spec):
    run = shim.run(game["command"], {"frame": spec}, env=home(tmp_path))
    frames = int(re.search(rb"Number of frames: (\d+)", run.stdout).group(1))
    assert run.report["frames"]["count"] == frames > 2000
    assert not [v for v in run.violations() if v["code"] in ("FA901", "FA902")]


def test_without_any_option(shim, game, tmp_path):
    """Without graphics it neither presents nor waits: it runs through its steps as fast as it can."""
    run = shim.run(game["command"], {}, env=home(tmp_path))
    assert run.report["frames"]["count"] == 0 and run.report["automatic"] == "searched" and run.violations() == []
