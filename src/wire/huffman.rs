//! The Huffman code of HPACK (RFC 7541, appendix B), worked out from the lengths of its codes.
//!
//! Never panics; a decoded text is at most 8/5 of its code.

/// How many bytes `text` takes in the Huffman code.
pub(crate) fn encoded_length(text: &[u8]) -> usize {
    let n_bits: usize = text.iter().map(|&b| usize::from(LENGTHS[usize::from(b)])).sum();
    n_bits.div_ceil(8)
}

pub(crate) fn encode(text: &[u8], out: &mut Vec<u8>) {
    let (mut bits, mut n_bits) = (0u64, 0u32);
    for &b in text {
        let length = u32::from(LENGTHS[usize::from(b)]);
        bits = bits << length | u64::from(CODE.codes[usize::from(b)]);
        n_bits += length;
        while n_bits >= 8 {
            n_bits -= 8;
            out.push((bits >> n_bits) as u8);
        }
    }
    if n_bits > 0 {
        // Padded with the first bits of the end symbol, which are ones.
        out.push((bits << (8 - n_bits)) as u8 | (0xff >> n_bits));
    }
}

/// `None` for the end symbol, or padding that is too long or not all ones.
pub(crate) fn decode(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() + text.len() / 2);
    let (mut code, mut length) = (0u32, 0usize);
    for &byte in text {
        for shift in (0..8).rev() {
            code = code << 1 | u32::from(byte >> shift & 1);
            length += 1;
            // The code is canonical: codes of one length follow each other.
            let offset = code.wrapping_sub(CODE.first[length]);
            if offset < CODE.count[length] {
                let idx = usize::from(CODE.start[length]) + offset as usize;
                // The end symbol is the one that is no byte.
                out.push(u8::try_from(CODE.symbols[idx]).ok()?);
                (code, length) = (0, 0);
            } else if length == LENGTH_MAX {
                return None;
            }
        }
    }
    (length < 8 && code == (1 << length) - 1).then_some(out)
}

const LENGTH_MAX: usize = 30;

/// The code worked out from the lengths.
struct Code {
    codes: [u32; 257],
    /// All symbols by length, then by value.
    symbols: [u16; 257],
    /// Per length: the first code, how many there are, and where they start in `symbols`.
    first: [u32; LENGTH_MAX + 1],
    count: [u32; LENGTH_MAX + 1],
    start: [u16; LENGTH_MAX + 1],
}

static CODE: Code = canonical_code();

const fn canonical_code() -> Code {
    let mut code = Code {
        codes: [0; 257],
        symbols: [0; 257],
        first: [0; LENGTH_MAX + 1],
        count: [0; LENGTH_MAX + 1],
        start: [0; LENGTH_MAX + 1],
    };
    let (mut next, mut placed, mut length) = (0u32, 0usize, 1usize);
    while length <= LENGTH_MAX {
        next <<= 1;
        code.first[length] = next;
        code.start[length] = placed as u16;
        let mut symbol = 0;
        while symbol < 257 {
            if LENGTHS[symbol] as usize == length {
                code.codes[symbol] = next;
                code.symbols[placed] = symbol as u16;
                code.count[length] += 1;
                next += 1;
                placed += 1;
            }
            symbol += 1;
        }
        length += 1;
    }
    code
}

/// The length in bits of each symbol's code (RFC 7541, appendix B); the last is the end symbol.
#[rustfmt::skip]
static LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
    6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];

#[cfg(test)]
mod tests {
    use super::*;
    use stdx::prng::Prng;

    #[test]
    fn the_huffman_code_is_complete() {
        let sum: u64 =
            LENGTHS.iter().map(|&length| 1u64 << (LENGTH_MAX - usize::from(length))).sum();
        assert_eq!(sum, 1 << LENGTH_MAX);
        assert_eq!(CODE.codes[usize::from(b'\n')], 0x3ffffffc);
        assert_eq!(CODE.codes[256], 0x3fffffff);
        assert_eq!((CODE.codes[0], CODE.codes[128], CODE.codes[254]), (0x1ff8, 0xfffe6, 0x7fffff0));
    }

    #[test]
    fn texts_survive_the_trip_and_bad_codes_are_refused() {
        let mut prng = Prng::new(2);
        for _ in 0..500 {
            let mut text = vec![0; prng.below(50) as usize];
            prng.fill(&mut text);
            let mut code = Vec::new();
            encode(&text, &mut code);
            assert_eq!((code.len(), decode(&code)), (encoded_length(&text), Some(text)));
        }
        for bad in [&[0xff; 4][..], &[0x00, 0xff, 0xff], &[0x18]] {
            assert_eq!(decode(bad), None, "{bad:?}");
        }
    }
}
