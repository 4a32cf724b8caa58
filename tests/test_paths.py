"""Call paths, judged by libunwind: tests/paths/checker.c runs core/path inside real programs and compares every answer."""
import re
import shutil
import struct
import subprocess
from collections import Counter

import pytest

import harness
import test_golden

PATHS = harness.TESTS / "paths"
CORE = [harness.ROOT / "core/base.c", harness.ROOT / "core/library.c", *sorted((harness.ROOT / "core/path").glob("*.c"))]
LINE = re.compile(r"compared (\d+) differ (\d+) short (\d+) long (\d+) hits (\d+) captures (\d+) wrong (\d+) failed (\d+)")
NAMES = ["compared", "differ", "short", "long", "hits", "captures", "wrong", "failed"]


@pytest.fixture(scope="module")
def checker():
    return harness.compile_to(harness.OUT / "pathcheck.so", [PATHS / "checker.c", *CORE],
                              ["-g", "-O2", "-fPIC", "-shared", "-fno-omit-frame-pointer", "-fno-optimize-sibling-calls", "-fno-builtin",
                               "-fvisibility=hidden", "-ftls-model=initial-exec", f"-I{harness.ROOT}", "-pthread"],
                              ["-ldl", "-lunwind"], depends=(harness.ROOT / "core").glob("**/*.h"))


def judged(checker, folder, command, every=1, **env):
    """The sums of what the checker said in the processes of one command."""
    out = folder / "checked"
    out.unlink(missing_ok=True)
    done = harness.plain(command, env={"LD_PRELOAD": checker, "PATHCHECK_OUT": out, "PATHCHECK_EVERY": every, "HOME": folder, **env},
                         cwd=folder, timeout=280)
    assert done.status == 0, (done.status, done.stderr[-500:])
    text = out.read_text()
    found = Counter()
    for numbers in LINE.findall(text):
        found.update(dict(zip(NAMES, map(int, numbers))))
    assert found["compared"], text
    for name in ("differ", "short", "long", "wrong"):
        assert not found[name], (command, dict(found), text[:2000])
    return found


def places(folder):
    """Two libraries with the same addresses and other frames."""
    return [harness.compile_to(folder / f"place{pad}.so", [PATHS / "place.c"], ["-shared", "-fPIC", f"-DPAD={pad}"]) for pad in (0, 1)]


def deceiver(compiler, flags):
    if not shutil.which(compiler):
        pytest.skip(f"{compiler} is not installed")
    name = "deceive-" + "-".join([compiler.rstrip("+"), *(f.lstrip("-") for f in flags)])
    return harness.compile_to(harness.OUT / name, [PATHS / "deceive.cpp"], ["-std=gnu++17", "-g", "-w", *flags], ["-ldl", "-pthread"], compiler)


FLAGS = [["-O0"], ["-O1"], ["-O2"], ["-O3"], ["-Os"], ["-O2", "-fno-omit-frame-pointer"], ["-O1", "-fomit-frame-pointer"],
         ["-O2", "-fcf-protection=none", "-fno-plt", "-no-pie"], ["-O2", "-fstack-protector-all"]]


@pytest.mark.parametrize("compiler", ["g++", "clang++"])
@pytest.mark.parametrize("flags", FLAGS, ids=" ".join)
def test_nothing_deceives_it(checker, tmp_path, compiler, flags):
    found = judged(checker, tmp_path, [deceiver(compiler, flags), "3000", *places(tmp_path)])
    assert found["compared"] > 20000 and found["hits"] > found["compared"] // 4


@pytest.mark.parametrize("flags", [["-O0"], ["-O2"], ["-O2", "-fno-omit-frame-pointer"]], ids=" ".join)
@pytest.mark.parametrize("depth", [3, 9, 20])
def test_nothing_deceives_it_where_paths_are_cut(checker, tmp_path, flags, depth):
    """What is cut is told by its innermost frames, at any depth of the stack: tests/c/test_path.c says that it is found there."""
    found = judged(checker, tmp_path, [deceiver("g++", flags), "3000", *places(tmp_path)], PATHCHECK_DEPTH=depth)
    assert found["compared"] > 20000 and found["hits"] > found["compared"] // 4


RUST = """use std::collections::{BTreeMap, HashMap};
fn grow(n: u32, map: &mut BTreeMap<String, Vec<u32>>) -> u32 {
    map.entry(format!("{}-{}", n, map.len() % 100)).or_default().push(n);
    if n < 2 { n } else { grow(n - 1, map) + grow(n - 2, map) }
}
fn main() {
    let mut map = BTreeMap::new();
    let sum = grow(20, &mut map);
    let threads: Vec<_> = (0..4u64).map(|i| std::thread::spawn(move || {
        let mut table: HashMap<String, Box<u64>> = HashMap::new();
        for k in 0..20000u64 { table.insert(format!("{}", k * i % 997), Box::new(k)); }
        table.len()
    })).collect();
    let total: usize = threads.into_iter().map(|t| t.join().unwrap()).sum();
    println!("{} {} {}", sum, map.len(), total);
}
"""

FIBERS = """#include <boost/context/fiber.hpp>
#include <string>
#include <vector>
namespace ctx = boost::context;
static int work(int depth, std::vector<std::string> &all) {
	all.push_back(std::string(30 + depth, 'x'));
	int below = depth ? work(depth - 1, all) : 0;
	all.push_back(std::string(40 + below, 'y'));
	return below + 1;
}
int main() {
	for (int round = 0; round < 400; round++) {
		ctx::fiber fiber([&](ctx::fiber &&main) {
			for (int i = 0; i < 5; i++) {
				std::vector<std::string> all;
				work(i + round % 7, all);
				main = std::move(main).resume();
			}
			return std::move(main);
		});
		for (int i = 0; i < 6 && fiber; i++) {
			std::vector<std::string> all;
			work(i, all);
			fiber = std::move(fiber).resume();
		}
	}
}
"""

PYTHON = """words = {}
for i in range(60000):
    words.setdefault("word %d" % (i * 7919 % 5000), []).append(str(i) * 3)
    if i % 7 == 0:
        words.pop("word %d" % (i % 5000), None)
def nested(n): return [nested(n - 1)] * 2 if n else [str(n)]
for n in range(12): nested(n)
"""

TEMPLATES = "#include <map>\n#include <string>\n" + "".join(
    f"template<int N> struct s{i} {{ std::map<int, std::string> m; int f(int x) {{ m[x] = std::to_string(x + N); return m.size(); }} }};\n"
    f"int g{i}(int x) {{ return s{i}<{i}>().f(x); }}\n" for i in range(3))


def made(folder, name, text, *command, libs=()):
    if not shutil.which(command[0]):
        pytest.skip(f"{command[0]} is not installed")
    (folder / name).write_text(text)
    done = subprocess.run([*command, folder / name, "-o", folder / "program", *libs], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"{command[0]} cannot build it: {done.stderr[-300:]}")
    return folder / "program"


def test_rust(checker, tmp_path):
    judged(checker, tmp_path, [made(tmp_path, "grow.rs", RUST, "rustc", "-O")])


def test_boost_coroutines(checker, tmp_path):
    judged(checker, tmp_path, [made(tmp_path, "fibers.cpp", FIBERS, "g++", "-O2", libs=["-lboost_context"])])


def compiler_command(folder):
    (folder / "templates.cpp").write_text(TEMPLATES)
    subprocess.run(["g++", "-E", "-o", folder / "templates.ii", folder / "templates.cpp"], check=True)
    cc1plus = subprocess.run(["g++", "-print-prog-name=cc1plus"], capture_output=True, text=True).stdout.strip()
    return [cc1plus, "-quiet", "-O1", "-o", "/dev/null", folder / "templates.ii"]


def test_interpreter(checker, tmp_path):
    judged(checker, tmp_path, ["/usr/bin/python3", "-c", PYTHON], every=5, PYTHONMALLOC="malloc")


def test_generated_code_ends_where_libunwind_ends(checker, tmp_path):
    if not shutil.which("node"):
        pytest.skip("node is not installed")
    judged(checker, tmp_path, ["node", "-e", "let a=[];for(let i=0;i<100000;i++)a.push({x:'s'+i});console.log(JSON.stringify(a).length)"], every=5)


@pytest.mark.soak
def test_a_million_comparisons(checker, tmp_path):
    """X1 of the budgets: none is wrong, over kinds of programs that walk their stacks differently."""
    commands = {"compiler": (compiler_command(tmp_path), 1, {}),
                "interpreter": (["/usr/bin/python3", "-c", PYTHON], 2, {"PYTHONMALLOC": "malloc"}),
                "ucontext": ([deceiver("g++", ["-O2"]), "30000", *places(tmp_path)], 1, {})}
    if shutil.which("rustc"):
        commands["rust"] = ([made(tmp_path, "grow.rs", RUST, "rustc", "-O")], 1, {})
    if shutil.which("godot3-server"):
        commands["engine"] = (["godot3-server", "--fixed-fps", "60", "--path", harness.TESTS / "targets/godot"], 4,
                              {"SDL_VIDEODRIVER": "dummy", "SDL_AUDIODRIVER": "dummy"})
    total = 0
    for kind, (command, every, env) in commands.items():
        found = judged(checker, tmp_path, command, every, **env)
        print(f"{kind}: {found['compared']} compared, 0 wrong; {found['hits']} hits, {found['captures']} walks")
        total += found["compared"]
    print(f"in all: {total}")
    assert total >= 1000000


def test_the_library_verifies_itself(shim):
    """Every answer of the cache walked again, in the library that people run; the figures reach the report."""
    run = shim.run([deceiver("g++", ["-O2"]), "1500", *places(shim.folder)], options={"stack-check": 1})
    paths = run.report["call_paths"]
    assert run.status == 0 and paths["wrong"] == 0
    assert paths["checked"] > 5000 and paths["checked"] >= paths["hits"] * 0.9 and paths["captured"] > 1000


@pytest.mark.parametrize("kind", ["numbers", "low", "data", "calls", "hole"])
def test_data_is_no_return_address(shim, kind):
    """Code without unwind tables that points at data with rbp: what lies there neither makes a path nor is read as code."""
    command = [harness.program("odd_frames"), kind]
    if kind == "hole":
        command.append(harness.compile_to(harness.OUT / "hole.so", [harness.PROGRAMS / "calls_back.c"],
                                          ["-fPIC", "-shared", "-Wl,-z,separate-code,-z,max-page-size=0x200000"]))
    run = shim.run(command, expect=None)
    if run.status == 77:
        pytest.skip("the linker leaves no hole between segments")
    assert run.status == 0, (harness.status_text(run.status), run.stderr)
    assert [s["allocs"] for s in run.sites("work")] == [1000]
    if kind != "hole": # the loader allocates too
        assert run.report["call_paths"]["captured"] == 1, run.report["call_paths"]


def test_code_without_tables_is_asked_about_once(shim):
    """A call stands before where it returns to, as long as it is there; the kernel, asked again, would say that it cannot be read."""
    run = shim.run([harness.program("no_tables")])
    paths = [[frame.get("function") for frame in site["stack"]] for site in run.sites("work")]
    assert {path.count("through") for path in paths if "main" in path} == set(range(1, 40)) and len(paths) == 39


def test_an_ordinary_function_said_to_be_a_signals(shim):
    """.cfi_signal_frame says where its caller's instruction is, not that registers lie on the stack."""
    run = shim.run([harness.program("odd_frames"), "signal"])
    paths = [(s["allocs"], [frame.get("function") for frame in s["stack"]][:4]) for s in run.sites("work")]
    assert paths == [(1000, ["work", "said_to_be_a_signals", "signals", "main"])]


def test_who_unwinds_has_no_descriptors(shim):
    """A program that closes all of them gets their numbers anew: its own are neither read nor written to."""
    run = shim.run([harness.program("closes_all")])
    paths = [[frame.get("function") for frame in site["stack"]][:3] for site in run.sites("work")]
    assert (run.status, run.stderr) == (0, b"") and paths == [["work", "below_by_rbx", "deep"]] * 31


def test_who_is_verified_again_asks_nobody(shim):
    """The pages of its stack have just been read: that the kernel calls none of them readable changes nothing."""
    run = shim.run([harness.program("rechecked")], options={"stack-check": 1})
    paths = run.report["call_paths"]
    assert [site["allocs"] for site in run.sites("work")] == [1000]
    assert paths["wrong"] == 0 and paths["checked"] >= 900


def test_verification_is_on_by_default(shim):
    run = shim.run([harness.program("known"), *"1 2000 100 5 2 3 2 4 6 mark exit".split()], options={"frame": "frame_mark@*"})
    paths = run.report["call_paths"]
    assert paths["wrong"] == 0 and paths["hits"] / 4096 < paths["checked"] < paths["hits"] / 256


def test_wrong_paths_are_told(shim, tmp_path):
    recording = test_golden.unpack("known-route.fatrace", tmp_path)
    assert b"re-verified were wrong" not in harness.plain([harness.FA_REPORT, "summary", recording]).stdout
    layout = (test_golden.GOLDEN / "layout.txt").read_text()
    at = int(re.search(r"trace_header.stack_wrong (\d+)", layout).group(1))
    data = bytearray(recording.read_bytes())
    data[at:at + 8] = struct.pack("<Q", 3)
    recording.write_bytes(data)
    assert b"3 of" in harness.plain([harness.FA_REPORT, "summary", recording]).stdout
    assert harness.read_report(recording)["call_paths"]["wrong"] == 3
