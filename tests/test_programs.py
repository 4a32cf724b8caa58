"""Ordinary programs under the bare preload, default options, children included: the same output, the same files, the same
exit status as without."""
import hashlib
import os
import shutil
import xml.etree.ElementTree as ElementTree

import pytest

import harness

NODE = r"""
const { Worker, isMainThread, parentPort, workerData } = require('worker_threads');
const crypto = require('crypto'), zlib = require('zlib'), fs = require('fs');
if (isMainThread) {
	let done = 0; const sums = [];
	for (let i = 0; i < 4; i++) {
		const w = new Worker(__filename, { workerData: i });
		w.on('message', m => { sums[i] = m; if (++done === 4) console.log(sums.join(' ')); });
	}
	zlib.gzip(Buffer.alloc(1 << 20, 'frame '), (e, b) => console.log(zlib.gunzipSync(b).length));
	fs.readFile(__filename, (e, b) => console.log(b.length));
	setTimeout(() => console.log('timer'), 300);
} else {
	let h = crypto.createHash('sha256');
	for (let i = 0; i < 3000; i++) h.update(JSON.stringify({ i, w: workerData, a: Array(20).fill('x' + i) }));
	parentPort.postMessage(h.digest('hex').slice(0, 12));
}
"""

CXX = r"""
#include <map>
#include <string>
#include <vector>
#include <regex>
#include <algorithm>
template <int N> struct T { static int f(std::map<std::string, std::vector<int>> &m) { m[std::to_string(N)].push_back(N); return N + T<N - 1>::f(m); } };
template <> struct T<0> { static int f(std::map<std::string, std::vector<int>> &) { return 0; } };
int main() { std::map<std::string, std::vector<int>> m; std::regex r("a+b"); return T<60>::f(m) + std::regex_match("aab", r) - 1831; }
"""

C = "#include <stdio.h>\n" + "".join(
    f"static int f{i}(int x) {{ int a[{i % 7 + 1}]; for (int k = 0; k < {i % 7 + 1}; k++) a[k] = x * k + {i}; return a[x % {i % 7 + 1}]; }}\n"
    for i in range(400)) + "int main(void) { int s = 0;" + "".join(f" s += f{i}(s & 3);" for i in range(400)) + ' printf("%d\\n", s); return 0; }\n'

SCRIPT = r"""
declare -A count
for word in $(seq 1 400) one two two; do count[$word]=$(( ${count[$word]:-0} + 1 )); done
for key in "${!count[@]}"; do echo "$key ${count[$key]}"; done | sort | md5sum
text=$(printf 'line %s\n' $(seq 300)); echo "${#text}" "${text//line/LINE}" | wc
f() { local n=$1; (( n < 2 )) && echo 1 || echo $(( $(f $((n-1))) + $(f $((n-2))) )); }; f 7
cat <(echo a) <(echo b); echo "$(< $0)" | tail -1 | tr a-z A-Z; trap 'echo bye' EXIT; (exit 3); echo $?; exit 5
"""

SQL = """create table t(id integer primary key, name text, value real);
with recursive n(i) as (select 1 union all select i+1 from n where i<40000) insert into t select i, 'name '||(i*7919%10007), i*0.5 from n;
create index by_name on t(name); select count(*), sum(value), max(name) from t; update t set value=value*2 where id%3=0;
select name, count(*) c from t group by name order by c desc, name limit 5; delete from t where id%2=0; vacuum;
select count(*), sum(length(name)), group_concat(substr(name,1,6)) from (select * from t limit 30); pragma integrity_check;"""

# name: program needed, package, files to write, bash script. Compared: status, both streams, every file left behind.
CASES = {
    "bash": ("bash", "bash", {"s.sh": SCRIPT}, "bash s.sh"),
    "gcc": ("gcc", "gcc", {"a.c": C}, "gcc -O2 -g -c a.c -o a.o && gcc -O0 a.c -o a && ./a"),
    "g++": ("g++", "g++", {"a.cpp": CXX}, "g++ -std=c++17 -O1 -g -c a.cpp -o a.o && g++ a.o -o a && ./a"),
    "node": ("node", "nodejs", {"w.js": NODE}, "node w.js | sort"),
    "sqlite3": ("sqlite3", "sqlite3", {"q.sql": SQL}, "sqlite3 t.db < q.sql && sqlite3 t.db .dump | md5sum && rm t.db"),
    "perl": ("perl", "perl", {}, r"""perl -e 'my %h; for (1..60000) { $h{"k".($_*7919%5003)} .= chr(65+$_%26); }
        my $s = join ",", map { "$_=".length($h{$_}) } sort keys %h; print length($s), "\n"; $s =~ s/(\d+)/<$1>/g; print substr($s,0,99), "\n";
        if (my $p = fork) { waitpid $p, 0; print $?>>8, "\n" } else { my @a = map { "x" x $_ } 1..500; exit 9 }; exit 4'"""),
    "git": ("git", "git", {"a.txt": "one\n" * 500, "b/c.txt": "two\n" * 300},
            """export GIT_AUTHOR_DATE='1700000000 +0000' GIT_COMMITTER_DATE='1700000000 +0000' HOME=$PWD
            export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b
            git init -q -b main . && git add . && git commit -q -m first && seq 1000 > a.txt && git commit -qam second
            git log --stat --format=%H && git diff HEAD~1 | md5sum && git gc -q && git fsck && git clone -q . ../clone$$ && git blame a.txt | md5sum
            rm -rf ../clone$$ .git"""),
    "tar-xz": ("xz", "xz-utils tar", {}, """cp -r /usr/include/x86_64-linux-gnu/bits d && tar --sort=name --mtime=@0 --owner=0 --group=0 -cf d.tar d
            xz -T2 -k d.tar && xz -dc d.tar.xz | cmp - d.tar && tar -xJf d.tar.xz -O | md5sum && gzip -n d.tar && rm -r d"""),
    "find-sort": ("sort", "coreutils findutils", {}, "find /usr/include -type f | sort -S 3M --parallel=2 -r | md5sum; grep -rhc define /usr/include/linux | sort -n | uniq -c | tail -3; awk 'BEGIN { for (i=0;i<100000;i++) a[i%977]=a[i%977] i; for (k in a) n+=length(a[k]); print n }'"),
    "python": ("/usr/bin/python3", "python3", {}, """/usr/bin/python3 -X dev -c 'import json, re, subprocess, threading, multiprocessing as mp
d = {str(i): [i]*5 for i in range(20000)}; print(len(json.dumps(d)), sum(map(len, json.loads(json.dumps(d)).values())))
with mp.get_context("fork").Pool(2) as pool: print(pool.map(str, range(8)))
t = [threading.Thread(target=lambda: sorted(range(20000), key=str)) for _ in range(6)]; [x.start() for x in t]; [x.join() for x in t]
print(subprocess.run(["cat"], input=b"x"*100000, capture_output=True).stdout.count(b"x")); raise SystemExit(6)'"""),
}


def lay(folder, files):
    folder.mkdir()
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(content)
        os.utime(path, (1_600_000_000, 1_600_000_000))


def left_behind(folder):
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.rglob("*")) if p.is_file()}


def preload(tmp_path, **options):
    env = {"LD_PRELOAD": harness.LIBRARY, "XDG_STATE_HOME": tmp_path / "state"}
    return {**env, "FA_OPTIONS": harness.option_text(options.items())} if options else env


@pytest.fixture(scope="module")
def without(tmp_path_factory):
    """What a case does without us, made once; always in the same folder, since paths get into outputs."""
    folder = tmp_path_factory.mktemp("programs") / "work"
    known = {}

    def run(name, env=None):
        program, package, files, script = CASES[name]
        if not shutil.which(program):
            pytest.skip(f"{program} is not installed (package {package})")
        if env is None and name in known:
            return known[name]
        lay(folder, files)
        done = harness.plain(["bash", "-c", script], env=env, cwd=folder)
        result = done.status, done.stdout, done.stderr, left_behind(folder)
        shutil.rmtree(folder)
        if env is None:
            known[name] = result
        return result

    return run


OPTIONS = {"default": {}, "every-process": {"follow": 1}, "every-process-observe": {"follow": 1, "mode": "observe"}}


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("name", CASES)
def test_same_as_without(built, tmp_path, without, name, options):
    expected = without(name)
    assert without(name, preload(tmp_path, **OPTIONS[options])) == expected
    recordings = list((tmp_path / "state" / "framealloc").glob("*.fatrace*"))
    assert any(r.name.startswith("fa-bash-") for r in recordings)
    pids = {r.name.split("-")[-1].split(".")[0] for r in recordings}
    if options == "default":
        assert len(pids) == 1, "a child recorded unasked"
        return
    for recording in recordings[:20]:
        report = harness.read_report(recording)
        assert sum(report["verdicts"].values()) == report["totals"]["allocs"]
        assert not [v for v in report["violations"] if v["code"] in ("FA901", "FA902")]


def python_results(folder, module, env):
    out = folder / "results.xml"
    run = harness.plain(["/usr/bin/python3", "-m", "test", "-u", "none", "--junit-xml", out, module], env=env, timeout=300, cwd=folder)
    assert out.exists(), harness.text(run.stderr)
    results = {}
    for case in ElementTree.parse(out).iter("testcase"):
        kinds = sorted(child.tag for child in case if child.tag in ("failure", "error", "skipped"))
        results[case.get("name")] = kinds
    return run.status, results


@pytest.mark.parametrize("module", ["test_dict", "test_json", "test_threading", "test_subprocess"])
def test_cpython_own_tests(built, tmp_path, module):
    if harness.plain(["/usr/bin/python3", "-c", "import test.test_dict"]).status:
        pytest.skip("CPython's tests are not installed (package libpython3.*-testsuite)")
    folders = [tmp_path / "plain", tmp_path / "shim"]
    results = []
    for folder, env in zip(folders, ({}, preload(tmp_path))):
        folder.mkdir()
        results.append(python_results(folder, module, env))
    plain, shimmed = results
    different = {n: (plain[1].get(n), shimmed[1].get(n)) for n in plain[1].keys() | shimmed[1].keys() if plain[1].get(n) != shimmed[1].get(n)}
    assert different == {}
    assert plain[0] == shimmed[0]
    assert len(plain[1]) > 50


PAGE = """<!doctype html><title>t</title><body><ul id=u></ul><script>
for (let i = 0; i < 2000; i++) { const li = document.createElement('li'); li.textContent = 'item ' + i * 7919 % 1009; u.append(li); }
const s = [...u.children].map(e => e.textContent).sort(); u.replaceChildren(...s.filter((x, i) => i % 100 == 0).map(t => { const e = document.createElement('b'); e.textContent = t; return e; }));
document.title = JSON.stringify(s).length;</script>"""


@pytest.mark.alone
def test_headless_chromium_dumps_the_same_page(built, tmp_path):
    if not shutil.which("chromium"):
        pytest.skip("chromium is not installed (package chromium)")
    page = tmp_path / "page.html"
    page.write_text(PAGE)
    outputs = []
    for name, env in (("plain", {}), ("shim", preload(tmp_path))):
        profile = tmp_path / name
        command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
                   "--disable-component-update", "--disable-sync", f"--user-data-dir={profile}", "--dump-dom", f"file://{page}"]
        run = harness.plain(command, env={**env, "HOME": tmp_path}, timeout=120)
        outputs.append((run.status, run.stdout))
    assert outputs[0][0] == 0 and b"item" in outputs[0][1]
    assert outputs[0] == outputs[1]
