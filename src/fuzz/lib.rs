//! Every parser and evaluator that a network reaches, fed with what nobody would send.
//!
//! A target is a function of bytes. It fails by a panic, by taking too long, or by keeping memory; beyond that, each
//! says in assertions what must hold of whatever it took. `cargo test -p fuzz` gives each its seeds and some
//! thousands of changes to them; `make fuzz` goes on for minutes, led by the edges of the program that an input
//! was the first to reach (`engine`).

pub mod engine;
mod mutate;
pub mod targets;

use targets::Target;

/// The targets of these names, all without any.
///
/// # Errors
/// The name that is none.
pub fn chosen(names: &[String]) -> Result<Vec<&'static Target>, String> {
    if names.is_empty() {
        return Ok(targets::ALL.iter().collect());
    }
    let find = |name: &String| targets::ALL.iter().find(|one| one.name == name);
    names.iter().map(|name| find(name).ok_or_else(|| name.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::engine::{Bounds, run};
    use super::targets::ALL;

    /// Changed seeds that each target gets in a test run.
    const RUNS: u64 = 3000;

    #[test]
    fn every_target_takes_what_comes() {
        // Whatever a target would connect to is not there; without root it is only unlikely that one tries.
        let _ = sys::netns::enter_new();
        for target in ALL {
            let bounds = Bounds { runs_max: Some(RUNS), ..Bounds::default() };
            let told = run(target, &bounds, 1).unwrap_or_else(|fault| panic!("{fault}"));
            assert!(told.n_runs > 0, "{}", target.name);
        }
    }
}
