"""spawn-proxy: reads, updates, and a node that was away."""

import statistics
import time

import machine
import wrk
from cases.spawn_proxy_servers import Nodes, pending, set_maintenance, wait_drained
from contest import Contender, best, interleaved, note, ratio
from tables import contenders as contenders_table

PEERS = [("haproxy", "-v"), ("nginx", "-v")]
CATCH_UP = 100_000
POST = wrk.ready("""
  local body = string.rep("x", 1024)
  for n = 1, 10000 do ready[n] = wrk.format("POST", "/kv/" .. n, nil, body) end
""")


def get(bench, rounds, seconds):
    """Reads, against proxies that do nothing else."""
    nodes = Nodes(bench)
    servers = {
        "direct": nodes.server,
        "spawn-proxy": nodes.spawn_proxy("spawn-proxy-get", "--round-robin"),
        "haproxy nbthread 1": nodes.haproxy(1),
        "haproxy nbthread 2": nodes.haproxy(2),
        "nginx 1 worker": nodes.nginx(1),
        "nginx 2 workers": nodes.nginx(2),
    }
    load = {"connections": 64}
    rows = interleaved(bench, {name: Contender(server, load) for name, server in servers.items()}, rounds, seconds)
    for server in servers.values():
        bench.stop(server)
    ours = best(rows, "spawn-proxy")
    ratios = ", ".join(ratio(ours, best(rows, peer)) for peer in ("haproxy", "nginx", "direct"))
    return (
        "### GET, 600 bytes, 64 connections\n\nNodes are one nginx worker on three ports.\n\n"
        f"{contenders_table(rows)}\n\nspawn-proxy: {ratios}."
    )


def post(bench, rounds, seconds):
    """Updates to three nodes."""
    nodes = Nodes(bench)
    proxy, mirror = nodes.spawn_proxy("spawn-proxy-post"), nodes.nginx_mirror()

    def drained():
        # What it still owes is delivered before the next one starts, and the time for it is told.
        start = time.monotonic()
        wait_drained(proxy, pending(proxy))
        return {"drain": time.monotonic() - start}

    load = {"connections": 256, "script": POST}
    nothing = lambda: {"drain": 0.0}
    servers = {
        "direct, one node": Contender(nodes.server, load, after=nothing),
        "spawn-proxy": Contender(proxy, load, after=drained),
        "nginx mirror": Contender(mirror, load, after=nothing),
    }
    rows = interleaved(bench, servers, rounds, seconds)
    for server in (mirror, proxy, nodes.server):
        bench.stop(server)
    ours = best(rows, "spawn-proxy")
    ratios = ", ".join(ratio(ours, best(rows, peer)) for peer in ("nginx mirror", "direct"))
    return (
        "### POST, 1 KiB, to three nodes, 256 connections, 10,000 paths\n\n"
        "spawn-proxy has each update on disk before it sends it and answers with a node's answer; nginx `mirror`"
        " keeps nothing and does not look at the copies' answers. `drain s`: from the end of the load until all"
        f" three nodes had everything.\n\n{contenders_table(rows, [('drain s', 'drain')])}\n\nspawn-proxy: {ratios}."
    )


def catch_up_once(bench, nodes, seconds):
    """A node is out for 100,000 updates and comes back: how fast it gets them, against plain POSTs."""
    proxy = nodes.spawn_proxy("spawn-proxy-catch-up", "--ordering", "global", "--ack", "queued")
    away = f"127.0.0.1:{nodes.ports[2]}"
    set_maintenance(proxy, away, True)
    while pending(proxy)[away] < CATCH_UP:
        wrk.run(bench.folder, proxy.port, connections=64, seconds=2, script=POST)
    wait_drained(proxy, [node for node in pending(proxy) if node != away])
    direct = wrk.run(bench.folder, nodes.server.port, connections=1, seconds=seconds, script=POST)
    owed = pending(proxy)[away]
    before, start = machine.cpu_seconds(proxy.pid), time.monotonic()
    set_maintenance(proxy, away, False)
    wait_drained(proxy, [away])
    took = time.monotonic() - start
    used = machine.cpu_seconds(proxy.pid) - before
    bench.stop(proxy)
    return {"owed": owed, "rate": owed / took, "direct": direct["rate"], "cpu_us": used * 1e6 / owed}


def catch_up(bench, rounds, seconds):
    """The medians of up to three such times."""
    nodes = Nodes(bench)
    runs = []
    for number in range(min(rounds, 3)):
        runs.append(catch_up_once(bench, nodes, seconds))
        note(f"round {number + 1}: catch-up: {runs[-1]['rate']:.0f}/s, direct {runs[-1]['direct']:.0f}/s")
    bench.stop(nodes.server)
    row = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
    return (
        "### A node comes back\n\n"
        f"One node was out for {row['owed']:,.0f} updates of 1 KiB (`--ordering global`: one at a time). It got"
        f" {row['rate']:,.0f} updates/s, {row['rate'] / row['direct']:.2f} x the {row['direct']:,.0f}/s of plain"
        f" POSTs over one connection; {row['cpu_us']:.1f} us of processor time each."
    )


CASES = {"get": get, "post": post, "catch-up": catch_up}
