"""What a server that was killed left behind goes at the next start."""

import pathlib
import signal
import subprocess
import uuid

from cluster import Failure, until


def test_cgroups_of_pods_that_are_gone(cluster):
    """A pod that is gone from the API while nobody was there to take its cgroup away."""
    until(lambda: cluster.get("sa", "default", "-n", "default"), "a service account", 30)
    places = [root / cluster.cgroup for root in pathlib.Path("/sys/fs/cgroup").iterdir() if (root / cluster.cgroup).is_dir()]
    places = places or [pathlib.Path("/sys/fs/cgroup") / cluster.cgroup]
    cluster.stop(signal.SIGKILL)
    made = []
    for place in places:
        for quality in ("", "burstable", "besteffort"):
            cgroup = place / quality / f"pod{uuid.uuid4()}"
            (cgroup / "container").mkdir(parents=True)
            made.append(cgroup)
    # What still runs in there belongs to nobody, either.
    sleeper = subprocess.Popen(["sleep", "1000"])
    try:
        home = next(cgroup for cgroup in made if "pids" in cgroup.parts or len(places) == 1)
        (home / "container/cgroup.procs").write_text(str(sleeper.pid))
        cluster.start()
        until(lambda: not [cgroup for cgroup in made if cgroup.exists()], "no cgroup of a pod that is gone", 40)
        if sleeper.wait(10) != -signal.SIGKILL:
            raise Failure(f"what ran in it ended with {sleeper.returncode}")
    finally:
        sleeper.kill()
        sleeper.wait()
    return f"{len(made)} cgroups"
