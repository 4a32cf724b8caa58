"""Event loops under the presets libuv and epoll: a frame for each turn, none missed, none twice; output unchanged."""
import re
import shutil
import subprocess
from pathlib import Path

import pytest

import harness

NODE = shutil.which("node")
TIMERS = """
let fired = 0, resolved = 0, sum = 0;
for (let i = 0; i < 100000; i++) {
  setTimeout(() => { fired++; sum = (sum * 31 + i) % 1000003; }, i % 50);
  Promise.resolve(i).then(async v => { await null; resolved += v % 7; });
}
process.on('exit', () => console.log(fired, resolved, sum > 0));
"""


def has_symbols():
    return NODE and b"uv__run_timers" in subprocess.run(["nm", Path(NODE).resolve()], capture_output=True).stdout


@pytest.mark.parametrize("preset", ["libuv", "epoll"])
def test_turns_of_a_shared_libuv(shim, preset):
    if not Path("/usr/include/uv.h").exists():
        pytest.skip("libuv is not installed (package libuv1-dev)")
    run = shim.run([harness.program("async/turns", libs=("-luv",))], {"preset": preset})
    turns, timers, works = map(int, re.findall(rb"\d+", run.stdout))
    assert (timers, works) == (300, 30)
    assert run.report["frames"]["count"] == turns
    if preset == "libuv":
        assert {t["role"] for t in run.report["threads"] if t["name"] == "libuv-worker"} <= {"worker"}


@pytest.mark.parametrize("preset", ["libuv", "epoll"])
def test_node_with_100000_timers_and_promises(shim, tmp_path, preset):
    """Where node has its symbols, its turns are counted at the function that waits in each as well."""
    if not NODE:
        pytest.skip("node is not installed (package nodejs)")
    script, policy = tmp_path / "timers.js", tmp_path / "policy.ini"
    script.write_text(TIMERS)
    policy.write_text("[region polls]\nscope = *!uv__io_poll\n" if has_symbols() else "")
    run = shim.run([NODE, script], {"preset": preset, "policy": policy})
    assert run.stdout == harness.plain([NODE, script]).stdout and run.stdout.startswith(b"100000 ")
    main = next(t for t in run.report["threads"] if t["tid"] == run.report["frames"]["thread"])
    assert main["main"] and run.report["frames"]["count"] > 0
    if has_symbols():
        polls, = [m for m in run.report["markers"] if m["kind"] == "region" and "uv__io_poll" in m["name"]]
        waits = sum(m["calls"] for m in run.report["markers"] if m["kind"] == "frame")
        assert run.report["frames"]["count"] == waits <= polls["calls"]  # other threads have loops of their own


def test_node_brings_libuv_with_its_symbols(shim):
    if not NODE:
        pytest.skip("node is not installed (package nodejs)")
    if not has_symbols():
        pytest.skip("this node uses the shared libuv")
    run = shim.run([NODE, "-e", "let n = 0; const t = setInterval(() => ++n == 30 && clearInterval(t), 2); "
                                "require('fs').readFile(process.execPath, () => {})"], {"preset": "libuv"})
    regions = {r["name"]: r["allocs"] for r in run.report["regions"]}
    assert regions["timers"] > 0
    assert {m["name"] for m in run.report["markers"] if m["kind"] == "region" and m["calls"]} >= {"*!uv__run_timers", "*!uv__fs_work"}


def test_neovim_turns(shim, tmp_path):
    """Each uv_run of Neovim's is one turn."""
    if not shutil.which("nvim"):
        pytest.skip("nvim is not installed (package neovim)")
    policy = tmp_path / "policy.ini"
    policy.write_text("[region loop]\nscope = uv_run\n")
    command = ["nvim", "--headless", "-u", "NONE", '+call timer_start(5,{t->0},{"repeat":100})', "+sleep 800m", "+q"]
    run = shim.run(command, {"preset": "libuv", "policy": policy}, env={"HOME": tmp_path})
    calls = {m["name"]: m["calls"] for m in run.report["markers"]}
    assert run.report["frames"]["count"] == calls["uv_run"] > 20
