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
}

/// A database server that can be killed and started again.
pub(crate) struct Database {
    pub(crate) kind: Kind,
    dir: PathBuf,
    programs: PathBuf,
    /// An address of this test alone, so that no port can be taken.
    pub(crate) address: String,
    child: Mutex<Option<Child>>,
}

/// The password of every user.
pub(crate) const PASSWORD: &str = "p@ss/w:rd";

impl Database {
    /// Starts one; `None`, with the reason printed, where the programs are not installed.
    pub(crate) fn start(kind: Kind) -> Option<Database> {
        static N: AtomicU32 = AtomicU32::new(1);
        let Some(programs) = find(kind) else {
            eprintln!("skipped: {kind:?} is not installed (e2e/setup.sh test)");
            return None;
        };
        let (n, pid) = (N.fetch_add(1, Ordering::Relaxed), std::process::id());
        let dir = std::env::temp_dir().join(format!("k3rs-datastore-{pid}-{n}"));
        std::fs::create_dir_all(&dir).unwrap();
        std::os::unix::fs::chown(&dir, Some(owner()), Some(owner())).unwrap();
        let address = format!("127.{}.{}.{}", 64 + n, pid >> 8 & 255, (pid & 255).clamp(1, 254));
        let database = Database { kind, dir, programs, address, child: Mutex::new(None) };
        database.initialize();
        database.run();
        Some(database)
    }

    fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.programs.join(name));
        command.current_dir(&self.dir).stdin(Stdio::null());
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
        let made = self
            .program("initdb")
            .args(["-D", "data", "-U", "postgres", "-E", "UTF8", "--locale=C", "--no-sync"])
            .args(["--auth-local=trust", "--auth-host=scram-sha-256"])
            .arg(format!("--pwfile={}", path.display()))
            .stdout(self.log())
            .stderr(self.log())
            .status();
        assert!(made.unwrap().success(), "{}", self.said());
    }

    /// Starts the server and waits until it answers.
    pub(crate) fn run(&self) {
        let mut child = self.spawn();
        let start = std::time::Instant::now();
        while self.sql("postgres", "SELECT 1").is_err() {
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
        self.program("postgres")
            .args(["-D", "data", "-k", self.dir.to_str().unwrap(), "-h", &self.address])
            .args(["-c", "fsync=off", "-c", "shared_buffers=8MB", "-c", "max_connections=30"])
            .stdout(self.log())
            .stderr(self.log())
            .spawn()
            .unwrap()
    }

    /// As a power cut would.
    pub(crate) fn kill(&self) {
        if let Some(mut child) = self.child.lock().unwrap().take() {
            // Its children see that it is gone and end themselves.
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Ends every connection but the one that asks.
    pub(crate) fn cut(&self) {
        let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'";
        self.sql("postgres", sql).unwrap();
    }

    /// Asks with the database's own client: rows as lines, columns with bars between them.
    pub(crate) fn sql(&self, database: &str, sql: &str) -> Result<String, String> {
        let mut command = self.program("psql");
        command.arg("-h").arg(&self.dir).args(["-U", "postgres", "-d", database]);
        let out = command.args(["-AtXq", "-v", "ON_ERROR_STOP=1", "-c", sql]).output().unwrap();
        match out.status.success() {
            true => Ok(String::from_utf8(out.stdout).unwrap().trim_end().to_owned()),
            false => Err(String::from_utf8_lossy(&out.stderr).into_owned()),
        }
    }

    /// Over TCP, with a password.
    pub(crate) fn endpoint(&self, database: &str) -> String {
        let password = PASSWORD.replace('@', "%40").replace('/', "%2F").replace(':', "%3A");
        format!("postgres://postgres:{password}@{}/{database}", self.address)
    }

    fn said(&self) -> String {
        std::fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }
}

impl Drop for Database {
    fn drop(&mut self) {
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
    }
}

fn has(bin: &Path, program: &str) -> bool {
    bin.join(program).exists()
}
