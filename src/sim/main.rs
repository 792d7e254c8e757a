//! `sim --seeds N [--from N] [--plant NAME]` plays many seeds; `sim --seed N` tells the story of one;
//! `sim --plants` looks whether every planted bug is found.

#![allow(clippy::print_stdout)]

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sim::{Plant, run};

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let (mut seeds, mut from, mut seed, mut plant) = (1000, 0, None, None);
    while let Some(arg) = args.next() {
        if arg == "--plants" {
            return plants();
        }
        let value = args.next().unwrap_or_default();
        let number = || value.parse::<u64>().map_err(|_| format!("{arg}: {value:?} is no number"));
        let read = match arg.as_str() {
            "--seeds" => number().map(|n| seeds = n),
            "--from" => number().map(|n| from = n),
            "--seed" => number().map(|n| seed = Some(n)),
            "--plant" => Plant::named(&value)
                .map(|named| plant = Some(named))
                .ok_or_else(|| format!("no bug is called {value:?}")),
            _ => Err(format!("unknown flag {arg}")),
        };
        if let Err(why) = read {
            println!(
                "{why}\nusage: sim --seeds N [--from N] | --seed N  [--plant NAME] | --plants"
            );
            return ExitCode::from(2);
        }
    }
    let _ = log::set_logger(&Listener);
    log::set_max_level(if seed.is_some() {
        log::LevelFilter::Debug
    } else {
        log::LevelFilter::Error
    });
    match seed {
        Some(seed) => one(seed, plant),
        None => many(from, seeds, plant),
    }
}

fn one(seed: u64, plant: Option<Plant>) -> ExitCode {
    let outcome = run(seed, plant, true);
    println!("{}", outcome.story);
    println!(
        "seed {seed}: {} steps, {} revisions: {}",
        outcome.n_steps,
        outcome.n_revisions,
        outcome.violation.as_deref().unwrap_or("well")
    );
    ExitCode::from(u8::from(outcome.violation.is_some()))
}

/// Failing seeds that are told; more would only scroll.
const TOLD_MAX: usize = 10;

/// How many seeds are played at once: one a core, and little is gained beyond four.
const WORKERS_MAX: usize = 4;

/// Within so many seeds each planted bug is to be found; the rarest takes a hundred.
const PLANT_SEEDS_MAX: u64 = 600;

fn plants() -> ExitCode {
    let mut missed = false;
    for (name, plant) in Plant::ALL {
        let seeds = 100..100 + PLANT_SEEDS_MAX;
        let found = seeds.into_iter().find_map(|seed| {
            let why = run(seed, Some(*plant), false).violation?;
            Some((seed, why))
        });
        match found {
            Some((seed, why)) => println!("{name}: seed {seed}: {why}"),
            None => {
                println!("{name}: not found in {PLANT_SEEDS_MAX} seeds");
                missed = true;
            }
        }
    }
    ExitCode::from(u8::from(missed))
}

fn many(from: u64, n_seeds: u64, plant: Option<Plant>) -> ExitCode {
    let next = Arc::new(AtomicU64::new(from));
    let end = from + n_seeds;
    let n_workers = std::thread::available_parallelism().map_or(1, usize::from).min(WORKERS_MAX);
    let (mut failed, mut n_steps, mut n_revisions) = (Vec::new(), 0, 0);
    let start = rt::now().mono;
    rt::block_on(async {
        let mut workers = Vec::new();
        for _ in 0..n_workers {
            let next = Arc::clone(&next);
            workers.push(rt::spawn(rt::unblock(move || {
                let mut outcomes = Vec::new();
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        return outcomes;
                    }
                    let outcome = run(seed, plant, false);
                    if let Some(why) = &outcome.violation {
                        println!("seed {seed}: {why}");
                    }
                    outcomes.push((seed, outcome));
                }
            })));
        }
        for worker in workers {
            for (seed, outcome) in worker.await {
                n_steps += outcome.n_steps;
                n_revisions += outcome.n_revisions;
                if let Some(why) = outcome.violation {
                    failed.push((seed, why));
                }
            }
        }
    });
    failed.sort();
    println!(
        "{n_seeds} seeds, {n_revisions} revisions, {n_steps} steps in {:.1?}: {} failed",
        rt::now().mono.since(start),
        failed.len()
    );
    for (seed, why) in failed.iter().take(TOLD_MAX) {
        println!("  make sim SEED={seed}: {why}");
    }
    ExitCode::from(u8::from(!failed.is_empty()))
}

/// Errors in the log (a panic in a controller) are violations; the rest is part of the story.
struct Listener;

impl log::Log for Listener {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        !metadata.target().starts_with("polling") && !metadata.target().starts_with("async_io")
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            sim::heard(record.level() == log::Level::Error, record.args());
        }
    }

    fn flush(&self) {}
}
