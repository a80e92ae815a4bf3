"""Measures the daemons against their peers in one sitting. Called by scripts/bench."""

import argparse
import datetime
import os
import shutil
import signal
import subprocess
import sys

import machine
import report
from cases import cluster_node, gone_runner, keyrouter, reception_agent, spawn_proxy
from servers import Bench

DAEMONS = {
    "spawn-proxy": spawn_proxy,
    "keyrouter": keyrouter,
    "gone-runner": gone_runner,
    "reception-agent": reception_agent,
    "cluster-node": cluster_node,
}


def names():
    """What --only takes: a daemon for all its cases, or a case."""
    return [name for daemon, module in DAEMONS.items() for name in (daemon, *module.CASES)]


def arguments():
    """What was asked for, with the cases by daemon."""
    parser = argparse.ArgumentParser(prog="scripts/bench")
    parser.add_argument("--rounds", type=int, default=5, help="rounds over all contenders (5)")
    parser.add_argument("--seconds", type=int, default=5, help="seconds per contender and round (5)")
    parser.add_argument("--only", default=",".join(DAEMONS), help="some of: " + ", ".join(names()))
    parser.add_argument("--save", action="store_true", help="write the report into the docs too")
    for hidden in ("--binaries", "--work", "--report"):
        parser.add_argument(hidden, required=True, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    only = asked.only.split(",")
    if unknown := set(only) - set(names()):
        parser.error(f"no such case: {', '.join(sorted(unknown))}")
    asked.cases = {}
    for daemon, module in DAEMONS.items():
        some = [case for case in module.CASES if case in only or daemon in only]
        if some:
            asked.cases[daemon] = some
        if asked.save and some and len(some) < len(module.CASES):
            parser.error(f"--save keeps a daemon's section whole: measure all cases of {daemon}")
    return asked


def version(*command):
    """The first line that a program says about itself."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return (done.stdout or done.stderr).splitlines()[0].strip()


def facts(asked, folder, module):
    """The lines that stand above a daemon's tables."""
    peers = "; ".join(version(*command).split(" - ")[0] for command in module.PEERS)
    return [
        ("date", datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d")),
        *machine.facts(),
        ("disk", f"{machine.file_system(folder)}, 4 KiB on disk in {machine.fsync_p50(folder):.2f} ms (median)"),
        ("peers", peers),
        ("rounds", f"{asked.rounds} of {asked.seconds} s each, interleaved, after a warm-up; medians"),
    ]


def measure(asked, folder):
    """Runs the cases asked for; the sections by daemon."""
    sections = {}
    for daemon, some in asked.cases.items():
        module = DAEMONS[daemon]
        known = facts(asked, folder, module)
        with Bench(folder, asked.binaries) as bench:
            parts = [module.CASES[case](bench, asked.rounds, asked.seconds) for case in some]
        sections[daemon] = report.section(daemon, known, parts)
    return sections


def main():
    """Measures, prints, and keeps it where that was asked."""
    asked = arguments()
    # So that an end by SIGTERM also ends what was started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folder = os.path.join(os.path.abspath(asked.work), str(os.getpid()))
    os.makedirs(folder)
    try:
        sections = measure(asked, folder)
    except BaseException:
        print(f"bench: logs and configurations are kept in {folder}", file=sys.stderr)
        raise
    shutil.rmtree(folder)
    print("\n".join(sections.values()))
    if asked.save:
        report.save(asked.report, sections, list(DAEMONS))
        print(f"bench: saved in {asked.report}", file=sys.stderr)


if __name__ == "__main__":
    main()
