"""cluster-node: messages a second from one application to two other nodes, and how soon a death is noticed."""

import json
import os
import signal
import statistics
import subprocess
import sys
import time
import urllib.request

from contest import note
from servers import free_ports, spawn, wait_until
from tables import table

PEERS = []
NODES = 3
# Of the messages of a round.
SIZES = (64, 1024)
CLIENT = os.path.join(os.path.dirname(__file__), "..", "..", "..", "bins", "cluster-node", "examples", "app.py")


def python():
    """A Python that has pyzmq."""
    for name in (sys.executable, "/usr/bin/python3"):
        if subprocess.run([name, "-c", "import zmq"], capture_output=True, check=False).returncode == 0:
            return name
    raise SystemExit("cluster-node is measured through python3-zmq: install it")


def cluster(bench, name, *flags):
    """Three nodes that have joined; gives their processes, APIs and endpoints for applications."""
    ports = free_ports(2 * NODES)
    links, apis = ports[:NODES], ports[NODES:]
    secret = bench.file(f"{name}-secret", "a secret for a bench of this cluster\n")
    os.chmod(secret, 0o600)
    nodes, apps = [], [f"ipc://{bench.folder}/{name}-{at}.sock" for at in range(NODES)]
    for at in range(NODES):
        command = ["cluster-node", "--name", f"n{at}", "--listen", f"tcp://127.0.0.1:{links[at]}"]
        command += ["--secret-file", secret, "--api", f"127.0.0.1:{apis[at]}", "--app", apps[at]]
        command += ["--connect-interval", "100ms", "--app-patience", "30s", *flags]
        for other in range(NODES):
            if other != at:
                command += ["--peer", f"n{other}=tcp://127.0.0.1:{links[other]}"]
        nodes.append(spawn(bench, f"{name}-n{at}", command))
    for at in range(NODES):
        wait_until(f"n{at} to see all others", lambda at=at: all(online(apis[at], f"n{at}")), 30)
    return nodes, apis, apps


def online(api, name):
    """For each peer, whether it is online."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{api}/api/v1/cluster/{name}", timeout=5) as answer:
            nodes = json.load(answer)["data"]["nodes"]
    except OSError:
        return [False]
    return [node["status"] == "Online" for node in nodes.values()]


def rate(bench, apps, size, count):
    """Messages a second until the last of two readers has the last one."""
    client, text = python(), bench.file(f"lines-{size}", f"{'x' * (size - 1)}\n" * count)
    readers = []
    for at in (1, 2):
        reader = subprocess.Popen([client, CLIENT, apps[at]], stdout=subprocess.PIPE)
        readers.append(reader)
    time.sleep(1)
    with open(text, "rb") as lines:
        begin = time.monotonic()
        subprocess.run([client, CLIENT, apps[0], "send"], stdin=lines, check=True)
    for reader in readers:
        for _ in range(count):
            line = reader.stdout.readline()
            if line.startswith(b"#"):
                raise SystemExit(f"cluster-node: {line.decode().strip()}")
    seconds = time.monotonic() - begin
    for reader in readers:
        reader.kill()
        reader.wait()
    return count / seconds


def broadcasts(bench, rounds, seconds):
    """From an application at one node to applications at two others, over loopback."""
    _, _, apps = cluster(bench, "rate")
    lines = []
    for size in SIZES:
        count = 20_000 * seconds
        rates = [rate(bench, apps, size, count) for _ in range(rounds)]
        note(f"{size} B: {', '.join(f'{value:,.0f}' for value in rates)} messages/s")
        lines.append([f"{size:,} B", *[f"{value:,.0f}" for value in (min(rates), statistics.median(rates), max(rates))]])
    return (
        "### Messages between applications\n\nOne Python program sends to all by `--app`, one at each of two other nodes prints what comes; "
        "counted until both have all of them, none missing. The programs take most of the processor; the original lost 43 % of 64 B messages at 41-52 k/s.\n\n"
        + table(["messages/s to each", "least", "median", "most"], lines)
    )


def deaths(bench, rounds, _seconds):
    """A node is killed; when does another one's stream of events say so?"""
    gaps = []
    for number in range(rounds):
        nodes, apis, _ = cluster(bench, f"death-{number}")
        stream = urllib.request.urlopen(f"http://127.0.0.1:{apis[0]}/api/v1/cluster/n0/events", timeout=30)
        stream.readline()
        begin = time.monotonic()
        nodes[2].process.send_signal(signal.SIGKILL)
        while not stream.readline().startswith(b"event: leave"):
            pass
        gaps.append((time.monotonic() - begin) * 1000)
        stream.close()
        for node in nodes:
            node.stop()
            bench.started.remove(node)
    note(f"kill -9: {', '.join(f'{gap:.1f}' for gap in gaps)} ms")
    row = ["kill -9 to `leave`", *[f"{value:.1f}" for value in (min(gaps), statistics.median(gaps), max(gaps))]]
    return "### Deaths\n\nIn milliseconds, at a reader of the events of another node.\n\n" + table(["", "least", "median", "most"], [row])


CASES = {"broadcasts": broadcasts, "deaths": deaths}
