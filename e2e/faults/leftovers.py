"""What a server that was killed left behind goes at the next start."""

import pathlib
import signal
import subprocess
import uuid

from cluster import Failure, expect, until


def test_cgroups_of_pods_that_are_gone(cluster):
    """A pod that is gone from the API while nobody was there to take its cgroup away."""
    until(lambda: cluster.get("sa", "default", "-n", "default"), "a service account", 30)
    root = pathlib.Path("/sys/fs/cgroup")
    hierarchies = [root] if (root / "cgroup.controllers").exists() else list(root.iterdir())
    places = [hierarchy / cluster.cgroup for hierarchy in hierarchies if (hierarchy / cluster.cgroup).is_dir()]
    expect(places, "the node has cgroups for its pods")
    cluster.stop(signal.SIGKILL)
    # As pods have them: the same path in every hierarchy.
    paths = [pathlib.Path(quality) / f"pod{uuid.uuid4()}" for quality in ("", "burstable", "besteffort")]
    made = [place / path for place in places for path in paths]
    for cgroup in made:
        (cgroup / "container").mkdir(parents=True)
    # What still runs in there belongs to nobody, either.
    sleeper = subprocess.Popen(["sleep", "1000"])
    try:
        for place in places:
            # On v1 a cpuset takes nobody before it has processors.
            if "cpuset" not in place.parts:
                (place / paths[1] / "container/cgroup.procs").write_text(str(sleeper.pid))
        cluster.start()
        # Only its parent, this test, can reap it; until then its cgroup stays.
        until(lambda: sleeper.poll() is not None, "what ran in it was killed", 40)
        until(lambda: not [cgroup for cgroup in made if cgroup.exists()], "no cgroup of a pod that is gone", 40)
        if sleeper.returncode != -signal.SIGKILL:
            raise Failure(f"what ran in it ended with {sleeper.returncode}")
    finally:
        sleeper.kill()
        sleeper.wait()
    return f"{len(made)} cgroups"
