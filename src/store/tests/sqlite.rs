//! The SQLite driver on a real disk: kill -9 under load, a full disk, damage, permissions, size.
//!
//! A test that needs another process runs this test binary again, as its child, with `CHILD` set.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use stdx::{OrdMap, prng::Prng};
use store::{Class, Expect, Limits, Op, Query, Span, Store};

const CHILD: &str = "STORE_TEST_CHILD_DIR";

/// A directory of this test's own, gone at the end.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Dir {
        let dir = std::env::temp_dir().join(format!("store-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        Dir(dir)
    }

    fn file(&self) -> PathBuf {
        self.0.join("db/state.db")
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

async fn open(path: &Path) -> Store {
    Store::open(path, Limits::default()).await.unwrap()
}

async fn all(store: &Store) -> OrdMap<String, String> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let range = store.range(&Query::prefix("")).await.unwrap();
    range.items.iter().map(|kv| (text(&kv.key), text(&kv.value))).collect()
}

#[test]
fn what_is_closed_cleanly_is_all_there_with_the_next_revision() {
    let dir = Dir::new("clean");
    rt::block_on(async {
        let store = open(&dir.file()).await;
        for idx in 0..200 {
            let class = if idx % 3 == 0 { Class::Lazy } else { Class::Durable };
            let key = format!("/k/{}", idx % 20);
            let op = match idx % 7 {
                6 => Op::delete(key.into_bytes(), Expect::Any),
                _ => Op::put(key.into_bytes(), idx.to_string().into_bytes()),
            };
            store.write_one(op, class).await.unwrap();
        }
        let lease = store.lease_grant(5, Duration::from_secs(99), Class::Lazy).await.unwrap();
        store.write_one(Op::put(*b"/l", *b"x").with_lease(lease), Class::Lazy).await.unwrap();
        let (before, revision) = (all(&store).await, store.revision());
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&dir.file()), 0o600);
        assert_eq!(mode(&dir.0.join("db/state.db-wal")), 0o600);
        store.close().await.unwrap();
        drop(store);
        assert!(!dir.0.join("db/state.db-wal").exists(), "a closed store is one file");
        let store = open(&dir.file()).await;
        assert_eq!((all(&store).await, store.revision()), (before, revision));
        assert_eq!(store.lease_info(5).await.unwrap().keys.len(), 1);
        let written = store.write_one(Op::put(*b"/k", *b"x"), Class::Lazy).await.unwrap();
        assert_eq!(written.revision, revision + 1);
    });
}

#[test]
fn another_process_and_other_files_are_refused() {
    let dir = Dir::new("refused");
    rt::block_on(async {
        let path = dir.file();
        let store = open(&path).await;
        store.write_one(Op::put(*b"/k", vec![b'x'; 20_000]), Class::Durable).await.unwrap();
        store.close().await.unwrap();
        let refused = async |why: &str| {
            let error = Store::open(&path, Limits::default()).await.unwrap_err().to_string();
            assert!(error.contains("open the datastore") && error.contains(why), "{error}");
        };
        let good = std::fs::read(&path).unwrap();
        std::fs::write(&path, [&good[..1024], &vec![0xaa; 3072], &good[4096..]].concat()).unwrap();
        refused("malformed").await;
        std::fs::write(&path, &good[..good.len() / 2]).unwrap();
        refused("malformed").await;
        std::fs::write(&path, b"something else, long enough to have a header of some sort")
            .unwrap();
        refused("not a database").await;
    });
}

/// The child: eight writers count up in keys of their own and say what was acknowledged.
#[test]
fn child_writes_until_killed() {
    let Some(dir) = std::env::var_os(CHILD) else { return };
    rt::block_on(async {
        let store = open(&PathBuf::from(dir).join("db/state.db")).await;
        say(&format!("r {}", store.revision()));
        let mut writers = Vec::new();
        for id in 0..8 {
            let store = store.clone();
            writers.push(rt::spawn(async move {
                let key = format!("/w/{id}");
                for _ in 0..100_000 {
                    let old = store.get(&key).await.unwrap();
                    let text = |kv: &store::KeyValue| String::from_utf8(kv.value.to_vec()).unwrap();
                    let count: u64 = old
                        .as_ref()
                        .map_or(0, |kv| text(kv).trim_end_matches('.').parse().unwrap());
                    let padding = ".".repeat(usize::try_from(count % 50 * 40).unwrap());
                    let value = format!("{}{padding}", count + 1).into_bytes();
                    let op = match old {
                        None => Op::create(key.as_bytes(), value),
                        Some(kv) => Op::update(key.as_bytes(), value, kv.mod_revision),
                    };
                    let class = if id == 7 { Class::Lazy } else { Class::Durable };
                    let written = store.write_one(op, class).await.unwrap();
                    say(&format!("w {id} {} {}", count + 1, written.revision));
                    // Churn, so that rows die and are purged.
                    let other = format!("/d/{}", count % 5).into_bytes();
                    let op = match count % 2 {
                        0 => Op::put(other, vec![b'x'; 3000]),
                        _ => Op::delete(other, Expect::Any),
                    };
                    store.write_one(op, Class::Durable).await.unwrap();
                }
            }));
        }
        for writer in writers {
            writer.await;
        }
    });
}

/// One line to the parent, in one write.
fn say(line: &str) {
    let _ = std::io::stderr().write_all(format!("{line}\n").as_bytes());
}

#[test]
fn kill_at_any_moment_loses_nothing_acknowledged() {
    let dir = Dir::new("kill");
    let mut prng = Prng::new(u64::from(std::process::id()));
    let (mut counts, mut revision) = (OrdMap::<String, u64>::new(), 0);
    let mut n_acknowledged = 0;
    for round in 0..12 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_writes_until_killed", "--nocapture"])
            .env(CHILD, &dir.0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
        let first = lines.next().unwrap();
        let Some(opened) = first.strip_prefix("r ") else {
            panic!("round {round}: {first} {:?}", lines.collect::<Vec<_>>());
        };
        let opened: u64 = opened.parse().unwrap();
        assert!(opened >= revision, "round {round}: revisions went back");
        // The moment is chosen in acknowledged writes, not in time, so a slow machine tests as much.
        let n_lines = prng.below(400);
        let mut note = |line: String, n_acknowledged: &mut u64| {
            let mut words = line.split(' ').skip(1);
            let id = words.next().unwrap().to_string();
            counts.insert(id, words.next().unwrap().parse().unwrap());
            revision = revision.max(words.next().unwrap().parse().unwrap());
            *n_acknowledged += 1;
        };
        for _ in 0..n_lines {
            note(lines.next().unwrap(), &mut n_acknowledged);
        }
        child.kill().unwrap();
        // What it still said before it died counts; a last line may be cut short.
        for line in lines.filter(|line| line.starts_with("w ") && line.split(' ').count() == 4) {
            note(line, &mut n_acknowledged);
        }
        child.wait().unwrap();
        rt::block_on(async {
            let store = open(&dir.file()).await;
            assert!(store.revision() >= revision, "round {round}: revisions went back");
            let found = all(&store).await;
            for (id, count) in &mut counts {
                let found = found.get(&format!("/w/{id}"));
                let value: u64 = found.map_or(0, |v| v.trim_end_matches('.').parse().unwrap());
                // The lazy one may fall back.
                assert!(
                    value >= *count || id == "7",
                    "round {round} writer {id}: {value} < {count}"
                );
                *count = value;
            }
            // Sometimes it goes on from an unclean stop of its own.
            if round % 3 == 0 {
                store.close().await.unwrap();
            }
        });
    }
    assert!(n_acknowledged > 500, "only {n_acknowledged} writes were tried");
}

/// The child, on a file system of 2 MiB: fills it up and frees it again.
#[test]
fn child_fills_the_disk() {
    let Some(dir) = std::env::var_os(CHILD) else { return };
    let dir = PathBuf::from(dir);
    rt::block_on(async {
        let store = open(&dir.join("db/state.db")).await;
        store.write_one(Op::put(*b"/first", *b"x"), Class::Durable).await.unwrap();
        let mut watch = store.watch(vec![Span::prefix("/")], None).await.unwrap();
        for _ in 0..64 {
            store.write_one(Op::put(*b"/again", *b"x"), Class::Durable).await.unwrap();
        }
        let ballast = dir.join("db/state.ballast");
        for _ in 0..500 {
            // It is made beside the commits.
            match ballast.exists() {
                true => break,
                false => rt::sleep(Duration::from_millis(10)).await,
            }
        }
        assert!(ballast.exists(), "something is kept back");
        let mut filler = std::fs::File::create(dir.join("filler")).unwrap();
        while filler.write_all(&[0; 4096]).is_ok() {}
        // What frees space can still be written.
        for _ in 0..4 {
            store.write_one(Op::delete(*b"/first", Expect::Any), Class::Durable).await.unwrap();
            store.write_one(Op::put(*b"/first", *b"x"), Class::Durable).await.unwrap();
        }
        assert!(!ballast.exists());
        let mut n_written = 0;
        let error = loop {
            let op = Op::create(format!("/big/{n_written}").into_bytes(), vec![b'x'; 50_000]);
            match store.write_one(op, Class::Durable).await {
                Ok(_) => n_written += 1,
                Err(error) => break error.to_string(),
            }
        };
        assert!(error.contains("write to the datastore") && error.contains("full"), "{error}");
        assert!(n_written > 3);
        for _ in 0..n_written + 8 + 64 {
            assert!(watch.try_next().unwrap().is_some());
        }
        assert!(watch.try_next().unwrap().is_none());
        assert_eq!(store.count(&Span::prefix("/big/")).await.unwrap(), n_written);
        store.write_one(Op::put(*b"/lease", *b"x"), Class::Lazy).await.unwrap();
        std::fs::remove_file(dir.join("filler")).unwrap();
        store.write_one(Op::put(*b"/after", *b"x"), Class::Durable).await.unwrap();
        let before = all(&store).await;
        drop(store);
        let store = open(&dir.join("db/state.db")).await;
        let mut after = all(&store).await;
        // Lazy, and the store was not closed.
        after.entry("/lease".into()).or_insert("x".into());
        assert!(before == after);
    });
    say("it recovered");
}

#[test]
fn a_full_disk_refuses_writes_and_recovers() {
    let dir = Dir::new("full");
    let script = format!("mount -t tmpfs -o size=6m tmpfs '{0}' && exec \"$@\"", dir.0.display());
    let output = Command::new("unshare")
        .args(["-m", "sh", "-c", &script, "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "child_fills_the_disk", "--nocapture"])
        .env(CHILD, &dir.0)
        .output();
    let text = match output {
        Ok(output) => {
            String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
        }
        Err(error) => error.to_string(),
    };
    if !text.contains("running 1 test") {
        // No namespace or no tmpfs without root: nothing was tried, and that is said.
        eprintln!("skipped: no private file system here: {text}");
        return;
    }
    assert!(text.contains("it recovered"), "{text}");
}

#[test]
fn the_file_stops_growing_under_constant_change() {
    let dir = Dir::new("growth");
    rt::block_on(async {
        let store = open(&dir.file()).await;
        let mut sizes = Vec::new();
        for round in 0..6 {
            for chunk in 0..10 {
                let mut writes = Vec::new();
                for idx in 0..100 {
                    let key = format!("/k/{}", (idx * 7 + chunk * 13) % 150).into_bytes();
                    let op = Op::put(key, vec![b'a' + round; 1000]);
                    let store = store.clone();
                    writes.push(rt::spawn(async move {
                        store.write_one(op, Class::Durable).await.unwrap();
                    }));
                }
                for write in writes {
                    write.await;
                }
            }
            sizes.push(store.stats().file_bytes);
        }
        let live = u64::try_from(store.stats().state_bytes).unwrap();
        let last = sizes[sizes.len() - 1];
        assert!(last < 2 * live + (2 << 20), "{live} live bytes, file sizes {sizes:?}");
        assert!(last <= sizes[2] * 5 / 4, "it keeps growing: {sizes:?}");
    });
}

/// Seals by a XOR, and tells what was sealed by a mark.
#[derive(Debug)]
struct Xor(std::sync::atomic::AtomicU8);

impl store::Envelope for Xor {
    fn seal(&self, key: &[u8], value: &[u8]) -> stdx::Result<Option<Vec<u8>>> {
        let with = self.0.load(std::sync::atomic::Ordering::SeqCst);
        let sealed = value.iter().map(|byte| byte ^ with);
        Ok((key.starts_with(b"/s/") && with != 0)
            .then(|| [b'!', with].into_iter().chain(sealed).collect()))
    }

    fn open(&self, _: &[u8], bytes: &[u8]) -> stdx::Result<Option<Vec<u8>>> {
        match bytes {
            [b'!', with, rest @ ..] if *with < 9 => {
                Ok(Some(rest.iter().map(|byte| byte ^ with).collect()))
            }
            [b'!', with, ..] => Err(stdx::Error::new(format!("no key {with}"))),
            _ => Ok(None),
        }
    }
}

#[test]
fn sealed_values_are_plain_in_memory_and_never_on_the_disk() {
    use std::sync::atomic::{AtomicU8, Ordering};
    let dir = Dir::new("sealed");
    let on_disk = |text: &str| {
        let files = std::fs::read_dir(dir.0.join("db")).unwrap().map(|file| file.unwrap().path());
        let held: Vec<Vec<u8>> =
            files.filter(|path| path.is_file()).map(|path| std::fs::read(path).unwrap()).collect();
        held.iter().any(|bytes| bytes.windows(text.len()).any(|part| part == text.as_bytes()))
    };
    let secret = |idx: usize| format!("top-secret-{idx}-{}", "x".repeat(idx * 40));
    rt::block_on(async {
        let xor = std::sync::Arc::new(Xor(AtomicU8::new(0)));
        let open = || {
            let (path, xor) = (dir.file(), std::sync::Arc::clone(&xor));
            async move { Store::open_sealed(&path, Limits::default(), xor as _).await }
        };
        // First in the clear, with replaced and deleted values, as before a server encrypts.
        let store = open().await.unwrap();
        for idx in 0..100 {
            let key = format!("/s/{}", idx % 50);
            store
                .write_one(Op::put(key.into_bytes(), secret(idx).into_bytes()), Class::Durable)
                .await
                .unwrap();
        }
        store.write_one(Op::put(*b"/plain", *b"common knowledge"), Class::Durable).await.unwrap();
        assert!(on_disk("top-secret-7-") && on_disk("top-secret-70-"));
        xor.0.store(3, Ordering::SeqCst);
        let before = all(&store).await;
        for (key, value) in before.iter().filter(|(key, _)| key.starts_with("/s/")) {
            store
                .write_one(
                    Op::put(key.clone().into_bytes(), value.clone().into_bytes()),
                    Class::Durable,
                )
                .await
                .unwrap();
        }
        assert_eq!(all(&store).await, before);
        store.scrub().await.unwrap();
        assert!(!on_disk("top-secret") && on_disk("common knowledge"));
        drop(store);
        assert!(!on_disk("top-secret"));
        let store = open().await.unwrap();
        assert_eq!(all(&store).await, before);
        assert_eq!(store.stats().n_dead_rows, 0);
        // A key that is gone refuses the start, and changes nothing.
        xor.0.store(9, Ordering::SeqCst);
        store.write_one(Op::put(*b"/s/lost", *b"value"), Class::Durable).await.unwrap();
        store.close().await.unwrap();
        drop(store);
        let refused = open().await.unwrap_err().to_string();
        assert!(refused.contains("no key 9"), "{refused}");
        let plain = Store::open(&dir.0.join("db/state.db"), Limits::default()).await.unwrap();
        assert_eq!(plain.range(&Query::prefix("")).await.unwrap().items.len(), before.len() + 1);
    });
}
