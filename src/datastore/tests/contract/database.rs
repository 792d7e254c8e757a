//! Real databases, each in a directory of its own, owned by nobody in particular and gone with the test.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Databases refuse to run as root.
const NOBODY: u32 = 65534;
/// A loaded machine takes its time.
const START_MAX: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Postgres,
    Mariadb,
}

/// A database server that can be killed and started again.
pub(crate) struct Database {
    pub(crate) kind: Kind,
    dir: PathBuf,
    programs: PathBuf,
    /// An address of this test alone, so that no port can be taken.
    address: String,
    /// The same database, at an address that its certificate does not name.
    pub(crate) nameless: String,
    child: Mutex<Option<Child>>,
}

/// The password of every user.
pub(crate) const PASSWORD: &str = "p@ss/w:rd";

impl Database {
    /// Starts one; `None`, with the reason printed, where the programs are not installed.
    pub(crate) fn start(kind: Kind) -> Option<Database> {
        static N: AtomicU32 = AtomicU32::new(1);
        let Some(programs) = find(kind) else {
            assert!(option_env!("CI").is_none(), "no {kind:?}: nothing is skipped in CI");
            eprintln!("skipped: {kind:?} is not installed (e2e/setup.sh test)");
            return None;
        };
        let (n, pid) = (N.fetch_add(1, Ordering::Relaxed), std::process::id());
        let dir = std::env::temp_dir().join(format!("k3rs-datastore-{pid}-{n}"));
        std::fs::create_dir_all(&dir).unwrap();
        std::os::unix::fs::chown(&dir, Some(owner()), Some(owner())).unwrap();
        let address = |net| format!("127.{net}.{}.{}", pid >> 8 & 255, (pid & 255).clamp(1, 254));
        let (address, nameless) = (address(64 + 2 * n), address(65 + 2 * n));
        let child = Mutex::new(None);
        let database = Database { kind, dir, programs, address, nameless, child };
        database.certify("certificate");
        database.certify("other");
        database.initialize();
        database.run();
        if kind == Kind::Mariadb {
            let sql =
                format!("CREATE USER k3s IDENTIFIED BY '{PASSWORD}'; GRANT ALL ON *.* TO k3s");
            database.sql("mysql", &sql).unwrap();
        }
        Some(database)
    }

    /// Makes a certificate that stands for itself.
    fn certify(&self, name: &str) {
        let mut openssl = self.program("/usr/bin/openssl");
        openssl.args("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes".split(' '));
        openssl.args(["-days", "2", "-subj", "/CN=database", "-addext"]);
        openssl.arg(format!("subjectAltName=IP:{}", self.address));
        openssl.arg("-keyout").arg(self.file(&format!("{name}.key")));
        openssl.arg("-out").arg(self.file(&format!("{name}.pem")));
        let out = openssl.output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn program(&self, name: &str) -> Command {
        // Ends with the test, however that ends.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).arg(self.programs.join(name));
        // A MariaDB that starts deletes the temporary tables of all that share its directory for them.
        command.current_dir(&self.dir).env("TMPDIR", &self.dir).stdin(Stdio::null());
        if owner() == NOBODY {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    }

    fn log(&self) -> Stdio {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.dir.join("log"));
        log.unwrap().into()
    }

    fn initialize(&self) {
        let path = self.dir.join("password");
        std::fs::File::create(&path).unwrap().write_all(PASSWORD.as_bytes()).unwrap();
        let mut command = match self.kind {
            Kind::Postgres => {
                let mut command = self.program("initdb");
                command.args(["-D", "data", "-U", "postgres", "-E", "UTF8", "--locale=C"]);
                command.args(["--no-sync", "--auth-local=trust", "--auth-host=scram-sha-256"]);
                command.arg(format!("--pwfile={}", path.display()));
                command
            }
            Kind::Mariadb => {
                let mut command = self.program("/usr/bin/mariadb-install-db");
                command.args(["--no-defaults", "--auth-root-authentication-method=normal"]);
                command.arg(format!("--datadir={}", self.dir.join("data").display()));
                command.args([
                    "--skip-test-db",
                    "--skip-name-resolve",
                    "--innodb-flush-method=nosync",
                ]);
                command
            }
        };
        let made = command.stdout(self.log()).stderr(self.log()).status();
        assert!(made.unwrap().success(), "{}", self.said());
    }

    /// Starts the server and waits until it answers.
    pub(crate) fn run(&self) {
        let mut child = self.spawn();
        let start = std::time::Instant::now();
        while self.sql(self.first(), "SELECT 1").is_err() {
            assert!(start.elapsed() < START_MAX, "no answer: {}", self.said());
            std::thread::sleep(Duration::from_millis(50));
            if child.try_wait().unwrap().is_some() {
                // What is left of a killed one may still hold its memory.
                child = self.spawn();
            }
        }
        *self.child.lock().unwrap() = Some(child);
    }

    fn spawn(&self) -> Child {
        let mut command = match self.kind {
            Kind::Postgres => {
                let mut command = self.program("postgres");
                command.args(["-D", "data", "-k", self.dir.to_str().unwrap()]);
                command.arg("-h").arg(format!("{},{}", self.address, self.nameless));
                command.args(["-c", "ssl=on", "-c", "ssl_cert_file=../certificate.pem"]);
                command.args(["-c", "ssl_key_file=../certificate.key"]);
                command.args(["-c", "fsync=off", "-c", "shared_buffers=8MB"]);
                command
            }
            Kind::Mariadb => {
                let mut command = self.program("mariadbd");
                command.args([
                    "--no-defaults",
                    "--skip-name-resolve",
                    "--innodb-flush-method=nosync",
                ]);
                command.args(["--innodb-buffer-pool-size=16M", "--innodb-log-file-size=16M"]);
                command.arg(format!("--datadir={}", self.dir.join("data").display()));
                command.arg(format!("--socket={}", self.dir.join("socket").display()));
                command.arg(format!("--bind-address={},{}", self.address, self.nameless));
                command.arg(format!("--ssl-cert={}", self.file("certificate.pem").display()));
                command.arg(format!("--ssl-key={}", self.file("certificate.key").display()));
                command
            }
        };
        command.stdout(self.log()).stderr(self.log()).spawn().unwrap()
    }

    /// As a power cut would.
    pub(crate) fn kill(&self) {
        if let Some(mut child) = self.child.lock().unwrap().take() {
            // PostgreSQL's other processes see that it is gone and end themselves.
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Ends every connection but the one that asks.
    pub(crate) fn cut(&self) {
        match self.kind {
            Kind::Postgres => {
                let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                    WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'";
                self.sql("postgres", sql).unwrap();
            }
            Kind::Mariadb => drop(self.sql("mysql", "KILL USER k3s").unwrap()),
        }
    }

    /// The database that is always there.
    pub(crate) fn first(&self) -> &'static str {
        match self.kind {
            Kind::Postgres => "postgres",
            Kind::Mariadb => "mysql",
        }
    }

    /// Asks with the database's own client: rows as lines, columns with bars between them, nothing for NULL.
    pub(crate) fn sql(&self, database: &str, sql: &str) -> Result<String, String> {
        let mut command = match self.kind {
            Kind::Postgres => {
                let mut command = self.program("psql");
                command.arg("-h").arg(&self.dir).args(["-U", "postgres", "-d", database]);
                command.args(["-AtXq", "-v", "ON_ERROR_STOP=1", "-c", sql]);
                command
            }
            Kind::Mariadb => {
                let mut command = self.program("/usr/bin/mariadb");
                command.arg("--no-defaults").arg("-S").arg(self.dir.join("socket"));
                command.args(["-u", "root", "-N", "-B", database, "-e", sql]);
                command
            }
        };
        let out = command.output().unwrap();
        match out.status.success() {
            true => {
                let text = String::from_utf8(out.stdout).unwrap();
                Ok(text.trim_end().replace('\t', "|").replace("NULL", ""))
            }
            false => Err(String::from_utf8_lossy(&out.stderr).into_owned()),
        }
    }

    /// Over TCP, with a password.
    pub(crate) fn endpoint(&self, database: &str) -> String {
        self.endpoint_at(&self.address, database)
    }

    /// Where it listens.
    pub(crate) fn socket_address(&self) -> (String, u16) {
        let port = if self.kind == Kind::Postgres { 5432 } else { 3306 };
        (self.address.clone(), port)
    }

    pub(crate) fn endpoint_at(&self, address: &str, database: &str) -> String {
        match self.kind {
            Kind::Postgres => {
                let password = PASSWORD.replace('@', "%40").replace('/', "%2F").replace(':', "%3A");
                format!("postgres://postgres:{password}@{address}/{database}")
            }
            Kind::Mariadb => format!("mysql://k3s:{PASSWORD}@tcp({address})/{database}"),
        }
    }

    fn said(&self) -> String {
        std::fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let ended = self.child.lock().unwrap().as_mut().map(Child::try_wait);
            let said = self.said();
            let start = said.char_indices().rev().nth(4000).map_or(0, |(start, _)| start);
            eprintln!("{:?} (ended: {ended:?}) says:\n{}", self.kind, &said[start..]);
        }
        self.kill();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn owner() -> u32 {
    match std::fs::metadata("/proc/self").map(|own| std::os::unix::fs::MetadataExt::uid(&own)) {
        Ok(0) => NOBODY,
        Ok(own) => own,
        Err(error) => panic!("{error}"),
    }
}

/// Where the programs are.
fn find(kind: Kind) -> Option<PathBuf> {
    match kind {
        Kind::Postgres => {
            let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
            let mut found: Vec<PathBuf> =
                versions.filter_map(|version| Some(version.ok()?.path().join("bin"))).collect();
            found.retain(|bin| has(bin, "initdb"));
            found.pop()
        }
        Kind::Mariadb => Some(PathBuf::from("/usr/sbin")).filter(|bin| has(bin, "mariadbd")),
    }
}

fn has(bin: &Path, program: &str) -> bool {
    bin.join(program).exists()
}
