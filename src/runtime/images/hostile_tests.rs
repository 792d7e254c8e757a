//! Layers made at random against a tree of links: nothing outside the root may change.
//!
//! `K3RS_HOSTILE_SECONDS` makes the run last so long instead of a fixed number of images, and
//! `K3RS_HOSTILE_SEED` chooses its images (`make hostile-images`).

use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use stdx::prng::Prng;
use wire::tar::{Builder, Entry, Kind};

use super::unpack::{self, Unpacked};

const IMAGES: u64 = 400;
const KINDS: [Kind; 7] = [
    Kind::File,
    Kind::HardLink,
    Kind::SymbolicLink,
    Kind::CharacterDevice,
    Kind::BlockDevice,
    Kind::Directory,
    Kind::Fifo,
];
/// Few, so that entries meet each other.
const NAMES: [&str; 13] =
    ["a", "b", "c", "d", "l", "m", "..", ".", "", ".wh.a", ".wh.l", ".wh..wh..opq", ".wh..wh.plnk"];
/// Flags that the builder does not write: contiguous, sparse, multi-volume, PAX, GNU's long ones, unknown.
const FLAGS: [u8; 14] = *b"01234567SDMVxg";

/// All that can be seen of a file, its time of change included: nothing goes unnoticed.
type Seen = (PathBuf, u32, u32, u32, u64, i64, i64, i64, i64, u64);

struct Place {
    dir: PathBuf,
    layers: PathBuf,
    before: Vec<Seen>,
}

impl Place {
    fn new() -> Place {
        let dir = std::env::temp_dir().join(format!("hostile-{}", std::process::id()));
        rt::fs::remove_dir_all(&dir).unwrap();
        let outside = dir.join("outside");
        rt::fs::create_dir_all(outside.join("dir/sub"), 0o700).unwrap();
        rt::fs::replace(outside.join("file"), b"canary", 0o600).unwrap();
        rt::fs::replace(outside.join("dir/file"), b"canary", 0o640).unwrap();
        rt::fs::symlink_atomic("dir", outside.join("link")).unwrap();
        let layers = dir.join("layers");
        rt::fs::create_dir_all(&layers, 0o700).unwrap();
        let mut place = Place { dir, layers, before: Vec::new() };
        place.before = place.seen();
        place
    }

    fn seen(&self) -> Vec<Seen> {
        let outside = self.dir.join("outside");
        let root = sys::file::open_dir(&outside).unwrap();
        let see = |path: PathBuf, of: &rt::fs::Metadata| {
            let times = (of.mtime(), of.mtime_nsec(), of.ctime(), of.ctime_nsec());
            let (a, b, c, d) = times;
            (path, of.mode(), of.uid(), of.gid(), of.size(), a, b, c, d, of.nlink())
        };
        let mut all = vec![see(outside.clone(), &rt::fs::metadata(&outside).unwrap())];
        sys::tree::walk(root.as_fd(), &mut |visit| {
            let above = sys::tree::place_below(root.as_fd(), visit.dir)?;
            all.push(see(above.join(visit.name), visit.metadata));
            Ok(sys::tree::Step::Into)
        })
        .unwrap();
        all.sort();
        all
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = rt::fs::remove_dir_all(&self.dir);
    }
}

fn pick<T: Copy>(prng: &mut Prng, from: &[T]) -> T {
    from[usize::try_from(prng.below(from.len() as u64)).unwrap()]
}

fn path(prng: &mut Prng, outside: &Path) -> Vec<u8> {
    match prng.below(40) {
        0 => vec![b'n'; 300],
        1 => b"a/".repeat(1 + usize::try_from(prng.below(3000)).unwrap()),
        2 => outside.join("new").as_os_str().as_bytes().to_vec(),
        3 => b"a\0b".to_vec(),
        4 => b"../".repeat(8),
        5 => vec![0xff, b'/', 0xfe],
        _ => {
            let n = 1 + prng.below(4);
            let parts: Vec<&str> = (0..n).map(|_| pick(prng, &NAMES)).collect();
            let slash = if prng.chance(20) { "/" } else { "" };
            format!("{slash}{}", parts.join("/")).into_bytes()
        }
    }
}

fn target(prng: &mut Prng, outside: &Path) -> Vec<u8> {
    let inside = ["a", "b", "/a/b", "../a", "l", "m/..", "a/../../b", ".", "/", "c/nowhere", "d/l"];
    let out = ["", "file", "dir", "dir/sub", "dir/file", "link", "link/file", "nothing"];
    match prng.below(10) {
        0..4 => outside.join(pick(prng, &out)).as_os_str().as_bytes().to_vec(),
        // Up from any depth in the root, and from the layer's directory.
        4..6 => {
            let up = "../".repeat(usize::try_from(prng.below(12)).unwrap());
            format!("{up}outside/{}", pick(prng, &out)).into_bytes()
        }
        6 => b"/proc/self/fd/3/../../outside/file".to_vec(),
        7 => path(prng, outside),
        _ => pick(prng, &inside).into(),
    }
}

fn layer(prng: &mut Prng, outside: &Path) -> Vec<u8> {
    let mut builder = Builder::default();
    for _ in 0..1 + prng.below(14) {
        // Directories and links more often: they are what paths lead through.
        let kind = match prng.below(10) {
            0..3 => Kind::SymbolicLink,
            3..6 => Kind::Directory,
            _ => pick(prng, &KINDS),
        };
        let mut xattrs = Vec::new();
        if prng.chance(15) {
            let names = ["user.x", "trusted.overlay.redirect", "security.capability", "trusted.x"];
            xattrs.push((pick(prng, &names).to_owned(), b"/outside".to_vec()));
        }
        let entry = Entry {
            kind,
            link: target(prng, outside),
            uid: u32::try_from(prng.below(3)).unwrap() * 1000,
            gid: 7,
            mtime_secs: i64::try_from(prng.below(1 << 33)).unwrap(),
            major: 1,
            minor: 3,
            xattrs,
            ..Entry::file(&path(prng, outside), pick(prng, &[0o4777, 0o0, 0o755, 0o1777]))
        };
        let content: &[u8] = if kind == Kind::File { b"hostile" } else { b"" };
        builder.add(&entry, content);
    }
    let mut bytes = builder.finish();
    for block in bytes.chunks_exact_mut(512) {
        if block[257..262] == *b"ustar" && prng.chance(8) {
            match prng.chance(70) {
                true => block[156] = pick(prng, &FLAGS),
                false => block[usize::try_from(prng.below(345)).unwrap()] = 0x80,
            }
            block[148..156].copy_from_slice(b"        ");
            let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
    }
    bytes
}

/// One image of up to three layers, as an import does it. True if all of it was taken.
fn unpack_image(prng: &mut Prng, place: &Place) -> bool {
    let outside = place.dir.join("outside");
    let mut lowers: Vec<PathBuf> = Vec::new();
    let mut done: Vec<(PathBuf, Unpacked)> = Vec::new();
    let mut is_whole = true;
    for n in 0..1 + prng.below(3) {
        let root = place.layers.join(n.to_string());
        rt::fs::create_dir_all(&root, 0o755).unwrap();
        match unpack::unpack(layer(prng, &outside).as_slice(), &root, 0) {
            Ok(unpacked) => done.push((root, unpacked)),
            // What came before it is what counts, as a half that a pull leaves.
            Err(_) => is_whole = false,
        }
    }
    for (root, unpacked) in &done {
        is_whole &= unpack::finish(unpacked, root, &lowers).is_ok();
        lowers.insert(0, root.clone());
    }
    is_whole
}

#[test]
fn random_images_change_nothing_outside() {
    if sys::process::effective_uid() != 0 {
        eprintln!("skipped: not root");
        return;
    }
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seconds = number("K3RS_HOSTILE_SECONDS").map(Duration::from_secs);
    let first = number("K3RS_HOSTILE_SEED").unwrap_or(1);
    let place = Place::new();
    let begun = Instant::now();
    let (mut n_images, mut n_whole) = (0u64, 0u64);
    loop {
        match seconds {
            Some(seconds) if begun.elapsed() >= seconds => break,
            None if n_images >= IMAGES => break,
            _ => {}
        }
        let seed = first + n_images;
        n_whole += u64::from(unpack_image(&mut Prng::new(seed), &place));
        rt::fs::remove_dir_all(&place.layers).unwrap();
        assert!(place.seen() == place.before, "seed {seed} changed what is outside");
        let beside = rt::fs::list_dir(&place.dir).unwrap();
        assert_eq!(beside, [place.dir.join("outside")], "seed {seed} made something outside");
        rt::fs::create_dir_all(&place.layers, 0o700).unwrap();
        n_images += 1;
    }
    // An unpacker that refuses all proves nothing.
    assert!(n_whole * 20 > n_images, "only {n_whole} of {n_images} images were taken whole");
    println!(
        "{n_images} images from seed {first}, {n_whole} of them taken whole: nothing outside changed"
    );
}
