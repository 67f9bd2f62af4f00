"""A running server: started, waited for, metered, ended.

A server never outlives the run: `Process` is a context manager, and only processes that it started are signalled.
"""

import os
import signal
import subprocess
import time
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from .error import BenchError

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
STOP_SECONDS = 15.0
POLL_SECONDS = 0.0005

# Servers get this and nothing else: RUST_BACKTRACE or RUST_LOG in a developer's shell would change what is measured.
ENVIRONMENT = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR", "LANG") if name in os.environ}


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes


@dataclass(frozen=True)
class Memory:
    """Bytes held by a process and its children."""

    resident: int
    anonymous: int


class Process:
    """One server process (and its children) and where it listens."""

    def __init__(self, argv: list[str], port: int, log: Path) -> None:
        self._log = log
        self.port = port
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            output.write(f"$ {' '.join(argv)}\n".encode())
            output.flush()
            self._log_start = output.tell()
            self.started = time.perf_counter()
            self._popen = subprocess.Popen(
                argv, env=ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )
        self.pid = self._popen.pid

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def wait_until_answers(self, path: str, body: str, timeout: float) -> float:
        """Seconds from the start of the process to the first response that is as expected."""
        deadline = self.started + timeout
        seen: object = "no connection"
        while time.perf_counter() < deadline:
            if self._popen.poll() is not None:
                raise BenchError(f"the server ended with {self._popen.returncode}: {self.log_tail()}")
            try:
                seen = self.get(path)
            except (OSError, HTTPException) as error:
                seen = error
            if isinstance(seen, Answer) and seen.status == 200 and seen.body == body.encode():
                return time.perf_counter() - self.started
            time.sleep(POLL_SECONDS)
        raise BenchError(f"GET {path} gave {seen!r}, not {body!r}, for {timeout:.0f} s: {self.log_tail()}")

    def get(self, path: str) -> Answer:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return Answer(response.status, response.read())
        finally:
            connection.close()

    def check(self, path: str, body: str) -> None:
        """Fails unless the server answers as expected now."""
        try:
            answer = self.get(path)
        except (OSError, HTTPException) as error:
            raise BenchError(f"GET {path}: {error!r}: {self.log_tail()}") from error
        if answer != Answer(200, body.encode()):
            raise BenchError(f"GET {path} gave {answer!r}, not {body!r}: {self.log_tail()}")

    def cpu_seconds(self) -> float:
        """utime + stime of the process, its threads and its children, those that ended included.

        The kernel scales both to the scheduler's nanosecond account and rounds to a tick (10 ms), so over seconds of
        load the error is below a percent.
        """
        ticks = 0
        for pid in self._tree():
            try:
                stat = Path(f"/proc/{pid}/stat").read_text()
            except OSError:
                continue  # ended just now: its parent's account has it
            # The second field is the program's name in parentheses, and may hold spaces.
            fields = stat[stat.rindex(")") + 2 :].split()
            utime, stime, cutime, cstime = (int(field) for field in fields[11:15])
            ticks += utime + stime + cutime + cstime
        return ticks / TICKS_PER_SECOND

    def memory(self) -> Memory:
        resident = anonymous = 0
        for pid in self._tree():
            try:
                status = Path(f"/proc/{pid}/status").read_text()
            except OSError:
                continue
            values = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
            resident += int(values.get("VmRSS", "0 kB").split()[0]) * 1024
            anonymous += int(values.get("RssAnon", "0 kB").split()[0]) * 1024
        return Memory(resident, anonymous)

    def reset_peak(self) -> None:
        """What `peak` gives counts from now on."""
        for pid in self._tree():
            # proc(5): 5 resets the peak resident set size.
            Path(f"/proc/{pid}/clear_refs").write_text("5")

    def peak(self) -> int:
        """The most bytes that the process and its children had resident, each at its own worst moment."""
        peak = 0
        for pid in self._tree():
            status = Path(f"/proc/{pid}/status").read_text()
            values = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
            peak += int(values["VmHWM"].split()[0]) * 1024
        return peak

    def stop(self) -> None:
        if self._popen.poll() is not None:
            return
        self._popen.send_signal(signal.SIGTERM)
        try:
            self._popen.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(self.pid, signal.SIGKILL)
            self._popen.wait()

    def log_tail(self) -> str:
        with self._log.open("rb") as log:
            log.seek(self._log_start)
            lines = log.read().decode(errors="replace").splitlines()
        tail = [line for line in lines if line.strip()][-6:]
        return "\n    ".join([f"{self._log}:", *tail])

    def _tree(self) -> list[int]:
        pids = [self.pid]
        for pid in pids:  # grows while it is walked
            for children in Path(f"/proc/{pid}/task").glob("*/children"):
                try:
                    pids.extend(int(child) for child in children.read_text().split())
                except OSError:
                    continue
        return pids
