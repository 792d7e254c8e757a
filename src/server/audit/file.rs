//! The file that events go to: appended to, and put aside under a name with the time once it is large, as
//! lumberjack does it for kube-apiserver.

use std::cmp::Reverse;
use std::ffi::OsStr;
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt, fchown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rt::fs::File;
use stdx::time::Wall;
use stdx::{Arrange, Context, Error, Result};
use wire::gzip_encode::Encoder;

/// Where upstream's default puts files aside.
const DEFAULT_MAX_BYTES: u64 = 100 << 20;
const DAY: Duration = Duration::from_secs(24 * 3600);
/// What is read of a file at once while it is compressed.
const PIECE_BYTES: usize = 64 * 1024;
/// A half line is looked for so far from the end.
const LINE_MAX_BYTES: u64 = 16 << 20;
const COMPRESSED: &str = ".gz";

/// The log with its rules.
#[derive(Debug)]
pub(super) struct LogFile {
    rules: Rules,
    file: Option<File>,
    size_bytes: u64,
}

/// When it is put aside, and what becomes of what was.
#[derive(Debug, Clone, Default)]
pub(super) struct Rules {
    /// `-` is the standard output.
    pub(super) path: PathBuf,
    /// In MB; 0 is the default.
    pub(super) max_size: u64,
    /// How many files are kept, and how many days; 0 is for ever.
    pub(super) max_backups: usize,
    pub(super) max_age_days: u32,
    pub(super) compresses: bool,
}

impl LogFile {
    /// Makes the file with its directory, if they are missing.
    ///
    /// # Errors
    /// If it cannot be made or opened.
    pub(super) fn open(rules: Rules) -> Result<LogFile> {
        if !rules.is_stdout() {
            if let Some(dir) = rules.path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
                rt::fs::create_dir_all(dir, 0o700)?;
            }
            rt::fs::open_append(&rules.path)?;
        }
        Ok(LogFile { rules, file: None, size_bytes: 0 })
    }

    pub(super) fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Appends whole lines; whether there is now something to [`Rules::tidy`].
    ///
    /// # Errors
    /// The disk's, or if they are longer than a file may be.
    pub(super) fn write(&mut self, lines: &[u8]) -> Result<bool> {
        if self.rules.is_stdout() {
            std::io::stdout().write_all(lines).context(|| "write to the standard output")?;
            return Ok(false);
        }
        let (n_bytes, max) = (lines.len() as u64, self.rules.max_bytes());
        if n_bytes > max {
            return Err(Error::new(format!(
                "write length {n_bytes} exceeds maximum file size {max}"
            )));
        }
        let mut changed = false;
        if self.file.is_none() {
            let file = rt::fs::open_append(&self.rules.path)?;
            self.size_bytes = whole_lines(&file, &self.rules.path)?;
            self.file = Some(file);
            changed = true;
        }
        if self.size_bytes + n_bytes > max && self.size_bytes > 0 {
            self.put_aside()?;
            changed = true;
        }
        let path = &self.rules.path;
        if let Some(file) = &mut self.file {
            let written = file.write_all(lines);
            if written.is_err() {
                // A full disk took a part of it: no half line stays, if that can be helped.
                let _ = file.set_len(self.size_bytes);
            }
            written.context(|| format!("write {}", path.display()))?;
            self.size_bytes += n_bytes;
        }
        Ok(changed)
    }

    /// The next file has the mode and owner of this one, whatever an administrator made of them.
    fn put_aside(&mut self) -> Result<()> {
        let old = self.file.take().and_then(|file| file.metadata().ok());
        let path = &self.rules.path;
        let mut now = rt::now().wall;
        let mut aside = self.rules.aside(now);
        while aside.exists() {
            now = now + Duration::from_millis(1);
            aside = self.rules.aside(now);
        }
        // Somebody else may have moved it.
        if path.exists() {
            rt::fs::rename(path, aside)?;
        }
        let file = rt::fs::open_append(path)?;
        if let Some(old) = old {
            let kept = file.set_permissions(old.permissions());
            let kept = kept.and_then(|()| fchown(&file, Some(old.uid()), Some(old.gid())));
            kept.context(|| format!("give {} its mode and owner", path.display()))?;
        }
        (self.file, self.size_bytes) = (Some(file), 0);
        Ok(())
    }
}

/// The length of a log without a half line at its end, which is cut off: who was killed while it wrote left that, and the next
/// line would be a part of it. What has no lines is left alone.
fn whole_lines(file: &File, path: &Path) -> Result<u64> {
    let what = || format!("look for the last line of {}", path.display());
    let found = file.metadata().context(what)?;
    if !found.is_file() || found.len() == 0 {
        return Ok(0);
    }
    let (len, from) = (found.len(), rt::fs::open(path)?);
    let mut piece = vec![0; PIECE_BYTES];
    let mut at = len;
    while at > 0 && len - at < LINE_MAX_BYTES {
        let n_bytes = usize::try_from(at).unwrap_or(PIECE_BYTES).min(PIECE_BYTES);
        let start = at - n_bytes as u64;
        from.read_exact_at(&mut piece[..n_bytes], start).context(what)?;
        if let Some(idx) = piece[..n_bytes].iter().rposition(|byte| *byte == b'\n') {
            let whole = start + idx as u64 + 1;
            if whole < len {
                file.set_len(whole).context(what)?;
            }
            return Ok(whole);
        }
        at = start;
    }
    Ok(len)
}

impl Rules {
    fn is_stdout(&self) -> bool {
        self.path == Path::new("-")
    }

    fn max_bytes(&self) -> u64 {
        if self.max_size == 0 { DEFAULT_MAX_BYTES } else { self.max_size << 20 }
    }

    /// What stands before and after the time in the name of a file that was put aside.
    fn affixes(&self) -> (String, String) {
        let text = |part: Option<&OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
        let name = text(self.path.file_name());
        match name.rfind('.') {
            Some(dot) => (format!("{}-", &name[..dot]), name[dot..].to_owned()),
            None => (format!("{name}-"), String::new()),
        }
    }

    /// The name for a file that is put aside now.
    fn aside(&self, now: Wall) -> PathBuf {
        let (before, after) = self.affixes();
        let time = api::time::format_micro(now).replace(':', "-");
        self.path.with_file_name(format!("{before}{}{after}", &time[..STAMP_LENGTH]))
    }

    /// Compresses and removes what was put aside, as the rules say.
    ///
    /// # Errors
    /// The first that happens; what can be done is done all the same.
    pub(super) fn tidy(&self, now: Wall) -> Result<()> {
        if self.is_stdout() || self.max_backups == 0 && self.max_age_days == 0 && !self.compresses {
            return Ok(());
        }
        let (before, after) = self.affixes();
        let dir = self.path.parent().filter(|dir| !dir.as_os_str().is_empty());
        let mut found: Vec<(Wall, PathBuf)> = Vec::new();
        for path in rt::fs::list_dir(dir.unwrap_or(Path::new(".")))? {
            let name = path.file_name().and_then(OsStr::to_str).unwrap_or("");
            let rest = name.strip_suffix(COMPRESSED).unwrap_or(name);
            let stamp = rest.strip_prefix(&before).and_then(|rest| rest.strip_suffix(&after));
            found.extend(stamp.and_then(time_of).map(|time| (time, path.clone())));
        }
        found.arrange_by_key(|(time, _)| Reverse(*time));
        let oldest = match self.max_age_days {
            0 => Wall(i64::MIN),
            days => now - DAY * days,
        };
        let (mut kept, mut last, mut failed) = (0, Wall(i64::MIN), Ok(()));
        for (time, path) in found {
            // A file and the same one compressed are one.
            if time != last {
                (kept, last) = (kept + 1, time);
            }
            let is_plain = path.extension().is_none_or(|end| end != "gz");
            let done = match (self.max_backups > 0 && kept > self.max_backups) || time < oldest {
                true => rt::fs::remove_file(&path),
                false if self.compresses && is_plain => compress(&path),
                false => Ok(()),
            };
            failed = failed.and(done);
        }
        failed
    }
}

/// `2006-01-02T15-04-05.000`
const STAMP_LENGTH: usize = 23;

fn time_of(stamp: &str) -> Option<Wall> {
    if stamp.len() != STAMP_LENGTH || !stamp.is_ascii() {
        return None;
    }
    let (day, time) = stamp.split_at(11);
    api::time::parse(&format!("{day}{}Z", time.replace('-', ":")))
}

fn compress(path: &Path) -> Result<()> {
    let mut to = path.as_os_str().to_owned();
    to.push(COMPRESSED);
    // Of an attempt that was cut off.
    rt::fs::remove_file(&to)?;
    let what = || format!("compress {}", path.display());
    let copied = (|| {
        let mut from = rt::fs::open(path)?;
        let old = from.metadata().context(what)?;
        let mut file = rt::fs::open_append(&to)?;
        file.set_permissions(old.permissions()).context(what)?;
        fchown(&file, Some(old.uid()), Some(old.gid())).context(what)?;
        let (mut encoder, mut out, mut piece) = (Encoder::new(), Vec::new(), vec![0; PIECE_BYTES]);
        loop {
            let n_bytes = from.read(&mut piece).context(what)?;
            encoder.push(&piece[..n_bytes], n_bytes == 0, &mut out);
            file.write_all(&out).context(what)?;
            out.clear();
            if n_bytes == 0 {
                return Ok(());
            }
        }
    })();
    rt::fs::remove_file(if copied.is_ok() { path } else { Path::new(&to) })?;
    copied
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let all = rt::fs::list_dir(dir).unwrap();
        all.iter().map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect()
    }

    fn rules(name: &str) -> Rules {
        let dir = std::env::temp_dir().join(format!("k3rs-audit-{name}-{}", std::process::id()));
        rt::fs::remove_dir_all(&dir).unwrap();
        Rules { path: dir.join("deep/audit.log"), max_size: 1, ..Rules::default() }
    }

    #[test]
    fn a_large_file_is_put_aside_and_what_is_kept_is_bounded() {
        let rules = Rules { max_backups: 2, compresses: true, ..rules("rotation") };
        let dir = rules.path.parent().unwrap().to_owned();
        let mut log = LogFile::open(rules.clone()).unwrap();
        assert_eq!(rules.path.metadata().unwrap().mode() & 0o7777, 0o600);
        let line = [b"x".repeat(400_000), b"\n".to_vec()].concat();
        let changes: Vec<bool> = (0..9).map(|_| log.write(&line).unwrap()).collect();
        // Two lines a file.
        assert_eq!(changes, [true, false, true, false, true, false, true, false, true]);
        assert_eq!(names(&dir).len(), 5, "{:?}", names(&dir));
        assert_eq!(log.size_bytes, 400_001);
        let too_long = log.write(&b"x".repeat((1 << 20) + 1)).unwrap_err().to_string();
        assert_eq!(too_long, "write length 1048577 exceeds maximum file size 1048576");

        rt::fs::write(dir.join("audit-nonsense.log"), b"", 0o600).unwrap();
        rules.tidy(rt::now().wall).unwrap();
        let left = names(&dir);
        assert_eq!(left.len(), 4, "{left:?}");
        assert_eq!(left.iter().filter(|name| name.ends_with(".log.gz")).count(), 2, "{left:?}");
        let compressed = left.iter().find(|name| name.ends_with(".gz")).unwrap();
        let bytes = rt::fs::read(dir.join(compressed)).unwrap();
        assert!(bytes.starts_with(&[0x1f, 0x8b]) && bytes.len() < 10_000, "{}", bytes.len());
        // Once more changes nothing; days count, too.
        rules.tidy(rt::now().wall).unwrap();
        assert_eq!(names(&dir), left);
        let aged = Rules { max_age_days: 1, max_backups: 0, ..rules.clone() };
        aged.tidy(rt::now().wall + DAY * 2).unwrap();
        assert_eq!(names(&dir), ["audit-nonsense.log", "audit.log"]);
        rt::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_restart_goes_on_with_the_file_and_its_mode_is_an_administrators() {
        let rules = rules("again");
        LogFile::open(rules.clone()).unwrap().write(&b"a".repeat(600_000)).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o640);
        std::fs::set_permissions(&rules.path, mode).unwrap();
        let mut log = LogFile::open(rules.clone()).unwrap();
        log.write(&b"b".repeat(600_000)).unwrap();
        assert_eq!(names(rules.path.parent().unwrap()).len(), 2);
        let now = rules.path.metadata().unwrap();
        assert_eq!((now.mode() & 0o7777, now.len()), (0o640, 600_000));
        // Moved by somebody else.
        rt::fs::remove_file(&rules.path).unwrap();
        log.write(&b"c".repeat(600_000)).unwrap();
        assert_eq!(rules.path.metadata().unwrap().len(), 600_000);
        rt::fs::remove_dir_all(rules.path.parent().unwrap()).unwrap();
    }

    #[test]
    fn a_half_line_of_who_was_killed_goes_at_the_next_start() {
        for (number, (left, kept)) in [
            ("{1}\n{2", "{1}\n"),
            ("{1}\n{2}\n", "{1}\n{2}\n"),
            ("{1", "{1"),
            ("", ""),
            (&format!("{{1}}\n{}", "x".repeat(3 * PIECE_BYTES)), "{1}\n"),
        ]
        .into_iter()
        .enumerate()
        {
            let rules = rules(&format!("half-{number}"));
            std::fs::create_dir_all(rules.path.parent().unwrap()).unwrap();
            std::fs::write(&rules.path, left).unwrap();
            LogFile::open(rules.clone()).unwrap().write(b"{3}\n").unwrap();
            assert_eq!(std::fs::read_to_string(&rules.path).unwrap(), format!("{kept}{{3}}\n"));
            std::fs::remove_dir_all(rules.path.parent().unwrap()).unwrap();
        }
    }

    #[test]
    fn names_have_the_time() {
        let aside = |path: &str| {
            let rules = Rules { path: path.into(), ..Rules::default() };
            rules.aside(Wall(1_700_000_000_123_456_789)).display().to_string()
        };
        assert_eq!(aside("/a/audit.log"), "/a/audit-2023-11-14T22-13-20.123.log");
        assert_eq!(aside("/a/b.c.d"), "/a/b.c-2023-11-14T22-13-20.123.d");
        assert_eq!(aside("audit"), "audit-2023-11-14T22-13-20.123");
        assert_eq!(time_of("2023-11-14T22-13-20.123"), Some(Wall(1_700_000_000_123_000_000)));
        assert_eq!(time_of("2023-11-14T22-13-20.12x"), None);
    }
}
