"""Programs on Tokio that Debian built and nobody prepared, with the preset: their tasks are found and bound, their work
is what it is without us. Each works for a client on loopback and is compared with a run on its own."""
import contextlib
import hashlib
import http.server
import json
import os
import shutil
import socket
import subprocess
import threading
import time

import pytest

import harness

PRESET = {"preset": "tokio"}


def need(*programs):
    for program in programs:
        if not shutil.which(program):
            pytest.skip(f"{program} is not installed (package {program})")


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def tasks_of(run):
    """What the preset bound: each type's poll, by a patched entry."""
    found = [m for m in run.report["markers"] if m["name"] == "tokio"]
    assert found and all(m["binding"] == "patch" for m in found), found
    return found


# ---- sccache: a server that runs compilers on its blocking pool and keeps what they made ----


class Sccache:
    """A compile server, with us or without, and clients that are always without."""

    def __init__(self, folder):
        self.folder, self.port = folder, free_port()
        folder.mkdir()
        self.env = {"SCCACHE_DIR": folder / "cache", "SCCACHE_SERVER_PORT": self.port, "SCCACHE_IDLE_TIMEOUT": 60,
                    "SCCACHE_CONF": folder / "none", "HOME": folder}
        self.server_env = {**self.env, "SCCACHE_START_SERVER": 1, "SCCACHE_NO_DAEMON": 1}

    def wait(self, process):
        for _ in range(200):
            assert process.poll() is None, process.communicate()
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            time.sleep(0.05)
        raise AssertionError("sccache does not listen")

    def client(self, *arguments):
        run = harness.plain(["sccache", *arguments], env=self.env, cwd=self.folder, timeout=60)
        assert run.status == 0, harness.text(run.stderr)
        return run.stdout

    def work(self):
        """Three programs, each compiled three times, once in earnest; one that has an error."""
        made = []
        for i in (0, 1, 2) * 3:
            (self.folder / f"f{i}.c").write_text(f"int f{i}(int a)\n{{\n\treturn a * {i} + 1;\n}}\n")
            self.client("gcc", "-O1", "-c", f"f{i}.c", "-o", f"f{i}.o")
            made.append(hashlib.sha256((self.folder / f"f{i}.o").read_bytes()).hexdigest())
            (self.folder / f"f{i}.o").unlink()
        (self.folder / "bad.c").write_text("int bad(\n")
        bad = harness.plain(["sccache", "gcc", "-c", "bad.c", "-o", "bad.o"], env=self.env, cwd=self.folder, timeout=60)
        stats = json.loads(self.client("--show-stats", "--stats-format", "json"))["stats"]
        kept = {k: stats[k] for k in ("compile_requests", "requests_executed", "cache_hits", "cache_misses", "cache_writes",
                                      "cache_write_errors", "compile_fails")}
        return made, bad.status, bad.stderr, kept


def sccache_plain(folder):
    server = Sccache(folder)
    env = harness.clean_environment(server.server_env)
    with subprocess.Popen(["sccache"], env=env, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            server.wait(process)
            result = server.work()
            server.client("--stop-server")
            assert process.wait(30) == 0
        finally:
            process.kill()
    return result


def sccache_shim(shim, folder):
    server = Sccache(folder)
    process, recording = shim.start(["sccache"], PRESET, env=server.server_env, cwd=folder)
    try:
        server.wait(process)
        result = server.work()
        server.client("--stop-server")
        process.communicate(timeout=30)
    finally:
        process.kill()
    return result, harness.Run(process.returncode, b"", b"", recording)


def test_sccache(shim, tmp_path):
    need("sccache")
    plain = sccache_plain(tmp_path / "plain")
    result, run = sccache_shim(shim, tmp_path / "shim")
    assert result == plain and run.status == 0
    assert plain[3]["cache_hits"]["counts"] == {"C/C++": 6} and plain[3]["cache_writes"] == 3
    assert len(tasks_of(run)) >= 10
    workers = [t for t in run.report["threads"] if t["name"].startswith(("tokio-runtime-w", "tokio-rt-w"))]
    assert workers and {t["role"] for t in workers} == {"async"}


def test_sccache_tasks(shim, tmp_path):
    need("sccache")
    _, run = sccache_shim(shim, tmp_path / "shim")
    tasks = run.report["tasks"]
    # Each of the twelve clients' connections is a task.
    assert tasks["started"] >= 12 and tasks["polls"] > tasks["started"] >= tasks["ended"] >= 10
    assert len([t for t in tasks["types"] if t["started"]]) >= 4
    assert not run.violations("FA701") and not run.violations("FA603")


# ---- sq: one thread, tasks of an HTTP client ----


class Keyserver(http.server.BaseHTTPRequestHandler):
    """Hands out one certificate, and takes any."""
    certificate, fingerprint = b"", ""

    def answer(self, status, body):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        found = "op=get" in self.path and self.fingerprint in self.path
        self.answer(200 if found else 404, self.certificate if found else b"")

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(200, b"")

    def log_message(self, *_):
        pass


# How sq is asked, in Debian 12 (0.27) and 13 (1.3).
SQ_OLD = {"generate": ["key", "generate", "-u", "Test <test@example.org>", "--export", "key.pgp"],
          "certificate": ["key", "extract-cert", "key.pgp", "-o", "cert.pgp"],
          "get": ["keyserver", "--policy", "insecure", "--server", "{server}", "get", "{what}"],
          "send": ["keyserver", "--policy", "insecure", "--server", "{server}", "send", "{what}"]}
SQ_NEW = {"generate": ["key", "generate", "--own-key", "--name", "Test", "--email", "test@example.org", "--without-password",
                       "--output", "key.pgp", "--rev-cert", "revocation.pgp"],
          "certificate": ["key", "delete", "--cert-file", "key.pgp", "--output", "cert.pgp"],
          "get": ["network", "keyserver", "search", "--server", "{server}", "--output", "-", "{what}"],
          "send": ["network", "keyserver", "publish", "--server", "{server}", "--cert-file", "{what}"]}


@pytest.fixture
def keyserver(tmp_path):
    """(function that makes a command, certificate file, fingerprint)."""
    need("sq")
    env, words, server = {"HOME": tmp_path}, SQ_NEW, ""
    if not harness.plain(["sq", "version"], env=env).stderr.startswith(b"sq "):
        words = SQ_OLD

    def sq(what, argument=""):
        return ["sq", *(word.format(server=server, what=argument) for word in words[what])]

    for step in "generate", "certificate":
        made = harness.plain(sq(step), env=env, cwd=tmp_path)
        assert made.status == 0, harness.text(made.stderr)
    Keyserver.certificate = (tmp_path / "cert.pgp").read_bytes()
    said = harness.plain(["sq", "inspect", "cert.pgp"], env=env, cwd=tmp_path).stdout.decode().split()
    Keyserver.fingerprint = said[said.index("Fingerprint:") + 1]
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Keyserver) as listening:
        server = f"hkp://127.0.0.1:{listening.server_address[1]}"
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield sq, tmp_path / "cert.pgp", Keyserver.fingerprint
        listening.shutdown()


def both_ways(shim, command):
    env = {"HOME": shim.folder}
    plain = harness.plain(command, env=env, cwd=shim.folder)
    run = shim.run(command, PRESET, env=env, expect=None)
    assert (run.status, run.stdout, run.stderr) == (plain.status, plain.stdout, plain.stderr)
    return run


def test_sq(shim, keyserver):
    sq, certificate, fingerprint = keyserver
    run = both_ways(shim, sq("get", fingerprint))
    assert run.status == 0 and run.stdout.startswith(b"-----BEGIN PGP") and len(tasks_of(run)) >= 10
    assert both_ways(shim, sq("send", certificate)).status == 0
    assert both_ways(shim, sq("get", "0" * 40)).status != 0


def test_sq_tasks(shim, keyserver):
    sq, _, fingerprint = keyserver
    run = both_ways(shim, sq("get", fingerprint))
    tasks = run.report["tasks"]
    assert tasks["started"] >= 2 and tasks["polls"] > tasks["started"]
    assert not run.violations("FA701") and not run.violations("FA603")


# ---- many times ----


@pytest.mark.soak
def test_sq_a_hundred_times(shim, keyserver):
    sq, _, fingerprint = keyserver
    for _ in range(100):
        assert both_ways(shim, sq("get", fingerprint)).status == 0


@pytest.mark.soak
def test_sccache_a_hundred_times(shim, tmp_path):
    need("sccache")
    plain = sccache_plain(tmp_path / "plain")
    for i in range(100):
        result, run = sccache_shim(shim, tmp_path / f"shim{i}")
        assert result == plain and run.status == 0
        shutil.rmtree(tmp_path / f"shim{i}")
        os.unlink(run.recording)
