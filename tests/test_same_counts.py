"""What is recorded changes no verdict and no count: the same deterministic program, with every kind of call path, in every mode
and however it is started, says the same of its blocks."""
import pytest

import harness

TOTALS = ["allocs", "frees", "bytes", "live_blocks", "live_bytes"]
OF_MODULES = {"bytes", "live_bytes"} # ld.so's vector of a thread is larger where the unwinder is loaded
KINDS = {
    "by default": ({}, "preload"),
    "callers only": ({"stacks": "caller"}, "preload"),
    "no call paths": ({"stacks": "none"}, "preload"),
    "every path verified": ({"stack-check": "1"}, "preload"),
    "started by fa-run": ({}, "fa-run"),
    "observing": ({"mode": "observe"}, "preload"),
    "observing, no call paths": ({"mode": "observe", "stacks": "none"}, "preload"),
    "nothing of the frame tier": ({"frame-block": "16"}, "preload"),
    "nothing of the pool tier": ({"pool-block": "16"}, "preload"),
}
PROGRAMS = {
    "known": (["known", "1", "40", "300", "7", "3", "5", "4", "12", "9", "mark", "exit"], "frame_mark"),
    "on two threads": (["known", "2", "20", "200", "5", "2", "3", "4", "6", "8", "mark", "exit"], "frame_mark@*"),
    "escaping": (["escapes", "4000", "1000"], "frame_mark"),
}


def counts(run, with_unwinder=True):
    """What must not depend on how it was recorded; violations by code, since their keys are call paths."""
    report, codes = run.report, {}
    for key in ("allocs", "frees", "bytes", "live_bytes"): # sites and threads count for themselves
        assert sum(site[key] for site in report["sites"]) == report["totals"][key], key
    for violation in report["violations"]:
        if violation["code"] in ("FA201", "FA205", "FA601", "FA603"):
            codes[violation["code"]] = codes.get(violation["code"], 0) + violation["count"]
    totals = {key: report["totals"][key] for key in TOTALS if with_unwinder or key not in OF_MODULES}
    return {"totals": totals, "verdicts": report["verdicts"], "codes": codes,
            "frames": report["frames"]["count"], "threads": sorted((t["allocs"], t["frees"]) for t in report["threads"])}


@pytest.fixture(scope="module")
def reference(built, tmp_path_factory):
    shim = harness.Shim(tmp_path_factory.mktemp("reference"))
    return {name: run_of(shim, name, {}, "preload") for name in PROGRAMS}


def run_of(shim, name, options, via):
    (program, *arguments), frame = PROGRAMS[name]
    return shim.run([harness.program(program), *arguments], {"frame": frame, **options}, via=via)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "by default"])
@pytest.mark.parametrize("name", list(PROGRAMS))
def test_no_count_depends_on_what_is_recorded(shim, reference, name, kind):
    options, via = KINDS[kind]
    with_unwinder = options.get("stacks", "full") == "full"
    assert counts(run_of(shim, name, options, via), with_unwinder) == counts(reference[name], with_unwinder)


@pytest.mark.parametrize("name", list(PROGRAMS))
def test_there_is_something_to_differ_in(reference, name):
    expected = counts(reference[name])
    assert expected["totals"]["allocs"] > 5000 and expected["verdicts"]["outlived_frame"] > 100 and expected["codes"]["FA601"] > 100
