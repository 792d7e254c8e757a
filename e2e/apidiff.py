"""Starts k3rs and a stock kube-apiserver in one network namespace and asks both: see apidiff.sh."""

import pathlib
import shutil
import subprocess
import sys

from cluster import Cluster, Failure, expect, until

READY_MAX_SECS = 90
HERE = pathlib.Path(__file__).resolve().parent


def stock_url(cluster, kube_apiserver, instruments, directory):
    """Starts the stock server; its process, and what it prints when it is ready."""
    shutil.rmtree(directory, ignore_errors=True)
    log = pathlib.Path(f"{directory}.log")
    with open(log, "wb") as out:
        process = subprocess.Popen(
            cluster.inside(["bash", f"{instruments}/stock.sh", kube_apiserver, directory, "7443"]), stdout=out, stderr=out, start_new_session=True
        )

    def said():
        lines = [line for line in log.read_text(errors="replace").splitlines() if line.startswith("https://")]
        return (lines or [None])[0] or (process.poll() is not None and "ended")

    try:
        url = until(said, "the stock server starts", READY_MAX_SECS)
        expect(url != "ended", "it ended")
        return process, url
    except Failure as why:
        process.terminate()
        raise Failure(f"the stock server does not start ({why}):\n{log.read_text(errors='replace')}")


def ask(binary, kube_apiserver, instruments, work, seed, cases, more):
    """One seed, of two new servers: what a seed leaves behind would show in the lists and Tables of the next."""
    # The stock server is alone, too: nobody there finishes deletions, taints nodes or gives addresses.
    cluster = Cluster(binary, ["--disable-agent", "--disable-controller-manager", "--disable-scheduler", "--disable-cloud-controller"])
    stock = None
    try:
        cluster.start()
        stock, url = stock_url(cluster, kube_apiserver, instruments, f"{work}/stock")
        report = f"{work}/report-{seed}.md"
        print(f"== seed {seed}: {report}", flush=True)
        asked = ["python3", f"{HERE}/apidiff_classes.py", instruments, "--stock", url, "--ours", cluster.env["KUBECONFIG"], "--seed", seed, "--cases", cases, "--out", report]
        subprocess.run(cluster.inside([*asked, *more]), check=True)
        malformed = ["python3", f"{HERE}/malformed.py", "--stock", url, "--ours", cluster.env["KUBECONFIG"], "--out", f"{work}/malformed-{seed}.md"]
        subprocess.run(cluster.inside(malformed), check=True)
    finally:
        if stock:
            stock.terminate()
            stock.wait()
        cluster.close()


def main():
    binary, kube_apiserver, instruments, work, seeds, cases, *more = sys.argv[1:]
    for seed in seeds.split():
        ask(binary, kube_apiserver, instruments, work, seed, cases, more)


if __name__ == "__main__":
    main()
