"""Markers in libraries that come and go: bound before the library's constructors run, unbound when it is closed, bound
again wherever it comes next; the counts are exact each time. And dlopen itself stays what it was for its caller."""
import re
import shutil
import subprocess

import pytest

import harness

SOURCE = harness.PROGRAMS / "automatic"
FOLDER = harness.OUT / "automatic" / "late_modules"
FLAGS = ["-g", "-O1", "-fno-builtin", "-fPIC", "-shared", "-Wall", "-Wextra"]


def plug(name, *defined, flags=(), libs=()):
    """A plugin with what `defined` says of plug.c."""
    return harness.compile_to(FOLDER / name, [SOURCE / "plug.c"], [*FLAGS, *(f"-D{d}" for d in defined), *flags], libs)


def program(name="plugs", libs=()):
    return harness.compile_to(FOLDER / name, [SOURCE / "plugs.c"],
                              ["-g", "-O1", "-fno-builtin", "-rdynamic", "-pthread", "-Wall", "-Wextra", f"-I{harness.PROGRAMS}",
                               "-Wl,--no-as-needed"], libs)


def frame_markers(run):
    return [m for m in run.report["markers"] if m["kind"] in ("frame", "frame_scope", "frame-scope")]


def functions(site):
    return [frame.get("function") for frame in site["stack"]]


def ticks(run):
    return int(re.search(rb"(\d+) ticks", run.stdout).group(1))


def both(shim, command, options, env=None):
    """Without us and with us: the same."""
    plain = harness.plain(command, env=env, cwd=shim.folder)
    run = shim.run(command, options, env=env, expect=None)
    assert (run.stdout, run.stderr, run.status) == (plain.stdout, plain.stderr, plain.status)
    assert run.status == 0
    return run


def assert_exact(run, calls=None):
    calls = ticks(run) if calls is None else calls
    found = frame_markers(run)
    assert sum(m["calls"] for m in found) == calls, [(m["name"], m["module"], m["calls"], m["reason"]) for m in found]
    assert {m["binding"] for m in found} == {"patch"}


def exact(shim, kind, plugins, spec="plugin_tick", key="frame", env=None, binary=None):
    run = both(shim, [binary or program(), kind, *plugins], {key: f"{spec}@*"}, env)
    assert_exact(run)
    return run


SPECS = ["plugin_tick", "plugin_*", "plug*!plugin_tick", "*/late_modules/plug*!plug*tick"]


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("kind", ["now", "lazy", "global", "deep", "elsewhere"])
def test_libraries_come_and_go(shim, kind, spec):
    run = exact(shim, kind, [plug("plug_init.so", "INIT")], spec)
    assert ticks(run) == 5 * 12 if kind == "elsewhere" else 3 * 12
    assert run.report["frames"]["count"] == ticks(run)


@pytest.mark.parametrize("key", ["frame", "frame-scope"])
def test_many_times(shim, key):
    run = exact(shim, "many", [plug("plug_init.so", "INIT"), plug("plug_padded.so", "INIT", "PADDED")], key=key)
    assert ticks(run) == 150 * (12 + 22) and run.report["frames"]["count"] == ticks(run)
    assert not run.report["losses"]["reasons"], run.report["losses"]


def test_a_destructor_is_counted(shim):
    run = exact(shim, "now", [plug("plug_fini.so", "INIT", "FINI")])
    assert ticks(run) == 3 * 13


def one_and_two():
    """Two builds of the same layout."""
    return [plug("plug_one.so", 'NAME="one"'), plug("plug_two.so", 'NAME="two"')]


def test_twins_at_the_same_place(shim):
    """One after the other at the same address: each has its own count, and its own sites."""
    run = exact(shim, "now", one_and_two())
    sites = {}
    for site in run.sites("plugin_tick"):
        name = site["stack"][0]["module"].rsplit("/", 1)[-1]
        sites[name] = sites.get(name, 0) + site["allocs"]
    assert sites == {"plug_one.so": 30, "plug_two.so": 60}
    by_module = {m["module"].rsplit("/", 1)[-1]: m["calls"] for m in frame_markers(run)}
    assert by_module == {"plug_one.so": 30, "plug_two.so": 60}


def test_twins_together(shim):
    run = exact(shim, "together", [*one_and_two(), plug("plug_padded.so", "INIT", "PADDED")])
    by_module = {m["module"].rsplit("/", 1)[-1]: m["calls"] for m in frame_markers(run)}
    assert by_module == {"plug_one.so": 30, "plug_two.so": 60, "plug_padded.so": 92}


def test_twins_by_their_caller(shim):
    """One caller's address is two functions in turn: each has its own count, though no path is walked."""
    run = both(shim, [program(), "now", *one_and_two()], {"stacks": "caller"})
    sites = {s["stack"][0]["module"].rsplit("/", 1)[-1]: s["allocs"] for s in run.sites("plugin_tick")}
    assert sites == {"plug_one.so": 30, "plug_two.so": 60}


def test_one_of_two_libraries(shim):
    run = both(shim, [program(), "together", *one_and_two()], {"frame": "plug_two!plugin_tick"})
    assert [m["calls"] for m in frame_markers(run)] == [60]


def test_opened_twice_and_kept(shim):
    assert ticks(exact(shim, "counted", [plug("plug_init.so", "INIT")])) == 2 + 30


def test_other_threads_run(shim):
    plugins = [plug("plug_init.so", "INIT"), *(plug(f"plug_thread{i}.so", "INIT") for i in range(1, 4))]
    run = exact(shim, "threads", plugins)
    assert ticks(run) == 2 + 20000 + 3 * 25 * 12


@pytest.mark.parametrize("size", ["small", "large"])
def test_a_cancelled_thread_opens_it(shim, size):
    """Neither the marker's names nor the search for what jumps into its function end the thread, whose locks would stay held."""
    large = ["LARGE"] if size == "large" else []
    assert ticks(exact(shim, "cancelled", [plug(f"plug_{size}.so", "INIT", *large)])) == 3 * 12


def test_another_thread_is_inside(shim):
    """A stub is written on the page of the one that is being run."""
    run = exact(shim, "inside", [plug("plug_init.so", "INIT"), plug("plug_thread1.so", "INIT")])
    assert ticks(run) == 100 * (2 + 2 * 20000 + 12 * 2)


def test_a_constructor_opens_another(shim):
    run = exact(shim, "now", [plug("plug_outer.so", "INIT", "INNER")], env={"INNER": plug("plug_inner.so", "INIT")})
    # The outer's own two and ten, three times; the inner's constructor once (it stays open), five calls each time.
    assert ticks(run) == 3 * 12 + 2 + 15


@pytest.mark.xfail(strict=True, reason="constructors of the program's own libraries run before the shim's, which binds")
def test_a_library_of_the_program_opens_another_before_main(shim):
    outer = plug("libouter.so", "INIT", "INNER")
    binary = program("plugs_linked", [outer, f"-Wl,-rpath,{FOLDER}"])
    run = exact(shim, "nothing", [], env={"INNER": plug("plug_inner.so", "INIT")}, binary=binary)
    assert ticks(run) == 2 + 2 + 5


def test_a_namespace_of_its_own(shim):
    """Its libraries are not looked through; they work as without us, and the marker says that nothing was found."""
    run = both(shim, [program(), "namespace", plug("plug_plain.so")], {"frame": "plugin_tick@*"})
    found = frame_markers(run)
    assert ticks(run) == 30 and len(found) == 1
    assert found[0]["calls"] == 30 or not found[0]["bound"] and found[0]["reason"]


def test_ifuncs_are_told(shim):
    """What is marked is the function in use; the name that chooses it may be refused, never guessed."""
    plugin = plug("plug_chosen.so", "INIT", "CHOSEN")
    run = both(shim, [program(), "chosen", plugin], {"frame": "plugin_choice@*"})
    assert ticks(run) == 3 * 12 and sum(m["calls"] for m in frame_markers(run)) == 30
    run = both(shim, [program(), "chosen", plugin], {"frame": "plugin_chosen@*"})
    found = frame_markers(run)
    assert sum(m["calls"] for m in found) == 30 or not any(m["bound"] for m in found) and all(m["reason"] for m in found)


def test_the_callers_own_search_path(shim):
    inner = plug("search/found_by_runpath.so")
    outer = plug("plug_search.so", "SEARCH", flags=["-Wl,-rpath,$ORIGIN/search", "-Wl,--enable-new-dtags"])
    assert inner.parent == FOLDER / "search"
    run = exact(shim, "search", [outer])
    assert b"found by the plugin" in run.stdout and b"cannot open shared object file" in run.stdout and ticks(run) == 10


def test_a_dependency_beside_the_plugin(shim):
    inner = plug("search/libbeside.so", "INIT", flags=["-Wl,-soname,libbeside.so"])
    outer = harness.compile_to(FOLDER / "plug_needs.so", [SOURCE / "tick.c"],
                               [*FLAGS, "-Dplugin_tick=outer_tick", "-Wl,-rpath,$ORIGIN/search", "-Wl,--enable-new-dtags",
                                "-Wl,--no-as-needed"], [inner])
    # plugin_tick is found in the dependency: its constructor's two calls and ten, three times.
    assert ticks(exact(shim, "now", [outer])) == 36


def test_what_cannot_be_opened_fails_the_same_way(shim):
    run = exact(shim, "refused", [plug("plug_missing.so", "INIT", "MISSING")])
    assert b"undefined symbol: nobody_has_this" in run.stdout and b"invalid ELF header" in run.stdout
    assert ticks(run) == 12


@pytest.mark.parametrize("twin", ["plug_padded.so", "plug_two.so"])
def test_a_file_that_is_replaced(shim, twin):
    one, two = one_and_two()
    other = plug(twin, "INIT", "PADDED") if "padded" in twin else two
    run = exact(shim, "reloaded", [one, other])
    assert ticks(run) == 40 + (4 if "padded" in twin else 0)


def test_a_file_that_is_replaced_under_its_build_id(shim):
    """Other code by the same name, at the same place, with the same build-id: its paths go by its own unwind tables."""
    same = ["-Wl,--build-id=0x0123456789abcdef"]
    one, padded = plug("same_one.so", flags=same), plug("same_padded.so", "INIT", "PADDED", flags=same)
    run = both(shim, [program(), "reloaded", one, padded], None)
    sites = [s for s in run.report["sites"] if (s["stack"][0].get("module") or "").endswith("/reloaded.so")]
    paths = [(s["allocs"], functions(s)) for s in sites]
    assert sum(allocs for allocs, _ in paths) == ticks(run) == 44
    assert all("main" in names for _, names in paths), paths
    assert sorted(allocs for allocs, names in paths if names[1:4] == ["tick", "kind_reloaded", "main"]) == [20, 20], paths


@pytest.mark.parametrize("name", ["./here.so", "./sub/../here.so"])
@pytest.mark.parametrize("build_id", ["sha1", "none"])
def test_a_plugin_by_a_name_from_the_current_folder(shim, build_id, name):
    """Its functions have their lines in a report that is made elsewhere; while others come and go it is one module."""
    (shim.folder / "sub").mkdir()
    shutil.copy(plug(f"relative_{build_id}.so", flags=[f"-Wl,--build-id={build_id}"]), shim.folder / "here.so")
    run = both(shim, [program(), "stays", name, *one_and_two(), *one_and_two()], None)
    made = [site for site in run.report["sites"] if functions(site)[0] == "plugin_tick" and
            site["stack"][0]["module"].endswith("here.so")]
    assert made and all(site["stack"][0]["file"].endswith("plug.c") for site in made)
    assert [site["allocs"] for site in made] == [40] and ticks(run) == 80


def test_children_count_for_nobody(shim):
    run = both(shim, [program(), "fork", plug("plug_init.so", "INIT"), plug("plug_plain.so")], {"frame": "plugin_tick@*"})
    assert_exact(run, 2 + 20)


def test_a_library_kept_to_the_end(shim):
    """Its destructor runs at exit, when the recording may be closed: what it calls need not count."""
    run = both(shim, [program(), "kept", plug("plug_fini.so", "INIT", "FINI")], {"frame": "plugin_tick@*"})
    assert sum(m["calls"] for m in frame_markers(run)) in (12, 13)


def callback():
    """A library that calls back."""
    return harness.program("calls_back", shared=True)


def closed(shim, kind, *libraries, options=None):
    """Runs closed_library. Returns the sites of what was called back: through the library, and through no module's code."""
    run = shim.run([harness.program("closed_library"), kind, callback(), *libraries], options, expect=None)
    if run.status == 77:
        pytest.skip("the closed library's place cannot be had")
    assert run.status == 0, (harness.status_text(run.status), run.stderr)
    sites = run.sites("work")
    own = [s for s in sites if s["stack"][1].get("module")]
    assert all(s["stack"][1]["module"].endswith("/calls_back.so") for s in own), sites
    return run, own, [s for s in sites if s not in own]


def losses(run, text):
    return sum(int(reason.split()[0]) for reason in run.report["losses"]["reasons"] if text in reason)


@pytest.mark.parametrize("kind, lost", [("pointer", 0), ("none", 1)])
def test_a_path_that_ends_at_generated_code_is_told(shim, kind, lost):
    run = shim.run([harness.program("generated"), kind])
    [site] = run.sites("work")
    assert site["allocs"] == 100 and ("main" in functions(site)) != bool(lost)
    assert losses(run, "end early") == lost


@pytest.mark.parametrize("count", [100, 1100])
def test_modules_beyond_the_bound_are_told(shim, count):
    """There are 1,024 entries; some have the program and what it is linked with."""
    plugin = plug("one_of_many.so", flags=["-Wl,--build-id=none"])
    for i in range(count):
        shutil.copy(plugin, shim.folder / f"{i}.so")
    run = shim.run([harness.program("many_modules"), shim.folder, count])
    beyond = losses(run, "modules beyond the bound")
    assert beyond == 0 if count == 100 else 76 < beyond < 90
    assert sum(site["allocs"] for site in run.report["sites"] if site["stack"] and functions(site)[0] == "plugin_tick") == 10 * (count - beyond)
    assert (losses(run, "end early") > 0) == (beyond > 0)


def test_a_library_that_is_back_is_not_unloaded(shim):
    one, two = one_and_two()
    run = both(shim, [program(), "returns", one, two], None)
    dump = subprocess.run([harness.FA_REPORT, "dump", run.recording], capture_output=True, text=True, check=True).stdout
    told = {name: [line.endswith(", unloaded") for line in dump.splitlines() if line.startswith("module") and str(name) in line]
            for name in (one, two)}
    assert not all(told[one]) and told[two] and all(told[two])


@pytest.mark.parametrize("kind", ["same", "other", "page"])
def test_generated_code_where_a_library_was(shim, kind):
    """The closed library's unwind tables say nothing of it: its frame pointer leads on to main."""
    _, own, generated = closed(shim, kind)
    assert [s["allocs"] for s in own] == [s["allocs"] for s in generated] == [4], (own, generated)
    for site in own + generated:
        assert functions(site)[2:5] == ["run", "generate", "main"], site


def test_a_library_comes_back_where_other_code_ran(shim):
    """What ran there meanwhile stays apart from it, by answers of the cache that are all right."""
    large = harness.compile_to(FOLDER / "large.so", [harness.PROGRAMS / "calls_back.c"], [*FLAGS, "-DLARGE"])
    run, own, between = closed(shim, "again", large, options={"stack-check": 1})
    assert sum(s["allocs"] for s in between) == 7
    assert [(s["allocs"], functions(s)[1:5]) for s in own] == [(104, ["enter", "run", "come_back", "main"])], own
    assert run.report["call_paths"]["wrong"] == 0


@pytest.mark.parametrize("kind", ["plain", "hard", "closing"])
def test_malloc_does_not_wait_for_who_looks_at_modules(shim, kind):
    """A thread inside dl_iterate_phdr may wait for a lock whose holder allocates: the program ends, as it does without us."""
    run = shim.run([harness.program("looks_at_modules"), kind, callback()], {"stacks": "full"})
    callers = ["meanwhile", *["below_by_rbx"] * (kind == "hard"), "allocates"]
    assert [functions(s)[:len(callers)] for s in run.sites("meanwhile")] == [callers]


@pytest.mark.parametrize("follow", [0, 1])
def test_children_while_others_allocate_through_generated_code(shim, follow):
    """Another thread may have been looking at the modules when the fork came: the child, where it is not, looks at them and
    opens a library all the same."""
    run = shim.run([harness.program("fork_in_generated"), callback(), 60], {"follow": follow}, expect=None)
    if run.status == 77:
        pytest.skip("no code may be made here")
    assert (run.status, run.stdout) == (0, b"0\n"), run.stderr
