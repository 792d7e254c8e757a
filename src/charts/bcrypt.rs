//! bcrypt: hashes of passwords that are slow on purpose, written as htpasswd files have them.

use blowfish::Blowfish;

const DIGITS: &[u8; 64] = b"./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/// `$2a$COST$SALTHASH` of a password of at most 72 bytes.
pub(crate) fn hash(password: &[u8], salt: &[u8; 16], cost: u32) -> String {
    let key = [password, &[0]].concat();
    let mut cipher = Blowfish::bc_init_state();
    cipher.salted_expand_key(salt, &key);
    for _ in 0..1u32 << cost {
        cipher.bc_expand_key(&key);
        cipher.bc_expand_key(salt);
    }
    let mut out = Vec::new();
    for text in b"OrpheanBeholderScryDoubt".chunks(8) {
        let word = |bytes: &[u8]| bytes.iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte));
        let block = [word(&text[..4]), word(&text[4..])];
        let sealed = (0..64).fold(block, |block, _| cipher.bc_encrypt(block));
        out.extend(sealed.into_iter().flat_map(u32::to_be_bytes));
    }
    // The last byte is left out, by an old mistake that became the format.
    format!("$2a${cost:02}${}{}", encode(salt), encode(&out[..23]))
}

/// Base64 without padding, with an alphabet of its own.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_others_hash() {
        // The test vector of OpenBSD's: the password "U*U" with a salt of "CCCCCCCCCCCCCCCCCCCCC.".
        let mut salt = [0; 16];
        let digit = |c: u8| DIGITS.iter().position(|known| *known == c).unwrap() as u128;
        let bits = b"CCCCCCCCCCCCCCCCCCCCC".iter().fold(0u128, |sum, c| sum << 6 | digit(*c));
        salt.copy_from_slice(&(bits << 2).to_be_bytes());
        let expected = "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW";
        assert_eq!(hash(b"U*U", &salt, 5), expected);
    }
}
