"""Faults that strangers found, each as a test on a real node: faults.py BINARY [TOPIC[.TEST] ...].

A topic is a module in faults/; it gets one cluster, started with its ARGS. Its tests are the functions whose names
begin with `test_`, in their order; each gets the cluster. docs/security.md names the test of each fault.
"""

import importlib
import os
import pathlib
import signal
import sys
import time
import traceback

from cluster import HERE, Cluster, Failure

sys.path.insert(0, str(HERE))


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


def main():
    binary, chosen = os.path.realpath(sys.argv[1]), sys.argv[2:]
    topics = sorted(path.stem for path in pathlib.Path(HERE / "faults").glob("*.py") if not path.stem.startswith("_"))
    wanted = {}
    for word in chosen:
        topic, _, test = word.partition(".")
        wanted.setdefault(topic, set()).update({test} if test else ())
    unknown = sorted(set(wanted) - set(topics))
    if unknown:
        print(f"no such topic: {', '.join(unknown)}; there are: {', '.join(topics)}", file=sys.stderr)
        return 2
    passed = failed = 0
    for topic in wanted or topics:
        results = run(binary, topic, wanted.get(topic, set()))
        passed, failed = passed + results[0], failed + results[1]
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    sys.exit(main())
