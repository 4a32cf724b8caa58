"""Policy files and presets from the outside: `fa-report policy --check`, `fa-run --list-presets`, what is embedded, what is
installed. The parser's own unit tests are tests/c/test_policy.c; `make fuzz` looks deeper than the soup here."""
import random
import re
import subprocess

import pytest

import harness

PRESETS = sorted((harness.ROOT / "presets").glob("*.ini"))
MANUAL = harness.ROOT / "man" / "fa-policy.5"


def check(*files):
    return subprocess.run([harness.FA_REPORT, "policy", "--check", *files], capture_output=True, timeout=60)


# section, a good line, a bad one, what its message says beside the place.
KEYS = [
    ("markers", "frame = World::step(int)@*", "frame = !", "bad value '!' for 'frame'; expected NAME"),
    ("markers", "frame-scope = libgame.so!tick", "frame-scope = @*", "'frame-scope'"),
    ("markers", "task = game+0x1f0", "task = game+0x", "'task'"),
    ("markers", "tokio = yes", "tokio = 1.24", "expected yes"),
    ("markers", "await = swap*", "await = ", "'await' has no value"),
    ("markers", "transfer = push", "tranfser = push", "did you mean 'transfer'?"),
    ("automatic", "present = glXSwapBuffers", "presents = yes", "did you mean 'present'?"),
    ("automatic", "wait = poll", "wait", "no '=' in this line"),
    ("automatic", "sleep = nanosleep", "tier = pool", "it belongs to [rule]"),
    ("markers", "task-end = coro_free", "task-end = a b!", "'task-end'"),
    ("markers", "stack = make low=[arg1+16] size=arg2 entry=arg3", "stack = make low=arg1", "low=WHERE size=WHERE"),
    ("markers", "stack = make top=arg1 size=arg2", "stack = make top=arg1 low=arg2 size=arg3", "low=WHERE size=WHERE"),
    ("markers", "switch = jump to=[arg2+160]", "switch = jump to=arg2+160", "argN or [argN+OFFSET]"),
    ("markers", "switch = ns::jump(int, char) to=arg6", "switch = jump to=arg7", "argN or [argN+OFFSET]"),
    ("region physics", "scope = step", "scope = a!", "'scope'"),
    ("region physics", "module = libphys*", "module =", "'module' has no value"),
    ("region physics", "budget = 2M", "budget = 0", "from 1 to 1T"),
    ("role worker", "name = job-*", "nmae = job-*", "did you mean 'name'?"),
    ("role worker", "start = job_main", "start = job_main@*", "bad value 'job_main@*' for 'start'"),
    ("role async", "creator = io", "creator = main", "frame|worker|async|io"),
    ("role frame", "main = yes", "main = 1", "expected yes"),
    ("role frame", "presents = yes", "presents = no", "expected yes"),
    ("role io", "budget = 64K", "budget = 64Q", "'budget'"),
    ("thresholds", "hot-loop = 2K", "hot-loop = 0", "from 1 to"),
    ("thresholds", "survival = 75%", "survivle = 75%", "did you mean 'survival'?"),
    ("levels", "FA601 = deny", "FA601 = fatal", "allow, hint, warn or deny"),
    ("levels", "frame-escape = hint", "frame-escpe = hint", "did you mean 'frame-escape'?"),
    ("levels", "702 = allow", "FA999 = allow", "no code 'FA999'; codes are FA001 to FA902"),
    ("options", "mode = observe", "mode = fast", "observe|route|off"),
    ("options", "stacks = none", "stacks = deep", "full|caller|none"),
]
# What only a whole section can get wrong: text, line of the message, message.
WHOLE = [
    ("[rule r]\ntier = frame\nsize = 4K..16\n", 3, "A not above B"),
    ("[rule r]\ntier = stack\n", 2, "frame, pool or heap"),
    ("\n[rule r]\nsite = f\n", 2, "rule 'r' has no tier; add tier ="),
    ("[rule r]\ntier = pool\ntag = x\n[region y]\n", 3, "add [region x]"),
    ("[rule r]\ntier = pool\ntier = heap\n", 3, "stands twice"),
    ("[rule r]\ntier = pool\nmodule = a\n  b\n", 4, "begin it with KEY ="),
    ("[suppress s]\ncode = FA601\npath = *\n", 1, "suppression 's' has no why; add why ="),
    ("[suppress s]\nwhy = so\npath = *\n", 1, "has no code"),
    ("[suppress s]\nwhy = so\ncode = FA601\n", 1, "has no path"),
    ("[suppress s]\nwhy = so\ncode = FA6\npath = *\n", 3, "no code 'FA6'"),
    ("frame = f\n", 1, "outside every section"),
    ("[marker]\nframe = f\n", 1, "did you mean [markers]?"),
    ("[rules]\n", 1, "did you mean [rule]?"),
    ("[nothing]\n", 1, "there are preset, markers"),
    ("[markers main]\n", 1, "[markers] takes no name"),
    ("[region]\n", 1, "expected [region NAME]"),
    ("[role]\n", 1, "frame|worker|async|io"),
    ("[role render]\n", 1, "frame|worker|async|io"),
    ("[markers\n", 1, "bad header"),
    ("[preset]\nabout = x\n", 1, "tried = TEXT"),
    ("[preset]\nabout = x\ntried = y\nabuot = z\n", 4, "did you mean 'about'?"),
    ("[preset]\ntried = y\nabout = x\nabout = z\n", 4, "stands twice"),
    ("[markers]\nframe = " + "f" * 300 + "\n", 2, "too long; at most 198 bytes"),
    ("[markers]\nframe = a\0b\n", 2, "NUL byte"),
]


@pytest.mark.parametrize("section,good,bad,message", KEYS, ids=[f"{k[0]}-{k[1].split()[0]}" for k in KEYS])
def test_key(built, tmp_path, section, good, bad, message):
    file = tmp_path / "p.ini"
    file.write_text(f"; a policy\n[{section}]\n{good}\n")
    done = check(file)
    assert done.returncode == 0 and done.stderr == b"", done.stderr
    assert b"nothing wrong" in done.stdout
    file.write_text(f"; a policy\n[{section}]\n{bad}\n")
    done = check(file)
    assert done.returncode == 2 and done.stdout == b""
    lines = done.stderr.decode().splitlines()
    assert len(lines) == 1 and lines[0].startswith(f"{file}:3: ") and message in lines[0], lines


@pytest.mark.parametrize("text,line,message", WHOLE, ids=[w[2] for w in WHOLE])
def test_section(built, tmp_path, text, line, message):
    file = tmp_path / "p.ini"
    file.write_text(text)
    done = check(file)
    lines = done.stderr.decode().splitlines()
    assert done.returncode == 2
    assert len(lines) == 1 and lines[0].startswith(f"{file}:{line}: ") and message in lines[0], lines


def test_every_key_of_the_manual_is_tried():
    tried = {f"{section.split()[0]} {line.split()[0]}" for section, line, _, _ in KEYS}
    tried |= {f"rule {key}" for key in ("tier", "site", "module", "size", "tag")}
    tried |= {f"suppress {key}" for key in ("code", "path", "why")} | {"preset about", "preset tried"}
    source = (harness.ROOT / "core/registry/policy_keys.c").read_text()
    keys = {f"{section.lower()} {key}" for section, key in re.findall(r'\{SECTION_(\w+), "([\w-]+)"', source)}
    assert len(keys) == 33 and keys <= tried
    manual = MANUAL.read_text()
    for key in keys:
        assert re.search(rf"\b{re.escape(key.split()[1])}\b", manual), key


def test_the_example_of_the_manual(built, tmp_path):
    file = tmp_path / "example.ini"
    file.write_text(re.search(r"^\.nf\n(.*?)^\.fi", MANUAL.read_text(), re.S | re.M).group(1))
    done = check(file)
    assert done.returncode == 0, done.stderr
    said = done.stdout.decode()
    for part in ("SDL_GL_SwapWindow", "JobQueue::push", "physics, scope World::step", "2.0 MiB", "asset-loader", "start job_main",
                 "tier frame, to 4096 bytes, tag physics", "hot-loop 2000", "FA601 frame-escape: deny", "because: The glyph"):
        assert part in said, part


@pytest.mark.parametrize("preset", PRESETS, ids=lambda p: p.stem)
def test_preset(built, preset):
    done = check(preset)
    assert done.returncode == 0 and done.stderr == b"", done.stderr
    said = done.stdout.decode()
    assert re.search(r"^  about +\S", said, re.M) and re.search(r"^  tried +\S", said, re.M)


def test_presets_are_listed(built):
    done = subprocess.run([harness.FA_RUN, "--list-presets"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and done.stderr == ""
    assert re.findall(r"^(\S+) ", done.stdout, re.M)[1:] == [p.stem for p in PRESETS]
    assert all(len(line) <= 100 for line in done.stdout.splitlines())
    flat = " ".join(done.stdout.split())
    for preset in PRESETS:
        about = re.search(r"^about = (.*)", preset.read_text(), re.M).group(1)
        assert about in flat, preset


def test_presets_are_embedded_whole(built):
    for binary in (harness.LIBRARY, harness.FA_RUN, harness.FA_REPORT):
        data = binary.read_bytes()
        for preset in PRESETS:
            assert preset.read_bytes() in data, f"{preset.name} in {binary.name}"


def test_installed(built, tmp_path):
    subprocess.run(["make", "-s", "install", f"BUILD={harness.BUILD}", f"DESTDIR={tmp_path}", "PREFIX=/usr"], cwd=harness.ROOT,
                   check=True, capture_output=True, timeout=300)
    assert sorted(p.name for p in (tmp_path / "usr/share/framealloc/presets").iterdir()) == [p.name for p in PRESETS]
    assert (tmp_path / "usr/share/man/man5/fa-policy.5").exists() and (tmp_path / "usr/share/man/man3/framealloc.h.3").exists()
    assert (tmp_path / "usr/include/framealloc.h").exists() and (tmp_path / "usr/include/framealloc.hpp").exists()
    subprocess.run(["make", "-s", "uninstall", f"DESTDIR={tmp_path}", "PREFIX=/usr"], cwd=harness.ROOT, check=True, timeout=60)
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


def test_bad_usage(built, tmp_path):
    good = PRESETS[0]
    for arguments, said in ((["policy"], "--check"), (["policy", "--check"], "FILE"), (["policy", good], "--check"),
                            (["--check", good], "policy"), (["policy", "--check", "--format", "json", good], "text only")):
        done = subprocess.run([harness.FA_REPORT, *arguments], capture_output=True, text=True, timeout=60)
        assert done.returncode == 2 and said in done.stderr and done.stderr.count("\n") == 1, (arguments, done.stderr)
    done = check(tmp_path / "none.ini", good)
    assert done.returncode == 2 and done.stderr.decode() == f"fa-report: {tmp_path}/none.ini: No such file or directory\n"
    assert b"nothing wrong" in done.stdout
    assert check(tmp_path).returncode == 2


def mutated(chance, text):
    """A preset with a few bytes, lines or pieces changed."""
    data = bytearray(text)
    for _ in range(chance.randint(1, 12)):
        at = chance.randrange(len(data) + 1)
        what = chance.randrange(5)
        if what == 0:
            data[at:at + 1] = bytes([chance.randrange(256)])
        elif what == 1:
            del data[at:at + chance.randrange(1, 40)]
        elif what == 2:
            data[at:at] = chance.choice([b"\n", b"\r\n", b"\0", b"[", b"]", b" = ", b";", b"\n  ", b"\xef\xbb\xbf", b"x" * 250])
        elif what == 3:
            start = chance.randrange(len(data) + 1)
            data[at:at] = data[start:start + 60]
        else:
            data[at:at] = chance.randbytes(chance.randrange(20))
    return bytes(data)


def test_any_bytes(built, tmp_path):
    """Every outcome is: nothing wrong, or clean lines that say where. Many files in each run."""
    chance = random.Random(20240229)
    files = []
    for i in range(600):
        files.append(tmp_path / f"{i}.ini")
        soup = chance.randbytes(chance.randrange(3000)) if i % 3 == 0 else mutated(chance, chance.choice(PRESETS).read_bytes())
        files[-1].write_bytes(soup)
    files.append(tmp_path / "long.ini")
    files[-1].write_bytes(b"[markers]\nframe = " + b"y" * (1 << 20) + b"\nframe = z")
    for start in range(0, len(files), 100):
        done = check(*files[start:start + 100])
        assert done.returncode in (0, 2), (start, done.stderr[-2000:])
        for line in done.stderr.split(b"\n")[:-1]:
            assert re.fullmatch(rb"/[\w/.-]+/\w+\.ini:\d+: [^\x00-\x1f\x7f]+", line), line
