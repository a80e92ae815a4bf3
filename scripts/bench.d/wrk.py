"""Load by wrk, read back as figures."""

import json
import os
import subprocess

# Prints what wrk knows as one line of JSON, rather than for the eye.
REPORT = """
function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    '\\nJSON {"requests":%d,"micros":%d,"p50":%d,"p99":%d,"p999":%d,"most":%d,"refused":%d,"broken":%d}\\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    latency:percentile(99.9), latency.max, e.status, e.connect + e.read + e.write + e.timeout))
end
"""

# Requests are made once: making one takes longer than sending it. Each thread begins at another.
READY = """
local ready, at = {}, 0
function setup(thread)
  offset = (offset or 0) + 3331
  thread:set("offset", offset)
end
function init(args)
%s
  at = offset
end
function request()
  at = at %% #ready + 1
  return ready[at]
end
"""


def ready(lua):
    """A script that sends in turn what these lines of Lua put into the table `ready`."""
    return READY % lua


def run(folder, port, connections, seconds, path="/", script="", threads=2):
    """Loads the server on this port for so long; requests/s, latencies in ms, errors."""
    file_name = os.path.join(folder, "load.lua")
    with open(file_name, "w", encoding="utf-8") as file:
        file.write(script + REPORT)
    threads = min(threads, connections)
    command = ["wrk", "-t", str(threads), "-c", str(connections), "-d", f"{seconds}s", "--timeout", "30s"]
    command += ["-s", file_name, f"http://127.0.0.1:{port}{path}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith("JSON ")]
    if not lines:
        raise SystemExit(f"bench: wrk failed on port {port}:\n{done.stdout}{done.stderr}")
    seen = json.loads(lines[0][5:])
    return {
        "requests": seen["requests"],
        "rate": seen["requests"] / (seen["micros"] / 1e6),
        **{key: seen[key] / 1000 for key in ("p50", "p99", "p999", "most")},
        "errors": seen["refused"] + seen["broken"],
    }
