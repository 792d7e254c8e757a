//! The program of an embedded etcd: found, started, listened to, and started again.

use std::ffi::{OsStr, OsString};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rt::channel::{Receiver, Sender};
use rt::process::{Ended, Helper, Output};
use stdx::backoff::Backoff;
use stdx::time::Mono;
use stdx::{Error, Result};

/// Its names: the one that we build, and everybody else's.
const NAMES: [&str; 2] = ["k3rs-etcd", "etcd"];

const RETRY: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(10));
/// What ends sooner has failed to start.
const STEADY: Duration = Duration::from_secs(30);
/// After so many failures in a row somebody must look.
const FAILURES_MAX: u32 = 6;
/// How long it may take to end when it is asked to.
const END_MAX: Duration = Duration::from_secs(10);

/// Of a line that it prints.
const LINE_MAX_BYTES: usize = 2048;
/// Warnings that are told of each span of time.
const TOLD_MAX: u32 = 20;
const TOLD_SPAN: Duration = Duration::from_secs(10);

/// Warnings of what is as it should be: k3s's files in its directory, and each of the many streams between members.
const USUAL: [&str; 4] = [
    "found invalid file under data directory",
    "simple token is not",
    "rafthttp/stream.go",
    " I | etcdmain: ",
];

/// What a member says last when others have removed it. Strangers' words are in its log, too (the name that a TLS
/// client asks for): with their quotes escaped, and never as a whole error.
const REMOVED: &str = "\"error\":\"the member has been permanently removed from the cluster\"";

/// Finds the program: beside k3rs, among the unpacked ones, or on `PATH`.
///
/// # Errors
/// Where it was looked for, and what to do.
pub fn find(beside: Option<&Path>, unpacked: &Path, path: Option<&OsStr>) -> Result<PathBuf> {
    look(&NAMES, beside, unpacked, path).map_err(|looked| {
        Error::new(format!(
            "the embedded etcd needs etcd's program, and there is none: looked for {} in {looked} and on PATH. Install etcd (Debian's etcd-server), or put k3rs-etcd beside k3rs",
            NAMES.join(" and "),
        ))
    })
}

/// The first program of these names, or where it was looked for.
pub(super) fn look(
    names: &[&str],
    beside: Option<&Path>,
    unpacked: &Path,
    path: Option<&OsStr>,
) -> Result<PathBuf, String> {
    let own = beside.into_iter().map(Path::to_owned).chain([unpacked.to_owned()]);
    let own: Vec<PathBuf> = own.collect();
    let on_path =
        path.map(std::env::split_paths).into_iter().flatten().filter(|dir| dir.is_absolute());
    for dir in own.iter().cloned().chain(on_path) {
        let found = names.iter().map(|name| dir.join(name)).find(|file| is_program(file));
        if let Some(file) = found {
            return Ok(file);
        }
    }
    let looked: Vec<String> = own.iter().map(|dir| dir.display().to_string()).collect();
    Err(looked.join(", "))
}

fn is_program(file: &Path) -> bool {
    rt::fs::metadata(file)
        .is_ok_and(|about| about.is_file() && about.permissions().mode() & 0o111 != 0)
}

/// Why it is not started any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Over {
    /// It is no member any more.
    Removed,
    /// It ends at once, again and again; with what it said last.
    Failed(String),
}

/// A program that is kept running.
#[derive(Debug)]
pub(super) struct Program {
    over: Receiver<Over>,
    stop: Sender<()>,
    _task: rt::Task<Option<()>>,
}

impl Program {
    /// Starts it with its configuration file, and again whenever it ends, but for `once`.
    pub(super) fn start(
        program: PathBuf,
        config: PathBuf,
        mut env: Vec<(String, String)>,
        once: bool,
    ) -> Program {
        env.push(architecture());
        let (tell, over) = rt::channel::bounded(1);
        let (stop, stopped) = rt::channel::bounded(1);
        let arg = OsString::from(format!("--config-file={}", config.display()));
        let failures_max = if once { 0 } else { FAILURES_MAX };
        let keep = async move {
            if let Some(over) = keep(&program, (&arg, &env), &stopped, failures_max).await {
                let _ = tell.send(over).await;
            }
        };
        Program { over, stop, _task: rt::spawn_named("etcd", keep) }
    }

    /// Waits until it is not started any more.
    pub(super) async fn over(&self) -> Over {
        match self.over.recv().await {
            Ok(over) => over,
            Err(_) => Over::Failed("it was stopped".to_owned()),
        }
    }

    /// Has it end well.
    pub(super) async fn stop(&self) {
        let _ = self.stop.try_send(());
        // Either there is no more to come, or it was over before.
        let _ = self.over.recv().await;
    }
}

/// Before 3.5, etcd asks to be told on some machines that it is meant.
fn architecture() -> (String, String) {
    let arch = match std::env::consts::ARCH {
        "aarch64" => "arm64",
        "x86_64" => "amd64",
        other => other,
    };
    ("ETCD_UNSUPPORTED_ARCH".to_owned(), arch.to_owned())
}

async fn keep(
    program: &Path,
    (arg, env): (&OsStr, &[(String, String)]),
    stop: &Receiver<()>,
    failures_max: u32,
) -> Option<Over> {
    let mut failures = 0;
    loop {
        let started = rt::now().mono;
        let mut ears = Ears::default();
        let end = match Helper::start(program.as_os_str(), &[arg], env) {
            Ok((helper, output)) => attend(helper, output, stop, &mut ears).await,
            Err(error) => Some(error.to_string()),
        };
        // Nobody wants it any more.
        let end = end?;
        if ears.is_removed {
            return Some(Over::Removed);
        }
        failures = if rt::now().mono.since(started) >= STEADY { 1 } else { failures + 1 };
        let words = format!("etcd {end}: {}", ears.last);
        if failures > failures_max {
            return Some(Over::Failed(words));
        }
        let rest = RETRY.delay(failures);
        log::warn!("{words}; it is started again in {} s", rest.as_secs());
        let stopped = async {
            let _ = stop.recv().await;
            true
        };
        let slept = async {
            rt::sleep(rest).await;
            false
        };
        if rt::future::or(stopped, slept).await {
            return None;
        }
    }
}

/// Listens to it until it ends: how, or `None` if it was asked to.
async fn attend(
    mut helper: Helper,
    mut output: Output,
    stop: &Receiver<()>,
    ears: &mut Ears,
) -> Option<String> {
    let by_itself = async {
        listen(&mut output, ears).await;
        true
    };
    let stopped = async {
        let _ = stop.recv().await;
        false
    };
    if rt::future::or(by_itself, stopped).await {
        // Its output is shut a moment before it ends.
        let ended = rt::timeout(END_MAX, helper.ended()).await;
        return Some(match ended {
            Ok(Ok(Some(Ended::Code(code)))) => format!("ended with code {code}"),
            Ok(Ok(Some(Ended::Signal(signal)))) => format!("was ended by signal {signal}"),
            Ok(Ok(None)) => "has ended".to_owned(),
            Ok(Err(error)) => error.to_string(),
            Err(rt::Elapsed) => "says nothing any more".to_owned(),
        });
    }
    helper.terminate();
    let ends = async {
        listen(&mut output, ears).await;
        let _ = helper.ended().await;
    };
    if rt::timeout(END_MAX, ends).await.is_err() {
        log::warn!("etcd does not end within {} s, and is killed", END_MAX.as_secs());
    }
    None
}

async fn listen(output: &mut Output, ears: &mut Ears) {
    while let Some(line) = output.line(LINE_MAX_BYTES).await {
        ears.hear(&line, rt::now().mono);
    }
}

/// What it says, and what of it is told.
#[derive(Debug, Default)]
struct Ears {
    is_removed: bool,
    /// The last of what is more than chatter.
    last: String,
    since: Mono,
    n_told: u32,
}

impl Ears {
    fn hear(&mut self, line: &str, now: Mono) {
        self.is_removed |= line.contains(REMOVED);
        // Lines that are no JSON are a panic's.
        let is_chatter = ["\"level\":\"info\"", "\"level\":\"debug\""];
        let is_chatter = is_chatter.iter().chain(&USUAL).any(|text| line.contains(text));
        if is_chatter && !log::log_enabled!(log::Level::Debug) {
            return;
        }
        let line: String = line.chars().filter(|c| !c.is_control()).collect();
        if is_chatter {
            log::debug!("etcd: {line}");
            return;
        }
        if now.since(self.since) >= TOLD_SPAN {
            if self.n_told > TOLD_MAX {
                log::warn!("etcd: {} more lines", self.n_told - TOLD_MAX);
            }
            (self.since, self.n_told) = (now, 0);
        }
        self.n_told += 1;
        if self.n_told <= TOLD_MAX {
            log::warn!("etcd: {line}");
        }
        self.last = line;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removal_is_heard_and_the_last_words_are_kept() {
        let mut ears = Ears::default();
        let now = Mono::default();
        ears.hear("{\"level\":\"info\",\"msg\":\"chatter\"}", now);
        assert_eq!((ears.is_removed, ears.last.as_str(), ears.n_told), (false, "", 0));
        for _ in 0..100 {
            ears.hear("{\"level\":\"warn\",\"msg\":\"slow\"}", now);
        }
        assert_eq!(ears.n_told, 100);
        let said = "the member has been permanently removed from the cluster";
        for stranger in [said.to_owned(), format!("x\",\"error\":\"{said}\"")] {
            let name = stranger.replace('"', "\\\"");
            ears.hear(
                &format!("{{\"level\":\"warn\",\"server-name\":\"{name}\",\"error\":\"EOF\"}}"),
                now,
            );
            assert!(!ears.is_removed, "{ears:?}");
        }
        ears.hear(&format!("{{\"msg\":\"server error\",\"error\":\"{said}\"}}\u{7}"), now);
        assert!(ears.is_removed && ears.last.ends_with("cluster\"}"), "{ears:?}");
        ears.hear("x", now + TOLD_SPAN);
        assert_eq!(ears.n_told, 1);
    }

    #[test]
    fn what_fails_is_given_up_and_what_is_stopped_ends() {
        let dir = std::env::temp_dir().join(format!("datastore-program-{}", std::process::id()));
        rt::fs::create_dir_all(&dir, 0o700).unwrap();
        let program = |name: &str, text: &str| {
            let file = dir.join(name);
            rt::fs::write(&file, format!("#!/bin/sh\n{text}\n").as_bytes(), 0o700).unwrap();
            file
        };
        let config = dir.join("config");
        let missing = find(Some(&dir), &dir.join("no"), Some(OsStr::new("/no/where:")));
        let missing = missing.unwrap_err().to_string();
        assert!(missing.contains(&format!("in {}", dir.display())), "{missing}");
        program("etcd", "echo it is wrong; echo $1; exit 4");
        rt::fs::write(dir.join("k3rs-etcd"), b"", 0o600).unwrap();
        let file = find(None, &dir.join("no"), Some(dir.as_os_str())).unwrap();
        assert_eq!(file, dir.join("etcd"), "the other one cannot be run");
        rt::block_on(async {
            let over = Program::start(file, config.clone(), Vec::new(), true).over().await;
            let said = format!("etcd ended with code 4: --config-file={}", config.display());
            assert_eq!(over, Over::Failed(said));
            let removed = program("removed", &format!("echo '{REMOVED}'; exit 0"));
            assert_eq!(
                Program::start(removed, config.clone(), Vec::new(), false).over().await,
                Over::Removed
            );
            let up = dir.join("up");
            let traps = format!(
                "trap 'echo ended > {0}; exit 0' TERM; echo > {0}; while :; do sleep 0.05; done",
                up.display()
            );
            let env = vec![("PATH".to_owned(), "/usr/bin:/bin".to_owned())];
            let lasting = Program::start(program("lasting", &traps), config.clone(), env, false);
            while !up.exists() {
                rt::sleep(Duration::from_millis(5)).await;
            }
            lasting.stop().await;
            assert_eq!(rt::fs::read_small_text(&up).unwrap(), "ended\n");
        });
        rt::fs::remove_dir_all(dir).unwrap();
    }
}
