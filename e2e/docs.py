"""Runs what docs/ tells people to type: docs.py BINARY [PAGE ...].

A page whose first lines have `<!-- machine: empty -->` or `<!-- machine: server -->` gets a machine of its own: the host's programs, and
k3rs's files in /root/k3rs; on the second kind a server runs already. Its blocks marked `sh run` are run in their order, each as a script that
ends at its first error; the `cd` and `export` lines of those before count on. A block `text shown` after one says what it prints: each line
has to be there, and `...` stands for anything. Every other `sh` block says why it is not run: `sh not run: REASON`.
"""

import contextlib
import hashlib
import os
import pathlib
import re
import shutil
import signal
import sys
import time

from box import Box
from cluster import HERE, Cluster, Failure, find_kubectl

DOCS = HERE.parent / "docs"
ARCH = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, "armv7")
BLOCK_SECONDS_MAX = 180


class Block:
    def __init__(self, line, info, text):
        self.line, self.info, self.text = line, info, text


def blocks(page):
    """The fenced blocks of a page."""
    found, inside = [], None
    for number, line in enumerate(page.read_text().splitlines(), 1):
        if inside is None and line.startswith("```"):
            inside = Block(number, line[3:].strip(), [])
        elif inside is not None and line == "```":
            found.append(inside)
            inside = None
        elif inside is not None:
            inside.text.append(line)
    if inside:
        raise Failure(f"{page}:{inside.line}: a block without its end")
    return found


def complaints(page):
    """What is wrong with a page before anything is run: blocks that are neither run nor say why, and links that lead nowhere."""
    found = []
    for block in blocks(page):
        word, _, rest = block.info.partition(" ")
        if word in ("sh", "bash", "shell") and rest != "run" and not rest.startswith("not run: "):
            found.append(f"{page.name}:{block.line}: mark the block `sh run`, or `sh not run: REASON`")
        if word == "" and any(line.lstrip().startswith(("k3rs ", "kubectl ", "k3s ")) for line in block.text):
            found.append(f"{page.name}:{block.line}: commands in a block without a word")
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text()):
        if "://" not in target and not (page.parent / target).exists():
            found.append(f"{page.name}: there is no {target}")
    return found


def machine_of(page):
    found = re.search(r"<!-- machine: (\w+) -->", page.read_text())
    return found and found[1]


def shown(want, said):
    """The first line of what has to be shown that is not there."""
    for line in want:
        pattern = r"\s+".join(".*?".join(map(re.escape, word.split("..."))) for word in line.split())
        if not re.search(pattern, said):
            return line
    return None


class Page:
    def __init__(self, cluster, page, number):
        self.cluster, self.page = cluster, page
        self.box = Box(cluster, f"machine{number}", over_host=True)
        self.before = []

    def prepare(self, kind):
        self.box.boot()
        files = self.box.disk / ".files"
        files.mkdir()
        program = files / f"k3rs-{ARCH}"
        shutil.copy(self.cluster.binary, program)
        shutil.copy(HERE.parent / "packaging/install.sh", files)
        (files / "SHA256SUMS").write_text(f"{hashlib.sha256(program.read_bytes()).hexdigest()}  {program.name}\n")
        # The disk is below the data directory's parent; its memory is spared the program.
        self.box.sh(f"rm -rf /root/k3rs /root/.kube && ln -s /var/lib/rancher/.files /root/k3rs && ln -sf {find_kubectl()} /usr/local/bin/kubectl")
        if kind == "server":
            self.run("./install.sh && until kubectl get nodes 2>/dev/null | grep -q ' Ready'; do sleep 1; done")

    def run(self, text):
        done = self.box.sh(
            "\n".join(["set -eu", *self.before, text]), check=False, timeout=BLOCK_SECONDS_MAX, folder="/root/k3rs",
            INSTALL_K3RS_INIT="busybox", KUBECONFIG="/etc/rancher/k3s/k3s.yaml", NO_COLOR="1", LC_ALL="C.UTF-8",
        )
        if done.returncode:
            raise Failure(f"exit code {done.returncode} of\n{text}\n--- output\n{done.stdout}{done.stderr}\n--- k3rs\n{self.log()}")
        self.before += [line for line in text.splitlines() if line.startswith(("cd ", "export "))]
        return done.stdout + done.stderr

    def log(self):
        return self.box.sh("tail -n 20 /var/log/k3s.log 2>/dev/null", check=False).stdout

    def blocks(self):
        """Runs them; how many."""
        said, n = "", 0
        for block in blocks(self.page):
            try:
                if block.info == "sh run":
                    said = self.run("\n".join(block.text))
                    n += 1
                elif block.info == "text shown":
                    missing = shown(block.text, said)
                    if missing is not None:
                        raise Failure(f"it does not print {missing!r}:\n{said}")
            except Exception as error:
                raise Failure(f"{self.page.name}:{block.line}: {error}") from error
        return n

    def close(self):
        with contextlib.suppress(Exception):
            self.box.sh("k3s-killall.sh", check=False, timeout=60)
        self.box.close()


def main():
    binary, chosen = os.path.realpath(sys.argv[1]), set(sys.argv[2:])
    pages = sorted(DOCS.rglob("*.md"))
    wrong = [it for page in pages for it in complaints(page)]
    if wrong:
        print("\n".join(wrong))
        print(f"0 passed, {len(wrong)} failed")
        return 1
    passed = failed = 0
    cluster = Cluster(binary)
    try:
        for number, page in enumerate(pages):
            kind = machine_of(page)
            if not kind or (chosen and page.stem not in chosen):
                continue
            started, it = time.monotonic(), Page(cluster, page, number)
            try:
                it.prepare(kind)
                n = it.blocks()
                passed += 1
                print(f"ok    docs.{page.stem:30} {time.monotonic() - started:6.1f} s  {n} blocks", flush=True)
            except Exception as error:
                failed += 1
                print(f"FAIL  docs.{page.stem:30} {time.monotonic() - started:6.1f} s\n{error}", flush=True)
            finally:
                it.close()
    finally:
        cluster.close()
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    sys.exit(main())
