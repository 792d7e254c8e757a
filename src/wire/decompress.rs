//! Gzip, zstd and plain streams told apart by their first bytes; other compressions refused by name.

use std::fmt;
use std::io::{self, BufRead, BufReader, Chain, Cursor, Read};

use miniz_oxide::inflate::stream::{InflateState, inflate};
use miniz_oxide::{DataFormat, MZFlush, MZStatus};
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

/// Memory that a zstd frame may ask for.
const ZSTD_WINDOW_MAX_BYTES: u64 = 64 << 20;
const BUFFER_BYTES: usize = 64 << 10;

type Source<R> = BufReader<Chain<Cursor<Vec<u8>>, R>>;

/// Reads the decompressed stream, to the end of the last member or frame.
pub struct Decompressor<R: Read>(Inner<R>);

enum Inner<R: Read> {
    Plain(Source<R>),
    Gzip(Box<Gzip<R>>),
    Zstd(Zstd<R>),
}

impl<R: Read> fmt::Debug for Decompressor<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.0 {
            Inner::Plain(_) => "Decompressor(plain)",
            Inner::Gzip(_) => "Decompressor(gzip)",
            Inner::Zstd(_) => "Decompressor(zstd)",
        })
    }
}

impl<R: Read> Decompressor<R> {
    /// Looks at the first bytes to learn the format.
    ///
    /// # Errors
    /// If they cannot be read, or tell of a compression that is not supported.
    pub fn new(mut reader: R) -> io::Result<Decompressor<R>> {
        let mut head = Vec::new();
        reader.by_ref().take(6).read_to_end(&mut head)?;
        let unsupported = match head.as_slice() {
            [0x04, 0x22, 0x4d, 0x18, ..] | [0x02, 0x21, 0x4c, 0x18, ..] => Some("lz4"),
            [0xfd, b'7', b'z', b'X', b'Z', ..] => Some("xz"),
            [b'B', b'Z', b'h', ..] => Some("bzip2"),
            _ => None,
        };
        if let Some(name) = unsupported {
            let text = format!("{name} compression is not supported (gzip, zstd and none are)");
            return Err(io::Error::new(io::ErrorKind::Unsupported, text));
        }
        let is_gzip = head.starts_with(&[0x1f, 0x8b]);
        // A frame, or a frame to be skipped.
        let is_zstd = head.starts_with(&[0x28, 0xb5, 0x2f, 0xfd])
            || matches!(head.as_slice(), [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..]);
        let source = BufReader::with_capacity(BUFFER_BYTES, Cursor::new(head).chain(reader));
        Ok(Decompressor(if is_gzip {
            Inner::Gzip(Box::new(Gzip { source, state: None, members: 0 }))
        } else if is_zstd {
            Inner::Zstd(Zstd::Between(source))
        } else {
            Inner::Plain(source)
        }))
    }
}

impl<R: Read> Decompressor<R> {
    /// Gives the reader back, after the end of the stream; `None` after an error.
    ///
    /// What was read ahead of the compressed stream's end is dropped: the caller, who hashes what its
    /// reader hands out, has it already.
    pub fn into_inner(self) -> Option<R> {
        let source = match self.0 {
            Inner::Plain(source) => source,
            Inner::Gzip(gzip) => gzip.source,
            Inner::Zstd(Zstd::Between(source)) => source,
            Inner::Zstd(Zstd::Frame(frame)) => frame.source,
            Inner::Zstd(Zstd::Broken) => return None,
        };
        Some(source.into_inner().into_inner().1)
    }
}

impl<R: Read> Read for Decompressor<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        match &mut self.0 {
            Inner::Plain(source) => source.read(buf),
            Inner::Gzip(gzip) => gzip.read(buf),
            Inner::Zstd(zstd) => zstd.read(buf),
        }
    }
}

struct Gzip<R: Read> {
    source: Source<R>,
    /// Of the member that is being read.
    state: Option<Box<InflateState>>,
    members: u64,
}

impl<R: Read> Gzip<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            let state = match &mut self.state {
                Some(state) => state,
                None => {
                    let next = self.source.fill_buf()?;
                    // Zeros after the last member are padding, as gzip has it.
                    if next.is_empty() || (self.members > 0 && next[0] == 0) {
                        io::copy(&mut self.source, &mut io::sink())?;
                        return Ok(0);
                    }
                    read_gzip_header(&mut self.source)?;
                    self.members += 1;
                    self.state.insert(InflateState::new_boxed(DataFormat::Raw))
                }
            };
            let input = self.source.fill_buf()?;
            let at_end = input.is_empty();
            let result = inflate(state, input, buf, MZFlush::None);
            self.source.consume(result.bytes_consumed);
            match result.status {
                Ok(MZStatus::StreamEnd) => {
                    // Checksum and length: what is read here is covered by a SHA-256 digest anyway.
                    let mut trailer = [0; 8];
                    self.source.read_exact(&mut trailer)?;
                    self.state = None;
                }
                Ok(_) => {}
                Err(_) if result.bytes_written > 0 => {}
                Err(miniz_oxide::MZError::Buf) if !at_end => {}
                Err(miniz_oxide::MZError::Buf) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Err(error) => {
                    let text = format!("the gzip stream is damaged ({error:?})");
                    return Err(io::Error::new(io::ErrorKind::InvalidData, text));
                }
            }
            if result.bytes_written > 0 {
                return Ok(result.bytes_written);
            }
            if at_end && self.state.is_some() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

fn read_gzip_header(source: &mut impl BufRead) -> io::Result<()> {
    let mut head = [0; 10];
    source.read_exact(&mut head)?;
    if head[..3] != [0x1f, 0x8b, 8] {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "not a gzip member"));
    }
    let flags = head[3];
    const HAS_CHECKSUM: u8 = 2;
    const HAS_EXTRA: u8 = 4;
    const HAS_NAME: u8 = 8;
    const HAS_COMMENT: u8 = 16;
    if flags & HAS_EXTRA != 0 {
        let mut length = [0; 2];
        source.read_exact(&mut length)?;
        skip(source, u64::from(u16::from_le_bytes(length)))?;
    }
    for flag in [HAS_NAME, HAS_COMMENT] {
        if flags & flag != 0 {
            const TEXT_MAX_BYTES: u64 = 64 << 10;
            let mut text = Vec::new();
            source.take(TEXT_MAX_BYTES).read_until(0, &mut text)?;
        }
    }
    if flags & HAS_CHECKSUM != 0 {
        skip(source, 2)?;
    }
    Ok(())
}

fn skip(source: &mut impl Read, n_bytes: u64) -> io::Result<()> {
    match io::copy(&mut source.take(n_bytes), &mut io::sink())? == n_bytes {
        true => Ok(()),
        false => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

enum Zstd<R: Read> {
    Between(Source<R>),
    Frame(Box<Frame<R>>),
    /// Only while moving from one state to the next, or after an error.
    Broken,
}

struct Frame<R: Read> {
    decoder: FrameDecoder,
    source: Source<R>,
}

impl<R: Read> Frame<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.decoder.can_collect() == 0 && !self.decoder.is_finished() {
            self.decoder
                .decode_blocks(&mut self.source, BlockDecodingStrategy::UptoBlocks(1))
                .map_err(io::Error::other)?;
        }
        self.decoder.read(buf)
    }
}

impl<R: Read> Zstd<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            match std::mem::replace(self, Zstd::Broken) {
                Zstd::Between(mut source) => {
                    if source.fill_buf()?.is_empty() {
                        *self = Zstd::Between(source);
                        return Ok(0);
                    }
                    let mut decoder = FrameDecoder::new();
                    decoder.set_max_window_size(ZSTD_WINDOW_MAX_BYTES);
                    match decoder.init(&mut source) {
                        Ok(()) => {
                            *self = Zstd::Frame(Box::new(Frame { decoder, source }));
                        }
                        Err(FrameDecoderError::ReadFrameHeaderError(
                            ReadFrameHeaderError::SkipFrame { length, .. },
                        )) => {
                            skip(&mut source, u64::from(length))?;
                            *self = Zstd::Between(source);
                        }
                        Err(error) => {
                            let text = format!("the zstd stream is damaged: {error}");
                            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
                        }
                    }
                }
                Zstd::Frame(mut frame) => {
                    let n = frame.read(buf)?;
                    if n > 0 {
                        *self = Zstd::Frame(frame);
                        return Ok(n);
                    }
                    *self = Zstd::Between(frame.source);
                }
                Zstd::Broken => return Err(io::Error::other("the zstd stream has failed before")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &[u8]) -> Result<Vec<u8>, String> {
        let mut out = Vec::new();
        let mut decoder = Decompressor::new(bytes).map_err(|error| error.to_string())?;
        decoder.read_to_end(&mut out).map_err(|error| error.to_string())?;
        Ok(out)
    }

    fn gzip(content: &[u8]) -> Vec<u8> {
        let mut out = vec![0x1f, 0x8b, 8, 8, 0, 0, 0, 0, 0, 3, b'n', 0];
        out.extend(miniz_oxide::deflate::compress_to_vec(content, 6));
        out.extend([0; 4]);
        out.extend(u32::try_from(content.len()).unwrap().to_le_bytes());
        out
    }

    #[test]
    fn formats() {
        assert_eq!(check(b"plain").unwrap(), b"plain");
        assert_eq!(check(b"").unwrap(), b"");
        let long: Vec<u8> = (0..300_000u32).flat_map(|n| n.to_le_bytes()).collect();
        assert_eq!(check(&gzip(&long)).unwrap(), long);
        let two = [gzip(b"one"), gzip(b"two")].concat();
        assert_eq!(check(&two).unwrap(), b"onetwo");
        assert!(check(&gzip(&long)[..1000]).is_err());
        let zstd = ruzstd::encoding::compress_to_vec(
            long.as_slice(),
            ruzstd::encoding::CompressionLevel::Fastest,
        );
        assert_eq!(check(&zstd).unwrap(), long);
        let skipped =
            [vec![0x50, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 9, 9], zstd.clone(), zstd.clone()].concat();
        assert_eq!(check(&skipped).unwrap().len(), 2 * long.len());
        assert!(check(&zstd[..zstd.len() / 2]).is_err());
        assert!(check(&[0x04, 0x22, 0x4d, 0x18, 0, 0]).unwrap_err().starts_with("lz4"));
        assert!(check(b"\xfd7zXZ\0").unwrap_err().starts_with("xz"));
    }

    #[test]
    fn damaged_streams_are_errors_not_panics() {
        let mut prng = stdx::prng::Prng::new(5);
        let content = vec![b'x'; 5000];
        let zstd = ruzstd::encoding::compress_to_vec(
            content.as_slice(),
            ruzstd::encoding::CompressionLevel::Fastest,
        );
        for good in [gzip(&content), zstd] {
            for _ in 0..500 {
                let mut damaged = good.clone();
                let at = usize::try_from(prng.below(damaged.len() as u64 - 4)).unwrap() + 4;
                damaged[at] ^= prng.next_u64().to_le_bytes()[0];
                let _ = check(&damaged);
            }
        }
    }
}
