//! zip archives of one file each, as snapshots of an etcd are compressed: written as a stream, read by the directory at
//! their end. Below 4 GiB, and stored or deflated: nobody writes others of them.

use std::fmt;
use std::io::{self, Read, Seek, SeekFrom};

use miniz_oxide::deflate::core::{
    CompressorOxide, TDEFLFlush, compress_to_output, create_comp_flags_from_zip_params,
};
use miniz_oxide::inflate::stream::{InflateState, inflate};
use miniz_oxide::{DataFormat, MZFlush, MZStatus};

use crate::gzip_encode::crc32;

/// The window bits of raw deflate, as zlib's API says it.
const RAW_DEFLATE: i32 = -15;
/// Snapshots are large and compressed by themselves: twice as fast as zlib's own level.
const LEVEL: i32 = 3;

const LOCAL: u32 = 0x0403_4b50;
const DESCRIPTOR: u32 = 0x0807_4b50;
const CENTRAL: u32 = 0x0201_4b50;
const END: u32 = 0x0605_4b50;
/// The end record without its comment, and the longest comment.
const END_BYTES: u64 = 22;
const COMMENT_MAX_BYTES: u64 = 0xffff;
const CENTRAL_BYTES: usize = 46;
const LOCAL_BYTES: usize = 30;
/// The length and checksum follow the data; names are UTF-8.
const FLAGS: u16 = 1 << 3 | 1 << 11;
const DEFLATED: u16 = 8;
const STORED: u16 = 0;
const BUFFER_BYTES: usize = 64 << 10;

/// An archive being written.
pub struct Writer {
    compressor: Box<CompressorOxide>,
    name: Vec<u8>,
    started: bool,
    crc: u32,
    n_plain: u64,
    n_packed: u64,
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "zip::Writer({} bytes)", self.n_plain)
    }
}

impl Writer {
    /// An archive of a file with this name, of at most 64 KiB - 1.
    pub fn new(name: &str) -> Writer {
        let flags = create_comp_flags_from_zip_params(LEVEL, RAW_DEFLATE, 0);
        let name = name.as_bytes()[..name.len().min(usize::from(u16::MAX))].to_vec();
        Writer {
            compressor: Box::new(CompressorOxide::new(flags)),
            name,
            started: false,
            crc: !0,
            n_plain: 0,
            n_packed: 0,
        }
    }

    /// Takes bytes of the file; what is ready of the archive is appended to `out`, all of it with `last`.
    ///
    /// # Errors
    /// If the file has 4 GiB or more.
    pub fn push(&mut self, bytes: &[u8], last: bool, out: &mut Vec<u8>) -> io::Result<()> {
        if !self.started {
            self.started = true;
            put32(out, LOCAL);
            self.put_about(out, (0, 0, 0), false);
            out.extend_from_slice(&self.name);
        }
        self.crc = crc32(self.crc, bytes);
        self.n_plain += bytes.len() as u64;
        let before = out.len();
        let flush = if last { TDEFLFlush::Finish } else { TDEFLFlush::None };
        compress_to_output(&mut self.compressor, bytes, flush, |packed| {
            out.extend_from_slice(packed);
            true
        });
        self.n_packed += (out.len() - before) as u64;
        let offset = LOCAL_BYTES as u64 + self.name.len() as u64 + self.n_packed + 16;
        let too_large = |_| io::Error::other("a zip archive holds less than 4 GiB");
        let plain = u32::try_from(self.n_plain).map_err(too_large)?;
        let offset = u32::try_from(offset).map_err(too_large)?;
        if last {
            let about = (!self.crc, self.n_packed as u32, plain);
            for part in [DESCRIPTOR, about.0, about.1, about.2, CENTRAL] {
                put32(out, part);
            }
            put16(out, 20);
            self.put_about(out, about, true);
            out.extend_from_slice(&self.name);
            put32(out, END);
            for part in [0, 0, 1, 1] {
                put16(out, part);
            }
            put32(out, (CENTRAL_BYTES + self.name.len()) as u32);
            put32(out, offset);
            put16(out, 0);
        }
        Ok(())
    }

    /// What both headers have in common, and what only the central one has.
    fn put_about(&self, out: &mut Vec<u8>, (crc, packed, plain): (u32, u32, u32), central: bool) {
        for part in [20, FLAGS, DEFLATED, 0, 0x21] {
            put16(out, part);
        }
        for part in [crc, packed, plain] {
            put32(out, part);
        }
        put16(out, self.name.len() as u16);
        put16(out, 0);
        if central {
            for part in [0, 0, 0] {
                put16(out, part);
            }
            put32(out, 0);
            put32(out, 0);
        }
    }
}

fn put16(out: &mut Vec<u8>, value: u16) {
    out.extend_from_slice(&value.to_le_bytes());
}

fn put32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_le_bytes());
}

/// The one file of an archive, being read. Its checksum is looked at where it ends.
pub struct Reader<R: Read> {
    source: io::BufReader<io::Take<R>>,
    inflating: Option<Box<InflateState>>,
    crc: u32,
    wanted_crc: u32,
    left: u64,
}

impl<R: Read> fmt::Debug for Reader<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "zip::Reader({} bytes)", self.left)
    }
}

fn damaged() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "it is no zip archive of one file")
}

impl<R: Read + Seek> Reader<R> {
    /// # Errors
    /// If it is no archive of one file, or one of a form that is not read here.
    pub fn open(mut reader: R) -> io::Result<Reader<R>> {
        let length = reader.seek(SeekFrom::End(0))?;
        let tail = length.min(END_BYTES + COMMENT_MAX_BYTES);
        reader.seek(SeekFrom::Start(length - tail))?;
        let mut end = Vec::new();
        reader.by_ref().take(tail).read_to_end(&mut end)?;
        let signature = END.to_le_bytes();
        let at = end.windows(END_BYTES as usize).rposition(|part| part.starts_with(&signature));
        let end = &end[at.ok_or_else(damaged)?..];
        let (files, offset) = (u16_at(end, 10), u64::from(u32_at(end, 16)));
        let mut central = [0; CENTRAL_BYTES];
        reader.seek(SeekFrom::Start(offset))?;
        reader.read_exact(&mut central)?;
        if files != 1 || u32_at(&central, 0) != CENTRAL {
            return Err(damaged());
        }
        let (flags, method) = (u16_at(&central, 8), u16_at(&central, 10));
        let (packed, plain) = (u32_at(&central, 20), u32_at(&central, 24));
        let is_64 = [packed, plain, u32_at(&central, 42)].contains(&u32::MAX);
        if flags & 1 != 0 || is_64 || ![STORED, DEFLATED].contains(&method) {
            let why = "the zip archive is encrypted, has 4 GiB, or is not deflated";
            return Err(io::Error::new(io::ErrorKind::Unsupported, why));
        }
        let start = u64::from(u32_at(&central, 42));
        let mut local = [0; LOCAL_BYTES];
        reader.seek(SeekFrom::Start(start))?;
        reader.read_exact(&mut local)?;
        if u32_at(&local, 0) != LOCAL {
            return Err(damaged());
        }
        let names = u64::from(u16_at(&local, 26)) + u64::from(u16_at(&local, 28));
        reader.seek(SeekFrom::Start(start + LOCAL_BYTES as u64 + names))?;
        Ok(Reader {
            source: io::BufReader::with_capacity(BUFFER_BYTES, reader.take(u64::from(packed))),
            inflating: (method == DEFLATED).then(|| InflateState::new_boxed(DataFormat::Raw)),
            crc: !0,
            wanted_crc: u32_at(&central, 16),
            left: u64::from(plain),
        })
    }

    /// How many bytes the file still has.
    pub fn left(&self) -> u64 {
        self.left
    }
}

impl<R: Read> Reader<R> {
    fn some(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        use io::BufRead;
        let Some(state) = &mut self.inflating else { return self.source.read(buf) };
        loop {
            let input = self.source.fill_buf()?;
            let at_end = input.is_empty();
            let result = inflate(state, input, buf, MZFlush::None);
            self.source.consume(result.bytes_consumed);
            let is_over = matches!(result.status, Ok(MZStatus::StreamEnd));
            if result.bytes_written > 0 || is_over {
                return Ok(result.bytes_written);
            }
            let goes_on = matches!(result.status, Ok(_) | Err(miniz_oxide::MZError::Buf));
            if !goes_on || at_end {
                return Err(damaged());
            }
        }
    }
}

impl<R: Read> Read for Reader<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let wanted = usize::try_from(self.left).unwrap_or(usize::MAX).min(buf.len());
        if wanted == 0 {
            return match self.left == 0 && self.crc != !self.wanted_crc {
                true => Err(damaged()),
                false => Ok(0),
            };
        }
        let n = self.some(&mut buf[..wanted])?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.crc = crc32(self.crc, &buf[..n]);
        self.left -= n as u64;
        Ok(n)
    }
}

/// Within the fixed part of a record, whose length was looked at.
fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    fn packed(plain: &[u8]) -> Vec<u8> {
        let (mut writer, mut out) = (Writer::new("a-snapshot"), Vec::new());
        for part in plain.chunks(10_000) {
            writer.push(part, false, &mut out).unwrap();
        }
        writer.push(&[], true, &mut out).unwrap();
        out
    }

    fn unpacked(archive: &[u8]) -> io::Result<Vec<u8>> {
        let mut found = Vec::new();
        Reader::open(Cursor::new(archive))?.read_to_end(&mut found).map(|_| found)
    }

    #[test]
    fn what_was_packed_is_unpacked() {
        let mut random = 1u64;
        let mut plain = vec![7; 100_000];
        plain.extend((0..100_000).map(|_| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (random >> 56) as u8
        }));
        let archive = packed(&plain);
        assert!(archive.len() < 110_000, "{}", archive.len());
        assert_eq!(unpacked(&archive).unwrap(), plain);
        assert_eq!(unpacked(&packed(b"")).unwrap(), b"");
        // A comment may follow.
        let mut commented = archive.clone();
        let at = commented.len() - 2;
        commented[at] = 3;
        commented.extend_from_slice(b"abc");
        assert_eq!(unpacked(&commented).unwrap(), plain);
    }

    /// `printf hello > a; zip -0 -X x.zip a` of Info-ZIP 3.0.
    #[test]
    fn what_others_store() {
        let archive = b"PK\x03\x04\x0a\0\0\0\0\0\x21\0\x21\0\x86\xa6\x10\x36\x05\0\0\0\x05\0\0\0\x01\0\0\0ahello\
            PK\x01\x02\x1e\x03\x0a\0\0\0\0\0\x21\0\x21\0\x86\xa6\x10\x36\x05\0\0\0\x05\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\xa4\x81\0\0\0\0a\
            PK\x05\x06\0\0\0\0\x01\0\x01\0\x2f\0\0\0\x24\0\0\0\0\0";
        assert_eq!(unpacked(archive).unwrap(), b"hello");
    }

    #[test]
    fn what_is_damaged_is_an_error() {
        let plain = vec![b'x'; 5000];
        let archive = packed(&plain);
        for n in 0..archive.len() {
            assert!(unpacked(&archive[..n]).is_err(), "{n}");
        }
        for at in 0..archive.len() {
            let mut changed = archive.clone();
            changed[at] ^= 0x10;
            // Names, times and the like mean nothing here.
            if let Ok(found) = unpacked(&changed) {
                assert_eq!(found, plain, "{at}");
            }
        }
    }
}
