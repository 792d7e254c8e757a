"""Databases of a test's own: Debian's programs, data in a temporary directory, gone with the test.

Each has `endpoint()` for --datastore-endpoint, and can be killed and started again; `inside` puts a command where it listens: at
`address`, in a network namespace.
"""

import glob
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile

from cluster import Failure, until

PASSWORD = "s3cret"
NOBODY = 65534


class Database:
    """What they have in common. Databases refuse to run as root."""

    name = "a database"

    def __init__(self, inside, address):
        self.inside, self.address = inside, address
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="k3rs-e2e-db-"))
        os.chown(self.dir, NOBODY, NOBODY)
        self.log = open(self.dir / "log", "ab")
        self.process = None
        self.prepare()

    def prepare(self):
        pass

    def start(self):
        command = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *self.command()]
        self.process = subprocess.Popen(self.inside(command), cwd=self.dir, stdout=self.log, stderr=self.log, start_new_session=True)
        until(self.answers, f"{self.name} answers", 60)

    def answers(self):
        if self.process.poll() is not None:
            # What is left of a killed one may still hold its memory or its port.
            self.process = None
            raise Failure(f"{self.name} ended:\n" + (self.dir / "log").read_text(errors="replace")[-2000:])
        return self.asked()

    def run(self, *command, env=None):
        done = subprocess.run([str(part) for part in command], cwd=self.dir, env=env, capture_output=True, text=True, timeout=60,
                              user=NOBODY, group=NOBODY, extra_groups=[])  # fmt: skip
        if done.returncode != 0:
            raise Failure(f"{command[0]}: {done.stdout}{done.stderr}")
        return done.stdout.strip()

    def stop(self, sig=signal.SIGKILL):
        """At once, as a crash would; what was committed is there at the next start."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(sig)
            self.process.wait(30)

    def close(self):
        self.stop()
        self.log.close()
        shutil.rmtree(self.dir, ignore_errors=True)


def program(*patterns):
    for pattern in patterns:
        found = sorted(glob.glob(pattern))
        if found:
            return pathlib.Path(found[-1])
    raise Failure(f"there is no {patterns[0]}: e2e/setup.sh test installs it")


class Postgres(Database):
    name = "PostgreSQL"

    def prepare(self):
        self.bin = program("/usr/lib/postgresql/*/bin")
        (self.dir / "password").write_text(PASSWORD)
        os.chmod(self.dir / "password", 0o644)
        self.run(self.bin / "initdb", "-D", "data", "-U", "k3s", "-A", "scram-sha-256", f"--pwfile={self.dir}/password", "--no-sync")
        with open(self.dir / "data" / "pg_hba.conf", "a") as hba:
            hba.write("host all all 0.0.0.0/0 scram-sha-256\n")

    def endpoint(self):
        return f"postgres://k3s:{PASSWORD}@{self.address}:5432/kine?sslmode=disable"

    def command(self):
        return [str(self.bin / "postgres"), "-D", "data", "-k", str(self.dir), "-c", f"listen_addresses={self.address}"]

    def asked(self):
        return self.sql("select 1", "postgres") == "1"

    def sql(self, text, database="kine"):
        env = dict(os.environ, PGPASSWORD=PASSWORD)
        return self.run(self.bin / "psql", "-h", self.dir, "-U", "k3s", "-d", database, "-At", "-c", text, env=env)

    def stop(self, sig=signal.SIGQUIT):
        """An immediate shutdown: killed, it would leave its children."""
        super().stop(sig)


class Mariadb(Database):
    name = "MariaDB"

    def prepare(self):
        self.server = program("/usr/sbin/mariadbd")
        # One that starts deletes the temporary tables of all that share its directory for them.
        env = dict(os.environ, TMPDIR=str(self.dir))
        self.run("/usr/bin/mariadb-install-db", "--no-defaults", "--auth-root-authentication-method=normal", f"--datadir={self.dir}/data",
                 "--skip-test-db", "--skip-name-resolve", env=env)  # fmt: skip
        self.has_user = False

    def endpoint(self):
        return f"mysql://k3s:{PASSWORD}@tcp({self.address}:3306)/kine"

    def command(self):
        return [str(self.server), "--no-defaults", "--skip-name-resolve", "--innodb-buffer-pool-size=16M", f"--datadir={self.dir}/data", f"--tmpdir={self.dir}",
                f"--socket={self.dir}/socket", f"--pid-file={self.dir}/pid", f"--bind-address={self.address}"]  # fmt: skip

    def start(self):
        super().start()
        if not self.has_user:
            self.sql(f"CREATE USER k3s IDENTIFIED BY '{PASSWORD}'; GRANT ALL ON *.* TO k3s", "mysql")
            self.has_user = True

    def asked(self):
        return self.sql("SELECT 1", "mysql") == "1"

    def sql(self, text, database="kine"):
        return self.run("/usr/bin/mariadb", "--no-defaults", f"--socket={self.dir}/socket", "-u", "root", "-N", "-B", "-e", text, database)


class Etcd(Database):
    """One member; plain HTTP."""

    name = "etcd"

    def prepare(self):
        self.server = program("/usr/bin/etcd")

    def endpoint(self):
        return f"http://{self.address}:2379"

    def command(self):
        return [str(self.server), f"--data-dir={self.dir}/data", f"--listen-client-urls={self.endpoint()}", f"--advertise-client-urls={self.endpoint()}",
                "--listen-peer-urls=http://127.0.0.1:2380", "--log-level=error"]  # fmt: skip

    def asked(self):
        done = subprocess.run(self.inside(["curl", "-s", "--max-time", "2", f"{self.endpoint()}/health"]), capture_output=True, text=True)
        return '"true"' in done.stdout
