"""spawn-proxy and its peers in front of three nodes."""

import json
import os
import time

from servers import ask, free_ports, wait_until

BODY = "x" * 600

HAPROXY = """
global
    nbthread {threads}
    maxconn 8192
defaults
    mode http
    http-reuse always
    timeout connect 5s
    timeout client 60s
    timeout server 60s
frontend in
    bind 127.0.0.1:{port}
    default_backend out
backend out
    balance roundrobin
{servers}
"""

# With everything that is accepted on its way to three nodes, a queue may take a while to empty.
DRAIN_LIMIT = 600


class Nodes:
    """One nginx worker on three ports: 600 bytes for a read, a few for anything else."""

    def __init__(self, bench):
        self.bench, self.ports = bench, free_ports(3)
        listens = " ".join(f"listen 127.0.0.1:{port} reuseport backlog=4096;" for port in self.ports)
        body = f"""server {{ {listens}
            location / {{
                if ($request_method = POST) {{ return 200 "ok"; }}
                return 200 "{BODY}";
            }} }}"""
        self.server = bench.nginx("nodes", body, self.ports[0])

    def spawn_proxy(self, name, *flags):
        """A spawn-proxy in front of them with a fresh log."""
        port, api = free_ports(2)
        data = os.path.join(self.bench.folder, f"data-{name}-{time.monotonic_ns()}")
        command = ["spawn-proxy", "--host", "127.0.0.1", "--port", str(port), "--api-port", str(api)]
        command += ["--data-dir", data, "--log-format", "json", *flags]
        for node in self.ports:
            command += ["--node", f"127.0.0.1:{node}"]
        server = self.bench.start(name, command, port)
        server.api = api
        return server

    def haproxy(self, threads):
        """Round robin over the three."""
        (port,) = free_ports(1)
        servers = "".join(f"    server n{node} 127.0.0.1:{node} check\n" for node in self.ports)
        text = HAPROXY.format(threads=threads, port=port, servers=servers)
        config = self.bench.file(f"haproxy-{threads}.cfg", text)
        return self.bench.start(f"haproxy nbthread {threads}", ["haproxy", "-db", "-f", config], port)

    def nginx(self, workers):
        """Round robin over the three with kept connections."""
        (port,) = free_ports(1)
        servers = " ".join(f"server 127.0.0.1:{node};" for node in self.ports)
        body = f"""upstream nodes {{ {servers} keepalive 64; }}
            server {{ listen 127.0.0.1:{port} reuseport backlog=4096;
                location / {{ proxy_pass http://nodes; }} }}"""
        return self.bench.nginx(f"nginx-proxy-{workers}", body, port, workers)

    def nginx_mirror(self):
        """To the first, and copies to the others whose answers nobody waits for."""
        (port,) = free_ports(1)
        upstreams = "".join(
            f"upstream node{number} {{ server 127.0.0.1:{to}; keepalive 256; }}"
            for number, to in enumerate(self.ports, 1)
        )
        body = f"""{upstreams}
            server {{ listen 127.0.0.1:{port} reuseport backlog=4096;
                location / {{ mirror /mirror2; mirror /mirror3; proxy_pass http://node1; }}
                location = /mirror2 {{ internal; proxy_pass http://node2$request_uri; }}
                location = /mirror3 {{ internal; proxy_pass http://node3$request_uri; }} }}"""
        return self.bench.nginx("nginx-mirror", body, port)


def pending(proxy):
    """Updates that each node has not got yet, by node."""
    status, body = ask(proxy.api, "GET", "/queues")
    if status != 200:
        raise SystemExit(f"bench: GET /queues says {status}: {body[:300]!r}")
    return {queue["node"]: queue["pending"] for queue in json.loads(body)["data"]["results"]}


def wait_drained(proxy, nodes):
    """Waits until these nodes have everything."""
    done = lambda: not any(count for name, count in pending(proxy).items() if name in nodes)
    wait_until("the queues to empty", done, DRAIN_LIMIT)


def set_maintenance(proxy, node, on):
    """Takes a node out, or back in."""
    status, body = ask(proxy.api, "PUT", f"/nodes/{node.replace(':', '/')}", json.dumps({"maintenance": on}))
    if status not in (200, 201, 202):
        raise SystemExit(f"bench: changing a node says {status}: {body[:300]!r}")
