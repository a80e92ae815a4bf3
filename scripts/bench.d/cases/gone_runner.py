"""gone-runner: messages against bare libzmq, and how long a fail-over takes against `etcdctl lock`."""

import os
import random
import signal
import statistics
import subprocess
import time

from contest import note
from servers import free_ports, spawn, wait_until
from tables import table

PEERS = [("redis-server", "--version"), ("etcd", "--version")]
# Of leases, in seconds: the least that etcd takes.
EXPIRY = 2
# Appends when it began, in nanoseconds of the system's clock, then waits to be killed.
CHILD = 'echo "$$ $(date +%s%N)" >>"$BEGUN"\nexec sleep 1000\n'


def messages(bench, rounds, seconds):
    """From a sender to a child that takes them at once, in one process, over loopback."""
    command = [os.path.join(bench.binaries, "examples", "message_rate"), str(rounds), str(seconds)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = []
    for row in done.stdout.splitlines()[1:]:
        note(row)
        size, raw, req, ours, single, ratio, single_ratio = row.split()
        rates = [f"{float(rate.removesuffix('/s')):,.0f}" for rate in (ours, raw, single, req)]
        lines.append([f"{int(size):,} B", rates[0], rates[1], ratio, rates[2], rates[3], single_ratio])
    head = ["messages/s", "ours", "bare DEALER/ROUTER", "ratio", "ours, one by one", "bare REQ/REP", "ratio"]
    return (
        "### Messages\n\nAcknowledged by the holder, in order, in flight side by side; `one by one` waits for each. "
        "Bare libzmq sends without acknowledgements, or an empty reply to each.\n\n" + table(head, lines)
    )


def begun(path):
    """When children began, in seconds, with their process ids."""
    try:
        with open(path, encoding="utf-8") as file:
            rows = [line.split() for line in file if line.endswith("\n")]
    except FileNotFoundError:
        return []
    return [(int(pid), int(at) / 1e9) for pid, at in rows]


def fail_over(bench, name, contender, how, rounds):
    """How long nobody runs after the holder is killed or told to end, in seconds, once a round."""
    gaps = []
    path = os.path.join(bench.folder, f"{name}-begun")
    running = [contender(f"{name}-0", path)]
    wait_until(f"{name} to run at all", lambda: len(begun(path)) == 1, 60)
    for number in range(rounds):
        running.append(contender(f"{name}-{number + 1}", path))
        # At any point of the time between two renewals, and when the other has begun to wait.
        time.sleep(1 + random.random() * EXPIRY)
        holder, before = running.pop(0), len(begun(path))
        at = time.time()
        if how == signal.SIGTERM and name.startswith("etcdctl"):
            # It waits for its child, which nobody else tells.
            os.killpg(holder.process.pid, how)
        else:
            holder.process.send_signal(how)
        wait_until(f"{name} to be taken over", lambda: len(begun(path)) > before, 60)
        gaps.append(begun(path)[-1][1] - at)
        holder.stop()
        bench.started.remove(holder)
    for process in running:
        process.stop()
        bench.started.remove(process)
    return gaps


def failover(bench, rounds, _seconds):
    """A holder is killed, or told to end; when does the other one's child begin?"""
    redis_port, client, peer = free_ports(3)
    spawn(bench, "redis", ["redis-server", "--port", str(redis_port), "--save", "", "--dir", bench.folder])
    etcd = f"http://127.0.0.1:{client}"
    urls = ["--listen-client-urls", etcd, "--advertise-client-urls", etcd]
    urls += ["--listen-peer-urls", f"http://127.0.0.1:{peer}"]
    spawn(bench, "etcd", ["etcd", "--data-dir", os.path.join(bench.folder, "etcd"), *urls])
    time.sleep(2)
    child = bench.file("child.sh", CHILD)

    def runner(name, path):
        command = ["gone-runner", "run", "--id", "job", "--lock", f"redis://127.0.0.1:{redis_port}", "--fresh"]
        command += ["--expiry", f"{EXPIRY}s", "--", "sh", child]
        return spawn(bench, name, command, env={"BEGUN": path})

    def etcdctl(name, path):
        command = ["etcdctl", "--endpoints", etcd, "lock", "--ttl", str(EXPIRY), "job", "sh", child]
        return spawn(bench, name, command, env={"BEGUN": path, "ETCDCTL_API": "3"})

    lines = []
    for name, contender in (("gone-runner", runner), ("etcdctl lock", etcdctl)):
        for word, how in (("kill -9", signal.SIGKILL), ("SIGTERM", signal.SIGTERM)):
            gaps = fail_over(bench, f"{name}-{word}".replace(" ", "-"), contender, how, rounds)
            note(f"{name}, {word}: {', '.join(f'{gap:.3f}' for gap in gaps)} s")
            lines.append([f"{name}, {word}", *[f"{value * 1000:,.0f}" for value in
                                               (min(gaps), statistics.median(gaps), max(gaps))]])
    return (
        f"### Fail-over\n\nTime from the signal to the holder until the other one's child has begun, with an expiry of "
        f"{EXPIRY} s, in milliseconds; {rounds} rounds at random points between renewals. "
        "The child of an etcdctl that was killed by -9 goes on beside the new one; SIGTERM has to be sent to etcdctl's child "
        "too.\n\n"
        + table(["", "least", "median", "most"], lines)
    )


CASES = {"messages": messages, "fail-over": failover}
