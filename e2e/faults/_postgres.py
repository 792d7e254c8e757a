"""A PostgreSQL of a test's own: Debian's programs, data in a temporary directory, gone with the test."""

import glob
import os
import pathlib
import pwd
import shutil
import signal
import subprocess
import tempfile

from cluster import Failure, until

PASSWORD = "s3cret"


class Postgres:
    """`inside` puts a command where the server listens: at `address`, in a network namespace."""

    def __init__(self, inside, address, port=5432):
        self.inside, self.address, self.port = inside, address, port
        found = sorted(glob.glob("/usr/lib/postgresql/*/bin"))
        if not found:
            raise Failure("no PostgreSQL: e2e/setup.sh test installs it")
        self.bin = pathlib.Path(found[-1])
        self.user = pwd.getpwnam("postgres")
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="k3rs-e2e-pg-"))
        os.chown(self.dir, self.user.pw_uid, self.user.pw_gid)
        (self.dir / "password").write_text(PASSWORD)
        os.chmod(self.dir / "password", 0o644)
        self.log = open(self.dir / "log", "ab")
        self.process = None
        self.run("initdb", "-D", str(self.dir / "data"), "-U", "k3s", "-A", "scram-sha-256", "--pwfile", str(self.dir / "password"), "--no-sync")
        with open(self.dir / "data" / "pg_hba.conf", "a") as hba:
            hba.write("host all all 0.0.0.0/0 scram-sha-256\n")

    def endpoint(self, database="kine"):
        return f"postgres://k3s:{PASSWORD}@{self.address}:{self.port}/{database}?sslmode=disable"

    def as_user(self):
        return {"user": self.user.pw_uid, "group": self.user.pw_gid, "extra_groups": []}

    def run(self, program, *args):
        done = subprocess.run([str(self.bin / program), *args], capture_output=True, text=True, timeout=60, **self.as_user())
        if done.returncode != 0:
            raise Failure(f"{program}: {done.stdout}{done.stderr}")
        return done.stdout

    def start(self):
        # nsenter needs root; the program itself must not be.
        command = ["setpriv", f"--reuid={self.user.pw_uid}", f"--regid={self.user.pw_gid}", "--clear-groups",
                   str(self.bin / "postgres"), "-D", str(self.dir / "data"), "-k", str(self.dir),
                   "-c", f"listen_addresses={self.address}", "-c", f"port={self.port}"]
        self.process = subprocess.Popen(self.inside(command), stdout=self.log, stderr=self.log, start_new_session=True)
        until(lambda: self.sql("select 1", "postgres") == "1", "PostgreSQL answers", 60)

    def sql(self, text, database="kine"):
        env = dict(os.environ, PGPASSWORD=PASSWORD)
        command = [str(self.bin / "psql"), "-h", str(self.dir), "-p", str(self.port), "-U", "k3s", "-d", database, "-At", "-c", text]
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=30)
        if done.returncode != 0:
            raise Failure(f"psql: {done.stderr}")
        return done.stdout.strip()

    def stop(self, sig=signal.SIGQUIT):
        """At once, as a crash would (an immediate shutdown); what was committed is there at the next start."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(sig)
            self.process.wait(30)

    def close(self):
        self.stop()
        self.log.close()
        shutil.rmtree(self.dir, ignore_errors=True)
