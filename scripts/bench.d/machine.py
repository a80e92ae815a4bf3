"""Facts about this machine, and what processes use of it."""

import os
import platform
import statistics
import threading
import time

TICKS = os.sysconf("SC_CLK_TCK")


def facts():
    """What the figures depend on, as (name, value) pairs."""
    cpu = "unknown"
    memory = 0
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        for line in file:
            if line.startswith("model name"):
                cpu = line.split(":", 1)[1].strip()
                break
    with open("/proc/meminfo", encoding="utf-8") as file:
        memory = int(file.readline().split()[1]) // 1024
    return [
        ("processor", f"{cpu}, {os.cpu_count()} cores"),
        ("memory", f"{memory} MiB"),
        ("kernel", f"{platform.system()} {platform.release()}"),
    ]


def file_system(folder):
    """The type of the file system that a folder is on."""
    best, kind = "", "unknown"
    with open("/proc/mounts", encoding="utf-8") as file:
        for line in file:
            _, mount, fs_type = line.split()[:3]
            inside = folder == mount or folder.startswith(mount.rstrip("/") + "/")
            if inside and len(mount) >= len(best):
                best, kind = mount, fs_type
    return kind


def fsync_p50(folder, times=300):
    """Milliseconds that an appended 4 KiB takes to be on disk, the median."""
    path = os.path.join(folder, "fsync-probe")
    taken = []
    with open(path, "wb", buffering=0) as file:
        for _ in range(times):
            start = time.perf_counter()
            file.write(b"x" * 4096)
            os.fdatasync(file.fileno())
            taken.append(time.perf_counter() - start)
    os.unlink(path)
    return statistics.median(taken) * 1000


def family(pid):
    """A process and all below it."""
    pids, found = [pid], []
    while pids:
        at = pids.pop()
        found.append(at)
        try:
            for task in os.listdir(f"/proc/{at}/task"):
                with open(f"/proc/{at}/task/{task}/children", encoding="utf-8") as file:
                    pids += [int(child) for child in file.read().split()]
        except OSError:
            pass
    return found


def cpu_seconds(pid):
    """User and system time that a process and all below it have used, in all threads."""
    total = 0
    for at in family(pid):
        try:
            with open(f"/proc/{at}/stat", encoding="utf-8") as file:
                fields = file.read().rsplit(")", 1)[1].split()
        except OSError:
            continue
        total += int(fields[11]) + int(fields[12])
    return total / TICKS


def rss_mib(pid):
    """Resident memory of a process and all below it, in MiB."""
    total = 0
    for at in family(pid):
        try:
            with open(f"/proc/{at}/status", encoding="utf-8") as file:
                total += sum(int(line.split()[1]) for line in file if line.startswith("VmRSS:"))
        except OSError:
            continue
    return total / 1024


class PeakRss:
    """The highest memory of a process while the block runs."""

    def __init__(self, pid, every=0.1):
        self.pid, self.every = pid, every
        self.peak = 0.0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self):
        while not self._done.wait(self.every):
            self.peak = max(self.peak, rss_mib(self.pid))

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._done.set()
        self._thread.join()
