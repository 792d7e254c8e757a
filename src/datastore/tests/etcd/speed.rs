//! How many writes get done, and that nobody waits for a busy server for ever.

use std::time::Duration;

use store::{Class, Op, Store};

use crate::server::{Etcd, WAIT_MAX};

const MEASURED: Duration = Duration::from_secs(1);

/// So many writers of each server put keys of their own as fast as they can: how many writes got done, and the
/// longest that one waited.
async fn measure(stores: &[Store], writers: &[usize]) -> (Vec<u64>, Duration) {
    let end = rt::now().mono + MEASURED;
    let mut tasks = Vec::new();
    for (idx, (store, n_writers)) in stores.iter().zip(writers).enumerate() {
        for writer in 0..*n_writers {
            let store = store.clone();
            tasks.push(rt::spawn(async move {
                let (mut n_done, mut longest) = (0, Duration::ZERO);
                while rt::now().mono < end {
                    let begun = rt::now().mono;
                    let key = format!("/{idx}/{writer}").into_bytes();
                    store.write_one(Op::put(key, [b'x'; 500]), Class::Durable).await.unwrap();
                    longest = longest.max(rt::now().mono.since(begun));
                    n_done += 1;
                }
                (idx, n_done, longest)
            }));
        }
    }
    let (mut done, mut longest) = (vec![0; writers.len()], Duration::ZERO);
    for task in tasks {
        let (idx, n_done, waited) = task.await;
        done[idx] += n_done;
        longest = longest.max(waited);
    }
    (done, longest)
}

#[test]
fn a_busy_server_leaves_turns_to_others() {
    let Some(etcd) = Etcd::start(1) else { return };
    rt::block_on(async {
        let mut stores = Vec::new();
        for _ in 0..2 {
            stores.push(crate::store(&etcd.endpoints()).await);
        }
        let figures: [&[usize]; 5] = [&[1], &[50], &[1, 1], &[50, 1], &[50, 50]];
        for writers in figures {
            let (done, longest) = measure(&stores, writers).await;
            eprintln!("writers {writers:?}: writes {done:?} in {MEASURED:?}, longest {longest:?}");
            assert!(longest < WAIT_MAX && done.iter().all(|n| *n > 0), "{writers:?}: {done:?}");
        }
    });
}
