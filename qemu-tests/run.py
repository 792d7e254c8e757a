"""Runs scenarios on emulated machines and prints one table: run.py [--full] [--arch ARCH] [--memory MIB] [NAME ...].

The binaries are dist/k3rs-<arch>, or what BIN_ARMV7, BIN_ARM64, BIN_AMD64 name. Without --full and names, the short scenario.
"""

import argparse
import os
import pathlib
import signal
import sys
import tempfile
import time
import tomllib
import traceback

import escapes
import initramfs
import steps
from machine import Failure, Machine

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
LOGS = ROOT / "target/qemu-tests"
# What every machine is told unless its scenario says otherwise; the shell on the console is how the host looks inside.
WORDS = ["ip=dhcp", "hostname=gateway", "k3rs.shell"]
ARGUMENTS = ["server", "--tls-san", "127.0.0.1", "--disable", "traefik"]
DATA_WORD = "k3rs.data=LABEL=k3rs-data"
KEYS = {"title", "short", "arches", "memory_mib", "reported", "words", "arguments", "disks", "rtc", "cpus", "root", "search", "hostile", "step"}


class Scenario:
    """One file of scenarios/."""

    def __init__(self, path):
        self.name = path.stem
        data = tomllib.loads(path.read_text())
        unknown = data.keys() - KEYS
        if unknown:
            raise ValueError(f"{path.name}: unknown keys {sorted(unknown)}")
        self.title = data["title"]
        self.short = data.get("short", False)
        self.arches = data.get("arches", ["armv7", "arm64"])
        self.memory_mib = data.get("memory_mib", [300])
        # Sizes whose failure is told and does not fail the run, by architecture.
        self.reported = data.get("reported", {})
        self.words = data.get("words", WORDS)
        self.arguments = data.get("arguments", ARGUMENTS)
        self.disks = data.get("disks", [{"size_mib": 256, "label": "k3rs-data"}])
        self.rtc, self.cpus, self.root = data.get("rtc"), data.get("cpus", 1), data.get("root")
        # Not part of any run: --floor searches with it.
        self.search = data.get("search", False)
        # The images of hostile pods lie in the initramfs.
        self.hostile = data.get("hostile", False)
        self.steps = data["step"]
        for step in self.steps:
            try:
                steps.check(step)
            except (TypeError, ValueError) as error:
                raise ValueError(f"{path.name}: {step}: {error}") from None


class Run:
    """A scenario on one machine."""

    def __init__(self, scenario, arch, memory_mib, image, stay_s=None):
        self.scenario, self.arch, self.memory_mib = scenario, arch, memory_mib
        self.figures, self.pods, self.notes, self.image = {}, None, [], image
        self.steps = [step | {"seconds": stay_s} if stay_s and step["do"] == "stays_up" else step for step in scenario.steps]
        self.result = "ok"
        words = scenario.words + ([DATA_WORD] if any(disk.get("label") == "k3rs-data" for disk in scenario.disks) else [])
        self.machine = Machine(arch, image, memory_mib, words, scenario.arguments, scenario.disks, scenario.rtc, scenario.cpus, scenario.root)

    def go(self):
        log = LOGS / f"{self.scenario.name}-{self.arch}-{self.memory_mib}.console"
        started = time.monotonic()
        try:
            for idx, step in enumerate(self.steps, 1):
                try:
                    note = steps.do(self, step)
                    if note:
                        self.notes.append(note)
                except Exception as error:
                    why = str(error) if isinstance(error, Failure) else traceback.format_exc()
                    tail = self.machine.console.tail(25) if self.machine.console else ""
                    raise Failure(f"step {idx} ({step['do']}): {why}\n--- the end of the console ({log}):\n{tail}") from None
        except Failure as failure:
            excused = self.memory_mib in self.scenario.reported.get(self.arch, [])
            self.result = "reported" if excused else "FAIL"
            say(f"{self.label()}: {self.result}\n{failure}")
        finally:
            self.took = time.monotonic() - started
            self.machine.close(keep_in=log)
        if self.result == "ok":
            say(f"{self.label()}: ok, {self.took:.0f} s" + "".join(f"; {note}" for note in self.notes))

    def label(self):
        return f"{self.scenario.name} {self.arch} {self.memory_mib} MiB"

    def row(self):
        figure = lambda key, form, scale=1: form.format(self.figures[key] / scale) if key in self.figures else "-"
        return [
            self.scenario.name, self.arch, f"{self.memory_mib}", self.result,
            figure("ready_s", "{:.1f}") + " / " + figure("uptime_s", "{:.1f}") + " / " + figure("ready_cpu_s", "{:.1f}"),
            figure("rss_kib", "{:.1f}", 1024) + " / " + figure("pss_kib", "{:.1f}", 1024),
            figure("available_kib", "{:.1f}", 1024), figure("written", "{:.2f}", 1 << 20), figure("idle_cpu", "{:.1f}") + " / " + figure("idle_host_cpu", "{:.1f}"), f"{self.took:.0f}",
        ]


COLUMNS = ["scenario", "arch", "RAM MiB", "result", "Ready s wall/up/CPU", "RSS/PSS MiB", "left MiB", "written MiB", "idle CPU % k3rs/host", "took s"]


def table(runs):
    rows = [COLUMNS, *(run.row() for run in runs)]
    widths = [max(len(row[idx]) for row in rows) for idx in range(len(COLUMNS))]
    for idx, row in enumerate(rows):
        say("| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |")
        if idx == 0:
            say("|" + "|".join("-" * (width + 2) for width in widths) + "|")


def say(text):
    print(text, flush=True)


class Images:
    """One initramfs an architecture, made when it is first asked for."""

    def __init__(self, directory):
        self.directory, self.made = pathlib.Path(directory), {}

    def get(self, arch, hostile=False):
        key = arch, hostile
        if key not in self.made:
            self.made[key] = self.directory / f"{arch}{'-hostile' if hostile else ''}.cpio"
            size, n_modules = initramfs.build(arch, initramfs.binary(arch), self.made[key], more=escapes.archives() if hostile else None)
            say(f"{arch}: initramfs {size / (1 << 20):.1f} MiB, binary {initramfs.binary(arch).stat().st_size / (1 << 20):.1f} MiB, {n_modules} modules")
        return self.made[key]


def floor(scenario, arches, images):
    """Short stays from the largest size down to two failures in a row; then whole stays upwards from the smallest that passed."""
    runs = []
    for arch in arches or scenario.arches:
        passed, failures = [], 0
        for memory_mib in scenario.memory_mib:
            runs.append(Run(scenario, arch, memory_mib, images.get(arch), stay_s=20))
            runs[-1].go()
            failures = 0 if runs[-1].result == "ok" else failures + 1
            runs[-1].result = "20 s: up" if failures == 0 else "20 s: down"
            if failures == 0:
                passed.append(memory_mib)
            elif failures == 2:
                break
        for memory_mib in reversed(passed):
            runs.append(Run(scenario, arch, memory_mib, images.get(arch)))
            runs[-1].go()
            if runs[-1].result == "ok":
                say(f"floor of {arch}: {memory_mib} MiB")
                break
            runs[-1].result = "down"
        else:
            runs[-1].result = "FAIL"
    return runs


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--full", action="store_true", help="every scenario, not only the short ones")
    parser.add_argument("--floor", action="store_true", help="search the smallest memory that works")
    parser.add_argument("--arch", action="append")
    parser.add_argument("--memory", type=int, action="append", help="MiB, in place of the scenario's")
    parser.add_argument("names", nargs="*")
    chosen = parser.parse_args()
    scenarios = [Scenario(path) for path in sorted((HERE / "scenarios").glob("*.toml"))]
    unknown = set(chosen.names) - {scenario.name for scenario in scenarios}
    if unknown:
        sys.exit(f"qemu-tests: no scenario {sorted(unknown)}")
    with tempfile.TemporaryDirectory(prefix="k3rs-qemu-image-") as scratch:
        images = Images(scratch)
        runs = []
        if chosen.floor:
            runs = [run for scenario in scenarios if scenario.search for run in floor(scenario, chosen.arch, images)]
        for scenario in scenarios if not chosen.floor else []:
            if not (scenario.name in chosen.names if chosen.names else (chosen.full or scenario.short) and not scenario.search):
                continue
            for arch in chosen.arch or scenario.arches:
                for memory_mib in chosen.memory or scenario.memory_mib:
                    runs.append(Run(scenario, arch, memory_mib, images.get(arch, scenario.hostile)))
                    runs[-1].go()
    table(runs)
    # A search fails only if no size passed; its short stays carry another word.
    return 1 if not runs or any(run.result == "FAIL" for run in runs) else 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("qemu-tests: ended by a signal (SIGTERM), before the scenarios were through"))
    sys.exit(main())
