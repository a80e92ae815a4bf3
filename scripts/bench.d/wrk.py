"""Load by wrk, read back as figures."""

import json
import os
import subprocess

# Prints what wrk knows as one line of JSON, rather than for the eye.
REPORT = """
function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    '\\nJSON {"requests":%d,"micros":%d,"p50":%d,"p99":%d,"refused":%d,"broken":%d}\\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), e.status,
    e.connect + e.read + e.write + e.timeout))
end
"""

# Requests are made once: making one takes longer than sending it.
POST = """
local ready, at = {}, 0
function setup(thread)
  offset = (offset or 0) + 3331
  thread:set("offset", offset)
end
function init(args)
  local body = string.rep("x", 1024)
  for n = 1, 10000 do ready[n] = wrk.format("POST", "/kv/" .. n, nil, body) end
  at = offset
end
function request()
  at = at % 10000 + 1
  return ready[at]
end
"""


def run(folder, port, connections, seconds, post=False, threads=2):
    """Loads the server on this port for so long; requests/s, p50 and p99 in ms, errors."""
    script = os.path.join(folder, "post.lua" if post else "get.lua")
    with open(script, "w", encoding="utf-8") as file:
        file.write(("" if not post else POST) + REPORT)
    threads = min(threads, connections)
    command = ["wrk", "-t", str(threads), "-c", str(connections), "-d", f"{seconds}s", "--timeout", "30s"]
    command += ["-s", script, f"http://127.0.0.1:{port}/"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith("JSON ")]
    if not lines:
        raise SystemExit(f"bench: wrk failed on port {port}:\n{done.stdout}{done.stderr}")
    seen = json.loads(lines[0][5:])
    return {
        "requests": seen["requests"],
        "rate": seen["requests"] / (seen["micros"] / 1e6),
        "p50": seen["p50"] / 1000,
        "p99": seen["p99"] / 1000,
        "errors": seen["refused"] + seen["broken"],
    }
