//! Raw LZMA streams behind a branch filter, as `xz --format=raw` writes them: the embedded userspace.
//!
//! Such a stream has no header and no checksum: the reader must know how it was made, and check what
//! comes out against a digest.

use std::io::{self, Read};

use lzma_rust2::LzmaReader;
use lzma_rust2::filter::bcj::BcjReader;

/// How far back the stream refers, and so about what a reader holds: `dict=1MiB`.
const DICTIONARY_BYTES: u32 = 1 << 20;

/// Whose call targets were made absolute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filter {
    X86,
    Arm64,
    ArmThumb,
}

/// What the stream was made with: `--x86 --lzma1=lc=4,lp=0,pb=0`.
#[derive(Debug, Clone, Copy)]
pub struct Format {
    pub filter: Filter,
    pub lc: u32,
    pub lp: u32,
    pub pb: u32,
}

/// Reads what was compressed, up to the stream's end mark.
pub fn reader<'a>(compressed: &'a [u8], format: Format) -> io::Result<Box<dyn Read + Send + 'a>> {
    const UNTIL_END_MARK: u64 = u64::MAX;
    let Format { filter, lc, lp, pb } = format;
    let plain = LzmaReader::new(compressed, UNTIL_END_MARK, lc, lp, pb, DICTIONARY_BYTES, None)?;
    Ok(Box::new(match filter {
        Filter::X86 => BcjReader::new_x86(plain, 0),
        Filter::Arm64 => BcjReader::new_arm64(plain, 0),
        Filter::ArmThumb => BcjReader::new_arm_thumb(plain, 0),
    }))
}

/// Unpacks what has no calls in it: `lc=3,lp=0,pb=0,dict=64KiB`, without a filter.
///
/// # Errors
/// If it is no such stream.
pub fn text(compressed: &[u8]) -> io::Result<Vec<u8>> {
    const DICTIONARY_BYTES: u32 = 64 << 10;
    let mut plain = Vec::new();
    LzmaReader::new(compressed, u64::MAX, 3, 0, 0, DICTIONARY_BYTES, None)?
        .read_to_end(&mut plain)?;
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each is eight calls, so that the filter has something to do, compressed by xz 5.4.1.
    const STREAMS: &[(Format, &[u8], &str)] = &[
        (
            Format { filter: Filter::ArmThumb, lc: 3, lp: 1, pb: 1 },
            &[0x00, 0xf0, 0x02, 0xf8],
            "00003bffa4744254aafcff86f6f42987d50db225ff75a2f03fffbec38000",
        ),
        (
            Format { filter: Filter::Arm64, lc: 2, lp: 2, pb: 2 },
            &[0x10, 0x00, 0x00, 0x94],
            "0008002d281184309688565bf7d011399c636375976fe3fff4ce8000",
        ),
        (
            Format { filter: Filter::X86, lc: 4, lp: 0, pb: 0 },
            &[0xe8, 0x10, 0x00, 0x00, 0x00, 0x90],
            "007405661d175149bb9d8497c8a554b27703354aaae98790e350fff9b49000",
        ),
    ];

    fn bytes(hex: &str) -> Vec<u8> {
        let digit = |i: usize| u8::from_str_radix(&hex[i..i + 2], 16).unwrap();
        (0..hex.len()).step_by(2).map(digit).collect()
    }

    fn check(compressed: &[u8], format: Format) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        reader(compressed, format)?.read_to_end(&mut out)?;
        Ok(out)
    }

    #[test]
    fn what_xz_writes() {
        for (format, call, stream) in STREAMS {
            let stream = bytes(stream);
            assert_eq!(check(&stream, *format).unwrap(), call.repeat(8), "{format:?}");
            for end in 0..stream.len() - 5 {
                assert!(check(&stream[..end], *format).is_err(), "{format:?} cut at {end}");
            }
        }
    }

    #[test]
    fn damaged_streams_are_errors_not_panics() {
        let mut prng = stdx::prng::Prng::new(3);
        for (format, _, stream) in STREAMS {
            for _ in 0..500 {
                let mut damaged = bytes(stream);
                let at = usize::try_from(prng.below(damaged.len() as u64)).unwrap();
                damaged[at] ^= prng.next_u64().to_le_bytes()[0];
                let mut limited = Vec::new();
                if let Ok(reader) = reader(&damaged, *format) {
                    let _ = reader.take(1 << 16).read_to_end(&mut limited);
                }
            }
        }
    }
}
