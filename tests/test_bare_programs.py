"""Programs that nobody prepared, under the bare preload and without any option, each recording: shells, build tools, servers
with clients on loopback, script languages, a terminal multiplexer. Same output, same exit status; nothing is wrong with
what was recorded."""
import shutil
import socket
from pathlib import Path

import pytest

import harness

HTTP = r"""mkdir www; seq 20000 > www/a.txt; echo '<p>x</p>' > www/index.html
fetch() { for i in $(seq 40); do curl -s "http://127.0.0.1:$PORT/a.txt" | md5sum; curl -s -o /dev/null -w '%{http_code} %{size_download}\n' "http://127.0.0.1:$PORT/none$i"; done | sort | uniq -c; }
up() { for i in $(seq 200); do curl -s -o /dev/null "http://127.0.0.1:$PORT/" && return; sleep 0.05; done; echo not up; }
"""
MAKEFILE = r"""all: $(foreach i,$(shell seq 60),out$(i))
out%:
	@echo $* | sed 's/$$/ made/' > $@
	@cat $@
.PHONY: all
"""
LUA = r"""local t = {}
for i = 1, 60000 do t[#t + 1] = ("x"):rep(i % 50) .. i end
table.sort(t); print(#table.concat(t), t[1], t[#t])
local ok, e = pcall(function() local s = {} ; error(setmetatable({}, {__tostring = function() return "told" end})) end)
print(ok, tostring(e)); local co = coroutine.wrap(function() for i = 1, 1000 do coroutine.yield(i) end end)
local n = 0; for i = 1, 1000 do n = n + co() end; print(n); os.exit(3)
"""
RUBY = r"""h = Hash.new(0); 60000.times { |i| h["k#{i * 7919 % 5003}"] += i.to_s.size }
puts h.size, h.values.sum, h.keys.sort.first(3).inspect
t = 4.times.map { |i| Thread.new { (1..3000).map { |x| (x * i).to_s }.join.size } }; p t.map(&:value)
p fork { exit 7 }.then { |pid| Process.wait(pid); $?.exitstatus }; GC.start; p `echo sub`; 5.times { sleep 0.01 }
f = Fiber.new { 100.times { |i| Fiber.yield i } }; p 50.times.map { f.resume }.sum; raise "end" rescue p $!; exit 4
"""
PHP = r"""<?php $a = []; for ($i = 0; $i < 60000; $i++) $a["k" . ($i * 7919 % 5003)][] = str_repeat("x", $i % 40);
ksort($a); echo count($a), " ", strlen(serialize($a)), "\n"; echo md5(json_encode($a)), "\n";
function g() { for ($i = 0; $i < 1000; $i++) yield $i; } echo array_sum(iterator_to_array(g())), "\n";
echo preg_replace_callback('/\d+/', fn($m) => $m[0] * 2, "a1b22c333"), "\n"; for ($i = 0; $i < 20; $i++) usleep(1000);
try { throw new Exception("told"); } catch (Exception $e) { echo $e->getMessage(), "\n"; } exit(5);
"""
VIM = "let l = map(range(2000), '\"line \" . (v:val * 7919 % 2003)')\ncall setline(1, l)\nsort n\n%s/line/LINE/\ng/7$/d\nw! out.txt\nqa!\n"
SQL = """create table t(a, b); with recursive n(i) as (select 1 union all select i+1 from n where i<30000) insert into t select i, 'v'||i%97 from n;
create index x on t(b); select b, count(*), sum(a) from t group by b order by 2 desc, 1 limit 5; select sum(length(hex(randomblob(a%50)))) from t;"""
MEMCACHED = r"""import socket, sys
s = socket.create_connection(("127.0.0.1", int(sys.argv[1]))); f = s.makefile("rb")
for i in range(800): s.sendall(b"set k%d 0 0 %d\r\n%s\r\n" % (i, i, b"x" * i)); assert f.readline() == b"STORED\r\n"
n = 0
for i in range(800):
    s.sendall(b"get k%d\r\n" % i); head = f.readline().split(); n += len(f.read(int(head[3]) + 2)); assert f.readline() == b"END\r\n"
print(n)
"""

# name: program, package, files, script. `run` in it starts a program under the preload, or without; `serve X &` the same,
# so that $! is the program.
POSTGRES = max(map(str, Path("/usr/lib/postgresql").glob("*/bin")), default="/usr/lib/postgresql/bin")

CASES = {
    "dash": ("dash", "dash", {}, r"""run dash -c 'i=0; while [ $i -lt 3000 ]; do i=$((i+1)); x="$x$i"; done; echo ${#x}; (echo a | tr a b); f() { echo "f $1"; }; f 1; exit 3'"""),
    "make": ("make", "make", {"Makefile": MAKEFILE}, "run make -j2 | sort; run make -n nothing"),
    "git": ("git", "git", {"a.txt": "one\n" * 300}, r"""export HOME=$PWD GIT_AUTHOR_DATE='1700000000 +0000' GIT_COMMITTER_DATE='1700000000 +0000'
        export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b
        run git init -q -b main . && run git add a.txt && run git commit -q -m first && seq 900 > a.txt && run git commit -qam second
        run git log --stat --format=%H; run git gc -q; run git fsck; run git blame a.txt | md5sum; run git show none"""),
    "curl": ("curl", "curl", {}, HTTP + r"""/usr/bin/python3 -m http.server -b 127.0.0.1 -d www $PORT 2>/dev/null & up
        for i in 1 2 3; do run curl -s "http://127.0.0.1:$PORT/a.txt" | md5sum; done; run curl -sS "http://127.0.0.1:$PORT/[1-3]none" -o /dev/null -w '%{http_code}\n'
        run curl -sS http://127.0.0.1:1/ 2>&1 | sed 's/after [0-9]* ms//'; echo ${PIPESTATUS[0]}; kill $!"""),
    "redis": ("redis-server", "redis-server", {}, r"""serve redis-server --port $PORT --save '' --bind 127.0.0.1 > log & for i in $(seq 200); do redis-cli -p $PORT ping >/dev/null 2>&1 && break; sleep 0.05; done
        run redis-benchmark -p $PORT -n 2000 -q -t set,get,lpush,lpop,hset,zadd,mset | tr '\r' '\n' | grep -c 'per second'
        for i in $(seq 20); do run redis-cli -p $PORT set k$i v$i; done | sort | uniq -c; run redis-cli -p $PORT eval 'local n = 0 for i = 1, 20 do n = n + #redis.call("get", "k" .. i) end return n' 0
        redis-cli -p $PORT shutdown nosave; wait $!; echo server $?"""),
    "nginx": ("nginx", "nginx-light", {}, HTTP + r"""cat > n.conf <<X
daemon off; worker_processes 2; pid $PWD/pid; error_log $PWD/err; user root; events {} http { access_log off; gzip on; client_body_temp_path $PWD/t1; proxy_temp_path $PWD/t2; fastcgi_temp_path $PWD/t3; uwsgi_temp_path $PWD/t4; scgi_temp_path $PWD/t5; server { listen 127.0.0.1:$PORT; root $PWD/www; } }
X
        serve nginx -c $PWD/n.conf -p $PWD & up; fetch; kill -HUP $(cat pid); sleep 0.3; fetch; kill -QUIT $(cat pid); wait $!; echo server $?; grep -E 'emerg|alert|signal 11|core' err"""),
    "nginx-single": ("nginx", "nginx-light", {}, HTTP + r"""cat > n.conf <<X
daemon off; master_process off; pid $PWD/pid; error_log $PWD/err; user root; events {} http { access_log off; gzip on; client_body_temp_path $PWD/t1; proxy_temp_path $PWD/t2; fastcgi_temp_path $PWD/t3; uwsgi_temp_path $PWD/t4; scgi_temp_path $PWD/t5; server { listen 127.0.0.1:$PORT; root $PWD/www; } }
X
        serve nginx -c $PWD/n.conf -p $PWD & up; fetch; kill -QUIT $(cat pid); wait $!; echo server $?; grep -E 'emerg|alert|signal 11|core' err"""),
    "lighttpd": ("lighttpd", "lighttpd", {}, HTTP + r"""printf 'server.document-root = "%s/www"\nserver.port = %s\nserver.bind = "127.0.0.1"\nindex-file.names = ("index.html")\n' $PWD $PORT > l.conf
        serve lighttpd -D -f l.conf 2>log & up; fetch; kill -INT $!; wait $!; echo server $?"""),
    "memcached": ("memcached", "memcached", {"m.py": MEMCACHED}, r"""serve memcached -u root -p $PORT -l 127.0.0.1 -U 0 & for i in $(seq 200); do (: </dev/tcp/127.0.0.1/$PORT) 2>/dev/null && break; sleep 0.05; done
        /usr/bin/python3 m.py $PORT; kill -TERM $!; wait $!; echo server $?"""),
    "postgres": (f"{POSTGRES}/postgres", "postgresql", {}, f"export PATH=$PATH:{POSTGRES}; " + r"""d=$(mktemp -d); chown nobody $d; as() { (cd $d; setpriv --reuid=nobody --clear-groups "$@"); }
        as initdb -D $d/db -A trust -U u --no-sync >/dev/null || echo no initdb; mkdir $d/state; chmod 777 $d/state; (cd $d; export XDG_STATE_HOME=$d/state; exec setpriv --reuid=nobody --clear-groups env ${PRELOAD:+LD_PRELOAD=$PRELOAD} postgres -D $d/db -p $PORT -k $d -h '' -c fsync=off > $d/log 2>&1) & for i in $(seq 200); do pg_isready -q -U u -d postgres -h $d -p $PORT && break; sleep 0.05; done
        psql -h $d -p $PORT -U u -d postgres -Atc "create table t as select i, md5(i::text) m from generate_series(1, 20000) i; select count(*), max(m) from t; create index on t(m); select count(*) from t a join t b using (m); select 1/0" 2>&1
        as pg_ctl -D $d/db stop -m fast >/dev/null; wait $!; echo server $?; grep -vE 'FATAL:  the database system is starting up' $d/log | grep -E 'PANIC|FATAL|signal' | cut -d' ' -f5-; find $d/state -name '*.fatrace' -exec cp {} $XDG_STATE_HOME/framealloc ';'; rm -rf $d"""),
    "sqlite3": ("sqlite3", "sqlite3", {"q.sql": SQL}, "run sqlite3 :memory: < q.sql; run sqlite3 none/none.db 'select 1'"),
    "php": ("php", "php-cli", {"a.php": PHP}, "run php a.php"),
    "ruby": ("ruby", "ruby", {"a.rb": RUBY}, "run ruby a.rb"),
    "lua": ("lua5.4", "lua5.4", {"a.lua": LUA}, "run lua5.4 a.lua"),
    "vim": ("vim", "vim", {"s.vim": VIM}, "HOME=$PWD run vim -es -u NONE -i NONE -n -S s.vim < /dev/null; echo $?; md5sum out.txt"),
    "tmux": ("tmux", "tmux", {}, r"""export TMUX_TMPDIR=$PWD TERM=xterm HOME=$PWD; t() { tmux -f /dev/null "$@"; }
        serve tmux -f /dev/null -D & for i in $(seq 100); do t list-sessions 2>&1 | grep -q 'no sessions' && break; sleep 0.05; done
        run tmux -f /dev/null new-session -d -x 80 -y 24 'for i in $(seq 500); do echo line $i; done; echo told; cat'; for i in $(seq 100); do t capture-pane -p | grep -q told && break; sleep 0.05; done
        t split-window -d 'seq 100; cat'; t send-keys -t 0 abc Enter; for i in $(seq 100); do [ $(t capture-pane -p -t 0 | grep -c abc) = 2 ] && break; sleep 0.05; done; t capture-pane -p -t 0 | grep -v '^$' | tail -3; t list-panes -F '#{pane_index} #{pane_width}'; t kill-server; wait $!; echo server $?"""),
}


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def run_case(folder, name, port, preload=None):
    program, package, files, script = CASES[name]
    if not shutil.which(program):
        pytest.skip(f"{program} is not installed (package {package})")
    work = folder / "work"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    for file, content in files.items():
        (work / file).write_text(content)
    env = {"PORT": port, "XDG_STATE_HOME": folder / "state", "PRELOAD": preload or ""}
    run = 'run() { env ${PRELOAD:+LD_PRELOAD=$PRELOAD} "$@"; }\nserve() { exec env ${PRELOAD:+LD_PRELOAD=$PRELOAD} "$@"; }\n'
    done = harness.plain(["bash", "-c", run + script], env=env, cwd=work, timeout=120)
    return done.status, done.stdout, done.stderr


@pytest.mark.parametrize("name", CASES)
def test_bare_preload(built, tmp_path, name):
    (tmp_path / "state" / "framealloc").mkdir(parents=True)
    port = free_port()
    plain = run_case(tmp_path, name, port)
    assert not list((tmp_path / "state").rglob("*.fatrace"))
    assert run_case(tmp_path, name, port, harness.LIBRARY) == plain
    assert name != "postgres" or list((tmp_path / "state").rglob("fa-postgres-*"))
    recordings = sorted((tmp_path / "state").rglob("*.fatrace"))
    assert recordings
    for recording in recordings:
        report = harness.read_report(recording)
        assert report["target"]["ended"] in ("exit", "signal"), recording
        assert not [v for v in report["violations"] if v["level"] == "error"], recording
        assert report["totals"]["allocs"] > 0 and sum(report["verdicts"].values()) == report["totals"]["allocs"]
        frames = [m for m in report["markers"] if m["kind"] == "frame"]
        assert len(frames) <= 1 and (report["automatic"] == "found") == bool(frames), (recording, report["automatic"])
        if not frames:
            assert report["violations"] == [] and report["frames"]["count"] == 0
