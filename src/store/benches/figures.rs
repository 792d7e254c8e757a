//! What the store costs: `cargo bench -p store [-- DIR]` prints one line a figure. DIR is on the disk to measure.

#![allow(clippy::print_stdout)]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use store::{Class, Limits, Op, Query, Span, Store};

const VALUE_BYTES: usize = 1000;

fn main() {
    let dir = std::env::args()
        .skip(1)
        .find(|arg| !arg.starts_with('-'))
        .map_or_else(std::env::temp_dir, PathBuf::from)
        .join(format!("store-bench-{}", std::process::id()));
    rt::start_workers(1);
    rt::block_on(async {
        memory(&dir).await;
        for n_writers in [1, 50, 256] {
            durable(&dir, n_writers).await;
        }
        lazy(&dir).await;
        fan_out(&dir).await;
        idle(&dir).await;
    });
    if let Err(error) = std::fs::remove_dir_all(&dir) {
        println!("remove {}: {error}", dir.display());
    }
}

async fn open(dir: &Path, name: &str) -> Store {
    let path = dir.join(name).join("state.db");
    Store::open(&path, Limits::default()).await.unwrap_or_else(|error| panic!("{error}"))
}

async fn put(store: &Store, key: String, fill: u8, class: Class) {
    let op = Op::put(key.into_bytes(), vec![fill; VALUE_BYTES]);
    let written = store.write_one(op, class).await;
    written.unwrap_or_else(|error| panic!("{error}"));
}

/// Updates of 1,000 objects of 1 kB by concurrent writers.
async fn durable(dir: &Path, n_writers: u64) {
    let store = open(dir, &format!("durable-{n_writers}")).await;
    let n_each = (4000 / n_writers).max(40);
    let n_total = n_writers * n_each;
    for idx in 0..1000 {
        put(&store, key(idx), 0, Class::Lazy).await;
    }
    store.sync().await.unwrap_or_else(|error| panic!("{error}"));
    let (io, start) = (io_counters(), Instant::now());
    let mut writers = Vec::new();
    for id in 0..n_writers {
        let store = store.clone();
        writers.push(rt::spawn(async move {
            for n in 0..n_each {
                put(&store, key((id * 7919 + n * 31) % 1000), b'x', Class::Durable).await;
            }
        }));
    }
    for writer in writers {
        writer.await;
    }
    let took = start.elapsed();
    let n_commits = store.stats().n_commits;
    store.close().await.unwrap_or_else(|error| panic!("{error}"));
    let (written, blocks) = since(io);
    let payload = (n_total as f64) * VALUE_BYTES as f64;
    println!(
        "durable, {n_writers:3} writers: {:7.0} writes/s, {:4.1} a commit, bytes written per byte: {:.2} by calls, {:.2} by blocks, file {} KiB",
        n_total as f64 / took.as_secs_f64(),
        n_total as f64 / n_commits as f64,
        written as f64 / payload,
        blocks as f64 / payload,
        store.stats().file_bytes >> 10,
    );
}

fn key(idx: u64) -> String {
    format!("/registry/pods/default/some-deployment-7d9c5b8f6-{idx:05}")
}

async fn lazy(dir: &Path) {
    let store = open(dir, "lazy").await;
    let n_total = 50_000;
    let start = Instant::now();
    for n in 0..n_total {
        put(&store, key(n % 50), b'x', Class::Lazy).await;
    }
    let took = start.elapsed();
    let stats = store.stats();
    println!(
        "lazy,      1 writer:  {:7.0} writes/s, {} commits",
        f64::from(u32::try_from(n_total).unwrap_or(0)) / took.as_secs_f64(),
        stats.n_commits
    );
}

async fn memory(dir: &Path) {
    let before = rss_kib();
    let store = open(dir, "memory").await;
    for idx in 0..10_000 {
        put(&store, key(idx), b'x', Class::Lazy).await;
    }
    store.close().await.unwrap_or_else(|error| panic!("{error}"));
    drop(store);
    let start = Instant::now();
    let store = open(dir, "memory").await;
    let opened = start.elapsed();
    let start = Instant::now();
    let n_rounds = 50;
    for _ in 0..n_rounds {
        let range = store.range(&Query::prefix("/registry/pods/")).await;
        assert_eq!(range.map(|range| range.items.len()).ok(), Some(10_000));
    }
    println!(
        "10,000 objects of 1 kB: open {opened:.1?}, list {:.1?}, RSS {} KiB more",
        start.elapsed() / n_rounds,
        rss_kib().saturating_sub(before)
    );
}

async fn fan_out(dir: &Path) {
    let store = open(dir, "fan-out").await;
    let mut watches = Vec::new();
    for idx in 0..1000 {
        // A tenth of them watches what is written.
        let prefix =
            if idx % 10 == 0 { "/registry/pods/".into() } else { format!("/registry/x{idx}/") };
        match store.watch(vec![Span::prefix(prefix)], None).await {
            Ok(watch) => watches.push(watch),
            Err(error) => panic!("{error}"),
        }
    }
    let start = Instant::now();
    let n_total = 1000;
    for n in 0..n_total {
        put(&store, key(n), b'x', Class::Lazy).await;
    }
    let mut n_events = 0;
    for watch in &mut watches {
        while let Ok(Some(_)) = watch.try_next() {
            n_events += 1;
        }
    }
    println!(
        "1,000 watches, 100 concerned: {n_events} events in {:.1?}, {:.0} events/s",
        start.elapsed(),
        f64::from(n_events) / start.elapsed().as_secs_f64()
    );
}

/// A node's Lease renewed every 10 s (here as fast as it goes), as one day of it would be.
async fn idle(dir: &Path) {
    let limits = Limits { lazy_age_max: Duration::from_millis(300), ..Limits::default() };
    let path = dir.join("idle").join("state.db");
    let store = Store::open(&path, limits).await.unwrap_or_else(|error| panic!("{error}"));
    put(&store, key(0), b'x', Class::Durable).await;
    let io = io_counters();
    let start = Instant::now();
    // 30 renewals between two flushes, as 300 s hold at 10 s each; a day has 288 flushes.
    let n_flushes = 12;
    while start.elapsed() < Duration::from_millis(300 * n_flushes) {
        for lease in 0..4 {
            put(&store, format!("/registry/leases/kube-node-lease/{lease}"), b'x', Class::Lazy)
                .await;
        }
        rt::sleep(Duration::from_millis(10)).await;
    }
    let (written, blocks) = since(io);
    println!(
        "idle, four 1 kB leases: {:.1} MB a day by calls, {:.1} MB by blocks",
        (written as f64) * 288.0 / (n_flushes as f64) / 1e6,
        (blocks as f64) * 288.0 / (n_flushes as f64) / 1e6,
    );
}

/// Bytes handed to write calls, and bytes of pages made dirty.
fn io_counters() -> (u64, u64) {
    let text = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
    let field = |name: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(name));
        value.and_then(|value| value.trim().parse().ok()).unwrap_or(0)
    };
    (field("wchar:"), field("write_bytes:"))
}

fn since((written, blocks): (u64, u64)) -> (u64, u64) {
    let now = io_counters();
    (now.0 - written, now.1 - blocks)
}

fn rss_kib() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let value = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    value.and_then(|v| v.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}
