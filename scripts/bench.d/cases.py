"""What is measured. Each case gives rows: a dictionary per contender."""

import json
import statistics
import sys
import time

import machine
import wrk
from servers import ask, pending, wait_until

WARM_UP = 2
CATCH_UP = 100_000
# With everything that is accepted on its way to three nodes, a queue may take a while to empty.
DRAIN_LIMIT = 600


def note(line):
    """Progress, for whoever watches."""
    print(f"bench: {line}", file=sys.stderr, flush=True)


def measured(bench, server, load):
    """One run of a load, with the processor time per request and the highest memory of the server."""
    before = machine.cpu_seconds(server.pid)
    with machine.PeakRss(server.pid) as memory:
        seen = wrk.run(bench.folder, server.port, **load)
    used = machine.cpu_seconds(server.pid) - before
    seen["cpu_us"] = used * 1e6 / max(seen["requests"], 1)
    seen["rss"] = memory.peak
    return seen


def interleaved(bench, contenders, rounds, load, after=lambda name: {}):
    """Warm-up, then each contender once a round; a row of medians each."""
    runs = {name: [] for name in contenders}
    idle = {name: machine.rss_mib(server.pid) for name, server in contenders.items()}
    for name, server in contenders.items():
        wrk.run(bench.folder, server.port, **{**load, "seconds": WARM_UP})
        after(name)
    for number in range(rounds):
        for name, server in contenders.items():
            seen = measured(bench, server, load)
            seen.update(after(name))
            runs[name].append(seen)
            note(f"round {number + 1}: {name}: {seen['rate']:.0f}/s, p99 {seen['p99']:.2f} ms")
    rows = []
    for name, seen in runs.items():
        row = {key: statistics.median(run[key] for run in seen) for key in seen[0]}
        row.update(name=name, errors=sum(run["errors"] for run in seen), idle=idle[name])
        row["rss"] = max(run["rss"] for run in seen)
        row["spread"] = (min(run["rate"] for run in seen), max(run["rate"] for run in seen))
        rows.append(row)
    return rows


def get(bench, backends, rounds, seconds):
    """GET of 600 bytes over 64 connections."""
    contenders = {
        "direct": backends,
        "spawn-proxy": bench.start_spawn_proxy("spawn-proxy-get", "--round-robin"),
        "haproxy nbthread 1": bench.start_haproxy(1),
        "haproxy nbthread 2": bench.start_haproxy(2),
        "nginx 1 worker": bench.start_nginx_proxy(1),
        "nginx 2 workers": bench.start_nginx_proxy(2),
    }
    rows = interleaved(bench, contenders, rounds, {"connections": 64, "seconds": seconds})
    for name, server in contenders.items():
        if name != "direct":
            bench.stop(server)
    return rows


def post(bench, backends, rounds, seconds):
    """POST of 1 KiB to three nodes over 256 connections, on 10,000 paths."""
    proxy = bench.start_spawn_proxy("spawn-proxy-post")
    contenders = {"direct, one node": backends, "spawn-proxy": proxy, "nginx mirror": bench.start_nginx_mirror()}

    def drained(name):
        # What it still owes is delivered before the next one starts, and the time for it is told.
        if name != "spawn-proxy":
            return {"drain": 0.0}
        start = time.monotonic()
        wait_until("the queues to empty", lambda: not any(pending(proxy).values()), DRAIN_LIMIT)
        return {"drain": time.monotonic() - start}

    load = {"connections": 256, "seconds": seconds, "post": True}
    rows = interleaved(bench, contenders, rounds, load, drained)
    for name in ("spawn-proxy", "nginx mirror"):
        bench.stop(contenders[name])
    return rows


def set_maintenance(proxy, port, on):
    """Takes a node out, or back in."""
    status, body = ask(proxy.api, "PUT", f"/nodes/127.0.0.1/{port}", json.dumps({"maintenance": on}))
    if status not in (200, 201, 202):
        raise SystemExit(f"bench: changing a node says {status}: {body[:300]!r}")


def catch_up_once(bench, backends, seconds):
    """A node is out for 100,000 updates and comes back: how fast it gets them, against plain POSTs."""
    proxy = bench.start_spawn_proxy("spawn-proxy-catch-up", "--ordering", "global", "--ack", "queued")
    away = bench.backends[2]
    node = f"127.0.0.1:{away}"
    set_maintenance(proxy, away, True)
    while pending(proxy)[node] < CATCH_UP:
        wrk.run(bench.folder, proxy.port, connections=64, seconds=2, post=True)
    others_done = lambda: not any(count for name, count in pending(proxy).items() if name != node)
    wait_until("the other nodes to have everything", others_done, DRAIN_LIMIT)
    direct = wrk.run(bench.folder, backends.port, connections=1, seconds=seconds, post=True, threads=1)
    owed = pending(proxy)[node]
    before, start = machine.cpu_seconds(proxy.pid), time.monotonic()
    set_maintenance(proxy, away, False)
    wait_until("the node to catch up", lambda: pending(proxy)[node] == 0, DRAIN_LIMIT)
    took = time.monotonic() - start
    used = machine.cpu_seconds(proxy.pid) - before
    bench.stop(proxy)
    return {"owed": owed, "rate": owed / took, "direct": direct["rate"], "cpu_us": used * 1e6 / owed}


def catch_up(bench, backends, rounds, seconds):
    """The medians of up to three such times."""
    runs = []
    for number in range(min(rounds, 3)):
        runs.append(catch_up_once(bench, backends, seconds))
        note(f"round {number + 1}: catch-up: {runs[-1]['rate']:.0f}/s, direct {runs[-1]['direct']:.0f}/s")
    return {key: statistics.median(run[key] for run in runs) for key in runs[0]}
