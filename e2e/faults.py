"""Faults that strangers found, each as a test on a real node: faults.py BINARY [TOPIC[.TEST] ...].

A topic is a module in faults/; it gets one cluster, started with its ARGS. Its tests are the functions whose names
begin with `test_`, in their order; each gets the cluster. docs/security.md names the test of each fault.
All topics together run as processes, a few at a time, for they mostly wait; those that are ALONE, because they measure
times or memory, come first, one after another.
"""

import concurrent.futures
import importlib
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
import traceback

from cluster import HERE, Cluster, Failure

sys.path.insert(0, str(HERE))

# Topics that run at the same time. Two leave two processors idle for two thirds of the time; more than three would wait
# for them, where tests have time limits.
LANES_MAX = 3

# They begin first, or they would be waited for in the end.
LONGEST = ("trees", "inside", "proxy")


def tests(module):
    return [value for name, value in vars(module).items() if name.startswith("test_") and callable(value)]


def run(binary, topic, only):
    """One topic on one cluster: how many tests passed and failed."""
    module = importlib.import_module(f"faults.{topic}")
    cluster = Cluster(binary, args=getattr(module, "ARGS", ()))
    passed = failed = 0
    try:
        prepare = getattr(module, "prepare", None)
        if prepare:
            prepare(cluster)
        if getattr(module, "START", True):
            cluster.start()
        for test in tests(module):
            if only and test.__name__ not in only:
                continue
            started = time.monotonic()
            try:
                note = test(cluster)
                passed += 1
                print(f"ok    {topic}.{test.__name__:44} {time.monotonic() - started:6.1f} s  {note or ''}", flush=True)
            except Exception as error:
                failed += 1
                why = str(error) if isinstance(error, Failure) else traceback.format_exc()
                print(f"FAIL  {topic}.{test.__name__:44} {time.monotonic() - started:6.1f} s\n{why}\n--- k3rs says:\n{cluster.tail()}", flush=True)
    except Exception:
        failed += 1
        print(f"FAIL  {topic}: no node\n{traceback.format_exc()}\n--- k3rs says:\n{cluster.tail()}", flush=True)
    finally:
        if failed and os.environ.get("K3RS_E2E_KEEP"):
            print(f"kept: {cluster.dir} netns {cluster.netns} pid {cluster.process and cluster.process.pid}")
        else:
            cluster.close()
    return passed, failed


class Separately:
    """Runs topics in processes of their own, and ends those when it is told to."""

    def __init__(self, binary):
        self.binary, self.running, self.ended = binary, set(), False
        signal.signal(signal.SIGTERM, self.end)

    def end(self, *_):
        self.ended = True
        for process in list(self.running):
            process.terminate()

    def run(self, topic):
        """One topic: how many tests passed and failed. What it says is shown when it ends."""
        if self.ended:
            return 0, 1
        with subprocess.Popen([sys.executable, __file__, self.binary, topic], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
            self.running.add(process)
            said = process.communicate()[0]
            self.running.discard(process)
        tests, _, last = said.rstrip("\n").rpartition("\n")
        counts = re.fullmatch(r"(\d+) passed, (\d+) failed", last)
        print(tests if counts else f"FAIL  {topic}: it ended with {process.returncode}\n{said}", flush=True)
        return (int(counts[1]), int(counts[2])) if counts else (0, 1)

    def run_all(self, topics):
        """Every topic: how many tests passed and failed."""
        alone = [topic for topic in topics if getattr(importlib.import_module(f"faults.{topic}"), "ALONE", False)]
        others = sorted(set(topics) - set(alone), key=lambda topic: (topic not in LONGEST, topic))
        results = [self.run(topic) for topic in alone]
        with concurrent.futures.ThreadPoolExecutor(LANES_MAX) as lanes:
            results += lanes.map(self.run, others)
        return total(results)


def total(results):
    return [sum(column) for column in zip(*results)]


def main():
    binary, chosen = os.path.realpath(sys.argv[1]), sys.argv[2:]
    topics = sorted(path.stem for path in pathlib.Path(HERE / "faults").glob("*.py") if not path.stem.startswith("_"))
    # The folder is the first place where programs beside the topics look for modules: one found `operator` there.
    shadowing = [topic for topic in topics if topic in sys.stdlib_module_names]
    assert not shadowing, f"topics named as modules of Python: {shadowing}"
    wanted = {}
    for word in chosen:
        topic, _, test = word.partition(".")
        wanted.setdefault(topic, set()).update({test} if test else ())
    unknown = sorted(set(wanted) - set(topics))
    if unknown:
        print(f"no such topic: {', '.join(unknown)}; there are: {', '.join(topics)}", file=sys.stderr)
        return 2
    if chosen:
        results = [run(binary, topic, only) for topic, only in wanted.items()]
        passed, failed = total(results)
    else:
        passed, failed = Separately(binary).run_all(topics)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    sys.exit(main())
