"""Deterministic work for a patched interpreter: hashing, parsing, regular expressions, exceptions, a database, threads."""
import decimal
import hashlib
import itertools
import json
import math
import random
import re
import sqlite3
import threading
import zlib


class Deep(Exception):
    pass


def fail_at(depth):
    if depth == 0:
        raise Deep(5)
    fail_at(depth - 1)


def caught(times):
    total = 0
    for _ in range(times):
        try:
            fail_at(10)
        except Deep as error:
            total += error.args[0]
    return total


source = random.Random(3)
text = json.dumps({str(i): [source.random() for _ in range(20)] for i in range(500)})
print(hashlib.sha256(text.encode()).hexdigest(), zlib.crc32(zlib.compress(text.encode())))
print(len(re.findall(r"(\d+)\.(\d*?)7", text)), sum(decimal.Decimal(1) / i for i in range(1, 200)))
print(caught(2000), sorted(itertools.permutations("abcde"))[77], math.gamma(7.5))

database = sqlite3.connect(":memory:")
database.execute("create table squares(number, square)")
database.executemany("insert into squares values(?, ?)", [(i, str(i * i)) for i in range(3000)])
print(database.execute("select sum(number), count(distinct square) from squares where number % 7 = 3").fetchall())

sums = []
threads = [threading.Thread(target=lambda k=k: sums.append(sum(i * k for i in range(10000)))) for k in range(6)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(sorted(sums))
