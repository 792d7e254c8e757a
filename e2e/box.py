"""A machine whose first process is busybox's init, in the network of a cluster: its own root, processes and mounts."""

import contextlib
import os
import pathlib
import shutil
import signal
import subprocess

from cluster import run, until

FOLDERS = ("bin", "sbin", "etc", "proc", "sys", "dev", "run", "tmp", "media", "var/log", "usr/bin", "usr/sbin", "root")

# The machine's own /sys, /dev and /proc, which end with its mounts. Its root is that of its mounts: who enters them later, as pods do, comes there.
COMMON = """
for place in sys dev; do mount --rbind /$place $0/$place && mount --make-rslave $0/$place; done
echo box > /proc/sys/kernel/hostname
cd $0 && mkdir -p old
exec unshare -p -f sh -ec 'mount -t proc proc proc; pivot_root . old; exec chroot . /bin/busybox sh -c "umount -l /old; exec /bin/busybox init"'
"""
OF_ITS_OWN = "mount --rbind $0 $0" + COMMON

# The host's files, of which nothing is changed: what is written goes to memory. Pods' roots need a disk, and no overlay below them.
OVER_THE_HOST = """
mount -t tmpfs -o mode=0755 tmpfs $0 && mkdir $0/upper $0/work $0/merged $0/etc
printf '::ctrlaltdel:/bin/true\n' > $0/etc/inittab
mkdir $0/upper/etc && cp $0/etc/inittab $0/upper/etc/
mount -t overlay overlay -o lowerdir=/,upperdir=$0/upper,workdir=$0/work $0/merged
mkdir -p $0/merged/var/lib/rancher && mount --bind $1 $0/merged/var/lib/rancher
mount -t tmpfs -o mode=0755 tmpfs $0/merged/run && mount -t tmpfs tmpfs $0/merged/tmp
exec sh -ec "$COMMON" $0/merged
"""


class Box:
    """With `over_host`, it has the host's programs; otherwise busybox alone."""

    def __init__(self, cluster, name, over_host=False):
        self.cluster, self.root, self.over_host = cluster, cluster.dir / name, over_host
        self.process = self.init = None
        if over_host:
            self.root.mkdir()
            self.disk = cluster.dir / f"{name}-disk"
            self.disk.mkdir()
            return
        for folder in FOLDERS:
            (self.root / folder).mkdir(parents=True)
        shutil.copy("/bin/busybox", self.root / "bin/busybox")
        run(["chroot", self.root, "/bin/busybox", "--install", "-s"])
        (self.root / "etc/inittab").write_text("::ctrlaltdel:/bin/true\n")

    def boot(self):
        script, arguments = (OVER_THE_HOST, [self.root, self.disk]) if self.over_host else (OF_ITS_OWN, [self.root])
        command = self.cluster.inside(["unshare", "-m", "-u", "--propagation", "slave", "sh", "-ec", script, *map(str, arguments)])
        env = {**os.environ, "COMMON": COMMON}
        self.process = subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=self.cluster.log, stderr=self.cluster.log)
        self.init = until(self.find_init, "init runs", 60, interval=0.02)

    def find_init(self):
        """The child that has become init: before it there are others, which mount."""
        with contextlib.suppress(OSError):
            for child in pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split():
                if pathlib.Path(f"/proc/{child}/cmdline").read_bytes().rstrip(b"\0").split(b"\0") in ([b"init"], [b"/bin/busybox", b"init"]):
                    return child
        return None

    def sh(self, command, check=True, timeout=180, folder="/", **env):
        """In the machine, as a person at its console."""
        env = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", **env}
        enter = ["nsenter", "-t", self.init, "-m", "-u", "-p", "-n", "-r", f"--wdns={folder}", "sh", "-c", command]
        done = subprocess.run(enter, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout)
        assert not check or done.returncode == 0, (command, done)
        return done

    def close(self):
        """Ends the machine, and everything in it with its first process."""
        if self.process:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(self.init or self.process.pid), signal.SIGKILL)
            self.process.wait(30)
