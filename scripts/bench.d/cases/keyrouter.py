"""keyrouter: lookups, batches, memory, reloads under load, and the rings alone."""

import datetime
import itertools
import json
import os
import signal
import subprocess
import threading
import time

import machine
import wrk
from contest import Contender, best, interleaved, ratio
from servers import ask, free_ports, wait_until
from tables import contenders as contenders_table
from tables import table

PEERS = [("nginx", "-v")]
SIZES = (3, 100, 1000)
BATCH = 1000
LARGE = 100
# Between two reloads under load: more often than anybody's file changes.
PAUSE = 0.2


def service(name, count, mark="node"):
    """A service of so many nodes, all with names of one length, so that all answers have one, too."""
    nodes = "".join(f'    "{mark}-{number:04}.example:8080",\n' for number in range(count))
    return f'[[Services]]\nName = "{name}"\nNodes = [\n{nodes}]\n'


def start(bench, name, text, *flags):
    """A keyrouter with this file of services."""
    (port,) = free_ports(1)
    path = bench.file(f"{name}.toml", text)
    command = ["keyrouter", "--services", path, "--address", f"127.0.0.1:{port}", "--log-format", "json", *flags]
    server = bench.start(name, command, port, "/readyz")
    server.services = f"{name}.toml"
    return server


def nginx(bench, workers, body):
    """An nginx that answers everything with this body."""
    (port,) = free_ports(1)
    answer = f"""server {{ listen 127.0.0.1:{port} reuseport backlog=4096;
        default_type application/json;
        location / {{ return 200 '{body}'; }} }}"""
    name = f"nginx {workers} worker{'s' if workers > 1 else ''}"
    return name, bench.nginx(name, answer, port, workers)


def keys(path):
    """A script that asks for 10,000 keys in turn; `path` asks for the key `k`."""
    before, behind = path.split("key=k")
    return wrk.ready(f"""
  for n = 1, 10000 do ready[n] = wrk.format("GET", "{before}key=user-" .. n .. "{behind}") end
""")


def lookup(bench, rounds, seconds):
    """Lookups of one key, and of 10,000 keys, against the same bytes from a constant."""
    text = "".join(service(f"bar{size}", size) for size in SIZES)
    router = start(bench, "keyrouter", text)
    status, body = ask(router.port, "GET", "/service/bar3?key=k&min=1&max=3")
    if status != 200:
        raise SystemExit(f"bench: a lookup says {status}: {body[:300]!r}")
    constants = [nginx(bench, workers, body.decode()) for workers in (1, 2)]
    each = [(f"keyrouter, {size:,} nodes", router, f"/service/bar{size}?key=k&min=1&max=3") for size in SIZES]
    each += [(name, server, "/service/bar?key=k&min=1&max=3") for name, server in constants]
    parts = []
    for title, load in (
        ("one key", lambda path: {"path": path}),
        ("10,000 keys", lambda path: {"script": keys(path)}),
    ):
        contenders = {
            name: Contender(server, {"connections": 64, **load(path)}) for name, server, path in each
        }
        rows = interleaved(bench, contenders, rounds, seconds)
        peer = best(rows, "nginx")
        ratios = "; ".join(f"{row['name']}: {ratio(row, peer)}" for row in rows if row["name"].startswith("key"))
        parts.append(
            f"### GET /service/bar?key=..&min=1&max=3, {title}, 64 connections\n\n"
            f"nginx answers `return 200` with the same {len(body)} bytes and content type.\n\n"
            f"{contenders_table(rows, [('p99.9 ms', 'p999')])}\n\n{ratios}."
        )
    for server in (router, *[server for _, server in constants]):
        bench.stop(server)
    return "\n\n".join(parts)


def batch(bench, rounds, seconds):
    """Batches of 1,000 keys."""
    router = start(bench, "keyrouter-batch", "".join(service(f"bar{size}", size) for size in SIZES))

    def load(size, most):
        script = wrk.ready(f"""
  local headers = {{ ["Content-Type"] = "application/json" }}
  for n = 1, 50 do
    local keys = {{}}
    for k = 1, {BATCH} do keys[k] = '"user-' .. n * {BATCH} + k .. '"' end
    local body = '{{"keys":[' .. table.concat(keys, ",") .. '],"min":1,"max":{most}}}'
    ready[n] = wrk.format("POST", "/batch/bar{size}", headers, body)
  end
""")
        return Contender(router, {"connections": 64, "script": script})

    contenders = {f"{size:,} nodes, max {most}": load(size, most) for size in SIZES for most in (1, 3)}
    rows = interleaved(bench, contenders, rounds, seconds)
    bench.stop(router)
    lines = [
        [row["name"], f"{row['rate'] * BATCH:,.0f}", f"{row['rate']:,.0f}", f"{row['p99']:.2f}",
         f"{row['cpu_us'] * 1000 / BATCH:.0f}", f"{row['rss']:.0f}", row["errors"]]
        for row in rows
    ]
    head = ["", "keys/s", "batches/s", "p99 ms", "CPU ns/key", "RSS loaded MiB", "errors"]
    return f"### POST /batch/bar, {BATCH:,} keys each, 64 connections\n\n{table(head, lines)}"


def reload(bench, server, text):
    """Replaces the file and sends SIGHUP; milliseconds from there until the log says that it is in force."""
    bench.file(server.services, text)
    with open(server.log, "rb") as log:
        log.seek(0, os.SEEK_END)
        sent = time.time()
        os.kill(server.pid, signal.SIGHUP)
        rest, found = b"", []

        def loaded():
            nonlocal rest
            *lines, rest = (rest + log.read()).split(b"\n")
            for line in map(json.loads, lines):
                if line["message"].startswith("services loaded from"):
                    found.append(datetime.datetime.fromisoformat(line["timestamp"].replace("Z", "+00:00")))
            return found

        wait_until("the services to be loaded", loaded, 30)
    return (found[0].timestamp() - sent) * 1000


def memory(bench, *_):
    """Without services, with many, and while all of them change at once."""
    empty = start(bench, "keyrouter-empty", "")
    lines = [["idle, no services", f"{machine.rss_mib(empty.pid):.1f}"]]
    bench.stop(empty)
    many = lambda mark: "".join(service(f"bar{number}", 1000, mark) for number in range(LARGE))
    large = start(bench, "keyrouter-large", many("node"))
    lines.append([f"{LARGE} services of 1,000 nodes", f"{machine.rss_mib(large.pid):.1f}"])
    with machine.PeakRss(large.pid, 0.005) as peak:
        for number in range(4):
            reload(bench, large, many(f"nod{number}"))
    lines.append(["while all of them are replaced, the highest", f"{peak.peak:.1f}"])
    lines.append(["after four times of that", f"{machine.rss_mib(large.pid):.1f}"])
    bench.stop(large)
    return "### Memory\n\n" + table(["", "RSS MiB"], lines)


class Reloads:
    """Changes a service and reloads again and again while the block runs."""

    def __init__(self, bench, server, texts, turn, took):
        self.bench, self.server, self.texts, self.turn, self.took = bench, server, texts, turn, took
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self):
        while not self._done.wait(PAUSE):
            self.took.append(reload(self.bench, self.server, self.texts[next(self.turn)]))

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._done.set()
        self._thread.join()


def reloads(bench, rounds, seconds):
    """Lookups while a service of 1,000 nodes changes five times a second, and while nothing does."""
    other = service("other", 3)
    texts = [other + service("bar", 1000, mark) for mark in ("nodf", "node")]
    router = start(bench, "keyrouter-reload", texts[1])
    took, turn = [], itertools.cycle(range(len(texts)))
    during = lambda: Reloads(bench, router, texts, turn, took)
    contenders = {}
    for connections in (4, 64):
        for name in ("bar", "other"):
            load = {"connections": connections, "path": f"/service/{name}?key=k&min=1&max=3"}
            title = f"{'the service that changes' if name == 'bar' else 'another'}, {connections} connections"
            contenders[title] = Contender(router, load)
            contenders[f"{title}, reloads"] = Contender(router, load, during)
    rows = interleaved(bench, contenders, rounds, seconds)
    bench.stop(router)
    took.sort()
    head = ["", "req/s", "p50 ms", "p99 ms", "p99.9 ms", "slowest ms", "errors"]
    lines = [
        [row["name"], f"{row['rate']:,.0f}", *[f"{row[key]:.2f}" for key in ("p50", "p99", "p999", "most")],
         row["errors"]]
        for row in rows
    ]
    return (
        "### Reloads under load\n\n"
        f"A service of 1,000 nodes gets other nodes, by SIGHUP, {1 / PAUSE:.0f} times a second or less; "
        "`slowest` is the slowest of all rounds.\n\n"
        f"{table(head, lines)}\n\n"
        f"{len(took)} reloads took {took[len(took) // 2]:.1f} ms each (median; {took[-1]:.1f} ms the longest) "
        "from the signal until the new nodes were in force, with the processors shared with the load."
    )


def rings(bench, *_):
    """Lookups without HTTP."""
    command = [os.path.join(bench.binaries, "examples", "lookup_rate")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    lines = [
        [f"{row['algorithm']}, {row['nodes']:,} nodes", f"{row['lookups_per_second']:,.0f}", f"{row['build_ms']:.2f}"]
        for row in rows
    ]
    return (
        "### Lookups without HTTP, on one core\n\nmin 1, max 3, keys of 16 bytes.\n\n"
        + table(["", "lookups/s", "build ms"], lines)
    )


CASES = {"lookup": lookup, "batch": batch, "memory": memory, "reload": reloads, "rings": rings}
