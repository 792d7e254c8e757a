//! The loop: change an input, run it, keep it if it reached what none before it did.

use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use stdx::prng::Prng;
use stdx::time::Mono;

use crate::mutate::{INPUT_MAX_BYTES, below, changed};
use crate::targets::Target;

/// Inputs that are kept; older ones that led nowhere go.
const CORPUS_MAX: usize = 4096;
/// How long one input may take, on a machine that does other things, too.
const INPUT_MAX: Duration = Duration::from_secs(5);
/// How much memory a target may keep; the program's own corpus is a small part of it.
const GROWTH_MAX_BYTES: u64 = 200 << 20;
/// The stack that a target has: the server's threads have as much. Without optimization frames are several times as large.
const STACK_BYTES: usize = if cfg!(debug_assertions) { 8 << 20 } else { 1 << 20 };
/// Runs between two looks at memory.
const LOOK_EVERY: u64 = 500;

/// When a run ends: with the first that is reached.
#[derive(Debug, Clone, Copy, Default)]
pub struct Bounds {
    pub runs_max: Option<u64>,
    pub time_max: Option<Duration>,
}

/// What a run did.
#[derive(Debug, Default)]
pub struct Told {
    pub n_runs: u64,
    /// Inputs that reached something first.
    pub n_kept: usize,
    /// Edges of the program that were reached; 0 where the build does not count them.
    pub n_edges: usize,
    pub slowest: Duration,
    pub grown_bytes: u64,
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Told { n_runs, n_kept, n_edges, slowest, grown_bytes } = self;
        write!(
            f,
            "{n_runs} runs, {n_edges} edges, {n_kept} inputs kept, the slowest took {slowest:.1?}, {} MiB more memory",
            grown_bytes >> 20
        )
    }
}

/// Runs `target` within `bounds`.
///
/// # Errors
/// What failed, and the input that did it.
///
/// # Panics
/// If no thread can be started.
pub fn run(target: &'static Target, bounds: &Bounds, seed: u64) -> Result<Told, String> {
    let (bounds, watched) = (*bounds, Watched::default());
    std::thread::scope(|scope| {
        let work = || Run::of(target, seed, &watched).all(&bounds);
        let worker = std::thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, work);
        let worker = worker.expect("a thread for the target");
        while !worker.is_finished() {
            std::thread::park_timeout(Duration::from_millis(100));
            watched.end_a_run_that_hangs(target);
        }
        worker.join().unwrap_or_else(|_| Err(format!("{}: the fuzzer itself failed", target.name)))
    })
}

/// The input that runs, for whoever looks whether it ends.
#[derive(Default)]
struct Watched {
    n_runs: AtomicU64,
    input: Mutex<(Vec<u8>, Option<Mono>)>,
}

impl Watched {
    fn set(&self, input: &[u8], since: Option<Mono>) {
        let mut held = self.input.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        held.0.clear();
        held.0.extend_from_slice(input);
        held.1 = since;
        self.n_runs.fetch_add(1, Ordering::Relaxed);
    }

    /// No thread can be ended from outside, so the whole program does.
    fn end_a_run_that_hangs(&self, target: &Target) {
        let held = self.input.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if held.1.is_some_and(|since| now().since(since) > 4 * INPUT_MAX) {
            let path = kept(target, "hangs", &held.0);
            panic_now(&format!("{}: an input does not end: {}", target.name, path.display()));
        }
    }
}

fn panic_now(why: &str) -> ! {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{why}");
    std::process::exit(1);
}

struct Run<'w> {
    target: &'static Target,
    random: Prng,
    watched: &'w Watched,
    corpus: VecDeque<Vec<u8>>,
    /// For each edge, how often it was taken, in powers of two.
    seen: Vec<u8>,
    told: Told,
}

impl<'w> Run<'w> {
    fn of(target: &'static Target, seed: u64, watched: &'w Watched) -> Run<'w> {
        let random = Prng::new(seed);
        Run {
            target,
            random,
            watched,
            corpus: VecDeque::new(),
            seen: Vec::new(),
            told: Told::default(),
        }
    }

    fn all(mut self, bounds: &Bounds) -> Result<Told, String> {
        let begun = now();
        let mut seeds = (self.target.seeds)();
        seeds.push(Vec::new());
        for seed in &seeds {
            self.one(seed)?;
        }
        // Also those that reach nothing new: they are what is changed.
        self.corpus.extend(seeds);
        let memory = resident_bytes();
        loop {
            let is_enough = bounds.runs_max.is_some_and(|most| self.told.n_runs >= most)
                || bounds.time_max.is_some_and(|most| now().since(begun) >= most);
            if is_enough {
                break;
            }
            let input = self.next_input();
            self.one(&input)?;
            if self.told.n_runs.is_multiple_of(LOOK_EVERY) {
                self.told.grown_bytes = resident_bytes().saturating_sub(memory);
                if self.told.grown_bytes > GROWTH_MAX_BYTES {
                    let mib = self.told.grown_bytes >> 20;
                    return Err(format!("{}: {mib} MiB more memory", self.target.name));
                }
            }
        }
        self.told.n_edges = self.seen.iter().filter(|&&seen| seen != 0).count();
        Ok(self.told)
    }

    /// One of those that are kept, changed; half of the time one of the latest.
    fn next_input(&mut self) -> Vec<u8> {
        let n = self.corpus.len();
        let recent = n - n.min(32);
        let idx = match self.random.chance(50) {
            true => recent + below(&mut self.random, n - recent),
            false => below(&mut self.random, n),
        };
        let other = below(&mut self.random, n);
        changed(&self.corpus[idx], &self.corpus[other], self.target.words, &mut self.random)
    }

    fn one(&mut self, input: &[u8]) -> Result<(), String> {
        let target = self.target;
        debug_assert!(input.len() <= INPUT_MAX_BYTES || self.corpus.is_empty());
        let begun = now();
        self.watched.set(input, Some(begun));
        sys::edges::clear();
        let ended = catch_unwind(AssertUnwindSafe(|| (target.run)(input)));
        let is_new = sys::edges::look(&mut self.seen);
        self.watched.set(&[], None);
        let took = now().since(begun);
        self.told.n_runs += 1;
        self.told.slowest = self.told.slowest.max(took);
        let fault = match ended {
            Err(_) => Some("an input ends in a panic".to_owned()),
            Ok(()) if took > INPUT_MAX => Some(format!("an input takes {took:.1?}")),
            Ok(()) => None,
        };
        if let Some(fault) = fault {
            let path = kept(target, "fails", input);
            return Err(format!("{}: {fault}: {}", target.name, path.display()));
        }
        if is_new {
            self.told.n_kept += 1;
            if self.corpus.len() >= CORPUS_MAX {
                self.corpus.pop_front();
            }
            self.corpus.push_back(input.to_vec());
        }
        Ok(())
    }
}

/// Writes an input down, for whoever mends what it found.
fn kept(target: &Target, what: &str, input: &[u8]) -> PathBuf {
    let path = std::env::temp_dir().join(format!("k3rs-fuzz-{}-{what}", target.name));
    let _ = rt::fs::write(&path, input, 0o600);
    path
}

fn now() -> Mono {
    rt::now().mono
}

/// What the program has in memory.
fn resident_bytes() -> u64 {
    let text = sys::file::kernel_text("/proc/self/statm").unwrap_or_default();
    let pages: u64 = text.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or(0);
    pages * 4096
}
