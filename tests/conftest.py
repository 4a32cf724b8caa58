"""Fixtures of every test, and the two things pytest is told: what `soak` means, and that skips are shown."""
import signal
import subprocess

import pytest

import harness


def pytest_configure(config):
    # Ignored where the suite is a shell's job in the background, and so in all programs under test: some wait for it.
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    config.addinivalue_line("markers", "soak: runs for minutes; deselected unless asked for with -m soak")


def pytest_collection_modifyitems(config, items):
    """Soak tests run only when -m names them; they stay visible as deselected."""
    if "soak" in (config.getoption("-m") or ""):
        return
    soak = [item for item in items if item.get_closest_marker("soak")]
    if soak:
        config.hook.pytest_deselected(items=soak)
        items[:] = [item for item in items if not item.get_closest_marker("soak")]


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
