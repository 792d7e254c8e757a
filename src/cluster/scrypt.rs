//! scrypt (RFC 7914), as node passwords are kept by it: slow to guess, and bounded in what a check costs.

use std::num::NonZeroU32;

use ring::pbkdf2;

/// The binary logarithm of the cost, the size of blocks and their number, up to which a hash is looked at: 64 MiB.
const LOG_N_MAX: u32 = 16;
const R_MAX: u32 = 8;
const P_MAX: u32 = 4;

/// How much work a hash takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cost {
    pub(crate) log_n: u32,
    pub(crate) r: u32,
    pub(crate) p: u32,
}

impl Cost {
    fn is_bounded(self) -> bool {
        (1..=LOG_N_MAX).contains(&self.log_n)
            && (1..=R_MAX).contains(&self.r)
            && (1..=P_MAX).contains(&self.p)
    }
}

/// Fills `key` from a password; `None` if that would cost more than is ever spent. Takes 128 * r * 2^log_n bytes
/// and, at usual costs, some tens of milliseconds.
pub(crate) fn derive(password: &[u8], salt: &[u8], cost: Cost, key: &mut [u8]) -> Option<()> {
    if !cost.is_bounded() {
        return None;
    }
    let n_words = usize::try_from(32 * cost.r).ok()?;
    let n_blocks = usize::try_from(cost.p).ok()?;
    let mut blocks = vec![0; n_blocks * n_words * 4];
    expand(password, salt, &mut blocks);
    let mut memory = vec![0; n_words << cost.log_n];
    for block in blocks.chunks_exact_mut(n_words * 4) {
        let mut words: Vec<u32> = block
            .chunks_exact(4)
            .map(|bytes| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
            .collect();
        mix(&mut words, &mut memory);
        for (bytes, word) in block.chunks_exact_mut(4).zip(&words) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
    }
    expand(password, &blocks, key);
    Some(())
}

fn expand(password: &[u8], salt: &[u8], out: &mut [u8]) {
    const ONCE: NonZeroU32 = NonZeroU32::MIN;
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, ONCE, salt, password, out);
}

/// ROMix: fills the memory from the block, then visits it in an order that follows from what it finds.
fn mix(block: &mut [u32], memory: &mut [u32]) {
    let n_words = block.len();
    let mut scratch = vec![0; n_words];
    for slot in memory.chunks_exact_mut(n_words) {
        slot.copy_from_slice(block);
        mix_block(block, &mut scratch);
    }
    let n = memory.len() / n_words;
    for _ in 0..n {
        // n is a power of two and below 2^32: the lower word of the last 64 bytes says enough.
        let idx = block[n_words - 16] as usize & (n - 1);
        let slot = &memory[idx * n_words..(idx + 1) * n_words];
        block.iter_mut().zip(slot).for_each(|(word, other)| *word ^= other);
        mix_block(block, &mut scratch);
    }
}

fn mix_block(block: &mut [u32], scratch: &mut [u32]) {
    let n = block.len() / 16;
    let mut x = [0; 16];
    x.copy_from_slice(&block[(n - 1) * 16..]);
    for (idx, part) in block.chunks_exact(16).enumerate() {
        x.iter_mut().zip(part).for_each(|(word, other)| *word ^= other);
        salsa(&mut x);
        // Even parts first, then odd ones.
        let to = if idx % 2 == 0 { idx / 2 } else { n / 2 + idx / 2 };
        scratch[to * 16..(to + 1) * 16].copy_from_slice(&x);
    }
    block.copy_from_slice(scratch);
}

/// Salsa20/8.
fn salsa(words: &mut [u32; 16]) {
    /// Which word is changed by which two, and turned how far: columns, then rows.
    const STEPS: [[u8; 4]; 32] = [
        [4, 0, 12, 7],
        [8, 4, 0, 9],
        [12, 8, 4, 13],
        [0, 12, 8, 18],
        [9, 5, 1, 7],
        [13, 9, 5, 9],
        [1, 13, 9, 13],
        [5, 1, 13, 18],
        [14, 10, 6, 7],
        [2, 14, 10, 9],
        [6, 2, 14, 13],
        [10, 6, 2, 18],
        [3, 15, 11, 7],
        [7, 3, 15, 9],
        [11, 7, 3, 13],
        [15, 11, 7, 18],
        [1, 0, 3, 7],
        [2, 1, 0, 9],
        [3, 2, 1, 13],
        [0, 3, 2, 18],
        [6, 5, 4, 7],
        [7, 6, 5, 9],
        [4, 7, 6, 13],
        [5, 4, 7, 18],
        [11, 10, 9, 7],
        [8, 11, 10, 9],
        [9, 8, 11, 13],
        [10, 9, 8, 18],
        [12, 15, 14, 7],
        [13, 12, 15, 9],
        [14, 13, 12, 13],
        [15, 14, 13, 18],
    ];
    let mut x = *words;
    for _ in 0..4 {
        for [to, a, b, turn] in STEPS {
            let sum = x[usize::from(a)].wrapping_add(x[usize::from(b)]);
            x[usize::from(to)] ^= sum.rotate_left(u32::from(turn));
        }
    }
    words.iter_mut().zip(x).for_each(|(word, mixed)| *word = word.wrapping_add(mixed));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7914, section 12.
    #[test]
    fn the_standards_vectors() {
        for (password, salt, log_n, r, p, wanted) in [
            (
                "",
                "",
                4,
                1,
                1,
                "77d6576238657b203b19ca42c18a0497f16b4844e3074ae8dfdffa3fede21442fcd0069ded0948f8326a753a0fc81f17e8d3e0fb2e0d3628cf35e20c38d18906",
            ),
            (
                "pleaseletmein",
                "SodiumChloride",
                14,
                8,
                1,
                "7023bdcb3afd7348461c06cd81fd38ebfda8fbba904f8e3ea9b543f6545da1f2d5432955613f0fcf62d49705242a9af9e61e85dc0d651e40dfcf017b45575887",
            ),
        ] {
            let mut key = [0; 64];
            let cost = Cost { log_n, r, p };
            derive(password.as_bytes(), salt.as_bytes(), cost, &mut key).unwrap();
            assert_eq!(wire::hex::encode(&key), wanted);
        }
    }

    #[test]
    fn what_would_cost_too_much_is_not_begun() {
        for (log_n, r, p) in [
            (17, 8, 1),
            (15, 9, 1),
            (15, 8, 5),
            (0, 8, 1),
            (15, 0, 1),
            (15, 8, 0),
            (u32::MAX, u32::MAX, u32::MAX),
        ] {
            assert_eq!(derive(b"", b"", Cost { log_n, r, p }, &mut [0; 64]), None);
        }
    }
}
