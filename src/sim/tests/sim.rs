//! A few seeds in every test run: histories replay, the cluster is well, and planted bugs are caught.

use sim::{Plant, run};

#[test]
fn a_seed_is_a_history() {
    let (first, second) = (run(5, None, true), run(5, None, true));
    assert_eq!(first.violation, None);
    assert!(first.story.contains("peace"));
    let differs = first.story.lines().zip(second.story.lines()).find(|(a, b)| a != b);
    assert_eq!(differs, None, "the same seed tells two stories");
}

#[test]
fn a_few_seeds_are_well() {
    for seed in 0..6 {
        assert_eq!(run(seed, None, false).violation, None, "make sim SEED={seed}");
    }
}

#[test]
fn planted_bugs_are_caught() {
    // Forgetting needs a clock that is set while a Job with a deadline runs: one or two seeds in a hundred.
    let found_within =
        [("surge", 40), ("extra-job-pod", 40), ("unready-endpoints", 40), ("forgetful", 600)];
    for (name, n_seeds) in found_within {
        let plant = Plant::named(name);
        assert!(plant.is_some(), "{name}");
        let caught = (100..100 + n_seeds).find_map(|seed| run(seed, plant, false).violation);
        assert!(caught.is_some(), "{name} goes unnoticed");
    }
}
