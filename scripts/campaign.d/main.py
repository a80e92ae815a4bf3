"""Runs the fault tests again and again with new seeds. Called by scripts/campaign.

A fault test lies in a module `faults` of an integration test, or has a name that begins with `kills_`. It takes its randomness from
SEED, the number of faults from MUSTER_KILLS, and says `kills=N` when it is done.
"""

import argparse
import datetime
import os
import random
import re
import statistics
import subprocess
import sys
import threading
import time

RESULT = re.compile(r"^\s*(?:TRY \d+ )?(PASS|FAIL|SIGSEGV|SIGABRT|SIGKILL|TIMEOUT|LEAK) \[\s*([\d.]+)s\] (?:\(\s*\d+/\d+\) )?(.+)$")
KILLS = re.compile(r"\bkills=(\d+)")
HEAD = """# Fault campaigns

What `scripts/campaign --save` printed, the newest last. Each line is one test with one seed; the same seed
makes the same choices again.
"""


class WakeUps:
    """How late a sleep of a millisecond ends on this machine, while the block runs."""

    def __init__(self):
        self.late = []
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self):
        while not self._done.is_set():
            start = time.perf_counter()
            time.sleep(0.001)
            self.late.append((time.perf_counter() - start - 0.001) * 1000)
            self._done.wait(0.05)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._done.set()
        self._thread.join()

    def told(self):
        """Median and 99th percentile in milliseconds."""
        if len(self.late) < 2:
            return "not measured"
        cut = statistics.quantiles(self.late, n=100)
        return f"median {cut[49]:.2f} ms, 99 of 100 within {cut[98]:.2f} ms, latest {max(self.late):.1f} ms"


def fault_tests():
    """The filter for all fault tests."""
    return "test(/^faults::/) | test(/^kills_/)"


def arguments():
    """What was asked for."""
    parser = argparse.ArgumentParser(prog="scripts/campaign")
    parser.add_argument("--minutes", type=float, default=30, help="no new round begins after so long (30)")
    parser.add_argument("--seed", type=int, help="the first round's seed, then counted up (a fresh one)")
    parser.add_argument("--kills", type=int, default=200, help="faults per test and round (200)")
    parser.add_argument("--filter", default=fault_tests(), help="which tests, for nextest -E (all fault tests)")
    parser.add_argument("--save", action="store_true", help="add the table to the docs")
    for hidden in ("--config", "--report"):
        parser.add_argument(hidden, required=True, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.seed is None:
        asked.seed = random.randrange(1_000_000)
    return asked


def one_round(asked, seed):
    """All fault tests with this seed: rows, and whether nextest was content."""
    command = ["cargo", "nextest", "run", "--workspace", "--config-file", asked.config, "-E", asked.filter]
    env = {**os.environ, "SEED": str(seed), "MUSTER_KILLS": str(asked.kills), "CARGO_TERM_COLOR": "never"}
    rows, over = [], False
    with subprocess.Popen(
        command, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as running:
        for line in running.stdout:
            sys.stderr.write(line)
            # After the summary the failures are listed a second time.
            over = over or line.lstrip().startswith("Summary [")
            if over:
                continue
            if found := RESULT.match(line):
                rows.append([found[3].strip(), seed, "-", found[1], float(found[2])])
            elif rows and (found := KILLS.search(line)):
                rows[-1][2] = int(found[1])
    return rows, running.returncode


def table(rows):
    """The rows in Markdown."""
    lines = ["| test | seed | kills | result | seconds |", "|---|--:|--:|---|--:|"]
    lines += [f"| {test} | {seed} | {kills} | {result} | {took:.1f} |" for test, seed, kills, result, took in rows]
    return "\n".join(lines)


def summary(rows, wake_ups, minutes):
    """The sentence below the table."""
    kills = sum(row[2] for row in rows if row[2] != "-")
    failed = [row for row in rows if row[3] not in ("PASS", "LEAK")]
    told = f"{len(rows)} runs, {kills} kills, {len(failed)} failed, {minutes:.1f} minutes."
    return f"{told} A sleep of 1 ms ended late by: {wake_ups.told()}."


def main():
    """Rounds until the time is up; exit 1 when any test failed."""
    asked = arguments()
    start = time.monotonic()
    rows, content, seed = [], True, asked.seed
    with WakeUps() as wake_ups:
        while seed == asked.seed or time.monotonic() - start < asked.minutes * 60:
            more, code = one_round(asked, seed)
            rows += more
            if not more:
                sys.exit(f"campaign: no test ran (nextest ended with {code})")
            content = content and code == 0
            seed += 1
    text = table(rows) + "\n\n" + summary(rows, wake_ups, (time.monotonic() - start) / 60)
    print(text)
    if asked.save:
        save(asked, text)
    sys.exit(0 if content else 1)


def save(asked, text):
    """Adds the table under its date."""
    date = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d")
    title = f"\n## {date}, seeds from {asked.seed}, {asked.kills} kills a test, {os.cpu_count()} cores\n\n"
    fresh = not os.path.exists(asked.report)
    with open(asked.report, "a", encoding="utf-8") as file:
        file.write((HEAD if fresh else "") + title + text + "\n")


if __name__ == "__main__":
    main()
