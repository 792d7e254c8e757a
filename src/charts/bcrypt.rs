//! bcrypt and scrypt: hashes of passwords that are slow on purpose.

use ring::pbkdf2;

/// Words of Blowfish's state that come from pi: 18 of keys and four boxes of 256.
const WORDS: usize = 18 + 4 * 256;
const DIGITS: &[u8; 64] = b"./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/// `$2a$COST$SALTHASH` of a password of at most 72 bytes.
pub(crate) fn hash(password: &[u8], salt: &[u8; 16], cost: u32) -> String {
    let mut key = password.to_vec();
    key.push(0);
    let mut state = Blowfish(pi());
    let mut salt_words = [0u32; 4];
    for (word, chunk) in salt_words.iter_mut().zip(salt.chunks(4)) {
        *word = chunk.iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte));
    }
    state.expand(&key, &salt_words);
    for _ in 0..1u32 << cost {
        state.expand(&key, &[0; 4]);
        state.expand(salt, &[0; 4]);
    }
    let mut out = Vec::new();
    for text in b"OrpheanBeholderScryDoubt".chunks(8) {
        let word = |bytes: &[u8]| bytes.iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte));
        let (mut left, mut right) = (word(&text[..4]), word(&text[4..]));
        for _ in 0..64 {
            (left, right) = state.encrypt(left, right);
        }
        out.extend_from_slice(&left.to_be_bytes());
        out.extend_from_slice(&right.to_be_bytes());
    }
    // The last byte is left out, by an old mistake that became the format.
    format!("$2a${cost:02}${}{}", encode(salt), encode(&out[..23]))
}

fn encode(bytes: &[u8]) -> String {
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let group = chunk.iter().fold(0u32, |sum, byte| sum << 8 | u32::from(*byte));
        let group = group << (8 * (3 - chunk.len()));
        for idx in 0..=chunk.len() {
            out.push(char::from(DIGITS[(group >> (18 - 6 * idx)) as usize & 63]));
        }
    }
    out
}

struct Blowfish(Vec<u32>);

impl Blowfish {
    fn expand(&mut self, key: &[u8], salt: &[u32; 4]) {
        let mut bytes = key.iter().cycle();
        for word in &mut self.0[..18] {
            for shift in [24, 16, 8, 0] {
                *word ^= u32::from(bytes.next().copied().unwrap_or(0)) << shift;
            }
        }
        let (mut left, mut right) = (0, 0);
        for idx in (0..WORDS).step_by(2) {
            left ^= salt[idx % 4];
            right ^= salt[(idx + 1) % 4];
            (left, right) = self.encrypt(left, right);
            (self.0[idx], self.0[idx + 1]) = (left, right);
        }
    }

    fn encrypt(&self, mut left: u32, mut right: u32) -> (u32, u32) {
        let (keys, boxes) = self.0.split_at(18);
        let round = |half: u32| {
            let at = |n: usize, shift: u32| boxes[n * 256 + (half >> shift & 255) as usize];
            (at(0, 24).wrapping_add(at(1, 16)) ^ at(2, 8)).wrapping_add(at(3, 0))
        };
        for pair in keys[..16].chunks(2) {
            left ^= pair[0];
            right ^= round(left);
            right ^= pair[1];
            left ^= round(right);
        }
        (right ^ keys[17], left ^ keys[16])
    }
}

/// The fraction of pi in words of 32 bits, by Machin's formula: smaller than a table of four kilobytes.
fn pi() -> Vec<u32> {
    // One word before the point, and two behind the last for what is lost by rounding.
    let n = WORDS + 3;
    // atan(1 / x) times `scale`, added or subtracted.
    let atan = |x: u32, scale: u32, sum: &mut [u32], is_added: bool| {
        let mut power = vec![0u32; n];
        power[0] = scale;
        divide(&mut power, x);
        let (mut divisor, mut is_plus) = (1u32, is_added);
        while power.iter().any(|word| *word != 0) {
            let mut term = power.clone();
            divide(&mut term, divisor);
            add(sum, &term, is_plus);
            divide(&mut power, x * x);
            divisor += 2;
            is_plus = !is_plus;
        }
    };
    let mut sum = vec![0u32; n];
    atan(5, 16, &mut sum, true);
    atan(239, 4, &mut sum, false);
    sum[1..=WORDS].to_vec()
}

fn divide(number: &mut [u32], by: u32) {
    let mut rest = 0u64;
    for word in number {
        let whole = rest << 32 | u64::from(*word);
        *word = (whole / u64::from(by)) as u32;
        rest = whole % u64::from(by);
    }
}

fn add(sum: &mut [u32], term: &[u32], is_plus: bool) {
    let mut carry = false;
    for (into, word) in sum.iter_mut().zip(term).rev() {
        let (first, second);
        (*into, first) =
            if is_plus { into.overflowing_add(*word) } else { into.overflowing_sub(*word) };
        let step = u32::from(carry);
        (*into, second) =
            if is_plus { into.overflowing_add(step) } else { into.overflowing_sub(step) };
        carry = first || second;
    }
}

/// scrypt with N = 32768, r = 8, p = 2, 64 bytes long. Takes 32 MiB while it runs.
pub(crate) fn scrypt(password: &[u8], salt: &[u8]) -> [u8; 64] {
    const N: usize = 32_768;
    const BLOCK_WORDS: usize = 32 * 8;
    let mut blocks = vec![0u8; 2 * BLOCK_WORDS * 4];
    stretch(password, salt, &mut blocks);
    let mut memory = vec![0u32; N * BLOCK_WORDS];
    for block in blocks.chunks_mut(BLOCK_WORDS * 4) {
        let mut words: Vec<u32> = block
            .chunks(4)
            .map(|chunk| u32::from_le_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]))
            .collect();
        for kept in memory.chunks_mut(BLOCK_WORDS) {
            kept.copy_from_slice(&words);
            words = mixed(&words);
        }
        for _ in 0..N {
            let idx = words[BLOCK_WORDS - 16] as usize % N;
            let kept = &memory[idx * BLOCK_WORDS..(idx + 1) * BLOCK_WORDS];
            words.iter_mut().zip(kept).for_each(|(into, word)| *into ^= word);
            words = mixed(&words);
        }
        for (into, word) in block.chunks_mut(4).zip(&words) {
            into.copy_from_slice(&word.to_le_bytes());
        }
    }
    let mut out = [0; 64];
    stretch(password, &blocks, &mut out);
    out
}

fn stretch(password: &[u8], salt: &[u8], out: &mut [u8]) {
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, std::num::NonZeroU32::MIN, salt, password, out);
}

/// scrypt's BlockMix: Salsa20/8 over pieces of 16 words, even ones before odd ones.
fn mixed(words: &[u32]) -> Vec<u32> {
    let n_pieces = words.len() / 16;
    let mut out = vec![0; words.len()];
    let mut state = [0u32; 16];
    state.copy_from_slice(&words[words.len() - 16..]);
    for (idx, piece) in words.chunks(16).enumerate() {
        state.iter_mut().zip(piece).for_each(|(into, word)| *into ^= word);
        salsa(&mut state);
        let at = (idx / 2 + idx % 2 * (n_pieces / 2)) * 16;
        out[at..at + 16].copy_from_slice(&state);
    }
    out
}

fn salsa(state: &mut [u32; 16]) {
    // Of a double round: what is changed, by the sum of which two, turned how far.
    const QUARTERS: [[usize; 4]; 8] = [
        [0, 4, 8, 12],
        [5, 9, 13, 1],
        [10, 14, 2, 6],
        [15, 3, 7, 11],
        [0, 1, 2, 3],
        [5, 6, 7, 4],
        [10, 11, 8, 9],
        [15, 12, 13, 14],
    ];
    let mut x = *state;
    for _ in 0..4 {
        for [a, b, c, d] in QUARTERS {
            x[b] ^= x[a].wrapping_add(x[d]).rotate_left(7);
            x[c] ^= x[b].wrapping_add(x[a]).rotate_left(9);
            x[d] ^= x[c].wrapping_add(x[b]).rotate_left(13);
            x[a] ^= x[d].wrapping_add(x[c]).rotate_left(18);
        }
    }
    state.iter_mut().zip(x).for_each(|(into, word)| *into = into.wrapping_add(word));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_others_hash() {
        assert_eq!(pi()[..4], [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344]);
        assert_eq!(pi()[WORDS - 1], 0x3ac3_72e6);
        // The test vector of OpenBSD's: the password "U*U" with a salt of "CCCCCCCCCCCCCCCCCCCCC.".
        let mut salt = [0; 16];
        let digit = |c: u8| DIGITS.iter().position(|known| *known == c).unwrap() as u128;
        let bits = b"CCCCCCCCCCCCCCCCCCCCC".iter().fold(0u128, |sum, c| sum << 6 | digit(*c));
        salt.copy_from_slice(&(bits << 2).to_be_bytes());
        let expected = "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW";
        assert_eq!(hash(b"U*U", &salt, 5), expected);
    }
}
