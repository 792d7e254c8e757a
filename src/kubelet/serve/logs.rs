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

use crate::kubelet::LogOptions;

/// Bytes of one line that are held; a longer one is given out in parts.
const LINE_MAX_BYTES: u64 = 64 * 1024;
const LINE_MAX_LEN: usize = 64 * 1024;
/// Bytes that wait for a slow reader.
pub(crate) const BUFFERED_MAX_BYTES: usize = 64 * 1024;
/// Bytes read between two looks at the reader.
const BATCH_MAX_BYTES: usize = 32 * 1024;

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
    let tail = reading.options.tail_lines;
    let opened = rt::unblock(move || Cursor::open(&path, tail, since)).await;
    let mut cursor = match opened {
        Ok(cursor) => cursor,
        Err(error) => return sender.fail(error),
    };
    let watch = reading.options.follow.then(|| watch(&reading.path)).flatten();
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
        let (Some(watch), true) = (&watch, reading.options.follow) else { break };
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
    /// Files to read before the current one, the next last.
    older: Vec<PathBuf>,
    reader: Option<BufReader<rt::fs::File>>,
    inode: u64,
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
    fn open(path: &Path, tail: Option<u64>, since: Option<Wall>) -> stdx::Result<Cursor> {
        let mut cursor = Cursor {
            path: path.to_owned(),
            older: Vec::new(),
            reader: None,
            inode: 0,
            since,
            partial: Vec::new(),
            continued: false,
            ended: false,
        };
        match tail {
            None => {
                cursor.older = rotated(path);
                cursor.older.reverse();
                cursor.next_file()?;
            }
            Some(lines) => cursor.seek_tail(lines)?,
        }
        Ok(cursor)
    }

    /// Opens the next older file, or the current one when there is none left.
    fn next_file(&mut self) -> stdx::Result<()> {
        use std::os::unix::fs::MetadataExt;
        let path = self.older.pop().unwrap_or_else(|| self.path.clone());
        self.reader = match open(&path) {
            Ok(file) => {
                self.inode = file.metadata().map_or(0, |metadata| metadata.ino());
                Some(BufReader::new(file))
            }
            // A container that has not begun to write has no log yet.
            Err(error) if error.io_kind() == Some(std::io::ErrorKind::NotFound) => None,
            Err(error) => return Err(error),
        };
        Ok(())
    }

    /// Places the cursor so that `lines` lines are left, in this file and those before it.
    fn seek_tail(&mut self, lines: u64) -> stdx::Result<()> {
        let mut files = rotated(&self.path);
        files.push(self.path.clone());
        let mut wanted = lines;
        let mut pending = Vec::new();
        while let Some(path) = files.pop() {
            let Ok(mut file) = open(&path) else { continue };
            let (offset, found) = tail_offset(&mut file, wanted)?;
            wanted = wanted.saturating_sub(found);
            pending.push((path, offset));
            if wanted == 0 {
                break;
            }
        }
        let Some((first, offset)) = pending.pop() else { return Ok(()) };
        // `pending` has the current file first: what is left is read after `first`.
        self.older =
            pending.into_iter().map(|(path, _)| path).filter(|p| *p != self.path).collect();
        self.older.push(first);
        self.next_file()?;
        if let Some(reader) = &mut self.reader {
            reader.seek(SeekFrom::Start(offset)).map_err(|e| stdx::Error::wrap("seek a log", e))?;
        }
        Ok(())
    }

    /// The next complete lines, formatted; empty at the end of what there is now.
    fn batch(&mut self, timestamps: bool) -> stdx::Result<Vec<u8>> {
        let mut out = Vec::new();
        while out.len() < BATCH_MAX_BYTES {
            if self.reader.is_none() {
                self.next_file()?;
            }
            let Some(reader) = &mut self.reader else { break };
            let read = reader
                .by_ref()
                .take(LINE_MAX_BYTES)
                .read_until(b'\n', &mut self.partial)
                .map_err(|error| stdx::Error::wrap("read a log", error))?;
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
        let current = self.path.metadata().map_or(0, |metadata| metadata.ino());
        if self.older.is_empty() && current == self.inode {
            return Ok(false);
        }
        if self.older.is_empty() && current == 0 {
            return Ok(false);
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

/// Where the last `lines` lines begin, and how many there are.
fn tail_offset(file: &mut rt::fs::File, lines: u64) -> stdx::Result<(u64, u64)> {
    let fail = |error: std::io::Error| stdx::Error::wrap("read a log", error);
    const STEP_BYTES: u64 = 8192;
    let end = file.seek(SeekFrom::End(0)).map_err(fail)?;
    if lines == 0 {
        return Ok((end, 0));
    }
    let (mut position, mut found) = (end, 0);
    let mut block = Vec::new();
    while position > 0 {
        let start = position.saturating_sub(STEP_BYTES);
        file.seek(SeekFrom::Start(start)).map_err(fail)?;
        block.clear();
        Read::by_ref(file).take(position - start).read_to_end(&mut block).map_err(fail)?;
        for (idx, byte) in block.iter().enumerate().rev() {
            let at = start + u64::try_from(idx).unwrap_or(0);
            // The newline at the very end closes the last line; it begins none.
            if *byte == b'\n' && at + 1 < end {
                found += 1;
                if found == lines {
                    return Ok((at + 1, found));
                }
            }
        }
        position = start;
    }
    Ok((0, if end > 0 { found + 1 } else { 0 }))
}

/// The end of a log as plain text, for termination messages. Blocking.
pub(crate) fn tail_text(path: &Path, lines: usize, max_bytes: usize) -> String {
    let lines = u64::try_from(lines).unwrap_or(u64::MAX);
    let Ok(mut cursor) = Cursor::open(path, Some(lines), None) else { return String::new() };
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
        let mut cursor = Cursor::open(path, options.tail_lines, since).unwrap();
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
        let mut cursor = Cursor::open(&path, Some(0), None).unwrap();
        assert!(cursor.batch(false).unwrap().is_empty());
        rt::fs::rename(&path, dir.path().join("0.log.20240101-000001")).unwrap();
        rt::fs::write(&path, line(4).as_bytes(), 0o640).unwrap();
        assert_eq!(cursor.batch(false).unwrap(), b"4\n");
    }
}
