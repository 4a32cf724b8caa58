"""What is measured against what: the peers, this library in its kinds, and how a program is started under each.

A variant is a name; `environment` says by which variables it takes over a program's heap.
"""
import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = Path(os.environ.get("BUILD", ROOT / "build")).resolve()
OUT = BUILD / "bench"
SYSTEM = Path("/usr/lib/x86_64-linux-gnu")

MIMALLOCS = ("libmimalloc.so.3", "libmimalloc.so.2.0")  # of Debian 13 and 12

PEERS = {"jemalloc": SYSTEM / "libjemalloc.so.2",
         "mimalloc": next((SYSTEM / name for name in MIMALLOCS if (SYSTEM / name).exists()), SYSTEM / MIMALLOCS[-1]),
         "tcmalloc": SYSTEM / "libtcmalloc_minimal.so.4"}
PACKAGES = {"jemalloc": "libjemalloc2", "mimalloc": "libmimalloc3 or libmimalloc2.0",
            "tcmalloc": "libtcmalloc-minimal4t64 or libtcmalloc-minimal4", "heaptrack": "heaptrack"}
HEAPTRACK = Path("/usr/lib/heaptrack/libheaptrack_preload.so")
INTERPRETER = Path("/usr/lib/heaptrack/libexec/heaptrack_interpret")
LIBRARY = BUILD / "libframealloc.so"

NONE, FULL = "ours none", "ours full"
OURS = {NONE: ["stacks=none"], FULL: []}


def available(variant):
    if variant == "heaptrack":
        return HEAPTRACK.exists() and INTERPRETER.exists()
    return variant not in PEERS or PEERS[variant].exists()


def peers():
    return [name for name in PEERS if available(name)]


def option_text(options):
    return ",".join(str(option).replace(",", "\\,") for option in options)


def environment(variant, options, recording):
    """Variables that put a program under `variant`. `options` and `recording` matter to this library only."""
    if variant in PEERS:
        return {"LD_PRELOAD": PEERS[variant]}
    if variant == "heaptrack":
        return {"LD_PRELOAD": HEAPTRACK, "DUMP_HEAPTRACK_OUTPUT": recording}
    if variant in OURS:
        return {"LD_PRELOAD": LIBRARY, "FA_OPTIONS": option_text([*options, *OURS[variant], f"output={recording}"])}
    return {}
