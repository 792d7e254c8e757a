//! `fuzz [--seconds N] [--seed N] [TARGET ...]`: each target for so long, led by coverage where the build counts it.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use fuzz::engine::{Bounds, run};

const USAGE: &str = "fuzz [--seconds N] [--seed N] [TARGET ...]";

fn main() -> ExitCode {
    match ran() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            let _ = writeln!(std::io::stderr(), "{why}");
            ExitCode::FAILURE
        }
    }
}

fn ran() -> Result<(), String> {
    let (mut seconds, mut seed, mut names) = (60, 1, Vec::new());
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number = || words.next().and_then(|text| text.parse().ok()).ok_or(USAGE);
        match word.as_str() {
            "--seconds" => seconds = number()?,
            "--seed" => seed = number()?,
            flag if flag.starts_with('-') => return Err(USAGE.to_owned()),
            name => names.push(name.to_owned()),
        }
    }
    // Whatever a target would connect to is not there.
    let alone = sys::netns::enter_new();
    let mut out = std::io::stdout();
    for target in fuzz::chosen(&names).map_err(|name| format!("no target {name}"))? {
        if target.dials && alone.is_err() {
            return Err(format!("{} needs root: it gets a network of its own", target.name));
        }
        let bounds = Bounds { time_max: Some(Duration::from_secs(seconds)), ..Bounds::default() };
        let told = run(target, &bounds, seed)?;
        let _ = writeln!(out, "ok    {:12} {told}", target.name);
    }
    Ok(())
}
