"""The real programs of the bench: an interpreter, a database, a compiler, an engine and a server, unmodified from Debian.

Each is a `Program`: what it needs, its command, and for the server who talks to it. Their input is made here, by a fixed
seed, so that every machine does the same work.
"""
import os
import random
import shutil
import signal
import socket
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.allocators import OUT, ROOT
from bench.measure import wait_until

SCRIPT = """
import random
random.seed(1)
words = {}
for i in range(%d):
    key = "word %%d" %% random.randrange(5000)
    words.setdefault(key, []).append(str(i) * 3)
    if i %% 7 == 0:
        words.pop(key, None)
print(len(words))
"""


@dataclass
class Program:
    kind: str
    package: str
    command: list
    env: dict = field(default_factory=dict)
    drive: object = None   # drive(process): talks to a server and ends it
    cores: object = None   # the cores it runs on; None: all
    scopes: bool = False   # zero configuration finds frames in it: P5 is not about it

    @property
    def installed(self):
        return bool(self.command[0]) and Path(self.command[0]).exists()


def interpreter(folder, size):
    script = folder / "script.py"
    script.write_text(SCRIPT % (800000 * size))
    return Program("interpreter", "python3", ["/usr/bin/python3", script], {"PYTHONMALLOC": "malloc", "PYTHONHASHSEED": "1"})


def database(folder, size):
    """Inserts, indexes, joins, groups, updates and deletes, in memory."""
    rows, rng, lines = int(150000 * size), random.Random(2), ["begin;"]
    lines += ["create table item(id integer primary key, owner integer, name text, price real);",
              "create table owner(id integer primary key, name text, city text);"]
    lines += [f"insert into owner values({i},'owner {i}','city {rng.randrange(90)}');" for i in range(rows // 20)]
    lines += [f"insert into item values({i},{rng.randrange(rows // 20)},'{i * 7919 % 10007}-{'x' * (i % 50)}',{rng.random():.4f});"
              for i in range(rows)]
    lines += ["commit;", "create index by_owner on item(owner);", "create index by_name on item(name);"]
    lines += ["select city, count(*), sum(price) from item join owner on owner.id = item.owner group by city order by 2 desc limit 3;",
              "select substr(name, 1, 3), group_concat(id) from item group by 1 order by 2 limit 3;"]
    for i in range(rows // 25):
        lines += [f"select name from item where owner = {i % (rows // 20)} order by price limit 5;",
                  f"update item set name = name || '{i}' where id = {i * 20};", f"delete from item where id = {i * 20 + 7};"]
    script = folder / "script.sql"
    script.write_text("\n".join(lines))
    return Program("database", "sqlite3", [shutil.which("sqlite3"), ":memory:", f".read {script}"])


FUNCTION = """
struct s{i} {{ int a[{n}]; struct s{i} *next; double w; }};
static int f{i}(struct s{i} *s, int x)
{{
	int sum = {i};
	for (struct s{i} *at = s; at; at = at->next)
		for (int j = 0; j < {n}; j++)
			switch ((at->a[j] ^ x) % {m}) {{
			case 0: sum += at->a[j] * {i}; break;
			case 1: sum -= x << (j & 7); break;
			case 2: at->w += sum * 0.5; break;
			default: sum ^= f{before}_(x - j);
			}}
	return sum;
}}
int f{i}_(int x)
{{
	struct s{i} one = {{.w = x}}, two = {{.next = &one}};
	for (int j = 0; j < {n}; j++)
		one.a[j] = two.a[{n} - 1 - j] = x * j + {m};
	return f{i}(&two, x) + (int)one.w;
}}
"""


def compiler(folder, size):
    rng, source = random.Random(3), folder / "source.i"
    parts = ["int f0_(int x) { return x + 1; }\n"]
    parts += [FUNCTION.format(i=i, n=rng.randrange(3, 40), m=rng.randrange(4, 9), before=i - 1) for i in range(1, int(150 * size))]
    source.write_text("".join(parts))
    cc1 = subprocess.run(["gcc", "-print-prog-name=cc1"], capture_output=True, text=True).stdout.strip()
    return Program("compiler", "gcc", [cc1, "-quiet", "-O1", "-fpreprocessed", "-o", "/dev/null", source])


def engine(folder, size):
    command = [shutil.which("godot3-server") or "/usr/games/godot3-server", "--fixed-fps", "60", "--path", ROOT / "tests/targets/godot"]
    return Program("engine", "godot3-server", command, {"HOME": folder, "SDL_AUDIODRIVER": "dummy"}, scopes=True)


# ---- the server, and who talks to it --------------------------------------------------------------------------------

NGINX = """
daemon off; master_process off; pid {folder}/nginx.pid; error_log /dev/null;
events {{ worker_connections 64; }}
http {{
    access_log off; keepalive_requests 1000000; default_type text/plain; sendfile off;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    gzip_types *; gzip_min_length 1000; ssi_types *; root {folder}/www;
    server {{
        listen 127.0.0.1:{port};
        location = /short {{ return 200 "a short answer to $arg_who from $request_uri\\n"; }}
        location /gzip/ {{ gzip on; alias {folder}/www/; }}
        location /ssi/ {{ ssi on; alias {folder}/www/; }}
    }}
}}
"""


UNPACKED = OUT / "packages"


def nginx():
    """The server's binary: the system's, or the one that install.py unpacked; None without either."""
    return next((str(path) for path in (Path("/usr/sbin/nginx"), UNPACKED / "usr/sbin/nginx") if path.exists()), None)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def server(folder, size):
    """nginx: plain, generated, compressed and included pages over kept connections, many requests in one write."""
    www = folder / "www"
    www.mkdir(exist_ok=True)
    (www / "page").write_text("A line of a page that is served.\n" * 120)
    (www / "parts").write_text('<!--#set var="who" value="you" --><!--#echo var="who" -->: '
                               '<!--#if expr="$who = you" -->yes<!--#else -->no<!--#endif -->\n' * 60)
    port = free_port()
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder, port=port))
    binary = nginx()
    command = [binary, "-p", folder, "-c", folder / "nginx.conf", "-e", "/dev/null"]
    cores = sorted(os.sched_getaffinity(0)) # its own core: what moves between cores costs more than what is measured
    return Program("server", "nginx", command, scopes=True, cores=cores[:1],
                   drive=lambda process: talk(process, folder / "nginx.pid", port, int(200 * size), cores[1:]))


@contextmanager
def running_on(cores):
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores or before)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def talk(process, pid_file, port, turns, cores):
    """`turns` connections of 124 requests each; every answer's end is seen before the next batch. Then the server quits."""
    paths = ["/page", "/ssi/parts", "/short?who=me", "/ssi/parts", "/short", "/ssi/parts", "/page", "/ssi/parts", "/short", "/gzip/page"]
    batch = b"".join(f"GET {paths[i % 10]} HTTP/1.1\r\nHost: bench\r\nAccept-Encoding: gzip\r\nX-Trace: {i}\r\n\r\n".encode()
                     for i in range(30))
    last = b"GET /short?who=last HTTP/1.1\r\nHost: bench\r\n\r\n"

    def reachable():
        if process.poll() is not None:
            raise RuntimeError("the server ended before it answered")
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    wait_until(reachable, "the server's port")
    try:
        with running_on(cores):
            for _ in range(turns):
                with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
                    for _ in range(4):
                        connection.sendall(batch + last)
                        read_until(connection, b"answer to last from /short?who=last\n")
    finally:
        os.kill(int(pid_file.read_text()), signal.SIGQUIT)


def read_until(connection, end):
    tail = b""
    while not tail.endswith(end):
        more = connection.recv(1 << 17)
        if not more:
            raise RuntimeError("the server closed a connection before its last answer")
        tail = (tail + more)[-200:]


ALL = {"interpreter": interpreter, "database": database, "compiler": compiler, "engine": engine, "server": server}
