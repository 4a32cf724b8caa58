"""The parts of the bench: each measures some rows and says what they mean for the promises."""
import json
import os
import re
import subprocess

from bench import allocators, programs
from bench.allocators import FULL, NONE, OUT
from bench.measure import Row, rusage_of, spread

MARKED = ["frame=bench_frame"]
HEAPTRACK_ROWS = ("frame", "mixed", "cpp")
WORKLOADS = ("frame", "mixed", "particles", "pair", "batch", "async", "realloc", "cpp")
MIB = 1024 * 1024


def workloads(bench):
    """An allocator that is left on: scopes are marked, verdicts and counters run."""
    names = [name for name in WORKLOADS if bench.wanted(name, "workloads")]
    if names:
        bench.say("workloads: ns an operation, medians")
    for name in names:
        workload(bench, name)


def workload(bench, name):
    command = [OUT / "containers", bench.scale] if name == "cpp" else [OUT / "workloads", name, bench.scale]
    variants = ["glibc", *allocators.peers(), NONE, FULL]
    if name in HEAPTRACK_ROWS and bench.with_heaptrack:
        variants.append("heaptrack")
    row = bench.runner.row(name, command, variants, bench.rounds, MARKED, rare=["heaptrack"])
    for _ in range(0 if name == "cpp" else 3):
        row.add("floor", bench.runner.once([OUT / "floor", name, bench.scale]))
    bench.add_row(row, "workload", "ns")
    fastest = row.fastest(["glibc", *allocators.peers()])
    bench.promise("P2" if name in ("realloc", "cpp") else "P1", f"{name}, against {fastest}", *row.ratio(NONE, fastest))
    if name in HEAPTRACK_ROWS:
        bench.promise("P3", name, *row.ratio(FULL, "glibc"))
    memory(bench, row)


def memory(bench, row):
    """M1, M2 and X1 of a row."""
    if "jemalloc" in row.samples:
        jemalloc = row.median("jemalloc", "rss_kib") / 1024
        bench.promise("M1", row.name, row.median(FULL, "rss_kib") / 1024, must=1.3 * jemalloc + 8, aim=1.1 * jemalloc + 4)
    bench.promise("M2", row.name, row.median(FULL, "recording_bytes") / MIB)
    paths = paths_of(bench.runner.last_recording)
    if paths["checks"]:
        bench.promise("X1", f"{row.name}, {paths['checks']:,} re-verified", paths["wrong"])
    else:
        bench.missing("X1", row.name, "no path was re-verified")


def markers(bench):
    if not bench.wanted("markers"):
        return
    bench.say("markers: ns above the unmarked call")
    policy = bench.runner.folder / "region.ini"
    policy.write_text("[markers]\nframe = bench_frame\n[region r]\nscope = bench_marked\n")
    for what, workload_name, options in (("region entered and left", "marked", [f"policy={policy}"]),
                                         ("await entered", "marked", ["frame=none", "await=bench_marked"]),
                                         ("frame boundary", "boundary", MARKED)):
        row = bench.runner.row(what, [OUT / "workloads", workload_name, bench.scale], ["glibc", NONE, FULL], bench.rounds, options)
        bench.add_row(row, "marker", "ns")
        for variant in (NONE, FULL):
            above = [ours - plain for ours, plain in zip(row.values(variant), row.values("glibc"))]
            bench.promise("S2", f"{what} ({variant})", *spread(above))


def threads(bench):
    if not bench.wanted("threads"):
        return
    bench.say("threads: ns a malloc and free, CPU time")
    rows = {n: Row(f"threads {n}", "printed") for n in (1, 2, 4, 8)}
    for _ in range(bench.rounds): # the counts take turns too: it is they that are compared
        for n, row in rows.items():
            for variant in ("glibc", NONE, FULL):
                row.add(variant, bench.runner.once([OUT / "workloads", f"threads-{n}", bench.scale], variant, MARKED))
    for row in rows.values():
        bench.add_row(row, "threads", "ns")
    for n in (2, 4, 8):
        for variant in (NONE, FULL):
            ratios = [a / b for a, b in zip(rows[n].values(variant), rows[1].values(variant))]
            bench.promise("S3", f"{n} threads on {os.cpu_count()} cores ({variant})", *spread(ratios))


def start(bench):
    if not bench.wanted("start"):
        return
    bench.say("start-up: ms of CPU in true")
    row = bench.runner.row("true", ["/bin/true"], ["glibc", NONE, FULL], bench.rounds * 5, field="cpu_s")
    bench.add_row(row, "start", "s")
    for variant in (NONE, FULL):
        above = [(ours - plain) * 1000 for ours, plain in zip(row.values(variant), row.values("glibc"))]
        bench.promise("S1", variant, *spread(above))


def real_programs(bench):
    kinds = [kind for kind in programs.ALL if bench.wanted(kind, "programs")]
    if kinds:
        bench.say("programs: CPU seconds, medians")
    for kind in kinds:
        folder = bench.runner.folder / kind
        folder.mkdir()
        real_program(bench, programs.ALL[kind](folder, bench.program_size))


def real_program(bench, program):
    if not program.installed:
        bench.missing("P4", program.kind, f"package {program.package} is not installed")
        return
    peers = allocators.peers()
    variants = ["glibc", *(peers if not bench.quick else peers[:1]), NONE, FULL]
    if bench.with_heaptrack:
        variants.append("heaptrack")
    row = bench.runner.row(program.kind, program.command, variants, bench.program_rounds, field="cpu_s", rare=["heaptrack"],
                           env=program.env, drive=program.drive, cores=program.cores)
    bench.add_row(row, "program", "s")
    bench.promise("P4", program.kind, *row.ratio(FULL, "glibc"))
    if not program.scopes and "jemalloc" in row.samples:
        bench.promise("P5", program.kind, *row.ratio(NONE, "jemalloc"))
    memory(bench, row)
    if program.kind == "engine":
        report_on(bench, bench.runner.last_recording, "R1", "engine")


def report_on(bench, recording, promise, what):
    rounds = [rusage_of([allocators.BUILD / "fa-report", "summary", recording]) for _ in range(3)]
    bench.promise(promise, what, *spread([cpu for cpu, _ in rounds]))
    bench.promise(f"{promise} RSS", what, max(rss for _, rss in rounds))


def paths_of(recording):
    """What a recording says of its call-path cache, as numbers."""
    dump = subprocess.run([allocators.BUILD / "fa-report", "dump", recording], capture_output=True, text=True).stdout
    found = re.search(r"call paths: (\d+) unwound, (\d+) from the cache, (\d+) re-verified, (\d+) wrong", dump)
    return dict(zip(("unwound", "cached", "checks", "wrong"), map(int, found.groups())))


def full_level(bench):
    """M3 on the workload with every kind of life, R2 on as many events as are promised (fewer in a quick run)."""
    if not bench.wanted("full-level"):
        return
    bench.say("level full")
    recording = bench.runner.folder / "full.fatrace"
    run = [allocators.BUILD / "fa-run", "--no-report", "--quiet", "--level", "full", "--frame", "bench_frame", "-o", recording]
    pairs = 1e6 if bench.quick else 50e6
    subprocess.run([*run, "--", OUT / "workloads", "mixed", f"{pairs / 8e6:.3f}"], check=True, stdout=subprocess.DEVNULL)
    size = sum(part.stat().st_blocks * 512 for part in bench.runner.folder.glob("full.fatrace*"))
    report = subprocess.run([allocators.BUILD / "fa-report", "summary", "--format", "json", recording], capture_output=True)
    totals = json.loads(report.stdout)["totals"]
    bench.promise("M3", "mixed", size / totals["allocs"])
    report_on(bench, recording, "R2", f"mixed, {(totals['allocs'] + totals['frees']) / 1e6:.0f} M events")


ALL = (workloads, markers, threads, start, real_programs, full_level)
