"""The Rust programs of tests/targets/tokio, built offline from Debian's packages: plain, counting their own tasks, and
without symbols. Two compilers: Debian's `rustc`, and its newer `rustc-web`, which conflicts with it as a package and is
unpacked into the build folder instead. What cannot be had skips, and says why."""
import functools
import os
import re
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import harness

SOURCE = harness.TESTS / "targets" / "tokio"
OUT = harness.OUT / "tokio"
CRATES = Path("/usr/share/cargo/registry")
BUILD_SECONDS = 400
FETCH_SECONDS = 200


@dataclass(frozen=True)
class Compiler:
    name: str
    root: str = "/"
    settings: tuple = field(default=())  # of cargo, as environment

    def environment(self):
        bin_folder = Path(self.root) / "usr/bin"
        env = {k: v for k, v in harness.clean_environment().items() if not k.startswith(("CARGO", "RUST"))}
        env.update(PATH=f"{bin_folder}:/usr/bin:/bin", CARGO_HOME=str(OUT / self.name / "home"),
                   RUSTC=str(bin_folder / "rustc"), **dict(self.settings))
        if self.root != "/":
            env["LD_LIBRARY_PATH"] = f"{self.root}/usr/lib/x86_64-linux-gnu"
        return env


@dataclass(frozen=True)
class Built:
    """One set of binaries: serve, mixed, liblate.so."""
    folder: Path

    def __getitem__(self, name):
        return self.folder / name


def need_crates():
    if not list(CRATES.glob("tokio-1.*")):
        pytest.skip("Debian's tokio is not installed (package librust-tokio-dev)")


@functools.cache
def debian():
    need_crates()
    for tool in ("rustc", "cargo"):
        if not os.access(f"/usr/bin/{tool}", os.X_OK):
            pytest.skip(f"/usr/bin/{tool} is not installed (packages rustc cargo)")
    return Compiler("debian")


def smallest():
    """Debian's compiler again, made to leave as little as it can: functions merged and inlined across crates."""
    debian()
    return Compiler("smallest", settings=(("CARGO_PROFILE_RELEASE_LTO", "fat"), ("CARGO_PROFILE_RELEASE_OPT_LEVEL", "s"),
                                          ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1")))


def unpack_web(folder):
    """None, or why rustc-web cannot be had."""
    try:
        listed = subprocess.run(["apt-get", "install", "--print-uris", "-qq", "--no-install-recommends", "-oDebug::NoLocking=1",
                                 "rustc-web", "cargo-web"], capture_output=True, text=True, timeout=60)
        packages = re.findall(r"/([a-z0-9.+-]+)_[^/]*\.deb'", listed.stdout)
        if listed.returncode or not packages:
            return f"apt-get knows no rustc-web: {listed.stderr.strip()[-200:]}"
        scratch = folder.with_name(f"{folder.name}.{os.getpid()}")
        shutil.rmtree(scratch, ignore_errors=True)
        (scratch / "debs").mkdir(parents=True)
        fetched = subprocess.run(["apt-get", "download", "-qq", *packages], cwd=scratch / "debs", capture_output=True, text=True,
                                 timeout=FETCH_SECONDS)
        if fetched.returncode:
            return f"rustc-web cannot be fetched: {fetched.stderr.strip()[-200:]}"
        for package in (scratch / "debs").iterdir():
            subprocess.run(["dpkg", "-x", package, scratch], check=True, timeout=60)
        shutil.rmtree(scratch / "debs")
        scratch.rename(folder)
    except (OSError, subprocess.SubprocessError) as error:
        return f"rustc-web cannot be unpacked: {error}"
    return None


@functools.cache
def why_no_web():
    folder = OUT / "rustc-web"
    return None if (folder / "usr/bin/cargo").exists() else unpack_web(folder)


def web():
    """Names in the newer mangling; the older one is what Debian's compiler writes."""
    need_crates()
    if why_no_web():
        pytest.skip(why_no_web())
    return Compiler("web", str(OUT / "rustc-web"), (("RUSTFLAGS", "-Csymbol-mangling-version=v0"),))


COMPILERS = {"debian": debian, "web": web, "smallest": smallest}


def copy_source(to):
    """Cargo writes its lock file beside the sources, each version its own."""
    for path in SOURCE.rglob("*"):
        copy = to / path.relative_to(SOURCE)
        if path.is_file() and (not copy.exists() or copy.read_bytes() != path.read_bytes()):
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)


@functools.cache
def build(name, counted=False):
    """Builds with the compiler of that name. Cargo does again only what is not done."""
    compiler = COMPILERS[name]()
    here = OUT / compiler.name
    copy_source(here / "source")
    command = ["cargo", "build", "--release", "--offline", "--bins", "--examples", f"--target-dir={here / 'made'}",
               "--config=source.crates-io.replace-with='debian'", f"--config=source.debian.directory='{CRATES}'"]
    if counted:
        command.append("--features=counted")
    done = subprocess.run(command, cwd=here / "source", env=compiler.environment(), capture_output=True, text=True,
                          timeout=BUILD_SECONDS)
    assert done.returncode == 0, f"tests/targets/tokio does not build ({name}):\n{done.stderr[-3000:]}"
    kept = here / ("counted" if counted else "plain")
    kept.mkdir(exist_ok=True)
    release = here / "made/release"
    for binary in (release / "serve", release / "mixed", release / "examples/liblate.so"):
        shutil.copy2(binary, kept / binary.name)
    return Built(kept)


@functools.cache
def stripped(name, counted=False):
    whole = build(name, counted)
    folder = whole.folder.with_name(whole.folder.name + "-stripped")
    folder.mkdir(exist_ok=True)
    for binary in whole.folder.iterdir():
        subprocess.run(["strip", "-o", folder / binary.name, binary], check=True, timeout=60)
    return Built(folder)


# What of a task's functions is named in a binary with symbols: in the older mangling with a hash, in the newer with types.
FUNCTION = re.compile(r"^([0-9a-f]+) [tT] (?:_ZN|_RINvNtNtNtCs\w+?_)5tokio7runtime4task3raw\d(poll|schedule|dealloc)", re.M)


def symbols(binary):
    """{poll, schedule, dealloc: set of offsets}."""
    listed = subprocess.run(["nm", binary], capture_output=True, text=True, timeout=60).stdout
    found = {"poll": set(), "schedule": set(), "dealloc": set()}
    for offset, function in FUNCTION.findall(listed):
        found[function].add(int(offset, 16))
    return found


def scanner():
    names = ["tokio", "finder", "finder_next", "image", "symbols", "names", "demangle", "extent"]
    sources = [harness.TESTS / "mark/tokio_scan.c", *(harness.ROOT / f"core/mark/{n}.c" for n in names),
               harness.ROOT / "core/base.c", harness.ROOT / "core/library.c"]
    return harness.compile_to(OUT / "tokio_scan", sources,
                              ["-g", "-O1", "-Wall", "-Wextra", f"-I{harness.ROOT}", "-fsanitize=address,undefined",
                               "-fno-sanitize-recover=all"], ["-ldl"], depends=(harness.ROOT / "core").rglob("*.h"))


@dataclass
class Scan:
    seen: bool
    version: str
    tables: list

    def offsets(self, function):
        return {t[function] for t in self.tables}


def scan(binary, *options):
    """What core/mark/tokio.c finds in a file."""
    done = subprocess.run([scanner(), *options, binary], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"{binary}: {done.stderr[-2000:]}"
    seen, version = re.search(r" seen=(\w+) version=(\S*)$", done.stdout, re.M).groups()
    tables = [{k: int(v, 16) for k, v in re.findall(r"(\w+)=0x([0-9a-f]+)", line)}
              for line in done.stdout.splitlines() if " table " in line]
    return Scan(seen == "yes", version, tables)


def counts(stderr):
    """What an instrumented program says of itself: [(begun, ended, polls)] of the kinds that ran."""
    said = re.findall(r"^\w+ (\d+) (\d+) (\d+)$", stderr.decode(), re.M)
    return sorted(tuple(map(int, kind)) for kind in said if kind[0] != "0")
