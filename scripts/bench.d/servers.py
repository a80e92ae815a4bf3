"""The servers that are measured, each on free loopback ports with a configuration of its own."""

import contextlib
import getpass
import http.client
import json
import os
import signal
import socket
import subprocess
import time

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

    def __init__(self, folder, binaries):
        self.folder, self.binaries = folder, binaries
        self.started = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for server in reversed(self.started):
            server.stop()

    def start(self, name, command, port, path="/"):
        """Starts it and waits until it answers. A program of ours is found by its name."""
        ours = os.path.join(self.binaries, command[0])
        if os.path.exists(ours):
            command = [ours, *command[1:]]
        server = Server(name, command, port, self.folder)
        self.started.append(server)
        return server.wait_ready(path)

    def stop(self, server):
        """Ends one before the others."""
        server.stop()
        self.started.remove(server)

    def file(self, name, text):
        """Writes a file of this sitting, at once; its path."""
        path = os.path.join(self.folder, name)
        with open(path + ".new", "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(path + ".new", path)
        return path

    def nginx(self, name, body, port, workers=1):
        """One nginx with this inside its `http`."""
        # A root nginx drops its rights, and then cannot write into the folder of this run.
        user = f"user {getpass.getuser()};" if os.getuid() == 0 else ""
        text = NGINX.format(name=name.replace(" ", "-"), folder=self.folder, user=user, workers=workers, body=body)
        config = self.file(f"{name.replace(' ', '-')}.conf", text)
        return self.start(name, ["nginx", "-p", self.folder, "-c", config, "-e", "stderr"], port)


class Process:
    """Something that runs in the background of a measurement."""

    def __init__(self, bench, name, command, env=None):
        ours = os.path.join(bench.binaries, command[0])
        command = [ours if os.path.exists(ours) else command[0], *command[1:]]
        self.log = os.path.join(bench.folder, f"{name}.log")
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                env={**os.environ, **(env or {})},
            )

    # What the bench calls at its own end.
    def stop(self):
        """Ends it with all that it started, by force."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def spawn(bench, *arguments, **more):
    """A process that ends with the bench at the latest."""
    process = Process(bench, *arguments, **more)
    bench.started.append(process)
    return process
