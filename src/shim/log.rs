//! The log file of a container, in the format of the Container Runtime Interface.
//!
//! A line is `2016-10-06T00:17:09.669794202Z stdout F text`; `P` marks one that goes on in the next
//! line, because it is longer than 16 KiB or because the stream ended without a newline.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use stdx::Arrange;

/// Longest piece of a line in one entry.
const LINE_MAX_BYTES: usize = 16 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

/// What a container may write a second for long. One that has more to say waits at its pipe, so that it
/// takes neither this process's time nor the disk's from others.
const RATE_MAX_BYTES: u64 = 16 << 20;
/// What it may write at once.
const BURST_MAX_BYTES: u64 = 4 << 20;

/// Holds a container that floods its log back.
#[derive(Debug, Default)]
pub(crate) struct Flood {
    /// Since when `n_bytes` were written; none before the first.
    since: Option<Instant>,
    n_bytes: u64,
    until: Option<Instant>,
}

impl Flood {
    pub(crate) fn add(&mut self, n_bytes: usize, now: Instant) {
        let since = *self.since.get_or_insert(now);
        self.n_bytes += n_bytes as u64;
        if self.n_bytes < BURST_MAX_BYTES {
            return;
        }
        let due =
            since + Duration::from_micros(self.n_bytes.saturating_mul(1_000_000) / RATE_MAX_BYTES);
        self.until = (due > now).then_some(due);
        (self.since, self.n_bytes) = (Some(due.max(now)), 0);
    }

    /// How long nothing is to be read of it, if it is to wait.
    pub(crate) fn wait(&self, now: Instant) -> Option<Duration> {
        let left = self.until?.saturating_duration_since(now);
        (!left.is_zero()).then_some(left)
    }
}

/// Writes what containers print. Failures to write (a full disk) lose log lines, never stop a container.
#[derive(Debug, Default)]
pub(crate) struct Log {
    path: String,
    file: Option<File>,
    /// Bytes of the file.
    len: u64,
    /// Its bound, and how many files there may be in all. Kept by whoever writes: a look from outside now
    /// and then is too late for gigabytes a second.
    limits: Option<(u64, usize)>,
    /// The unfinished line of each stream; holds no memory while there is none.
    unfinished: [Vec<u8>; 2],
}

impl Log {
    /// An empty path discards everything.
    pub(crate) fn open(path: &str) -> io::Result<Log> {
        let mut log = Log { path: path.to_owned(), ..Log::default() };
        log.reopen()?;
        Ok(log)
    }

    /// Writes to the file that is at the path from now on.
    pub(crate) fn reopen(&mut self) -> io::Result<()> {
        if self.path.is_empty() {
            return Ok(());
        }
        use std::os::unix::fs::OpenOptionsExt;
        let mut options = File::options();
        options.append(true).create(true).mode(0o640);
        // A symbolic link planted in the log directory must not lead us elsewhere; nor must a FIFO block us.
        options.custom_flags(sys::file::O_NOFOLLOW | sys::file::O_NONBLOCK);
        let file = options.open(&self.path)?;
        self.len = file.metadata().map_or(0, |metadata| metadata.len());
        self.file = Some(file);
        Ok(())
    }

    pub(crate) fn limit(&mut self, file_max_bytes: u64, files_max: u32) {
        self.limits = Some((file_max_bytes.max(1), files_max.max(2) as usize));
    }

    /// Puts the file aside under the time's name, as the kubelet does, and begins a new one.
    fn rotate(&mut self, files_max: usize, now: i64) {
        let stamp = Stamp::new(now).0;
        let digits = |range: std::ops::Range<usize>| -> String {
            stamp[range].iter().filter(|b| b.is_ascii_digit()).map(|b| char::from(*b)).collect()
        };
        let mut aside = format!("{}.{}-{}", self.path, digits(0..10), digits(11..19));
        if std::fs::symlink_metadata(&aside).is_ok() {
            aside = format!("{aside}.{}", digits(20..29));
        }
        // Without a file at the path, somebody else has put it aside.
        let _ = std::fs::rename(&self.path, aside);
        self.file = None;
        if let Err(error) = self.reopen() {
            eprintln!("shim: open {} again: {error}", self.path);
        }
        self.prune(files_max);
    }

    fn prune(&self, files_max: usize) {
        let path = Path::new(&self.path);
        let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else { return };
        let prefix = format!("{}.", name.to_string_lossy());
        let mut old: Vec<_> = std::fs::read_dir(directory)
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.ok().map(|entry| entry.file_name()))
            .filter(|name| name.to_string_lossy().starts_with(&prefix))
            .collect();
        old.arrange();
        // The current file counts.
        let excess = (old.len() + 1).saturating_sub(files_max);
        for name in old.drain(..excess) {
            let _ = std::fs::remove_file(directory.join(name));
        }
    }

    /// Takes a chunk of a stream and writes the lines that it completes. The bytes that took: many more than
    /// those of the chunk where lines are short.
    pub(crate) fn write(&mut self, stream: Stream, mut bytes: &[u8], now: i64) -> usize {
        if self.path.is_empty() {
            return 0;
        }
        let mut out = Vec::with_capacity(bytes.len() + 64);
        let stamp = Stamp::new(now);
        let unfinished = &mut self.unfinished[stream as usize];
        while !bytes.is_empty() {
            let room = LINE_MAX_BYTES - unfinished.len();
            let newline = bytes.iter().take(room + 1).position(|byte| *byte == b'\n');
            let (piece, n_taken, tag) = match newline {
                Some(at) => (&bytes[..at], at + 1, b'F'),
                None if bytes.len() > room => (&bytes[..room], room, b'P'),
                None => {
                    unfinished.extend_from_slice(bytes);
                    break;
                }
            };
            entry(&mut out, &stamp, stream, tag, [unfinished.as_slice(), piece]);
            if !unfinished.is_empty() {
                *unfinished = Vec::new();
            }
            bytes = &bytes[n_taken..];
        }
        self.append(&out, now);
        out.len()
    }

    /// Writes what the stream left without a newline.
    pub(crate) fn finish(&mut self, stream: Stream, now: i64) {
        let rest = std::mem::take(&mut self.unfinished[stream as usize]);
        if !rest.is_empty() {
            let mut out = Vec::new();
            entry(&mut out, &Stamp::new(now), stream, b'P', [&rest, b""]);
            self.append(&out, now);
        }
    }

    /// Writes whole entries. No file grows past its bound, unless by one entry that is longer than that.
    fn append(&mut self, mut out: &[u8], now: i64) {
        while !out.is_empty() {
            if self.file.is_none() && !self.path.is_empty() {
                let _ = self.reopen();
            }
            let n_bytes = self.fitting(out);
            let (now_written, rest) = out.split_at(n_bytes);
            if let Some(file) = &mut self.file {
                let _ = file.write_all(now_written);
                self.len += n_bytes as u64;
            }
            out = rest;
            if let Some((_, files_max)) = self.limits.filter(|_| !out.is_empty()) {
                self.rotate(files_max, now);
            }
        }
    }

    /// How many bytes of these entries the file still takes; an empty file takes one entry at least.
    fn fitting(&self, out: &[u8]) -> usize {
        let Some((file_max_bytes, _)) = self.limits else { return out.len() };
        let room = usize::try_from(file_max_bytes.saturating_sub(self.len)).unwrap_or(usize::MAX);
        if out.len() <= room {
            return out.len();
        }
        let end = |at: usize| at + 1;
        match out[..room].iter().rposition(|byte| *byte == b'\n') {
            Some(at) => end(at),
            None if self.len > 0 => 0,
            None => out.iter().position(|byte| *byte == b'\n').map_or(out.len(), end),
        }
    }
}

fn entry(out: &mut Vec<u8>, stamp: &Stamp, stream: Stream, tag: u8, pieces: [&[u8]; 2]) {
    out.extend_from_slice(&stamp.0);
    out.extend_from_slice(match stream {
        Stream::Stdout => b" stdout ",
        Stream::Stderr => b" stderr ",
    });
    out.extend_from_slice(&[tag, b' ']);
    out.extend_from_slice(pieces[0]);
    out.extend_from_slice(pieces[1]);
    out.push(b'\n');
}

/// A time as `2016-10-06T00:17:09.669794202Z`.
struct Stamp([u8; 30]);

impl Stamp {
    fn new(now: i64) -> Stamp {
        let (secs, nanos) = (now.div_euclid(1_000_000_000), now.rem_euclid(1_000_000_000));
        let (days, second_of_day) = (secs.div_euclid(86_400), secs.rem_euclid(86_400));
        let (year, month, day) = stdx::time::civil(days);
        let (hour, minute, second) =
            (second_of_day / 3600, second_of_day / 60 % 60, second_of_day % 60);
        let mut bytes = *b"0000-00-00T00:00:00.000000000Z";
        let mut put = |at: usize, n_digits: usize, mut value: i64| {
            for place in (at..at + n_digits).rev() {
                bytes[place] = b'0' + u8::try_from(value % 10).unwrap_or(0);
                value /= 10;
            }
        };
        put(0, 4, year);
        put(5, 2, month);
        put(8, 2, day);
        put(11, 2, hour);
        put(14, 2, minute);
        put(17, 2, second);
        put(20, 9, nanos);
        Stamp(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps() {
        let text = |now| String::from_utf8(Stamp::new(now).0.to_vec()).unwrap();
        assert_eq!(text(1_475_712_429_669_794_202), "2016-10-06T00:07:09.669794202Z");
        assert_eq!(text(0), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(text(951_782_400_000_000_001), "2000-02-29T00:00:00.000000001Z");
        assert_eq!(text(1_735_689_599_999_999_999), "2024-12-31T23:59:59.999999999Z");
    }

    #[test]
    fn lines_partial_lines_and_long_lines() {
        let path = std::env::temp_dir().join(format!("shim-log-{}", std::process::id()));
        let path_text = path.to_str().unwrap();
        let mut log = Log::open(path_text).unwrap();
        log.write(Stream::Stdout, b"one\ntw", 0);
        log.write(Stream::Stderr, b"err\n", 0);
        log.write(Stream::Stdout, b"o\n\n", 0);
        log.write(Stream::Stdout, &[b'x'; LINE_MAX_BYTES], 0);
        log.write(Stream::Stdout, b"\n", 0);
        log.write(Stream::Stdout, &[b'y'; LINE_MAX_BYTES + 1], 0);
        log.finish(Stream::Stdout, 0);
        log.finish(Stream::Stdout, 0);
        std::fs::remove_file(&path).unwrap();
        log.reopen().unwrap();
        log.write(Stream::Stdout, b"after\n", 0);
        let after = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(after, "1970-01-01T00:00:00.000000000Z stdout F after\n");
    }

    #[test]
    fn a_flood_keeps_to_its_files_and_its_rate() {
        let directory = std::env::temp_dir().join(format!("shim-flood-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let mut log = Log::open(directory.join("0.log").to_str().unwrap()).unwrap();
        log.limit(100_000, 3);
        // One endless line of zero bytes, with many rotations in the same second.
        for _ in 0..100 {
            log.write(Stream::Stdout, &[0; 32 << 10], 5);
        }
        let files: Vec<_> = std::fs::read_dir(&directory).unwrap().map(Result::unwrap).collect();
        assert_eq!(files.len(), 3);
        let largest = files.iter().map(|file| file.metadata().unwrap().len()).max().unwrap();
        assert!(largest <= 100_000, "{largest}");
        std::fs::remove_dir_all(&directory).unwrap();

        let (mut flood, begin) = (Flood::default(), Instant::now());
        flood.add(1000, begin);
        assert_eq!(flood.wait(begin), None);
        flood.add(16 << 20, begin);
        let wait = flood.wait(begin).unwrap();
        assert!(
            wait > Duration::from_millis(990) && wait < Duration::from_millis(1010),
            "{wait:?}"
        );
        assert_eq!(flood.wait(begin + Duration::from_secs(2)), None);
        // Who pauses has its burst again.
        flood.add(100, begin + Duration::from_secs(2));
        assert_eq!(flood.wait(begin + Duration::from_secs(2)), None);
    }

    #[test]
    fn entries() {
        let path = std::env::temp_dir().join(format!("shim-log2-{}", std::process::id()));
        let mut log = Log::open(path.to_str().unwrap()).unwrap();
        log.write(Stream::Stdout, b"one\ntw", 0);
        log.write(Stream::Stderr, b"err\n", 0);
        log.write(Stream::Stdout, b"o\n\n", 0);
        log.write(Stream::Stdout, &[b'x'; LINE_MAX_BYTES], 0);
        log.write(Stream::Stdout, b"\n", 0);
        log.write(Stream::Stdout, &[b'y'; LINE_MAX_BYTES + 1], 0);
        log.finish(Stream::Stdout, 0);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let got: Vec<(String, usize)> =
            text.lines().map(|line| (line[31..40].to_owned(), line[40..].len())).collect();
        let expected = [
            ("stdout F ", 3),
            ("stderr F ", 3),
            ("stdout F ", 3),
            ("stdout F ", 0),
            ("stdout F ", LINE_MAX_BYTES),
            ("stdout P ", LINE_MAX_BYTES),
            ("stdout P ", 1),
        ];
        assert_eq!(got, expected.map(|(tag, n)| (tag.to_owned(), n)));
    }
}
