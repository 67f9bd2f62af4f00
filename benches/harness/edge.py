"""A distribution beside nginx and Envoy: `cache-hit`, `pass-through`, `hook`; and one program beside another: `turns`.

One nginx is the origin of everybody. Within a round each contender is started, loaded and stopped, one after the other; the
next round begins with another one. In `turns` they are started once, and loaded one after the other in each round.
"""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from . import provision, servers
from .error import BenchError
from .load import Load, LoadGenerator
from .measure import Options, attempt, measure, rotated, row
from .process import Process
from .report import Sample
from .servers import Function, Wharf

SERVERS = ("nginx", "native", "envoy", "envoy-hook", "wharf", "wharf-fresh", "wharf-reuse")

CONNECTIONS = 32
WARM_UP_SECONDS = 1.0

# A node's flags, so that it logs what nginx logs by default.
ACCESS_LOG: list[str] = [
    "--access-log",
    str(Path(tempfile.gettempdir()) / "wharf-bench-access.log"),
    "--access-log-format",
    "combined",
]

# What a browser sends, more or less, and a cookie to look at.
REQUEST_FIELDS = (
    "user-agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "accept-language: en-US,en;q=0.5",
    "x-variant: none",
    "cookie: session=8f14e45fceea167a5a36dedd4bea2543; theme=dark; variant=b",
)


@dataclass(frozen=True)
class Object:
    """What is asked for."""

    label: str
    path: str
    body: str


def text(size: int) -> str:
    line = "All that is gold does not glitter, not all those who wander are lost.\n"
    return (line * (size // len(line) + 1))[:size]


SMALL = Object("1 KB", "/small", text(1 << 10))
LARGE = Object("100 KB", "/large", text(100 << 10))
# The same as SMALL, and not to be stored.
PRIVATE = Object("1 KB", "/private", SMALL.body)
# What the native server answers.
HELLO = Object("hello", "/", "Hello, world!\n")

ORIGIN = """
server {
    listen 127.0.0.1:{port} backlog=4096;
    access_log off;
    root {files};
    location / { add_header cache-control "public, max-age=86400"; }
    location = /private { add_header cache-control "no-store"; try_files /{private} =404; }
}
"""

UPSTREAM = """
upstream origin { server 127.0.0.1:{origin}; keepalive 64; keepalive_requests 1000000000; }
"""

CACHE_PATH = """
proxy_cache_path {folder}/cache levels=1:2 keys_zone=cache:16m max_size={most} inactive=1d use_temp_path=off;
"""

NGINX_CACHE = UPSTREAM + CACHE_PATH + """
server {
    listen 127.0.0.1:{port} backlog=4096;
    location / {
        proxy_pass http://origin;
        proxy_http_version 1.1;
        proxy_set_header connection "";
        proxy_cache cache;
        proxy_cache_lock on;
        proxy_cache_lock_timeout 60s;
        proxy_cache_lock_age 60s;
    }
}
"""

NGINX_PASS = UPSTREAM + """
server {
    listen 127.0.0.1:{port} backlog=4096;
    location / {
        proxy_pass http://origin;
        proxy_http_version 1.1;
        proxy_set_header connection "";
        {cache}
    }
}
"""


def nginx_cache(name: str, origin: int, most: str = "1g") -> Callable[[], Process]:
    return servers.nginx(name, NGINX_CACHE.replace("{origin}", str(origin)).replace("{most}", most))


def nginx_pass(name: str, origin: int) -> Callable[[], Process]:
    return servers.nginx(name, NGINX_PASS.replace("{origin}", str(origin)).replace("{cache}", ""))


def nginx_uncached(name: str, origin: int) -> Callable[[], Process]:
    """One that looks into its cache for what is not stored, as Wharf does. Without a lock: it would have them wait for each other."""
    config = CACHE_PATH.replace("{most}", "1g") + NGINX_PASS.replace("{cache}", "proxy_cache cache;")
    return servers.nginx(name, config.replace("{origin}", str(origin)))


@contextmanager
def origin(files: dict[str, str]) -> Iterator[Process]:
    """An nginx that serves these files, by name."""
    folder = provision.empty(provision.CACHE / "origin")
    for name, content in files.items():
        (folder / name).write_text(content)
    with serve_origin(folder, "small") as process:
        for name, content in files.items():
            process.wait_until_answers(f"/{name}", content, servers.READY_SECONDS)
        yield process


def serve_origin(files: Path, private: str) -> Process:
    """Serves the files of a folder; one of them is what is not to be stored, at `/private`."""
    return servers.nginx("origin", ORIGIN.replace("{files}", str(files)).replace("{private}", private))()


def distribution(origin: int, default: dict[str, str]) -> str:
    """A distribution of one origin, as lines of wharf.toml. `default` are keys of its behaviour, their values in TOML.

    Its host is the address that the load is sent to.
    """
    lines = [
        "",
        "[distributions.site]",
        'hosts = ["127.0.0.1"]',
        "[distributions.site.origins.main]",
        f'servers = ["http://127.0.0.1:{origin}"]',
        "private = true",
        "[distributions.site.default]",
        'origin = "main"',
        *(f"{key} = {value}" for key, value in default.items()),
    ]
    return "\n".join(lines) + "\n"


def node(
    program: Path, name: str, origin: int, default: dict[str, str] | None = None, functions: list[Function] | None = None
) -> Wharf:
    tables = distribution(origin, default or {})
    return Wharf(program, name, functions or [], tables, ACCESS_LOG)


@dataclass(frozen=True)
class Contender:
    name: str
    start: Callable[[], Process]
    # What must hold after so many requests; raises BenchError.
    proof: Callable[[int], None] = lambda _: None
    # What it is asked for, without header fields, in place of what the others are asked for.
    instead: Object | None = None

    def objects(self, others: list[Object]) -> list[Object]:
        return [self.instead] if self.instead else others


def cache_hit(options: Options) -> Iterator[Sample]:
    """Stored objects of 1 KB and 100 KB."""
    with origin({"small": SMALL.body, "large": LARGE.body}) as behind:
        contenders = []
        if wants(options, "nginx"):
            contenders.append(Contender("nginx", nginx_cache("cache", behind.port)))
        if options.wharf and wants(options, "wharf"):
            wharf = node(options.wharf, "cache-hit", behind.port)
            wharf.deploy([SMALL.path], SMALL.body)
            contenders.append(Contender("wharf", wharf.serve))
        yield from compare(options, contenders, [SMALL, LARGE], "nginx")


def pass_through(options: Options) -> Iterator[Sample]:
    """1 KB that is not to be stored: as the cache finds out, and where nothing is cached."""
    with origin({"small": SMALL.body}) as behind:
        contenders = []
        if wants(options, "nginx"):
            contenders.append(Contender("nginx", nginx_pass("pass", behind.port)))
            contenders.append(Contender("nginx, cache", nginx_uncached("uncached", behind.port)))
        if wants(options, "native"):
            contenders.append(Contender("native", servers.native_proxy(behind.port)))
        if options.wharf and wants(options, "wharf"):
            for name, default in (("wharf", {}), ("wharf, no cache", {"cache": "false"})):
                wharf = node(options.wharf, name.replace(", ", "-").replace(" ", "-"), behind.port, default)
                wharf.deploy([PRIVATE.path], PRIVATE.body)
                contenders.append(Contender(name, wharf.serve))
        yield from compare(options, contenders, [PRIVATE], "nginx")


def hook(options: Options) -> Iterator[Sample]:
    """A stored object of 1 KB without a hook and with one; a direct response of Envoy's without a filter and with one.

    The native hello is the measure of the machine.
    """
    with origin({"small": SMALL.body}) as behind:
        contenders = []
        direct = {"status": 200, "body": {"inline_string": SMALL.body}}
        for name, guest in (("envoy", None), ("envoy-hook", "envoy-hook")):
            if wants(options, name):
                module = provision.guest(guest) if guest else None
                contenders.append(Contender(name, servers.envoy_process(name, module, direct)))
        if wants(options, "native"):
            contenders.append(Contender("native", servers.native_process("hello"), instead=HELLO))
        for name, isolation in (("wharf", None), ("wharf-reuse", "reuse"), ("wharf-fresh", "fresh")):
            if options.wharf and wants(options, name):
                contenders.append(hooked(options.wharf, name, isolation, behind.port))
        yield from compare(options, contenders, [SMALL], None, REQUEST_FIELDS)


def hooked(program: Path, name: str, isolation: str | None, origin: int) -> Contender:
    if isolation is None:
        wharf = node(program, "hook-none", origin)
        wharf.deploy([SMALL.path], SMALL.body)
        return Contender(name, wharf.serve)
    function = Function("hook", provision.guest("hook"), None, isolation)
    wharf = node(program, f"hook-{isolation}", origin, {"hooks": '{ viewer_request = ["hook"] }'}, [function])
    wharf.deploy([SMALL.path], SMALL.body)

    def ran(requests: int) -> None:
        runs = wharf.metric('wharf_requests_total{function="hook"')
        if runs < requests:
            raise BenchError(f"the hook ran {runs:.0f} times for {requests} requests")

    return Contender(name, wharf.serve, ran)


def turns(options: Options) -> Iterator[Sample]:
    """Two programs that both run all the time, loaded in turn, for requests that are passed on and for a hook.

    A machine that others share is another one every few seconds: in slices that are shorter, it is the same for both.
    """
    load = LoadGenerator(provision.native("load"))
    with origin({"small": SMALL.body}) as behind:
        for label, each, fields in (("no-store", PRIVATE, ()), ("no cache", PRIVATE, ()), ("hook", SMALL, REQUEST_FIELDS)):
            contenders = [
                Contender("other", in_turns(options.other, "other", label, each, behind.port)),
                Contender("wharf", in_turns(options.wharf, "wharf", label, each, behind.port)),
            ]
            if each is PRIVATE:
                contenders.append(Contender("nginx", nginx_pass("pass", behind.port)))
            if label == "no-store":
                contenders.append(Contender("nginx, cache", nginx_uncached("uncached", behind.port)))
            with ExitStack() as running:
                processes = [(contender.name, running.enter_context(contender.start())) for contender in contenders]
                for _, process in processes:
                    process.wait_until_answers(each.path, each.body, servers.READY_SECONDS)
                    load.run(Load(each.path, each.body, CONNECTIONS, WARM_UP_SECONDS, headers=fields, settle=True), process.port)
                provision.say(f"{label}: {options.rounds} slices of {options.seconds:g} s each")
                slice_of_load = Load(each.path, each.body, CONNECTIONS, options.seconds, headers=fields, settle=True)
                for number in range(options.rounds):
                    yield from one_turn(load, slice_of_load, processes, label, number)
                for _, process in processes:
                    process.check(each.path, each.body)


def in_turns(program: Path, name: str, label: str, each: Object, origin: int) -> Callable[[], Process]:
    name = f"turns-{name}-{label}".replace(" ", "-")
    if label == "hook":
        function = Function("hook", provision.guest("hook"), None, "reuse")
        wharf = node(program, name, origin, {"hooks": '{ viewer_request = ["hook"] }'}, [function])
    else:
        wharf = node(program, name, origin, {"cache": "false"} if label == "no cache" else {})
    wharf.deploy([each.path], each.body)
    return wharf.serve


def one_turn(
    load: LoadGenerator, wanted: Load, processes: list[tuple[str, Process]], label: str, number: int
) -> Iterator[Sample]:
    samples: dict[str, Sample] = {}
    for name, process in rotated(processes, number):
        with attempt(row(f"{name}, {label}", CONNECTIONS), number) as sample:
            measure(sample, process, load, wanted)
        samples[name] = sample
    for name, _ in processes:
        sample, other = samples[name], samples["other"]
        if sample.values and other.values:
            sample.values["cpu_x_other"] = sample.values["cpu"] / other.values["cpu"]
        yield sample


def wants(options: Options, name: str) -> bool:
    return options.only is None or name in options.only


def compare(
    options: Options, contenders: list[Contender], objects: list[Object], base: str | None, fields: tuple[str, ...] = ()
) -> Iterator[Sample]:
    """Every contender in every round; `base` is who the others are held against."""
    load = LoadGenerator(provision.native("load"))
    connections = options.connections or [CONNECTIONS]
    for number in range(options.rounds):
        samples: dict[str, Sample] = {}
        for contender in rotated(contenders, number):
            provision.say(f"round {number + 1} of {options.rounds}: {contender.name}")
            asked = contender.objects(objects)
            with_fields = () if contender.instead else fields
            for sample in measured(contender, load, asked, connections, with_fields, number, options.seconds):
                samples[sample.row] = sample
        # In one order in every round, whatever the order of the runs.
        rows = ((contender, each) for each in objects for contender in contenders if not contender.instead)
        instead = ((contender, contender.instead) for contender in contenders if contender.instead)
        for contender, each in (*rows, *instead):
            for count in connections:
                sample = samples[name_of(contender.name, each, count)]
                beside = samples.get(name_of(base, each, count)) if base else None
                if beside and beside.values and sample.values:
                    for value in ("cpu", "p50", "p99"):
                        sample.values[f"{value}_x_{base}"] = sample.values[value] / beside.values[value]
                yield sample


def name_of(contender: str, each: Object, connections: int) -> str:
    return row(f"{contender}, {each.label}", connections)


def measured(
    contender: Contender,
    load: LoadGenerator,
    objects: list[Object],
    connections: list[int],
    fields: tuple[str, ...],
    number: int,
    seconds: float,
) -> list[Sample]:
    samples = []
    try:
        with contender.start() as process:
            for each in objects:
                process.wait_until_answers(each.path, each.body, servers.READY_SECONDS)
            for each in objects:
                for count in connections:
                    warm_up = Load(each.path, each.body, count, min(WARM_UP_SECONDS, seconds), headers=fields, settle=True)
                    wanted = Load(each.path, each.body, count, seconds, headers=fields, settle=True)
                    with attempt(name_of(contender.name, each, count), number) as sample:
                        load.run(warm_up, process.port)
                        measure(sample, process, load, wanted)
                        process.check(each.path, each.body)
                        contender.proof(round(sample.values["rps"] * seconds))
                    samples.append(sample)
    except BenchError as error:
        names = [name_of(contender.name, each, count) for each in objects for count in connections]
        measured_already = {sample.row for sample in samples}
        samples += [Sample(name, number, error=str(error)) for name in names if name not in measured_already]
    return samples
