#!/usr/bin/env python3
"""Compares what k3rs makes of public charts with what `helm template` makes of them.

usage: charts.py HELM RENDER FOLDER... [-k WORD]

HELM is the real helm, built from its Go module (helm.sh/helm/v3). RENDER is the program of `cargo build -p charts --example render`.
Each FOLDER has charts in it, at any depth: check-outs of their repositories, which are never committed here. Every chart is
rendered with its own values, and with each file of its `ci/` folder. Charts that it needs are taken from the other folders.
What differs between two runs of helm itself (passwords, keys, dates) is not compared.

Prints a line a rendering, and the table of parity. Exits with 1 if a chart renders to something else.
"""
import concurrent.futures
import difflib
import io
import os
import re
import subprocess
import sys
import tarfile
import tempfile

KUBE_VERSION = "v1.32.9"
SECONDS_MAX = 300


def folders(roots):
    """Charts that stand in no other chart, by path."""
    found = []
    for root in roots:
        for path, inner, files in os.walk(root):
            inner.sort()
            if "Chart.yaml" in files:
                found.append(path)
                inner[:] = []
    return found


def head(chart, word):
    with open(os.path.join(chart, "Chart.yaml"), encoding="utf-8") as file:
        match = re.search(rf"^{word}: *[\"']?([^\"'\n#]+)", file.read(), re.M)
    return match.group(1).strip() if match else ""


def needed(chart):
    """Names of dependencies, and the text of the file that names them."""
    for name in ("Chart.yaml", "requirements.yaml"):
        path = os.path.join(chart, name)
        if os.path.exists(path):
            with open(path, encoding="utf-8") as file:
                text = file.read()
            at = re.search(r"^dependencies:[ \t]*\n((?:[ \t-].*\n?|#.*\n|\n)*)", text, re.M)
            if at:
                return re.findall(r"^[ -]+name: *[\"']?([\w.-]+)", at.group(1), re.M), name, at.span(1)
    return [], None, None


def add(archive, name, data):
    info = tarfile.TarInfo(name)
    info.size = len(data)
    archive.addfile(info, io.BytesIO(data))


def pack(archive, chart, into, known, depth=0):
    """Adds a chart with what it needs; a name that nobody has is an error."""
    names, where, span = needed(chart)
    for path, inner, files in os.walk(chart):
        inner[:] = sorted(one for one in inner if one not in (".git", "tests") or path != chart)
        for file in sorted(files):
            full = os.path.join(path, file)
            inside = os.path.relpath(full, chart)
            if os.path.islink(full) or os.path.getsize(full) > 5 << 20:
                continue
            with open(full, "rb") as source:
                data = source.read()
            if inside == where:
                text = data.decode()
                # The check-outs have one version of each.
                part = re.sub(r"^([ -]+version:).*$", r"\1 '>=0.0.0-0'", text[span[0]:span[1]], flags=re.M)
                data = (text[:span[0]] + part + text[span[1]:]).encode()
            add(archive, f"{into}/{inside}", data)
    for name in sorted(set(names)):
        there = os.path.join(chart, "charts", name)
        if os.path.exists(there) or any(one.startswith(name + "-") for one in os.listdir(os.path.dirname(there)) if one.endswith(".tgz")) if os.path.isdir(os.path.dirname(there)) else False:
            continue
        if name not in known or depth > 5:
            raise LookupError(name)
        pack(archive, known[name], f"{into}/charts/{name}", known, depth + 1)


def run(command):
    done = subprocess.run(command, capture_output=True, timeout=SECONDS_MAX, check=False)
    return done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace").strip()


def documents(text):
    """Documents by their source, in their order."""
    out = []
    for part in re.split(r"^---\n", text, flags=re.M):
        match = re.match(r"# Source: (.*)\n", part)
        if match:
            out.append((match.group(1), part.rstrip()))
    return out


def masks(first, second):
    """Lines that helm itself prints differently twice, as patterns of what is the same in them."""
    lines = set()
    for a, b in zip(first.splitlines(), second.splitlines()):
        if a != b:
            same = os.path.commonprefix([a, b])
            lines.add(same[:same.rfind(":") + 1] or same)
    return {line for line in lines if line.strip()}


def hidden(text, marks):
    return "\n".join(
        next((mark + " (hidden)" for mark in marks if line.startswith(mark)), line) for line in text.splitlines()
    )


def compare(ours, theirs, marks):
    """Nothing if they are the same; else what differs."""
    ours, theirs = documents(hidden(ours, marks)), documents(hidden(theirs, marks))
    if sorted(ours) != sorted(theirs):
        left = "\n---\n".join(text for _, text in sorted(theirs))
        right = "\n---\n".join(text for _, text in sorted(ours))
        return "\n".join(list(difflib.unified_diff(left.splitlines(), right.splitlines(), "helm", "k3rs", lineterm="", n=1))[:40])
    kinds = lambda all: [source for source, _ in all if "hook" not in _]
    if kinds(ours) != kinds(theirs):
        return "the order differs"
    return ""


def one(job):
    helm, render, versions, archive, label, values = job
    files = [flag for value in values for flag in ("-f", value)]
    asked = [helm, "template", "release-name", archive, "--namespace", "default", "--kube-version", KUBE_VERSION, *files]
    try:
        code, theirs, their_error = run(asked)
        our_code, ours, our_error = run([render, KUBE_VERSION, versions, "release-name", "default", archive, *values])
        if code != 0 or our_code != 0:
            if code != 0 and our_code == 1:
                return label, "both refuse", f"helm: {their_error[:600]}\n k3rs: {our_error[:600]}"
            return label, "DIFFERS", f"helm {code}: {their_error[:900]}\n k3rs {our_code}: {our_error[:900]}"
        if compare(ours, theirs, ()) == "":
            return label, "same", ""
        _, again, _ = run(asked)
        difference = compare(ours, theirs, masks(theirs, again))
    except subprocess.TimeoutExpired as error:
        return label, "DIFFERS", str(error)
    return label, "DIFFERS" if difference else "same but for randomness", difference


def api_versions(helm, folder):
    """The versions that `helm template` knows of."""
    chart = os.path.join(folder, "versions.tgz")
    with tarfile.open(chart, "w:gz") as archive:
        add(archive, "versions/Chart.yaml", b"apiVersion: v2\nname: versions\nversion: 1.0.0\n")
        add(archive, "versions/templates/a.yaml", b"all: {{ join \" \" .Capabilities.APIVersions }}\n")
    text = run([helm, "template", chart])[1]
    path = os.path.join(folder, "versions")
    with open(path, "w", encoding="utf-8") as file:
        file.write(text.split("all: ", 1)[1])
    return path


def main():
    args = sys.argv[1:]
    word = ""
    if "-k" in args:
        at = args.index("-k")
        word = args[at + 1]
        del args[at:at + 2]
    if len(args) < 3:
        sys.exit(__doc__)
    helm, render, roots = args[0], args[1], args[2:]
    charts = folders(roots)
    known = {head(chart, "name"): chart for chart in reversed(charts)}
    jobs, left_out = [], []
    with tempfile.TemporaryDirectory() as folder:
        versions = api_versions(helm, folder)
        for number, chart in enumerate(charts):
            name = head(chart, "name")
            if word not in name or head(chart, "type") == "library":
                continue
            path = os.path.join(folder, f"{number}.tgz")
            try:
                with tarfile.open(path, "w:gz", compresslevel=1) as archive:
                    pack(archive, chart, name, known)
            except LookupError as error:
                left_out.append(f"{name} (needs {error})")
                continue
            jobs.append((helm, render, versions, path, name, ()))
            ci = os.path.join(chart, "ci")
            for file in sorted(os.listdir(ci)) if os.path.isdir(ci) else ():
                if file.endswith((".yaml", ".yml")):
                    jobs.append((helm, render, versions, path, f"{name} {file}", (os.path.join(ci, file),)))
        table, n_charts = {}, len({job[3] for job in jobs})
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            for label, verdict, difference in pool.map(one, jobs):
                table[verdict] = table.get(verdict, 0) + 1
                print(f"{verdict:24} {label}", flush=True)
                if difference:
                    print("    " + difference.replace("\n", "\n    "), flush=True)
    print(f"\n{n_charts} charts, {len(jobs)} renderings")
    for verdict, n in sorted(table.items()):
        print(f"  {verdict:24} {n}")
    if left_out:
        print("  left out: " + ", ".join(left_out))
    sys.exit(1 if table.get("DIFFERS") else 0)


if __name__ == "__main__":
    main()
