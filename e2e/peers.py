"""Programs that are not ours, for interop.py: built once, below .run/interop, and run against a cluster."""

import hashlib
import os
import pathlib
import shutil
import subprocess

from cluster import Failure

HERE = pathlib.Path(__file__).resolve().parent
WORK = HERE.parent / ".run" / "interop"
SOURCES = HERE / "interop"


class Skipped(Exception):
    """What this machine lacks for a part."""


def wants(*programs):
    for program in programs:
        if not shutil.which(program):
            raise Skipped(f"no {program} on this machine")


def built(name, module):
    """A program of the Go module proxy, built once."""
    wants("go")
    program = WORK / "bin" / name
    if not program.exists():
        say(f"building {name}")
        env = dict(os.environ, GOBIN=str(program.parent), GOFLAGS="-mod=mod")
        subprocess.run(["go", "install", module], env=env, cwd="/", check=True)
    return program


def source(name, files):
    """A copy of a program's source, which its tools may change, and whether it is of another than the last one."""
    place = WORK / "sources" / name
    texts = {pathlib.Path(file).relative_to(name): (SOURCES / file).read_bytes() for file in sorted(files)}
    digest = hashlib.sha256(repr(texts).encode()).hexdigest()
    stamp = place / ".digest"
    if stamp.exists() and stamp.read_text() == digest:
        return place, False
    for file, text in texts.items():
        (place / file).parent.mkdir(parents=True, exist_ok=True)
        (place / file).write_bytes(text)
    stamp.write_text(digest)
    return place, True


def go_program(name, files, **env):
    """A Go program of e2e/interop, and where its module lies."""
    wants("go")
    place, is_new = source(name, files)
    program = WORK / "bin" / name
    if is_new or not program.exists():
        say(f"building {name}")
        env = dict(os.environ, GOFLAGS="-mod=mod", **env)
        subprocess.run(["go", "build", "-ldflags", "-s -w", "-o", str(program), "."], env=env, cwd=place, check=True)
    return program, place


def cargo_program(name, files):
    """A Rust program of e2e/interop, with a lock file and a target directory of its own."""
    wants("cargo")
    place, is_new = source(name, files)
    program = place / "target/debug" / name
    if is_new or not program.exists():
        say(f"building {name}")
        # What this workspace builds with is not meant for it.
        ours = ("RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_TARGET", "CARGO_TARGET_DIR")
        env = {key: value for key, value in os.environ.items() if key not in ours}
        subprocess.run(["cargo", "build", "--quiet", "--target-dir", str(place / "target")], env=env, cwd=place, check=True)
    return program


def say(what):
    print(f"{what}, which takes minutes the first time", flush=True)


def run(cluster, command, timeout=300, **more):
    env = dict(cluster.env, **more)
    done = subprocess.run(cluster.inside(command), env=env, capture_output=True, text=True, timeout=timeout)
    if done.returncode != 0:
        raise Failure(f"{' '.join(map(str, command))}: {done.returncode}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}")
    return done.stdout
