"""The servers that are measured, each on free loopback ports with a configuration of its own."""

import getpass
import http.client
import json
import os
import socket
import subprocess
import time

BODY = "x" * 600

NGINX = """
daemon off;
worker_processes {workers};
pid {folder}/{name}.pid;
error_log {folder}/{name}.error.log error;
worker_rlimit_nofile 16384;
{user}
events {{ worker_connections 8192; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    client_body_buffer_size 64k;
    client_body_temp_path {folder}/{name}.body;
    proxy_temp_path {folder}/{name}.proxy;
    fastcgi_temp_path {folder}/{name}.fastcgi;
    uwsgi_temp_path {folder}/{name}.uwsgi;
    scgi_temp_path {folder}/{name}.scgi;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    {body}
}}
"""

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


def free_ports(count):
    """Ports that nobody uses now, below the range that the kernel gives to outgoing connections."""
    found = []
    port = 20000 + os.getpid() % 5000
    while len(found) < count:
        port += 1
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
    return found


def ask(port, method, target, body=None, timeout=10):
    """One request; its status and body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        headers = {"Content-Type": "application/json"} if body is not None else {}
        connection.request(method, target, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def wait_until(what, check, limit):
    """Waits until the check holds; says what did not come about within so many seconds."""
    end = time.monotonic() + limit
    while True:
        try:
            if check():
                return
        except (OSError, http.client.HTTPException, ValueError):
            pass
        if time.monotonic() > end:
            raise SystemExit(f"bench: waited {limit} s in vain for {what}")
        time.sleep(0.02)


class Server:
    """A started process with its port."""

    def __init__(self, name, command, port, folder):
        self.name, self.port = name, port
        self.log = os.path.join(folder, f"{name.replace(' ', '-')}.log")
        with open(self.log, "wb") as log:
            # Not in the terminal's group: Ctrl-C ends the measuring, which then ends them.
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    @property
    def pid(self):
        """The id of the process."""
        return self.process.pid

    def wait_ready(self, path="/"):
        """Waits until it answers at all."""

        def answers():
            if self.process.poll() is not None:
                with open(self.log, encoding="utf-8", errors="replace") as log:
                    raise SystemExit(f"bench: {self.name} ended early:\n{log.read()[-2000:]}")
            return ask(self.port, "GET", path, timeout=2)[0] < 500

        wait_until(f"{self.name} to answer on port {self.port}", answers, 30)
        return self

    def stop(self):
        """Ends it, by force after 15 s."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


class Bench:
    """Everything that was started in this sitting, and is ended with it."""

    def __init__(self, folder, spawn_proxy):
        self.folder, self.binary = folder, spawn_proxy
        self.started = []
        self.backends = free_ports(3)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for server in reversed(self.started):
            server.stop()

    def _start(self, name, command, port, path="/"):
        server = Server(name, command, port, self.folder)
        self.started.append(server)
        return server.wait_ready(path)

    def stop(self, server):
        """Ends one before the others."""
        server.stop()
        self.started.remove(server)

    def _nginx(self, name, body, port, workers=1):
        # A root nginx drops its rights, and then cannot write into the folder of this run.
        user = f"user {getpass.getuser()};" if os.getuid() == 0 else ""
        config = os.path.join(self.folder, f"{name}.conf")
        with open(config, "w", encoding="utf-8") as file:
            file.write(NGINX.format(name=name, folder=self.folder, user=user, workers=workers, body=body))
        return self._start(name, ["nginx", "-p", self.folder, "-c", config, "-e", "stderr"], port)

    def start_backends(self):
        """One nginx worker on three ports: 600 bytes for a read, a few for anything else."""
        listens = " ".join(f"listen 127.0.0.1:{port} reuseport backlog=4096;" for port in self.backends)
        body = f"""server {{ {listens}
            location / {{
                if ($request_method = POST) {{ return 200 "ok"; }}
                return 200 "{BODY}";
            }} }}"""
        return self._nginx("backends", body, self.backends[0])

    def start_haproxy(self, threads):
        """Round robin over the three."""
        (port,) = free_ports(1)
        servers = "".join(f"    server n{port} 127.0.0.1:{port} check\n" for port in self.backends)
        config = os.path.join(self.folder, f"haproxy-{threads}.cfg")
        with open(config, "w", encoding="utf-8") as file:
            file.write(HAPROXY.format(threads=threads, port=port, servers=servers))
        return self._start(f"haproxy nbthread {threads}", ["haproxy", "-db", "-f", config], port)

    def start_nginx_proxy(self, workers):
        """Round robin over the three with kept connections."""
        (port,) = free_ports(1)
        servers = " ".join(f"server 127.0.0.1:{port};" for port in self.backends)
        body = f"""upstream nodes {{ {servers} keepalive 64; }}
            server {{ listen 127.0.0.1:{port} reuseport backlog=4096;
                location / {{ proxy_pass http://nodes; }} }}"""
        return self._nginx(f"nginx-proxy-{workers}", body, port, workers)

    def start_nginx_mirror(self):
        """To the first, and copies to the others whose answers nobody waits for."""
        (port,) = free_ports(1)
        first, second, third = self.backends
        upstreams = "".join(
            f"upstream node{number} {{ server 127.0.0.1:{to}; keepalive 256; }}"
            for number, to in ((1, first), (2, second), (3, third))
        )
        body = f"""{upstreams}
            server {{ listen 127.0.0.1:{port} reuseport backlog=4096;
                location / {{ mirror /mirror2; mirror /mirror3; proxy_pass http://node1; }}
                location = /mirror2 {{ internal; proxy_pass http://node2$request_uri; }}
                location = /mirror3 {{ internal; proxy_pass http://node3$request_uri; }} }}"""
        return self._nginx("nginx-mirror", body, port)

    def start_spawn_proxy(self, name, *flags):
        """With the three as nodes and a fresh log."""
        port, api = free_ports(2)
        data = os.path.join(self.folder, f"data-{name}-{time.monotonic_ns()}")
        command = [self.binary, "--host", "127.0.0.1", "--port", str(port), "--api-port", str(api)]
        command += ["--data-dir", data, "--log-format", "json", *flags]
        for backend in self.backends:
            command += ["--node", f"127.0.0.1:{backend}"]
        server = self._start(name, command, port)
        server.api = api
        return server


def pending(proxy):
    """Updates that each node has not got yet, by node."""
    status, body = ask(proxy.api, "GET", "/queues")
    if status != 200:
        raise SystemExit(f"bench: GET /queues says {status}: {body[:300]!r}")
    return {queue["node"]: queue["pending"] for queue in json.loads(body)["data"]["results"]}
