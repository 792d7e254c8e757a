//! gzip (RFC 1952) as an encoder: bytes in, compressed bytes out, piece by piece.

use miniz_oxide::deflate::core::{
    CompressorOxide, TDEFLFlush, compress_to_output, create_comp_flags_from_zip_params,
};

/// Level 1: what a server spends on an answer.
const LEVEL: i32 = 1;

/// The window bits of raw deflate, as zlib's API says it.
const RAW_DEFLATE: i32 = -15;

/// A stream being compressed.
pub struct Encoder {
    compressor: Box<CompressorOxide>,
    crc: u32,
    n_bytes: u32,
    started: bool,
}

impl Default for Encoder {
    fn default() -> Encoder {
        Encoder::new()
    }
}

impl Encoder {
    pub fn new() -> Encoder {
        Encoder::with_level(LEVEL)
    }

    /// With zlib's level, 1 to 9: what is kept may cost more time than what is sent.
    pub fn with_level(level: i32) -> Encoder {
        let flags = create_comp_flags_from_zip_params(level, RAW_DEFLATE, 0);
        let compressor = Box::new(CompressorOxide::new(flags));
        Encoder { compressor, crc: !0, n_bytes: 0, started: false }
    }

    /// Compresses `bytes`; what is ready so far is appended to `out`, everything with `last`.
    pub fn push(&mut self, bytes: &[u8], last: bool, out: &mut Vec<u8>) {
        if !self.started {
            self.started = true;
            // Deflate, no flags, no time, fastest, unknown system.
            out.extend_from_slice(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 4, 255]);
        }
        self.crc = crc32(self.crc, bytes);
        self.n_bytes = self.n_bytes.wrapping_add(bytes.len() as u32);
        let flush = if last { TDEFLFlush::Finish } else { TDEFLFlush::None };
        self.compress(bytes, flush, out);
        if last {
            out.extend_from_slice(&(!self.crc).to_le_bytes());
            out.extend_from_slice(&self.n_bytes.to_le_bytes());
        }
    }
}

impl Encoder {
    /// Appends whatever was pushed and is not in `out` yet, so that the other side can read all of it now.
    pub fn flush(&mut self, out: &mut Vec<u8>) {
        self.compress(&[], TDEFLFlush::Sync, out);
    }

    fn compress(&mut self, bytes: &[u8], flush: TDEFLFlush, out: &mut Vec<u8>) {
        compress_to_output(&mut self.compressor, bytes, flush, |compressed| {
            out.extend_from_slice(compressed);
            true
        });
    }
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Encoder({} bytes)", self.n_bytes)
    }
}

/// CRC-32 (ISO-HDLC), four bits at a time: the table is 64 bytes.
pub(crate) fn crc32(crc: u32, bytes: &[u8]) -> u32 {
    const TABLE: [u32; 16] = {
        let mut table = [0u32; 16];
        let mut n = 0;
        while n < 16 {
            let mut crc = n as u32;
            let mut bit = 0;
            while bit < 4 {
                crc = if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
                bit += 1;
            }
            table[n] = crc;
            n += 1;
        }
        table
    };
    bytes.iter().fold(crc, |crc, byte| {
        let crc = crc ^ u32::from(*byte);
        let crc = crc >> 4 ^ TABLE[(crc & 15) as usize];
        crc >> 4 ^ TABLE[(crc & 15) as usize]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_compressed_inflates_to_the_same() {
        assert_eq!(!crc32(!0, b"123456789"), 0xcbf4_3926);
        let text: Vec<u8> = (0..200_000u32).map(|n| (n / 7 % 251) as u8).collect();
        let mut encoder = Encoder::new();
        let mut out = Vec::new();
        for chunk in text.chunks(10_000) {
            encoder.push(chunk, false, &mut out);
        }
        encoder.push(b"", true, &mut out);
        assert!(out.len() < text.len() / 2);
        let body = &out[10..out.len() - 8];
        assert_eq!(miniz_oxide::inflate::decompress_to_vec(body).unwrap(), text);
        assert_eq!(out[out.len() - 4..], 200_000u32.to_le_bytes());
        assert_eq!(out[out.len() - 8..out.len() - 4], (!crc32(!0, &text)).to_le_bytes());
    }
}
