//! Tar archives as a stream: ustar, PAX, GNU long names and large numbers.
//!
//! The archive may be hostile: every length is bounded, and names are given as they are (the caller
//! decides where they may lead). Decoding never panics.

use std::io::{self, Read};

use stdx::{Context, Error, Result};

const BLOCK_BYTES: usize = 512;
/// Longest PAX header or GNU long name.
const EXTENSION_MAX_BYTES: u64 = 1 << 20;
/// Extended headers before one entry: each kind once is what programs write.
const EXTENSIONS_MAX: usize = 16;
/// Names and values of one entry's extended attributes, global ones included.
const XATTRS_MAX_BYTES: usize = 1 << 20;
const XATTRS_MAX: usize = 256;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    File,
    HardLink,
    SymbolicLink,
    CharacterDevice,
    BlockDevice,
    Directory,
    Fifo,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub path: Vec<u8>,
    pub kind: Kind,
    /// Target of a link.
    pub link: Vec<u8>,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub size: u64,
    pub mtime_secs: i64,
    pub mtime_nanos: u32,
    pub major: u32,
    pub minor: u32,
    pub xattrs: Vec<(String, Vec<u8>)>,
}

/// Reads entries in order; between `next_entry` calls it reads as the current entry's content.
#[derive(Debug)]
pub struct Archive<R> {
    reader: R,
    content_left: u64,
    padding_left: u64,
    global: Extension,
}

/// What PAX records and GNU long names say about the next entry.
#[derive(Clone, Debug, Default)]
struct Extension {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    mtime: Option<(i64, u32)>,
    xattrs: Vec<(String, Vec<u8>)>,
}

impl<R: Read> Archive<R> {
    pub fn new(reader: R) -> Archive<R> {
        Archive { reader, content_left: 0, padding_left: 0, global: Extension::default() }
    }

    /// Gives the reader back, to read what follows the archive.
    pub fn into_inner(self) -> R {
        self.reader
    }

    /// The next entry, `None` at the end. What was not read of the last one is skipped.
    pub fn next_entry(&mut self) -> Result<Option<Entry>> {
        self.skip_content().context(|| "skip an entry's content")?;
        let mut extension = self.global.clone();
        let mut n_extensions = 0;
        loop {
            n_extensions += 1;
            if n_extensions > EXTENSIONS_MAX {
                return Err(Error::new(format!(
                    "more than {EXTENSIONS_MAX} extended headers for one entry"
                )));
            }
            let Some(block) = self.read_header()? else { return Ok(None) };
            let size = number(&block[124..136]).context(|| "an entry's size is not a number")?;
            let type_flag = block[156];
            match type_flag {
                b'x' | b'g' => {
                    let text = self.read_extension(size)?;
                    let into = if type_flag == b'g' { &mut self.global } else { &mut extension };
                    parse_pax(&text, into)?;
                    if type_flag == b'g' {
                        extension = self.global.clone();
                    }
                }
                b'L' | b'K' => {
                    let mut text = self.read_extension(size)?;
                    let end = text.iter().position(|byte| *byte == 0).unwrap_or(text.len());
                    text.truncate(end);
                    let field =
                        if type_flag == b'L' { &mut extension.path } else { &mut extension.link };
                    *field = Some(text);
                }
                _ => return self.finish_entry(&block, size, extension).map(Some),
            }
        }
    }

    fn finish_entry(
        &mut self,
        block: &[u8; BLOCK_BYTES],
        size: u64,
        extension: Extension,
    ) -> Result<Entry> {
        let path = extension.path.unwrap_or_else(|| header_path(block));
        let shown = || String::from_utf8_lossy(&path).into_owned();
        let kind = match block[156] {
            // Before POSIX, a trailing slash was what made a directory.
            0 if path.ends_with(b"/") => Kind::Directory,
            0 | b'0' | b'7' => Kind::File,
            b'1' => Kind::HardLink,
            b'2' => Kind::SymbolicLink,
            b'3' => Kind::CharacterDevice,
            b'4' => Kind::BlockDevice,
            b'5' => Kind::Directory,
            b'6' => Kind::Fifo,
            b'S' => {
                return Err(Error::new(format!(
                    "entry {:?} is a GNU sparse file, which is not supported",
                    shown()
                )));
            }
            other => {
                return Err(Error::new(format!(
                    "entry {:?} has unknown type {:?}",
                    shown(),
                    char::from(other)
                )));
            }
        };
        let field = |at: std::ops::Range<usize>, name: &str| {
            number(&block[at])
                .context(|| format!("entry {:?}: its {name} is not a number", shown()))
        };
        let narrow = |value: u64, name: &str| {
            u32::try_from(value)
                .ok()
                .context(|| format!("entry {:?}: its {name} {value} is too large", shown()))
        };
        let size = extension.size.unwrap_or(size);
        let uid = extension.uid.map_or_else(|| field(108..116, "owner"), Ok)?;
        let gid = extension.gid.map_or_else(|| field(116..124, "group"), Ok)?;
        let (mtime_secs, mtime_nanos) = match extension.mtime {
            Some(mtime) => mtime,
            // A wrong time is not worth refusing an image for.
            None => {
                (number(&block[136..148]).and_then(|secs| i64::try_from(secs).ok()).unwrap_or(0), 0)
            }
        };
        // Only files have content; a size on anything else is a leftover of the program that wrote it.
        let size = if kind == Kind::File { size } else { 0 };
        if size > i64::MAX.cast_unsigned() - 1024 {
            return Err(Error::new(format!("entry {:?}: its size {size} is too large", shown())));
        }
        let entry = Entry {
            kind,
            link: extension.link.unwrap_or_else(|| text(&block[157..257]).to_vec()),
            mode: narrow(field(100..108, "mode")? & 0o7777, "mode")?,
            uid: narrow(uid, "owner")?,
            gid: narrow(gid, "group")?,
            size,
            mtime_secs,
            mtime_nanos,
            major: number(&block[329..337])
                .and_then(|value| u32::try_from(value).ok())
                .unwrap_or(0),
            minor: number(&block[337..345])
                .and_then(|value| u32::try_from(value).ok())
                .unwrap_or(0),
            xattrs: extension.xattrs,
            path: Vec::new(),
        };
        self.content_left = size;
        self.padding_left = padding(size);
        Ok(Entry { path, ..entry })
    }

    /// The next header block, checked; `None` at the end-of-archive mark or the end of the data.
    fn read_header(&mut self) -> Result<Option<[u8; BLOCK_BYTES]>> {
        let mut block = [0; BLOCK_BYTES];
        let mut n_read = 0;
        while n_read < BLOCK_BYTES {
            match self.reader.read(&mut block[n_read..]) {
                Ok(0) if n_read == 0 => return Ok(None),
                Ok(0) => return Err(Error::new("the archive ends inside a header")),
                Ok(n) => n_read += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context(|| "read a header"),
            }
        }
        if block.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let stored = number(&block[148..156]);
        let byte_sum = |byte_value: fn(u8) -> i64| -> i64 {
            let in_checksum = |idx: usize| (148..156).contains(&idx);
            block
                .iter()
                .enumerate()
                .map(|(idx, byte)| byte_value(if in_checksum(idx) { b' ' } else { *byte }))
                .sum()
        };
        let unsigned = byte_sum(i64::from);
        // Some old programs summed signed bytes.
        let signed = byte_sum(|byte| i64::from(byte.cast_signed()));
        let stored = stored.and_then(|sum| i64::try_from(sum).ok());
        if stored != Some(unsigned) && stored != Some(signed) {
            return Err(Error::new("a header has a wrong checksum: not a tar archive, or damaged"));
        }
        Ok(Some(block))
    }

    fn read_extension(&mut self, size: u64) -> Result<Vec<u8>> {
        if size > EXTENSION_MAX_BYTES {
            return Err(Error::new(format!(
                "an extended header has {size} bytes, allowed are {EXTENSION_MAX_BYTES}"
            )));
        }
        self.content_left = size;
        self.padding_left = padding(size);
        let mut text = Vec::new();
        self.read_to_end(&mut text).context(|| "read an extended header")?;
        self.skip_content().context(|| "read an extended header")?;
        Ok(text)
    }

    fn skip_content(&mut self) -> io::Result<()> {
        let mut left = self.content_left + self.padding_left;
        (self.content_left, self.padding_left) = (0, 0);
        let mut buf = [0; 8192];
        while left > 0 {
            let n = usize::try_from(left).unwrap_or(usize::MAX).min(buf.len());
            match self.reader.read(&mut buf[..n]) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => left -= n as u64,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl<R: Read> Read for Archive<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n_max = usize::try_from(self.content_left).unwrap_or(usize::MAX).min(buf.len());
        if n_max == 0 {
            return Ok(0);
        }
        let n = self.reader.read(&mut buf[..n_max])?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.content_left -= n as u64;
        Ok(n)
    }
}

fn padding(size: u64) -> u64 {
    let block = BLOCK_BYTES as u64;
    (block - size % block) % block
}

/// A field up to its first zero.
fn text(field: &[u8]) -> &[u8] {
    &field[..field.iter().position(|byte| *byte == 0).unwrap_or(field.len())]
}

fn header_path(block: &[u8; BLOCK_BYTES]) -> Vec<u8> {
    let name = text(&block[0..100]);
    let prefix = text(&block[345..500]);
    // GNU's old format has other fields in the prefix's place.
    if &block[257..263] == b"ustar\0" && !prefix.is_empty() {
        [prefix, b"/", name].concat()
    } else {
        name.to_vec()
    }
}

/// Octal, or GNU's base 256 for large numbers.
fn number(field: &[u8]) -> Option<u64> {
    if field.first()? & 0x80 != 0 {
        let mut value = u64::from(field[0] & 0x7f);
        for byte in &field[1..] {
            value = value.checked_mul(256)?.checked_add(u64::from(*byte))?;
        }
        return Some(value);
    }
    let digits = field.iter().copied().skip_while(|byte| *byte == b' ');
    let mut value = 0u64;
    for byte in digits {
        match byte {
            b'0'..=b'7' => value = value.checked_mul(8)?.checked_add(u64::from(byte - b'0'))?,
            b' ' | 0 => break,
            _ => return None,
        }
    }
    Some(value)
}

/// Records are `length key=value\n`, where the length counts all of it.
fn parse_pax(mut rest: &[u8], into: &mut Extension) -> Result<()> {
    let bad = || "a PAX header is malformed";
    while !rest.is_empty() && rest[0] != 0 {
        let space = rest.iter().position(|byte| *byte == b' ').context(bad)?;
        let length: usize = std::str::from_utf8(&rest[..space])
            .ok()
            .and_then(|text| text.parse().ok())
            .context(bad)?;
        let record = rest.get(space + 1..length).context(bad)?;
        let record = record.strip_suffix(b"\n").context(bad)?;
        rest = &rest[length..];
        let equals = record.iter().position(|byte| *byte == b'=').context(bad)?;
        let (key, value) = (&record[..equals], &record[equals + 1..]);
        let number = || {
            std::str::from_utf8(value).ok().and_then(|text| text.parse::<u64>().ok()).context(bad)
        };
        match key {
            b"path" => into.path = Some(value.to_vec()),
            b"linkpath" => into.link = Some(value.to_vec()),
            b"size" => into.size = Some(number()?),
            b"uid" => into.uid = Some(number()?),
            b"gid" => into.gid = Some(number()?),
            b"mtime" => into.mtime = parse_time(value),
            _ if key.starts_with(b"GNU.sparse.") => {
                return Err(Error::new(
                    "the archive holds a GNU sparse file, which is not supported",
                ));
            }
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.")
                    && let Ok(name) = std::str::from_utf8(name)
                {
                    // A name that is said again counts anew, as every record does.
                    into.xattrs.retain(|(have, _)| have != name);
                    let held = |(name, value): &(String, Vec<u8>)| name.len() + value.len();
                    let total: usize = into.xattrs.iter().map(held).sum();
                    if into.xattrs.len() >= XATTRS_MAX
                        || total + name.len() + value.len() > XATTRS_MAX_BYTES
                    {
                        return Err(Error::new(format!(
                            "more than {XATTRS_MAX} extended attributes, or {XATTRS_MAX_BYTES} bytes of them"
                        )));
                    }
                    into.xattrs.push((name.to_owned(), value.to_vec()));
                }
            }
        }
    }
    Ok(())
}

/// Decimal seconds with a fraction; `None` if it is not that.
fn parse_time(value: &[u8]) -> Option<(i64, u32)> {
    let text = std::str::from_utf8(value).ok()?;
    let (secs, fraction) = text.split_once('.').unwrap_or((text, ""));
    let secs: i64 = secs.parse().ok()?;
    let mut nanos = 0;
    for place in 0..9 {
        let digit = fraction.as_bytes().get(place).copied().unwrap_or(b'0');
        nanos = nanos * 10 + u32::from(digit.is_ascii_digit().then(|| digit - b'0')?);
    }
    // A negative time with a fraction counts down from zero.
    if text.starts_with('-') && nanos > 0 {
        return Some((secs.checked_sub(1)?, 1_000_000_000 - nanos));
    }
    Some((secs, nanos))
}

/// Writes archives, for tests and exports: plain ustar headers with GNU long names.
#[derive(Debug, Default)]
pub struct Builder {
    pub bytes: Vec<u8>,
}

impl Builder {
    pub fn add(&mut self, entry: &Entry, content: &[u8]) {
        for (flag, long) in [(b'L', &entry.path), (b'K', &entry.link)] {
            if long.len() > 100 {
                self.header(
                    b"././@LongLink",
                    flag,
                    &Entry { size: long.len() as u64 + 1, ..Entry::file(b"", 0) },
                    b"",
                );
                self.bytes.extend_from_slice(long);
                self.bytes.push(0);
                self.pad();
            }
        }
        let mut pax = Vec::new();
        for (name, value) in &entry.xattrs {
            let rest = [b" SCHILY.xattr.", name.as_bytes(), b"=", value, b"\n"].concat();
            let mut length = rest.len();
            while length != rest.len() + length.to_string().len() {
                length = rest.len() + length.to_string().len();
            }
            pax.extend_from_slice(length.to_string().as_bytes());
            pax.extend_from_slice(&rest);
        }
        if !pax.is_empty() {
            self.header(
                b"pax",
                b'x',
                &Entry { size: pax.len() as u64, ..Entry::file(b"", 0) },
                b"",
            );
            self.bytes.extend_from_slice(&pax);
            self.pad();
        }
        let flag = match entry.kind {
            Kind::File => b'0',
            Kind::HardLink => b'1',
            Kind::SymbolicLink => b'2',
            Kind::CharacterDevice => b'3',
            Kind::BlockDevice => b'4',
            Kind::Directory => b'5',
            Kind::Fifo => b'6',
        };
        self.header(
            &entry.path,
            flag,
            &Entry { size: content.len() as u64, ..entry.clone() },
            &entry.link,
        );
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    /// The whole archive.
    pub fn finish(mut self) -> Vec<u8> {
        self.bytes.extend_from_slice(&[0; 2 * BLOCK_BYTES]);
        self.bytes
    }

    fn header(&mut self, path: &[u8], flag: u8, entry: &Entry, link: &[u8]) {
        let mut block = [0; BLOCK_BYTES];
        let n = path.len().min(100);
        block[..n].copy_from_slice(&path[..n]);
        let mut octal = |at: usize, width: usize, value: u64| {
            let text = format!("{value:0width$o}", width = width - 1);
            block[at..at + width - 1].copy_from_slice(&text.as_bytes()[text.len() - (width - 1)..]);
        };
        octal(100, 8, u64::from(entry.mode));
        octal(108, 8, u64::from(entry.uid));
        octal(116, 8, u64::from(entry.gid));
        octal(124, 12, entry.size);
        octal(136, 12, entry.mtime_secs.max(0).cast_unsigned());
        octal(329, 8, u64::from(entry.major));
        octal(337, 8, u64::from(entry.minor));
        block[156] = flag;
        let n = link.len().min(100);
        block[157..157 + n].copy_from_slice(&link[..n]);
        block[257..265].copy_from_slice(b"ustar\x0000");
        block[148..156].copy_from_slice(b"        ");
        let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.bytes.extend_from_slice(&block);
    }

    fn pad(&mut self) {
        let n = self.bytes.len().next_multiple_of(BLOCK_BYTES);
        self.bytes.resize(n, 0);
    }
}

impl Entry {
    /// A regular file of root's.
    pub fn file(path: &[u8], mode: u32) -> Entry {
        Entry {
            path: path.to_vec(),
            kind: Kind::File,
            link: Vec::new(),
            mode,
            uid: 0,
            gid: 0,
            size: 0,
            mtime_secs: 0,
            mtime_nanos: 0,
            major: 0,
            minor: 0,
            xattrs: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<u8> {
        let mut builder = Builder::default();
        builder.add(&Entry { kind: Kind::Directory, ..Entry::file(b"d/", 0o755) }, b"");
        let long = [b"d/".as_slice(), &[b'n'; 200]].concat();
        builder.add(&Entry { uid: 7, mtime_secs: 5, ..Entry::file(&long, 0o4711) }, b"content");
        builder.add(
            &Entry {
                xattrs: vec![("user.a".into(), b"b\nc".to_vec())],
                ..Entry::file(b"x", 0o600)
            },
            b"",
        );
        builder.add(
            &Entry { kind: Kind::SymbolicLink, link: b"/etc".to_vec(), ..Entry::file(b"l", 0o777) },
            b"",
        );
        builder.add(
            &Entry {
                kind: Kind::CharacterDevice,
                major: 1,
                minor: 3,
                ..Entry::file(b"null", 0o666)
            },
            b"",
        );
        builder.finish()
    }

    #[test]
    fn round_trip() {
        let bytes = sample();
        let mut archive = Archive::new(bytes.as_slice());
        let mut got = Vec::new();
        while let Some(entry) = archive.next_entry().unwrap() {
            let mut content = String::new();
            archive.read_to_string(&mut content).unwrap();
            let path = String::from_utf8_lossy(&entry.path).into_owned();
            got.push(format!(
                "{:?} {} {:o} {} {}",
                entry.kind,
                path.len(),
                entry.mode,
                entry.xattrs.len(),
                content
            ));
        }
        assert_eq!(
            got,
            [
                "Directory 2 755 0 ",
                "File 202 4711 0 content",
                "File 1 600 1 ",
                "SymbolicLink 1 777 0 ",
                "CharacterDevice 4 666 0 "
            ]
        );
    }

    #[test]
    fn numbers_and_times() {
        assert_eq!(number(b"0000644\0"), Some(0o644));
        assert_eq!(number(&[0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]), Some(256));
        assert_eq!(number(&[0xff; 12]), None);
        assert_eq!(number(b"12x"), None);
        assert_eq!(parse_time(b"12.5"), Some((12, 500_000_000)));
        assert_eq!(parse_time(b"-1.25"), Some((-2, 750_000_000)));
    }

    /// Whoever writes extended headers without end must not fill the memory.
    #[test]
    fn extended_headers_are_bounded() {
        let header = |n: usize| {
            let mut builder = Builder::default();
            let xattrs = (0..n).map(|idx| (format!("user.{idx}"), vec![b'x'; 100])).collect();
            builder.add(&Entry { xattrs, ..Entry::file(b"f", 0o644) }, b"");
            builder.bytes
        };
        let read = |bytes: Vec<u8>| Archive::new(bytes.as_slice()).next_entry().err();
        assert!(read(header(200)).is_none());
        let error = read(header(300)).unwrap().to_string();
        assert!(error.contains("more than 256 extended attributes"), "{error}");
        let one = header(1);
        // Without its last block, which is the entry itself.
        let extended = &one[..one.len() - BLOCK_BYTES];
        let error = read(extended.repeat(20)).unwrap().to_string();
        assert!(error.contains("more than 16 extended headers"), "{error}");
    }

    #[test]
    fn damaged_archives_are_errors_not_panics() {
        let bytes = sample();
        let mut prng = stdx::prng::Prng::new(3);
        for _ in 0..3000 {
            let mut damaged = bytes.clone();
            for _ in 0..4 {
                let at = usize::try_from(prng.below(damaged.len() as u64)).unwrap();
                damaged[at] = prng.next_u64().to_le_bytes()[0];
            }
            // A valid checksum lets the damage reach further in.
            for block in damaged.chunks_exact_mut(BLOCK_BYTES) {
                if prng.chance(50) && block[257..262] == *b"ustar" {
                    block[148..156].copy_from_slice(b"        ");
                    let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
                    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
                }
            }
            damaged.truncate(usize::try_from(prng.below(bytes.len() as u64 + 1)).unwrap());
            let mut archive = Archive::new(damaged.as_slice());
            while let Ok(Some(_)) = archive.next_entry() {}
        }
    }
}
