"""Fixtures of every test, and what pytest is told: what `soak` and `alone` mean, and that skips are shown."""
import fcntl
import signal
import subprocess
from contextlib import ExitStack, contextmanager

import pytest

import harness


def pytest_configure(config):
    # Ignored where the suite is a shell's job in the background, and so in all programs under test: some wait for it.
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    config.addinivalue_line("markers", "soak: runs for minutes; deselected unless asked for with -m soak")
    config.addinivalue_line("markers", "alone: what it judges depends on time; no other test runs beside it")


@contextmanager
def held(name, how):
    """Holds a lock that all processes of a run share."""
    harness.OUT.mkdir(parents=True, exist_ok=True)
    with open(harness.OUT / name, "w", encoding="ascii") as file:
        fcntl.flock(file, how)
        yield


@pytest.hookimpl(hookwrapper=True, tryfirst=True)
def pytest_runtest_protocol(item):
    """Who is to be alone waits at the door until those inside have left, and lets nobody in meanwhile."""
    how = fcntl.LOCK_EX if item.get_closest_marker("alone") else fcntl.LOCK_SH
    with ExitStack() as inside:
        with held(".door", fcntl.LOCK_EX):
            inside.enter_context(held(".inside", how))
        yield


def pytest_collection_modifyitems(config, items):
    """Soak tests run only when -m names them; they stay visible as deselected. Files that are alone come last: else one
    process would wait where two can run."""
    if "soak" not in (config.getoption("-m") or ""):
        soak = [item for item in items if item.get_closest_marker("soak")]
        if soak:
            config.hook.pytest_deselected(items=soak)
            getattr(config, "workeroutput", {})["soak"] = len(soak)
            items[:] = [item for item in items if not item.get_closest_marker("soak")]
    items.sort(key=lambda item: item.getparent(pytest.Module).get_closest_marker("alone") is not None)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    """What the processes that run the tests have deselected, the same in each, is said by the one that sums up."""
    stats = node.config.pluginmanager.get_plugin("terminalreporter").stats
    stats.setdefault("deselected", [None] * getattr(node, "workeroutput", {}).get("soak", 0))


def pytest_terminal_summary(terminalreporter):
    """A skipped test says why without being asked: a missing package must not look like a pass."""
    for report in terminalreporter.stats.get("skipped", []):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        terminalreporter.write_line(f"SKIPPED {report.nodeid}: {reason}")


@pytest.fixture(scope="session")
def built():
    """The library and the tools, up to date."""
    done = subprocess.run(["make", "-s", "-j2", f"BUILD={harness.BUILD}"], cwd=harness.ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return harness.BUILD


@pytest.fixture
def shim(built, tmp_path):
    return harness.Shim(tmp_path)
