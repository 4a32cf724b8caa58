"""What the bench leaves behind: JSON with every figure, a Markdown table, a plot, and the README with both.

Table and plot are made from the JSON alone, so `docs/bench.json` and the README can be held against each other.
"""
import json
import os
import platform
import re
import subprocess
import time

from bench.allocators import FULL, NONE, ROOT
from bench.promises import PASS, PROMISES, SHORT, figure

JSON, PLOT, README = ROOT / "docs/bench.json", ROOT / "docs/bench.svg", ROOT / "README.md"
BEGIN, END = "<!-- bench: made by scripts/bench --readme -->", "<!-- /bench -->"
SCHEMA = "framealloc-bench/1"
COLUMNS = ("glibc", "jemalloc", "mimalloc", "tcmalloc", NONE, FULL, "heaptrack", "floor")


def processor():
    """Its name, and what tells one generation from another where that says "AMD EPYC" only."""
    text = open("/proc/cpuinfo").read()
    name, family, model = (re.search(rf"^{key}\s*: (.*)", text, re.M) for key in ("model name", "cpu family", "model"))
    if not (name and family and model):
        return platform.processor()
    return f"{name.group(1)} (family {family.group(1)}, model {model.group(1)})"


def machine(others_cores, slowdown):
    commit = subprocess.run(["git", "-C", ROOT, "describe", "--always", "--dirty"], capture_output=True, text=True).stdout.strip()
    return {"cpu": processor(), "cores": os.cpu_count(), "kernel": platform.release(),
            "commit": commit, "date": time.strftime("%Y-%m-%d"), "others_cores": others_cores, "slowdown": slowdown}


def row_as_dict(row, kind, unit):
    variants = {}
    for variant in row.samples:
        values = row.values(variant)
        variants[variant] = {"median": row.median(variant), "min": min(values), "max": max(values), "runs": len(values),
                             "cpu_s": row.median(variant, "cpu_s"), "wall_s": row.median(variant, "wall_s"),
                             "rss_kib": row.median(variant, "rss_kib"),
                             "recording_bytes": row.median(variant, "recording_bytes")}
        if variant not in ("glibc", "floor"):
            variants[variant]["against_glibc"] = row.ratio(variant, "glibc")
        if "floor" in row.samples:
            variants[variant]["above_floor"] = row.median(variant) - row.median("floor")
    return {"row": row.name, "kind": kind, "unit": unit, "variants": variants}


def merged(earlier, later):
    """An earlier run's figures with the rows that were measured anew in their place."""
    if not earlier:
        return later
    rows = {row["row"]: row for row in earlier["rows"]} | {row["row"]: row for row in later["rows"]}
    judged = {(p["promise"], p["row"].split(",")[0]): p for p in earlier["promises"]}
    judged |= {(p["promise"], p["row"].split(",")[0]): p for p in later["promises"]}
    others = max(earlier["machine"].get("others_cores", 0), later["machine"]["others_cores"])
    slowdown = list(map(max, earlier["machine"].get("slowdown", (1, 1)), later["machine"]["slowdown"]))
    return {**later, "machine": later["machine"] | {"others_cores": others, "slowdown": slowdown}, "rows": list(rows.values()), "promises": list(judged.values())}


def write_json(path, figures):
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(figures, indent=1) + "\n")


# ---- Markdown -------------------------------------------------------------------------------------------------------

def table(head, lines):
    return ["| " + " | ".join(head) + " |", "|" + "---|" * len(head), *("| " + " | ".join(line) + " |" for line in lines), ""]


def markdown(bench):
    about = bench["machine"]
    pace = ("; a loop of fixed length took {:.2f} times its shortest time at the median, {:.2f} at worst (other machines on the same "
            "processor)".format(*about["slowdown"]) if "slowdown" in about else "") # an older build's figures have none
    lines = [f"{about['cpu']}, {about['cores']} cores, {about['date']}; others kept {about['others_cores']:.1f} cores busy meanwhile{pace}. Medians of interleaved rounds; *ours* in mode `route` with frames marked, verdicts and counters on.", ""]
    for kind, head, cell in (("workload", "ns an operation (without the floor)", time_cell), ("program", "CPU time, glibc = 1", ratio_cell)):
        rows = [r for r in bench["rows"] if r["kind"] == kind]
        columns = [c for c in COLUMNS if any(c in r["variants"] for r in rows)]
        lines += table([head, *columns], [[r["row"], *(cell(r["variants"][c]) if c in r["variants"] else "" for c in columns)] for r in rows])
    lines += table(["", "promise", "measured", "must", "aim", ""],
                   [promise_line(number, [p for p in bench["promises"] if p["promise"] == number]) for number in PROMISES
                    if any(p["promise"] == number for p in bench["promises"])])
    return "\n".join(lines)


def time_cell(values):
    alone = f" ({figure(values['above_floor'])})" if values.get("above_floor") else ""
    return figure(values["median"]) + alone


def ratio_cell(values):
    return figure(values["against_glibc"][0]) if "against_glibc" in values else f"1 ({figure(values['median'])} s)"


def promise_line(number, results):
    """One line for all rows of a promise: how many keep it, and each that does not with its figure."""
    given, measured = PROMISES[number], [r for r in results if r["measured"] is not None]
    limits = [figure(limit) if limit is not None else "its own" for limit in (given.must, given.aim)]
    if not measured:
        return [number, given.what, "", *limits, results[0]["state"]]
    short = [r for r in measured if r["state"] == SHORT]
    missing = [f"{r['row']} {r['state']}" for r in results if r["measured"] is None]
    shown = short or [max(measured, key=lambda r: r["measured"] - r["must"])]
    unit = {"x": "×", "": ""}.get(given.unit, f" {given.unit}")
    figures = ", ".join(f"{r['row']} {figure(r['measured'])}{unit}" for r in shown)
    state = PASS if not short else f"short in {len(short)} of {len(measured)}"
    return [number, given.what, "; ".join([f"{'' if short else 'at worst '}{figures}", *missing]), *limits, state]


def write_readme(bench):
    text = README.read_text()
    if BEGIN not in text or END not in text:
        raise SystemExit(f"bench: {README.name} has no '{BEGIN}' … '{END}'")
    head, rest = text.split(BEGIN)
    tail = rest.split(END)[1]
    README.write_text(f"{head}{BEGIN}\n![CPU time against glibc](docs/bench.svg)\n\n{markdown(bench)}{END}{tail}")


# ---- the plot -------------------------------------------------------------------------------------------------------

COLOURS = {"glibc": "#888888", "jemalloc": "#c9b18a", "mimalloc": "#a8b88a", "tcmalloc": "#8fb0b8", NONE: "#2b6cb0",
           FULL: "#12385f", "heaptrack": "#c0504d"}


def plot(bench, path):
    """Bars of CPU time against glibc, a group for each row; python3-matplotlib."""
    import matplotlib
    matplotlib.use("svg")
    from matplotlib import pyplot
    matplotlib.rcParams.update({"svg.hashsalt": "bench", "svg.fonttype": "none", "font.size": 9})
    rows = [r for r in bench["rows"] if r["kind"] in ("workload", "program")]
    figure_, axes = pyplot.subplots(figsize=(11, 3.6))
    variants = [v for v in COLOURS if any(v in r["variants"] for r in rows)]
    width = 0.86 / len(variants)
    for at, variant in enumerate(variants):
        heights = [r["variants"][variant].get("against_glibc", [1])[0] if variant in r["variants"] else 0 for r in rows]
        places = [i + (at - (len(variants) - 1) / 2) * width for i in range(len(rows))]
        axes.bar(places, [min(h, LIMIT) for h in heights], width, label=variant, color=COLOURS[variant])
        for place, height in zip(places, heights):
            if height > LIMIT:
                axes.text(place, LIMIT, f"{height:.1f}", ha="center", va="bottom", fontsize=7, rotation=90)
    axes.axhline(1, color="black", linewidth=0.6)
    axes.set_xticks(range(len(rows)), [r["row"] for r in rows])
    axes.set_ylabel("CPU time, glibc = 1")
    axes.set_ylim(0, LIMIT * 1.12)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.legend(ncols=len(variants), frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), fontsize=8)
    figure_.tight_layout()
    path.parent.mkdir(exist_ok=True)
    figure_.savefig(path, metadata={"Date": None, "Creator": None})
    pyplot.close(figure_)


LIMIT = 4.0  # bars end there and carry their figure
