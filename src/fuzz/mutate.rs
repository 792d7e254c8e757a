//! Changes to an input: bits, numbers, lengths, pieces of other inputs, words that its format knows.

use stdx::prng::Prng;

/// No input grows beyond this; what a parser does with megabytes, tests of its bounds show.
pub(crate) const INPUT_MAX_BYTES: usize = 16 << 10;

/// Numbers at the ends of their ranges, as text and as bytes.
const NUMBERS: &[&str] = &[
    "0",
    "-1",
    "255",
    "65536",
    "2147483647",
    "2147483648",
    "-9223372036854775808",
    "9223372036854775807",
    "18446744073709551616",
    "1e309",
    "-0.0",
    "\0\0\0\0",
    "\u{7f}",
];

/// What stands in many formats.
const WORDS: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    "\"",
    "\\u0000",
    "\\",
    "null",
    "true",
    "\n",
    "\r\n",
    "&a",
    "*a",
    "---",
    "%00",
    "%2F",
    "..",
    "/",
    "?",
    "=",
    "é",
    "\u{feff}",
    "\u{1f600}",
];

/// `input` with one to eight changes; `other` gives pieces, and so do the `words` of the format.
pub(crate) fn changed(input: &[u8], other: &[u8], words: &[&[u8]], random: &mut Prng) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..=random.below(3) * random.below(4) {
        change(&mut bytes, other, words, random);
    }
    bytes.truncate(INPUT_MAX_BYTES);
    bytes
}

fn change(bytes: &mut Vec<u8>, other: &[u8], words: &[&[u8]], random: &mut Prng) {
    let at = below(random, bytes.len() + 1);
    // Mostly few.
    let reach = 1 << below(random, 9);
    let end = (at + 1 + below(random, reach)).min(bytes.len());
    match random.below(12) {
        0 | 1 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
        2 if at < bytes.len() => bytes[at] = random.below(256) as u8,
        3 if at < bytes.len() => {
            bytes[at] = bytes[at].wrapping_add(random.below(35) as u8).wrapping_sub(17);
        }
        4 if at < end => drop(bytes.drain(at..end)),
        5 if at < end => {
            // The same once more, or many times: lists without end, and depth.
            let piece = bytes[at..end].to_vec();
            let n = if random.chance(10) { 200 } else { 1 };
            insert(bytes, at, &piece.repeat(n));
        }
        6 if at < end => bytes[at..end].fill(random.below(256) as u8),
        7 => insert(bytes, at, NUMBERS[below(random, NUMBERS.len())].as_bytes()),
        8 => insert(bytes, at, WORDS[below(random, WORDS.len())].as_bytes()),
        9 if !words.is_empty() => insert(bytes, at, words[below(random, words.len())]),
        10 if !other.is_empty() => {
            let from = below(random, other.len());
            let to = (from + 1 + below(random, 200)).min(other.len());
            insert(bytes, at, &other[from..to]);
        }
        11 if !other.is_empty() => {
            bytes.truncate(at);
            bytes.extend_from_slice(&other[below(random, other.len())..]);
        }
        _ => insert(bytes, at, &random.next_u64().to_le_bytes()[..1 + below(random, 8)]),
    }
}

fn insert(bytes: &mut Vec<u8>, at: usize, piece: &[u8]) {
    let room = INPUT_MAX_BYTES.saturating_sub(bytes.len());
    let at = at.min(bytes.len());
    drop(bytes.splice(at..at, piece[..piece.len().min(room)].iter().copied()));
}

pub(crate) fn below(random: &mut Prng, bound: usize) -> usize {
    random.below(bound.max(1) as u64) as usize
}
