"""Makes the golden files anew: recordings of programs whose counts are known, what the reader says of them, the layout."""
import json
import lzma
import shutil
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import harness  # noqa: E402
import test_golden  # noqa: E402

RECORDINGS = {
    "known-route.fatrace": ("known", "2 40 30 5 2 3 2 4 6 mark kill", {"mode": "route", "frame": "frame_mark@*"}),
    "known-observe.fatrace": ("known", "1 25 20 3 1 2 1 3 4 sleep exit", {"mode": "observe", "frame": "nanosleep"}),
    "demoted.fatrace": ("escapes", "4000 1000", {"mode": "route", "frame": "frame_mark"}),
}


def main():
    # A folder whose name says nothing of the machine: paths are part of a recording.
    folder = Path(tempfile.gettempdir()) / "golden"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, (program, arguments, options) in RECORDINGS.items():
        copy = Path(shutil.copy(harness.program(program), folder))
        library = shutil.copy(harness.LIBRARY, folder)
        env = {"LD_PRELOAD": library, "FA_OPTIONS": harness.option_text([*harness.as_pairs(options), ("output", folder / name)])}
        harness.plain([copy, *arguments.split()], env=env, cwd=folder)
        (test_golden.GOLDEN / f"{name}.xz").write_bytes(lzma.compress((folder / name).read_bytes(), preset=9))
        report = test_golden.pinned(harness.read_report(folder / name))
        (test_golden.GOLDEN / f"{name}.json").write_text(json.dumps(report, indent=0, sort_keys=True) + "\n")
    (test_golden.GOLDEN / "layout.txt").write_text(test_golden.layout())
    shutil.rmtree(folder)


main()
