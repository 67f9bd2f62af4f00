"""What is measured: each server's configuration and command line.

A `Server` answers one workload at one path. `hello` is the same component for every host of components; workerd and
Envoy run what their users write, a JavaScript worker and a proxy-wasm filter. Each runs with its own defaults unless
its name says otherwise.
"""

import getpass
import hashlib
import json
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from . import provision
from .error import BenchError
from .process import Process

READY_SECONDS = 60.0
LOGS = provision.CACHE / "logs"


@dataclass(frozen=True)
class Workload:
    """What a request has done, and the body that proves it."""

    guest: str
    body: str

    @property
    def path(self) -> str:
        return f"/{self.guest}"


HELLO = Workload("hello", "Hello, world!\n")
FIB = Workload("fib", "196418\n")


@dataclass(frozen=True)
class Server:
    name: str
    workload: Workload
    start: Callable[[], Process]

    def start_and_wait(self) -> Process:
        process = self.start()
        try:
            process.wait_until_answers(self.workload.path, self.workload.body, READY_SECONDS)
        except BaseException:
            process.stop()
            raise
        return process


def native(workload: Workload) -> Server:
    return on_a_free_port("native", workload, native_command(workload.guest))


def native_process(work: str) -> Callable[[], Process]:
    return process_on_a_free_port("native", native_command(work))


def native_command(work: str) -> Callable[[int], list[str]]:
    program = provision.native("native")
    return lambda port: [str(program), address(port), work]


def native_proxy(origin: int) -> Callable[[], Process]:
    program = provision.native("proxy")
    return process_on_a_free_port("native-proxy", lambda port: [str(program), address(port), address(origin)])


def wasmtime(workload: Workload, name: str, flags: list[str]) -> Server:
    program = provision.wasmtime()
    component = provision.guest(workload.guest)
    # -Scli: guests of Rust's std import wasi:cli, which `serve` links on request only.
    command = [str(program), "serve", "-Scli", *flags, "--addr"]
    return on_a_free_port(name, workload, lambda port: [*command, address(port), str(component)])


# What an operator who has read the documentation would set: reset memory by PAGEMAP_SCAN and keep it resident.
WASMTIME_TUNED = [
    "-Opooling-allocator",
    "-Opooling-pagemap-scan",
    f"-Opooling-memory-keep-resident={2 << 20}",
    f"-Opooling-table-keep-resident={64 << 10}",
]
WASMTIME_REUSE = ["--max-instance-reuse-count", "128"]


def workerd(workload: Workload) -> Server:
    program = provision.workerd()
    config = provision.BENCHES / "guests" / "workerd" / f"{workload.guest}.capnp"
    command = [str(program), "serve", str(config)]
    return on_a_free_port("workerd", workload, lambda port: [*command, f"--socket-addr=http={address(port)}"])


def envoy(workload: Workload) -> Server:
    """Its filter answers; the route behind it is never reached."""
    behind = {"status": 404}
    return Server("envoy", workload, envoy_process("envoy", provision.guest("envoy-filter"), behind))


def envoy_process(name: str, module: Path | None, behind: dict) -> Callable[[], Process]:
    """Envoy with a proxy-wasm filter, if there is a module of one, before a direct response."""
    program = provision.envoy()

    def command(port: int) -> list[str]:
        config = provision.empty(provision.CACHE / "envoy") / "envoy.json"
        config.write_text(json.dumps(envoy_config(port, module, behind)))
        return [str(program), "--config-path", str(config), "--disable-hot-restart", "--log-level", "warning"]

    return process_on_a_free_port(name, command)


def envoy_config(port: int, module: Path | None, behind: dict) -> dict:
    api = "type.googleapis.com/envoy.extensions"
    filters = [{"name": "router", "typed_config": {"@type": f"{api}.filters.http.router.v3.Router"}}]
    if module:
        wasm_filter = {
            "@type": f"{api}.filters.http.wasm.v3.Wasm",
            "config": {
                "name": "guest",
                "vm_config": {"runtime": "envoy.wasm.runtime.v8", "code": {"local": {"filename": str(module)}}},
            },
        }
        filters.insert(0, {"name": "wasm", "typed_config": wasm_filter})
    route = {"match": {"prefix": "/"}, "direct_response": behind}
    connection_manager = {
        "@type": f"{api}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "http",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": filters,
    }
    chain = {"filters": [{"name": "http", "typed_config": connection_manager}]}
    listener = {
        "name": "http",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [chain],
    }
    return {"static_resources": {"listeners": [listener]}}


def nginx(name: str, http: str) -> Callable[[], Process]:
    """nginx as distributions install it, with `http` in its `http` block, where `{port}` and `{folder}` are its own.

    It has a worker a core, sendfile, and its access log in its default format, unless `http` says otherwise. Connections
    are not closed after 1,000 requests, as they are by default: that would be a property of the load.
    """
    program = provision.nginx()

    def command(port: int) -> list[str]:
        folder = provision.empty(provision.CACHE / "nginx" / name)
        block = http.replace("{port}", str(port)).replace("{folder}", str(folder))
        temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        lines = [
            "daemon off;",
            # Workers of a root would otherwise be of a user that cannot read the cache folder.
            f"user {getpass.getuser()};" if os.geteuid() == 0 else "",
            f"pid {folder}/pid;",
            "error_log stderr error;",
            "worker_processes auto;",
            "worker_rlimit_nofile 16384;",
            "events { worker_connections 8192; }",
            "http {",
            "sendfile on; tcp_nopush on; keepalive_requests 1000000000;",
            f"access_log {folder}/access.log combined;",
            *(f"{each}_temp_path {folder}/{each};" for each in temporary),
            block,
            "}",
        ]
        file = folder / "nginx.conf"
        file.write_text("\n".join(lines) + "\n")
        return [str(program), "-e", "stderr", "-p", str(folder), "-c", str(file)]

    return process_on_a_free_port(f"nginx-{name}", command)


@dataclass(frozen=True)
class Function:
    """A function of a Wharf app, reached at its path if it has one. `settings` are further keys of its table in wharf.toml."""

    name: str
    component: Path
    path: str | None
    isolation: str = "fresh"
    settings: dict[str, str | int] = field(default_factory=dict)


class Wharf:
    """A node with functions deployed. All that the harness knows of Wharf's files and flags is here.

    An app is deployed once by `wharf up` into a data folder, and measured as it runs in production, under `wharf serve`
    on that folder: with default limits and default logging.
    """

    def __init__(
        self, program: Path, name: str, functions: list[Function], tables: str = "", flags: list[str] | None = None
    ) -> None:
        """`tables` are further lines of wharf.toml, `flags` those of the node."""
        self._program = program
        self._name = name
        self._functions = functions
        self._tables = tables
        self._flags = flags or []
        self._folder = provision.CACHE / "wharf" / name
        self.data = self._folder / "data"
        self.api = 0  # the port of the API of the node that was started last

    def deploy(self, paths: list[str], body: str) -> None:
        """Leaves a data folder with every function compiled; does nothing when an earlier run left the same.

        It is done when each of `paths` answers `body`.
        """
        stamp = self._folder / "stamp"
        if stamp.exists() and stamp.read_text() == self._digest():
            return
        app = provision.empty(self._folder) / "app"
        app.mkdir()
        (app / "wharf.toml").write_text(self._manifest())
        provision.say(f"deploying {len(self._functions)} function(s) to wharf as {self._name}")
        with self._run("up", str(app)) as node:
            for path in paths:
                node.wait_until_answers(path, body, READY_SECONDS + len(self._functions))
        stamp.write_text(self._digest())

    def serve(self) -> Process:
        return self._run("serve")

    def _run(self, *verb: str) -> Process:
        port, self.api = free_port(), free_port()
        argv = [str(self._program), *verb, "--data", str(self.data)]
        argv += ["--http", address(port), "--api", address(self.api), *self._flags]
        return Process(argv, port, LOGS / f"wharf-{self._name}.log")

    @property
    def token(self) -> str:
        """The secret that opens the API."""
        return (self.data / "api-token").read_text().strip()

    def metric(self, line: str) -> float:
        """The sum of the metrics whose lines begin so."""
        connection = HTTPConnection("127.0.0.1", self.api, timeout=30)
        try:
            connection.request("GET", "/metrics", headers={"authorization": f"Bearer {self.token}"})
            text = connection.getresponse().read().decode()
        except (OSError, HTTPException) as error:
            raise BenchError(f"GET /metrics: {error!r}") from error
        finally:
            connection.close()
        return sum(float(each.rsplit(" ", 1)[1]) for each in text.splitlines() if each.startswith(line))

    def _manifest(self) -> str:
        # JSON's strings and integers are TOML's too.
        lines = [f"name = {json.dumps(self._name)}"]
        for function in self._functions:
            keys = {"component": str(function.component), "isolation": function.isolation, **function.settings}
            lines += ["", f"[functions.{function.name}]"]
            lines += [f"{key} = {json.dumps(value)}" for key, value in keys.items()]
        for function in self._functions:
            if function.path is None:
                continue
            lines += [
                "",
                "[[routes]]",
                f"path = {json.dumps(function.path)}",
                f"function = {json.dumps(function.name)}",
            ]
        return "\n".join(lines) + "\n" + self._tables

    def _digest(self) -> str:
        digest = hashlib.sha256(self._manifest().encode())
        for file in (self._program, *(function.component for function in self._functions)):
            digest.update(hashlib.sha256(file.read_bytes()).digest())
        return digest.hexdigest()


def wharf(workload: Workload, program: Path, isolation: str) -> Server:
    component = provision.guest(workload.guest)
    function = Function(workload.guest, component, workload.path, isolation)
    node = Wharf(program, f"{workload.guest}-{isolation}", [function])
    node.deploy([workload.path], workload.body)
    return Server(f"wharf-{isolation}", workload, node.serve)


def on_a_free_port(name: str, workload: Workload, command: Callable[[int], list[str]]) -> Server:
    return Server(name, workload, process_on_a_free_port(name, command))


def process_on_a_free_port(name: str, command: Callable[[int], list[str]]) -> Callable[[], Process]:
    def start() -> Process:
        port = free_port()
        return Process(command(port), port, LOGS / f"{name}.log")

    return start


def free_port() -> int:
    """A port that was free a moment ago; most peers cannot say which port they got when asked for port 0."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def address(port: int) -> str:
    return f"127.0.0.1:{port}"
