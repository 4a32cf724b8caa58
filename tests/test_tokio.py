"""Tokio's tasks in programs with symbols and without: what the finder sees agrees with the symbols, what is bound with
what the finder sees, and what is counted with what an instrumented build counts of itself."""
import os
import shutil
from pathlib import Path

import pytest

import harness
import tokio_programs as rust

PRESET = {"preset": "tokio"}
COMPILERS = ["debian", "web", pytest.param("smallest", marks=pytest.mark.soak)]
SCENES = ["short", "blocking", "set", "select", "late", "local", "panicking", "aborted", "nested", "game", "wide"]
FORMS = {"symbols": rust.build, "stripped": rust.stripped}


def markers(run):
    return [m for m in run.report["markers"] if m["name"] == "tokio"]


def bound(run, binding="patch"):
    """Offsets of the poll functions that were bound; each in that way, and once."""
    found = markers(run)
    assert {(m["kind"], m["binding"]) for m in found} == {("task", binding)}, found
    offsets = [m["offset"] for m in found]
    assert len(set(offsets)) == len(offsets)
    return set(offsets)


def unchanged(shim, command, options=PRESET, **more):
    """A run with us, which must do what it does without us."""
    plain = harness.plain(command, cwd=shim.folder)
    run = shim.run(command, options, expect=None, **more)
    assert (run.status, run.stdout) == (plain.status, plain.stdout), harness.text(run.stderr)
    assert run.status == 0
    return run


# ---- finding ----


@pytest.mark.parametrize("name", COMPILERS)
@pytest.mark.parametrize("program", ["serve", "mixed", "liblate.so"])
def test_the_tables_are_those_of_the_symbols(name, program):
    whole, named = rust.scan(rust.build(name)[program]), rust.symbols(rust.build(name)[program])
    assert whole.seen and whole.version.startswith("1.")
    assert whole.offsets("poll") == named["poll"] and len(named["poll"]) >= 1
    assert whole.offsets("dealloc") == named["dealloc"]
    assert whole.offsets("schedule") == named["schedule"]
    assert rust.scan(rust.stripped(name)[program]) == whole
    assert rust.scan(rust.build(name)[program], "--raw") == whole  # as before relocation


NO_TOKIO = ["node", "godot3-server", "love", "/usr/lib/chromium/chromium", "openttd",
            "/usr/bin/python3", "/usr/bin/cargo", "/usr/bin/gdb", "/lib/x86_64-linux-gnu/libc.so.6"]


@pytest.mark.parametrize("name", NO_TOKIO, ids=lambda n: Path(n).name)
def test_no_table_where_there_is_no_tokio(name):
    path = shutil.which(name, path=f"{os.environ['PATH']}:/usr/games") or name
    if not Path(path).exists():
        pytest.skip(f"{name} is not installed")
    found = rust.scan(Path(path).resolve())
    assert not found.seen and not found.tables


@pytest.mark.soak
def test_no_table_in_any_library_of_this_machine():
    looked = 0
    for path in sorted(Path("/usr/lib/x86_64-linux-gnu").glob("*.so*")):
        with path.open("rb") as file:
            if path.is_symlink() or file.read(4) != b"\x7fELF":
                continue
        found = rust.scan(path)
        assert not found.seen and not found.tables, path
        looked += 1
    assert looked > 50


@pytest.mark.parametrize("path,least", [("/usr/bin/sccache", 10), ("/usr/bin/sq", 10), ("/usr/lib/podman/aardvark-dns", 5)])
def test_tables_of_programs_that_others_built(path, least):
    if not Path(path).exists():
        pytest.skip(f"{path} is not installed (package {Path(path).name})")
    found = rust.scan(path)
    assert found.seen and found.version.startswith("1.") and len(found.tables) >= least
    assert rust.scan(path, "--raw") == found


# ---- binding ----


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", COMPILERS)
def test_every_poll_is_bound(shim, name, form):
    program = FORMS[form](name)["serve"]
    run = unchanged(shim, [program])
    assert bound(run) == rust.symbols(rust.build(name)["serve"])["poll"]
    workers = [t for t in run.report["threads"] if t["name"].startswith(("tokio-runtime-w", "tokio-rt-w"))]
    assert len(workers) == 2 and {t["role"] for t in workers} == {"async"}
    assert {t["role"] for t in run.report["threads"] if t not in workers} == {"frame"}


def test_by_a_policy(shim, tmp_path):
    policy = tmp_path / "p.ini"
    policy.write_text("[markers]\ntokio = yes\n")
    assert bound(unchanged(shim, [rust.build("debian")["serve"]], {"policy": policy}))


def test_by_the_tables_where_code_must_not_be_written(shim):
    program = rust.stripped("debian")["mixed"]
    run = unchanged(shim, [program, *SCENES], wrapper=[harness.program("automatic/no_exec")])
    assert bound(run, "got") == rust.symbols(rust.build("debian")["mixed"])["poll"]
    assert all(m["reason"] for m in markers(run))


def test_a_library_with_tokio_that_comes_late(shim):
    library = rust.stripped("debian")["liblate.so"]
    opens = f"import ctypes; play = ctypes.CDLL({str(library)!r}).late_play; print(play(), play())"
    run = unchanged(shim, ["/usr/bin/python3", "-c", opens])
    assert run.stdout == b"60 60\n"
    assert bound(run) == rust.symbols(rust.build("debian")["liblate.so"])["poll"]
    assert {m["module"] for m in markers(run)} == {str(library)}


def test_a_library_of_an_unknown_layout_that_comes_late(shim):
    flags = ["-g", "-O1", "-Wall", "-Wextra", "-fPIC", "-shared", '-DVERSION="1.9.0"']
    library = harness.compile_to(rust.OUT / "libunknown.so", [harness.PROGRAMS / "tokio_unknown.c"], flags)
    both = f"import ctypes; [ctypes.CDLL(l) for l in ({str(library)!r}, {str(rust.stripped('debian')['liblate.so'])!r})]; print(1)"
    run = unchanged(shim, ["/usr/bin/python3", "-c", both])
    told = [m["reason"] for m in markers(run) if not m["bound"]]
    assert told == ["Tokio 1.9.0 in libunknown.so: unknown layout, or no tasks: no table of one was found"]
    assert {Path(m["module"]).name for m in markers(run) if m["bound"]} == {"liblate.so"}


def test_without_tokio_it_says_so(shim):
    run = unchanged(shim, ["/usr/bin/python3", "-c", "import json, sqlite3, ctypes; print(1)"])
    assert [(m["bound"], m["reason"]) for m in markers(run)] == [(False, "no Tokio in the modules loaded so far")]


@pytest.mark.parametrize("version", ["1.9.0", "0.2.25"])
def test_an_unknown_layout_is_told_and_nothing_is_bound(shim, version):
    program = harness.compile_to(rust.OUT / f"unknown-{version}", [harness.PROGRAMS / "tokio_unknown.c"],
                                 ["-g", "-O1", "-Wall", "-Wextra", f'-DVERSION="{version}"'])
    run = unchanged(shim, [program])
    told = f"Tokio {version} in {program.name}: unknown layout, or no tasks: no table of one was found"
    assert [(m["bound"], m["reason"]) for m in markers(run)] == [(False, told)]


@pytest.mark.soak
@pytest.mark.parametrize("program", ["serve", "mixed"])
def test_a_hundred_runs(shim, program):
    command = [rust.stripped("debian")[program], *(SCENES if program == "mixed" else [])]
    for _ in range(100):
        unchanged(shim, command)


# ---- counting ----


def tasks(run):
    return run.report["tasks"]


def types(run):
    """[(begun, ended, polls)] of the types that had a task."""
    return sorted((t["started"], t["ended"], t["polls"]) for t in tasks(run)["types"] if t["started"])


def totals(rows):
    return [sum(column) for column in zip(*rows)]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", COMPILERS)
def test_twenty_tasks_begin_and_end(shim, name, form):
    run = unchanged(shim, [FORMS[form](name)["serve"]])
    assert (tasks(run)["started"], tasks(run)["ended"]) == (20, 20)
    assert not run.violations("FA701") and not run.violations("FA603") and not run.violations("FA702")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", COMPILERS)
def test_polls_are_those_that_the_tasks_count(shim, name, form):
    run = unchanged(shim, [FORMS[form](name, counted=True)["serve"]])
    own = [*rust.counts(run.stderr), (2, 2, 2)]  # the runtime's own: one for each worker thread
    assert types(run) == sorted(own)
    assert [tasks(run)[k] for k in ("started", "ended", "polls")] == totals(own)


# What else the runtime polls: an aborted task once more, to end it.
MORE_POLLS = {"aborted": 7}


@pytest.mark.parametrize("name", COMPILERS)
@pytest.mark.parametrize("scene", SCENES)
def test_tasks_of_a_scene(shim, name, scene):
    run = unchanged(shim, [rust.stripped(name, counted=True)["mixed"], scene])
    own = [(begun, ended, polls + MORE_POLLS.get(scene, 0)) for begun, ended, polls in rust.counts(run.stderr)]
    assert [tasks(run)[k] for k in ("started", "ended", "polls")] == totals(own)
    if scene != "wide":  # two types of one kind
        assert types(run) == own


def test_tasks_through_the_tables(shim):
    run = unchanged(shim, [rust.stripped("debian", counted=True)["mixed"], "set", "local"],
                    wrapper=[harness.program("automatic/no_exec")])
    assert types(run) == rust.counts(run.stderr)


def test_tasks_inside_frames(shim):
    run = unchanged(shim, [rust.build("debian", counted=True)["mixed"], "game"], {**PRESET, "frame-scope": "game_frame"})
    assert run.report["frames"]["count"] == 60
    assert types(run) == rust.counts(run.stderr) == [(60, 60, 120)]
