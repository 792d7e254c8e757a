//! Container logs: CRI log files with their rotated predecessors, read and followed.
//!
//! A line of the file is `<RFC 3339 time> <stdout|stderr> <F|P> <text>`; `P` marks a part of a line
//! that goes on in the next. Rotated files are `<n>.log.<timestamp>`, possibly gzipped by others.

use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::body::Sender;
use runtime::{ContainerState, Runtime};
use stdx::Arrange;
use stdx::time::Wall;

/// Bytes of one line that are held; a longer one is given out in parts.
const LINE_MAX_BYTES: u64 = 64 * 1024;
const LINE_MAX_LEN: usize = 64 * 1024;
/// Bytes that wait for a slow reader.
pub(crate) const BUFFERED_MAX_BYTES: usize = 64 * 1024;
/// Bytes read between two looks at the reader.
const BATCH_MAX_BYTES: usize = 32 * 1024;

/// What of a container's log is wanted (`PodLogOptions`).
#[derive(Clone, Debug, Default)]
pub(crate) struct LogOptions {
    /// May be empty where the pod has one container.
    pub(crate) container: String,
    pub(crate) follow: bool,
    pub(crate) previous: bool,
    pub(crate) since_secs: Option<i64>,
    pub(crate) since_time: Option<Wall>,
    pub(crate) timestamps: bool,
    pub(crate) tail_lines: Option<u64>,
    pub(crate) limit_bytes: Option<u64>,
}

/// Which file, and what of it.
#[derive(Clone, Debug)]
pub(crate) struct Reading {
    pub path: PathBuf,
    pub container_id: String,
    pub options: LogOptions,
}

/// Sends a log to `sender`, to the container's end if it is followed.
pub(crate) async fn send(runtime: Runtime, reading: Reading, mut sender: Sender) {
    let since = since(&reading.options, rt::now().wall);
    let mut left = reading.options.limit_bytes.unwrap_or(u64::MAX);
    let path = reading.path.clone();
    let (tail, follows) = (reading.options.tail_lines, reading.options.follow);
    let opened = rt::unblock(move || Cursor::open(&path, tail, since, follows)).await;
    let mut cursor = match opened {
        Ok(cursor) => cursor,
        Err(error) => return sender.fail(error),
    };
    let watch = follows.then(|| watch(&reading.path)).flatten();
    loop {
        let timestamps = reading.options.timestamps;
        let (next, batch) = rt::unblock(move || {
            let batch = cursor.batch(timestamps);
            (cursor, batch)
        })
        .await;
        cursor = next;
        let mut bytes = match batch {
            Ok(bytes) => bytes,
            Err(error) => return sender.fail(error),
        };
        let len = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        if len > left {
            bytes.truncate(usize::try_from(left).unwrap_or(0));
        }
        left = left.saturating_sub(len);
        if !bytes.is_empty() {
            if sender.send(bytes).await.is_err() {
                return;
            }
            if left == 0 {
                break;
            }
            continue;
        }
        let Some(watch) = &watch else { break };
        // An exit that was seen before the file was read to its end is the end.
        if cursor.ended {
            break;
        }
        cursor.ended = !matches!(
            runtime.container(&reading.container_id).map(|status| status.state),
            Some(ContainerState::Running | ContainerState::Created)
        );
        if cursor.ended {
            continue;
        }
        wait(watch, &runtime, &reading.container_id, &sender).await;
        if sender.is_closed() {
            return;
        }
    }
    sender.finish(http::Headers::new());
}

/// Waits for more text, for the container's end, or for the reader to go.
async fn wait(watch: &rt::FileWatch, runtime: &Runtime, container: &str, sender: &Sender) {
    let changed = async {
        if watch.changed().await.is_err() {
            rt::sleep(Duration::from_secs(1)).await;
        }
    };
    let ended = async {
        if runtime.wait_container(container).await.is_err() {
            rt::sleep(Duration::from_secs(1)).await;
        }
    };
    rt::future::or(changed, rt::future::or(ended, sender.closed())).await;
}

fn watch(path: &Path) -> Option<rt::FileWatch> {
    let watch = rt::FileWatch::new();
    // The directory tells of rotation, and of writes too.
    watch.add_writes(path.parent()?).ok()?;
    Some(watch)
}

fn since(options: &LogOptions, now: Wall) -> Option<Wall> {
    let ago = options.since_secs.and_then(|secs| u64::try_from(secs).ok());
    ago.map(|secs| now - Duration::from_secs(secs)).or(options.since_time)
}

/// A place in a log. Blocking.
struct Cursor {
    path: PathBuf,
    /// Files to read, the next last; open, for by then their names may be others'.
    waiting: Vec<rt::fs::File>,
    reader: Option<BufReader<rt::fs::File>>,
    inode: u64,
    /// Bytes of the file that were read.
    position: u64,
    /// Unless the log is followed: the newest file and how much it held. A container may write faster than
    /// anybody reads, and whoever asked for three lines gets three.
    stop: Option<(u64, u64)>,
    since: Option<Wall>,
    /// A line that was not written to its end yet.
    partial: Vec<u8>,
    /// The stored line before was a part: its continuation has no timestamp of its own.
    continued: bool,
    /// The container had exited when last looked.
    ended: bool,
}

/// Opens a log file. Only the shim writes into the pod's and the container's directory, unless a pod was
/// given the host's: links there lead nowhere.
fn open(path: &Path) -> stdx::Result<rt::fs::File> {
    /// The pod's directory, the container's and the file.
    const OWN_NAMES: usize = 3;
    rt::fs::open_beneath(path, OWN_NAMES)
}

impl Cursor {
    fn open(
        path: &Path,
        tail: Option<u64>,
        since: Option<Wall>,
        follows: bool,
    ) -> stdx::Result<Cursor> {
        use std::os::unix::fs::MetadataExt;
        // First the newest: what is put aside after that is found under both names, and not missed.
        let newest = match open(path) {
            Ok(file) => Some(file),
            // A container that has not begun to write has no log yet.
            Err(error) if error.io_kind() == Some(std::io::ErrorKind::NotFound) => None,
            Err(error) => return Err(error),
        };
        let found = newest.as_ref().and_then(|file| file.metadata().ok());
        let (inode, len) = found.map_or((0, 0), |found| (found.ino(), found.len()));
        let older = rotated(path).into_iter().rev().filter_map(|path| open(&path).ok());
        let is_another =
            |file: &rt::fs::File| file.metadata().is_ok_and(|found| found.ino() != inode);
        let mut cursor = Cursor {
            path: path.to_owned(),
            waiting: newest.into_iter().chain(older.filter(is_another)).collect(),
            reader: None,
            inode: 0,
            position: 0,
            stop: (!follows).then_some((inode, len)),
            since,
            partial: Vec::new(),
            continued: false,
            ended: false,
        };
        match tail {
            None => cursor.next_file()?,
            Some(lines) => cursor.seek_tail(len, lines)?,
        }
        Ok(cursor)
    }

    /// Goes on with the next file, or, if the log is followed, with what took the newest one's place.
    fn next_file(&mut self) -> stdx::Result<()> {
        let file = match self.waiting.pop() {
            Some(file) => file,
            None if self.stop.is_some() => return Ok(()),
            None => match open(&self.path) {
                Ok(file) => file,
                Err(error) if error.io_kind() == Some(std::io::ErrorKind::NotFound) => {
                    self.reader = None;
                    return Ok(());
                }
                Err(error) => return Err(error),
            },
        };
        self.read(file, 0)
    }

    fn read(&mut self, mut file: rt::fs::File, position: u64) -> stdx::Result<()> {
        use std::os::unix::fs::MetadataExt;
        file.seek(SeekFrom::Start(position)).map_err(|e| stdx::Error::wrap("seek a log", e))?;
        self.inode = file.metadata().map_or(0, |metadata| metadata.ino());
        self.position = position;
        self.reader = Some(BufReader::new(file));
        Ok(())
    }

    /// Places the cursor so that `lines` lines are left, in the newest file, of which so many bytes count, and those
    /// before it.
    fn seek_tail(&mut self, len: u64, lines: u64) -> stdx::Result<()> {
        let (mut passed, mut found) = (Vec::new(), 0);
        for mut file in std::mem::take(&mut self.waiting) {
            let len = match passed.is_empty() {
                true => len,
                false => file.metadata().map_or(0, |found| found.len()),
            };
            let (offset, more) = tail_offset(&mut file, len, lines - found)?;
            found += more;
            passed.push((file, offset));
            if found >= lines {
                break;
            }
        }
        let first = passed.pop();
        self.waiting = passed.into_iter().map(|(file, _)| file).collect();
        first.map_or(Ok(()), |(file, offset)| self.read(file, offset))
    }

    /// The next complete lines, formatted; empty at the end of what there is now.
    fn batch(&mut self, timestamps: bool) -> stdx::Result<Vec<u8>> {
        let mut out = Vec::new();
        while out.len() < BATCH_MAX_BYTES {
            if self.reader.is_none() {
                self.next_file()?;
            }
            let Some(reader) = &mut self.reader else { break };
            let left = match self.stop {
                Some((inode, len)) if inode == self.inode => len.saturating_sub(self.position),
                _ => u64::MAX,
            };
            let read = reader
                .by_ref()
                .take(LINE_MAX_BYTES.min(left))
                .read_until(b'\n', &mut self.partial)
                .map_err(|error| stdx::Error::wrap("read a log", error))?;
            self.position += read as u64;
            if self.partial.last() == Some(&b'\n') {
                let line = std::mem::take(&mut self.partial);
                self.format(&line, timestamps, &mut out);
            } else if self.partial.len() >= LINE_MAX_LEN {
                // No line that a shim writes is so long.
                self.partial.clear();
            } else if read == 0 && !self.rotated_on()? {
                break;
            }
        }
        Ok(out)
    }

    /// At the end of a file: true if there is a next one to go on with.
    fn rotated_on(&mut self) -> stdx::Result<bool> {
        use std::os::unix::fs::MetadataExt;
        if self.waiting.is_empty() {
            let current = self.path.metadata().map_or(0, |metadata| metadata.ino());
            if self.stop.is_some() || current == self.inode || current == 0 {
                return Ok(false);
            }
        }
        self.partial.clear();
        self.next_file()?;
        Ok(self.reader.is_some())
    }

    fn format(&mut self, line: &[u8], timestamps: bool, out: &mut Vec<u8>) {
        let Some(parsed) = Line::parse(line) else { return };
        if self.since.is_some_and(|since| parsed.time.is_some_and(|time| time < since)) {
            return;
        }
        if timestamps && !self.continued {
            out.extend_from_slice(parsed.stamp);
            out.push(b' ');
        }
        out.extend_from_slice(parsed.text);
        if !parsed.partial {
            out.push(b'\n');
        }
        self.continued = parsed.partial;
    }
}

/// One stored line.
struct Line<'a> {
    stamp: &'a [u8],
    time: Option<Wall>,
    partial: bool,
    text: &'a [u8],
}

impl<'a> Line<'a> {
    fn parse(line: &'a [u8]) -> Option<Line<'a>> {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let mut parts = line.splitn(4, |byte| *byte == b' ');
        let stamp = parts.next()?;
        let stream = parts.next()?;
        let tag = parts.next()?;
        if stream != b"stdout" && stream != b"stderr" {
            return None;
        }
        let time = std::str::from_utf8(stamp).ok().and_then(api::time::parse);
        Some(Line { stamp, time, partial: tag == b"P", text: parts.next().unwrap_or(b"") })
    }
}

/// Rotated predecessors, the oldest first.
fn rotated(path: &Path) -> Vec<PathBuf> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name().and_then(|n| n.to_str()))
    else {
        return Vec::new();
    };
    let prefix = format!("{name}.");
    let mut found: Vec<PathBuf> = rt::fs::list_dir(parent)
        .unwrap_or_default()
        .into_iter()
        .filter(|path| {
            let name = path.file_name().and_then(|n| n.to_str()).unwrap_or("");
            name.starts_with(&prefix) && !name.ends_with(".gz") && !name.ends_with(".tmp")
        })
        .collect();
    found.arrange();
    found
}

/// Where the last `lines` complete lines of a file's first `len` bytes begin, and how many there are.
fn tail_offset(file: &mut rt::fs::File, len: u64, lines: u64) -> stdx::Result<(u64, u64)> {
    let fail = |error: std::io::Error| stdx::Error::wrap("read a log", error);
    const STEP_BYTES: u64 = 8192;
    if lines == 0 {
        return Ok((len, 0));
    }
    // Newlines close lines; all but the last begin one, too.
    let (mut position, mut n_newlines) = (len, 0);
    let mut block = Vec::new();
    while position > 0 {
        let start = position.saturating_sub(STEP_BYTES);
        file.seek(SeekFrom::Start(start)).map_err(fail)?;
        block.clear();
        Read::by_ref(file).take(position - start).read_to_end(&mut block).map_err(fail)?;
        for (idx, _) in block.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
            n_newlines += 1;
            if n_newlines > lines {
                return Ok((start + u64::try_from(idx).unwrap_or(0) + 1, lines));
            }
        }
        position = start;
    }
    Ok((0, n_newlines))
}

/// The end of a log as plain text, for termination messages. Blocking.
pub(crate) fn tail_text(path: &Path, lines: usize, max_bytes: usize) -> String {
    let lines = u64::try_from(lines).unwrap_or(u64::MAX);
    let Ok(mut cursor) = Cursor::open(path, Some(lines), None, false) else { return String::new() };
    let mut text = Vec::new();
    while let Ok(batch) = cursor.batch(false) {
        if batch.is_empty() {
            break;
        }
        text.extend(batch);
        let excess = text.len().saturating_sub(max_bytes);
        text.drain(..excess);
    }
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "2024-01-01T00:00:01.000000001Z stdout F one\n\
        2024-01-01T00:00:02.000000000Z stderr P tw\n\
        2024-01-01T00:00:02.000000001Z stderr F o\n\
        2024-01-01T00:00:03.000000000Z stdout F three\n";

    fn read(path: &Path, options: LogOptions) -> String {
        let since = since(&options, Wall::from_secs(0));
        let mut cursor = Cursor::open(path, options.tail_lines, since, options.follow).unwrap();
        let mut all = Vec::new();
        loop {
            let batch = cursor.batch(options.timestamps).unwrap();
            if batch.is_empty() {
                return String::from_utf8(all).unwrap();
            }
            all.extend(batch);
        }
    }

    #[test]
    fn lines_are_joined_cut_and_stamped() {
        let dir = crate::testing::directory("logs");
        let path = dir.path().join("0.log");
        let plain = LogOptions::default;
        assert_eq!(read(&path, plain()), "", "no log yet");
        rt::fs::write(&path, LOG.as_bytes(), 0o640).unwrap();
        assert_eq!(read(&path, plain()), "one\ntwo\nthree\n");
        assert_eq!(read(&path, LogOptions { tail_lines: Some(1), ..plain() }), "three\n");
        assert_eq!(read(&path, LogOptions { tail_lines: Some(0), ..plain() }), "");
        assert_eq!(
            read(&path, LogOptions { tail_lines: Some(99), ..plain() }),
            "one\ntwo\nthree\n"
        );
        let since = api::time::parse("2024-01-01T00:00:03Z");
        assert_eq!(read(&path, LogOptions { since_time: since, ..plain() }), "three\n");
        assert_eq!(
            read(&path, LogOptions { timestamps: true, tail_lines: Some(1), ..plain() }),
            "2024-01-01T00:00:03.000000000Z three\n"
        );
        assert_eq!(tail_text(&path, 80, 4), "ree\n");
    }

    #[test]
    fn rotated_files_are_read_first_and_followed_into() {
        let dir = crate::testing::directory("rotated");
        let path = dir.path().join("0.log");
        let line = |n: u32| format!("2024-01-01T00:00:0{n}Z stdout F {n}\n");
        rt::fs::write(
            dir.path().join("0.log.20240101-000000"),
            (line(1) + &line(2)).as_bytes(),
            0o640,
        )
        .unwrap();
        rt::fs::write(&path, line(3).as_bytes(), 0o640).unwrap();
        assert_eq!(read(&path, LogOptions::default()), "1\n2\n3\n");
        assert_eq!(
            read(&path, LogOptions { tail_lines: Some(2), ..LogOptions::default() }),
            "2\n3\n"
        );
        let mut cursor = Cursor::open(&path, Some(0), None, true).unwrap();
        assert!(cursor.batch(false).unwrap().is_empty());
        rt::fs::rename(&path, dir.path().join("0.log.20240101-000001")).unwrap();
        rt::fs::write(&path, line(4).as_bytes(), 0o640).unwrap();
        assert_eq!(cursor.batch(false).unwrap(), b"4\n");
    }

    #[test]
    fn what_is_written_while_a_log_is_read_is_not_waited_for() {
        let dir = crate::testing::directory("growing");
        let path = dir.path().join("0.log");
        let line = |n: u32| format!("2024-01-01T00:00:0{n}Z stdout F {n}\n");
        let half = "2024-01-01T00:0";
        rt::fs::write(&path, (line(1) + &line(2) + half).as_bytes(), 0o640).unwrap();
        for (tail, want) in [(Some(1), "2\n"), (Some(2), "1\n2\n"), (None, "1\n2\n")] {
            let mut cursor = Cursor::open(&path, tail, None, false).unwrap();
            // More comes, and the file is put aside; a new one has its name.
            rt::fs::write(&path, (line(1) + &line(2) + &line(3)).as_bytes(), 0o640).unwrap();
            let aside = dir.path().join("0.log.20240101-000001");
            rt::fs::rename(&path, &aside).unwrap();
            rt::fs::write(&path, line(4).as_bytes(), 0o640).unwrap();
            let read = String::from_utf8(cursor.batch(false).unwrap()).unwrap();
            assert_eq!(read, want, "{tail:?}");
            assert!(cursor.batch(false).unwrap().is_empty());
            rt::fs::rename(&aside, &path).unwrap();
            rt::fs::write(&path, (line(1) + &line(2) + half).as_bytes(), 0o640).unwrap();
        }
    }
}
