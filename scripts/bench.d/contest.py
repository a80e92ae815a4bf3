"""Contenders under the same load, in turns."""

import contextlib
import dataclasses
import statistics
import sys
import typing

import machine
import wrk
from servers import Server

WARM_UP = 2


def note(line):
    """Progress, for whoever watches."""
    print(f"bench: {line}", file=sys.stderr, flush=True)


@dataclasses.dataclass
class Contender:
    """A server with its load: what `wrk.run` takes beside folder, port and seconds."""

    server: Server
    load: dict
    # A context for the time of one run.
    during: typing.Callable = contextlib.nullcontext
    # Called after each run; gives more figures.
    after: typing.Callable = dict


def measured(bench, contender, seconds):
    """One run, with the processor time per request and the highest memory of the server."""
    server = contender.server
    before = machine.cpu_seconds(server.pid)
    with machine.PeakRss(server.pid) as memory, contender.during():
        seen = wrk.run(bench.folder, server.port, seconds=seconds, **contender.load)
    used = machine.cpu_seconds(server.pid) - before
    seen["cpu_us"] = used * 1e6 / max(seen["requests"], 1)
    seen["rss"] = memory.peak
    seen.update(contender.after())
    return seen


def interleaved(bench, contenders, rounds, seconds):
    """Warm-up, then each contender once a round; a row of medians each."""
    runs = {name: [] for name in contenders}
    idle = {name: machine.rss_mib(contender.server.pid) for name, contender in contenders.items()}
    for contender in contenders.values():
        wrk.run(bench.folder, contender.server.port, seconds=WARM_UP, **contender.load)
        contender.after()
    for number in range(rounds):
        for name, contender in contenders.items():
            seen = measured(bench, contender, seconds)
            runs[name].append(seen)
            note(f"round {number + 1}: {name}: {seen['rate']:.0f}/s, p99 {seen['p99']:.2f} ms")
    return [row(name, seen, idle[name]) for name, seen in runs.items()]


def row(name, runs, idle):
    """Medians, but for what is only told by all runs together."""
    seen = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
    seen.update(name=name, idle=idle, errors=sum(run["errors"] for run in runs))
    for key in ("rss", "most"):
        seen[key] = max(run[key] for run in runs)
    seen["spread"] = (min(run["rate"] for run in runs), max(run["rate"] for run in runs))
    return seen


def best(rows, prefix):
    """The fastest of the contenders whose names start so."""
    return max((row for row in rows if row["name"].startswith(prefix)), key=lambda row: row["rate"])


def ratio(ours, theirs):
    """How many times as fast."""
    return f"{ours['rate'] / theirs['rate']:.2f} x {theirs['name']}"
