"""reception-agent: from registering to being seen, against bare clients of the same servers; and many services watched at once."""

import base64
import http.client
import json
import os
import statistics
import subprocess
import time

import machine
from contest import note
from servers import ask, free_ports, spawn, wait_until
from tables import table

PEERS = [("etcd", "--version"), ("consul", "version")]
JAR, LOGGER = "/usr/share/java/zookeeper.jar", "/usr/share/java/slf4j-simple.jar"
# Registered one after the other by each client, which the rounds multiply.
INSTANCES = 40
SERVICES, EACH = 1000, 20
# Entries that one transaction of etcd may have by default.
BATCH = 100


def etcd(bench):
    """A server of its own; the port."""
    client, peer = free_ports(2)
    urls = ["--listen-client-urls", f"http://127.0.0.1:{client}", "--advertise-client-urls", f"http://127.0.0.1:{client}"]
    urls += ["--listen-peer-urls", f"http://127.0.0.1:{peer}"]
    spawn(bench, "etcd", ["etcd", "--data-dir", os.path.join(bench.folder, f"etcd-{client}"), *urls])
    wait_until("etcd", lambda: ask(client, "GET", "/health")[0] == 200, 30)
    return client


def consul(bench):
    """A development server; the port."""
    port, dns, serf, wan, server = free_ports(5)
    ports = {"http": port, "dns": dns, "serf_lan": serf, "serf_wan": wan, "server": server, "grpc": -1}
    config = bench.file("consul.json", json.dumps({"ports": ports}))
    program = os.path.join(os.path.dirname(bench.binaries), "tools", "consul")
    program = program if os.path.exists(program) else "consul"
    spawn(bench, "consul", [program, "agent", "-dev", "-bind=127.0.0.1", f"-config-file={config}"])
    wait_until("consul", lambda: len(ask(port, "GET", "/v1/status/leader")[1]) > 2, 30)
    return port


def zookeeper(bench):
    """A server of its own; the port."""
    (port,) = free_ports(1)
    lines = ["tickTime=2000", f"dataDir={bench.folder}/zookeeper", f"clientPort={port}", "admin.enableServer=false"]
    lines += ["clientPortAddress=127.0.0.1", "4lw.commands.whitelist=*", "maxClientCnxns=0"]
    config = bench.file("zoo.cfg", "\n".join(lines) + "\n")
    java = ["java", "-Xmx256m", "-cp", f"{JAR}:{LOGGER}", "org.apache.zookeeper.server.quorum.QuorumPeerMain"]
    spawn(bench, "zookeeper", [*java, config])
    wait_until("zookeeper", lambda: listens(port), 40)
    return port


def listens(port):
    """Whether a server answers the four letters that ask for its state."""
    done = subprocess.run(
        ["bash", "-c", f"exec 3<>/dev/tcp/127.0.0.1/{port} && printf ruok >&3 && timeout 2 cat <&3"],
        capture_output=True, text=True, check=False,
    )
    return done.stdout == "imok"


def percentile(values, share):
    """The value below which so many of 100 lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, len(ordered) * share // 100)]


def seen(bench, rounds, _seconds):
    """Until a watcher in another client shows what was registered."""
    example = os.path.join(bench.binaries, "examples", "register_seen")
    lines = []
    for name, url in (
        ("Consul", f"consul://127.0.0.1:{consul(bench)}"),
        ("etcd", f"etcd://127.0.0.1:{etcd(bench)}/bench"),
        ("ZooKeeper", f"zk://127.0.0.1:{zookeeper(bench)}/bench"),
    ):
        done = subprocess.run([example, url, str(rounds * INSTANCES)], capture_output=True, text=True, check=True)
        took = {row.split()[0]: [float(time) for time in row.split()[1:]] for row in done.stdout.splitlines()}
        ours, bare = took["ours"], took["bare"]
        halves = [statistics.median(ours[: len(ours) // 4]), statistics.median(ours[-(len(ours) // 4):])]
        p50 = statistics.median(ours), statistics.median(bare)
        p99 = percentile(ours, 99), percentile(bare, 99)
        note(f"{name}: ours {p50[0]:.2f} / {p99[0]:.2f} ms, bare {p50[1]:.2f} / {p99[1]:.2f} ms")
        lines.append([
            name, f"{p50[0]:.2f} / {p99[0]:.2f}", f"{p50[1]:.2f} / {p99[1]:.2f}", f"{p50[0] / p50[1]:.2f}",
            f"{p99[0] / p99[1]:.2f}", f"{halves[0]:.2f} / {halves[1]:.2f}",
        ])
    head = ["ms, p50 / p99", "ours", "bare client", "ratio p50", "ratio p99", "ours, first / last quarter"]
    return (
        f"### Registered and seen\n\nFrom asking to be registered until a watcher of another client shows it; {rounds * INSTANCES} "
        "instances, one after the other, of a list that grows by each. The bare client does the least that its server allows.\n\n"
        + table(head, lines)
    )


def fill(port):
    """Puts all instances into etcd, without leases."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    puts = []
    for service in range(SERVICES):
        for instance in range(EACH):
            value = {"address": "10.0.0.1", "port": 8000 + instance, "attributes": {"zone": "a"}}
            puts.append((f"/bench/service-{service:04}/instance-{instance:02}", json.dumps(value)))
    for start in range(0, len(puts), BATCH):
        some = [{"requestPut": {"key": b64(key), "value": b64(value)}} for key, value in puts[start : start + BATCH]]
        connection.request("POST", "/v3/kv/txn", json.dumps({"success": some}))
        answer = connection.getresponse()
        if b'"succeeded":true' not in answer.read():
            raise SystemExit(f"bench: etcd did not take the instances: {answer.status}")
    connection.close()


def b64(text):
    """As the gateway wants keys and values."""
    return base64.b64encode(text.encode()).decode()


def holds(path, text):
    """Whether the file is there and has the text in it."""
    try:
        with open(path, encoding="utf-8") as file:
            return text in file.read()
    except FileNotFoundError:
        return False


def watched(bench, rounds, seconds):
    """One agent that watches everything and renders it for keyrouter."""
    port = etcd(bench)
    fill(port)
    (api,) = free_ports(1)
    path = os.path.join(bench.folder, "services.toml")
    config = bench.file("agent.toml", f'[[render]]\npath = "{path}"\nservices = ["*"]\nformat = "keyrouter"\n')
    begun = time.monotonic()
    command = ["reception-agent", "--backend", f"etcd://127.0.0.1:{port}/bench", "--config", config]
    agent = spawn(bench, "agent", [*command, "serve", "--api", f"127.0.0.1:{api}"])
    wait_until("the file", lambda: holds(path, f"service-{SERVICES - 1:04}"), 120)
    first = time.monotonic() - begun
    time.sleep(2)
    pid = agent.process.pid
    idle = cpu_share(pid, seconds)
    delays = []
    before = machine.cpu_seconds(pid)
    at = time.monotonic()
    for number in range(rounds * 10):
        key = f"/bench/service-{number:04}/joined"
        address = f"joined-{number}"
        value = json.dumps({"address": address, "port": 1, "attributes": {}})
        put = time.monotonic()
        ask(port, "POST", "/v3/kv/put", json.dumps({"key": b64(key), "value": b64(value)}))
        wait_until("the change in the file", lambda wanted=address: holds(path, wanted), 30)
        delays.append((time.monotonic() - put) * 1000)
    changing = (machine.cpu_seconds(pid) - before) / (time.monotonic() - at)
    rss = machine.rss_mib(pid)
    note(f"{SERVICES} services: first file {first:.1f} s, {rss:.0f} MiB, idle {idle:.1%}, changing {changing:.1%}")
    row = [
        f"{first:.1f} s", f"{rss:.0f} MiB", f"{idle:.1%}", f"{statistics.median(delays):.0f} / {max(delays):.0f} ms",
        f"{changing:.0%}",
    ]
    head = ["first file after", "RSS", "processor, idle", "change to file, median / most", "processor, changing"]
    return (
        f"### {SERVICES:,} services of {EACH} instances\n\nOne agent watches all of them in etcd and renders one file; the changes come one "
        "after the other, each when the one before is in the file.\n\n" + table(head, [row])
    )


def cpu_share(pid, seconds):
    """Of one processor, over so many seconds."""
    before = machine.cpu_seconds(pid)
    time.sleep(seconds)
    return (machine.cpu_seconds(pid) - before) / seconds


CASES = {"seen": seen, "watched": watched}
