"""Measures spawn-proxy against its peers in one sitting. Called by scripts/bench."""

import argparse
import datetime
import os
import shutil
import signal
import subprocess
import sys

import cases
import machine
import report
from servers import Bench

CASES = ("get", "post", "catch-up")


def arguments():
    """What was asked for."""
    parser = argparse.ArgumentParser(prog="scripts/bench")
    parser.add_argument("--rounds", type=int, default=5, help="rounds over all contenders (5)")
    parser.add_argument("--seconds", type=int, default=5, help="seconds per contender and round (5)")
    parser.add_argument("--only", default=",".join(CASES), help="some of: " + ",".join(CASES))
    parser.add_argument("--save", action="store_true", help="write the report into the docs too")
    for hidden in ("--spawn-proxy", "--work", "--report"):
        parser.add_argument(hidden, required=True, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    asked.only = asked.only.split(",")
    if unknown := set(asked.only) - set(CASES):
        parser.error(f"no such case: {', '.join(sorted(unknown))}")
    return asked


def version(*command):
    """The first line that a program says about itself."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return (done.stdout or done.stderr).splitlines()[0].strip()


def machine_facts(asked, folder):
    """The lines that stand above every table."""
    return [
        ("date", datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d")),
        *machine.facts(),
        ("disk", f"{machine.file_system(folder)}, 4 KiB on disk in {machine.fsync_p50(folder):.2f} ms (median)"),
        ("peers", f"{version('haproxy', '-v').split(' - ')[0]}; {version('nginx', '-v')}"),
        ("rounds", f"{asked.rounds} of {asked.seconds} s each, interleaved, after a warm-up; medians"),
    ]


def measure(asked, folder):
    """Runs the cases asked for; the report's parts."""
    parts = [report.facts(machine_facts(asked, folder))]
    with Bench(folder, asked.spawn_proxy) as bench:
        backends = bench.start_backends()
        if "get" in asked.only:
            parts.append(report.get(cases.get(bench, backends, asked.rounds, asked.seconds)))
        if "post" in asked.only:
            parts.append(report.post(cases.post(bench, backends, asked.rounds, asked.seconds)))
        if "catch-up" in asked.only:
            parts.append(report.catch_up(cases.catch_up(bench, backends, asked.rounds, asked.seconds)))
    return "\n\n".join(parts) + "\n"


def main():
    """Measures, prints, and keeps it where that was asked."""
    asked = arguments()
    # So that an end by SIGTERM also ends what was started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folder = os.path.join(os.path.abspath(asked.work), str(os.getpid()))
    os.makedirs(folder)
    try:
        text = measure(asked, folder)
    except BaseException:
        print(f"bench: logs and configurations are kept in {folder}", file=sys.stderr)
        raise
    shutil.rmtree(folder)
    print(text)
    if asked.save:
        with open(asked.report, "w", encoding="utf-8") as file:
            file.write(report.HEAD + text)
        print(f"bench: saved in {asked.report}", file=sys.stderr)


if __name__ == "__main__":
    main()
