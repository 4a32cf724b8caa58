"""The recording is a contract: the layout of its structs is pinned, and a recording made long ago still reads the same.

Made anew only when TRACE_VERSION changes, by `python3 tests/golden/make.py`."""
import json
import lzma
import re

import pytest

import harness

GOLDEN = harness.TESTS / "golden"
FORMAT = harness.ROOT / "core/trace/format.h"


def fields():
    """(struct, field) of every struct of format.h, in order."""
    text = re.sub(r"/\*.*?\*/", "", FORMAT.read_text(), flags=re.S)
    for struct, body in re.findall(r"struct (trace_\w+) \{(.*?)\n\};", text, re.S):
        for declaration in body.split(";"):
            words = re.sub(r"\[[^\]]*\]", "", declaration).strip()
            if not words:
                continue
            names = [words.split(",")[0].split()[-1], *(n.strip() for n in words.split(",")[1:])]
            for name in names:
                yield struct, name


def layout():
    """One line for each field: struct, field, offset, size; and the size of each struct."""
    lines, seen = [], set()
    for struct, name in fields():
        if struct not in seen:
            seen.add(struct)
            lines.append(f'printf("{struct} %zu\\n", sizeof(struct {struct}));')
        lines.append(f'printf("{struct}.{name} %zu %zu\\n", offsetof(struct {struct}, {name}), sizeof(((struct {struct} *)0)->{name}));')
    source = harness.OUT / "layout.c"
    source.parent.mkdir(parents=True, exist_ok=True)
    source.write_text('#include <stdio.h>\n#include "core/trace/format.h"\nint main(void) {\n'
                      'printf("version %u\\n", TRACE_VERSION);\n' + "\n".join(lines) + "\nreturn 0; }\n")
    program = harness.compile_to(harness.OUT / "layout", [source], [f"-I{harness.ROOT}"], depends=[FORMAT])
    return harness.plain([program]).stdout.decode()


def test_layout_is_pinned():
    assert layout() == (GOLDEN / "layout.txt").read_text()


def steady(value):
    """A report without what depends on the machine that reads: symbols, paths, and the reader's own words."""
    drop = {"function", "signature", "linkage_name", "file", "line", "inlined", "message", "help", "fingerprint"}
    if isinstance(value, dict):
        return {k: steady(v) for k, v in value.items() if k not in drop}
    if isinstance(value, list):
        return [steady(v) for v in value if not (isinstance(v, dict) and v.get("inlined"))]
    return value


def pinned(report):
    """What of a report is compared: steady, in an order of its own, long runs of frames by their ends."""
    report = steady(report)
    report["violations"].sort(key=lambda v: (v["code"], str(v["born"]["site"]), v["died"] is None, v["count"]))
    for frames in (report["frames"], *report["frames"]["per_thread"]):
        series = frames.get("series", [])
        frames["series"] = [len(series), *series[:10], *series[-10:]]
    return report


def unpack(name, folder):
    path = folder / name
    path.write_bytes(lzma.decompress((GOLDEN / f"{name}.xz").read_bytes()))
    return path


@pytest.mark.parametrize("name", sorted(p.name[:-3] for p in GOLDEN.glob("*.fatrace.xz")))
def test_reads_as_it_did(built, tmp_path, name):
    report = pinned(harness.read_report(unpack(name, tmp_path)))
    assert report == json.loads((GOLDEN / f"{name}.json").read_text())


def test_there_are_golden_recordings():
    assert len(list(GOLDEN.glob("*.fatrace.xz"))) >= 2


@pytest.mark.parametrize("keep", [0, 1, 7, 8, 100, 4095, 4096, 8192, 20480, 24576, 40960, 100000, 0.5, 0.9])
def test_truncated_recordings_never_crash_the_reader(built, tmp_path, keep):
    whole = unpack("known-route.fatrace", tmp_path).read_bytes()
    cut = tmp_path / "cut.fatrace"
    cut.write_bytes(whole[:int(len(whole) * keep) if isinstance(keep, float) else keep])
    for command in (["summary"], ["summary", "--format", "json"], ["dump"], ["violations"], ["sites"]):
        done = harness.plain([harness.FA_REPORT, command[0], cut, *command[1:]], timeout=20)
        assert done.status in (0, 2), (command, done.status, done.stderr)
        assert done.status == 0 or done.stderr.count(b"\n") == 1


def test_damaged_recordings_never_crash_the_reader(built, tmp_path):
    whole = bytearray(unpack("known-route.fatrace", tmp_path).read_bytes())
    state = 1
    for round_number in range(60):
        damaged = bytearray(whole)
        for _ in range(1 + round_number):
            state = (state * 6364136223846793005 + 1442695040888963407) % 2 ** 64
            # Half of the damage goes to header and chunk table, where it hurts most.
            damaged[(state >> 20) % (20480 if state >> 63 else len(damaged))] = state >> 50 & 255
        path = tmp_path / "damaged.fatrace"
        path.write_bytes(damaged)
        done = harness.plain([harness.FA_REPORT, "summary", path, "--format", "json"], timeout=20)
        assert done.status in (0, 2), (round_number, done.status, done.stderr[-500:])
        if done.status == 0:
            json.loads(done.stdout)
