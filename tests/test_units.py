"""C unit tests of the pure parts: each tests/c/test_*.c with the sources it names in its first comment, `Sources: a.c b.c`,
and where it needs more than libc, `Libs: -lx`. It prints what fails and returns non-zero."""
import re
import subprocess

import pytest

import harness

UNITS = sorted((harness.TESTS / "c").glob("test_*.c"))
FLAGS = ["-g", "-O1", "-Wall", "-Wextra", "-pthread", f"-I{harness.ROOT}", '-DFA_VERSION="test"', "-DFA_DEBUG=1"]
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]

# For files whose comment does not say: sources, libraries.
TABLE = {}


def needs(unit):
    if unit.stem in TABLE:
        return TABLE[unit.stem]
    comment = re.search(r"/\*(.*?)\*/", unit.read_text(), re.S).group(1).replace("\n *", " ")
    sources = re.search(r"[Ss]ources:((?:\s+[\w./-]+\.[cS]\b[,;]?)+)", comment)
    assert sources, f"{unit.name} does not say its sources in its first comment"
    libs = re.search(r"[Ll]ibs:((?:\s+-l\w+)+)", comment)
    return re.findall(r"[\w./-]+\.[cS]\b", sources.group(1)), libs.group(1).split() if libs else []


@pytest.mark.parametrize("unit", UNITS, ids=lambda u: u.stem)
def test_unit(unit):
    sources, libs = needs(unit)
    flags = FLAGS + ([] if any(s.endswith(".S") for s in sources) or "no sanitizer" in unit.read_text() else SANITIZERS)
    headers = [*harness.ROOT.glob("core/**/*.[ch]"), *harness.ROOT.glob("core/**/*.def"), unit.parent / "check.h"]
    binary = harness.compile_to(harness.OUT / "c" / unit.stem, [unit, *(harness.ROOT / s for s in sources)], flags,
                                ["-ldl", *libs], depends=headers)
    done = subprocess.run([binary], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"{done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
