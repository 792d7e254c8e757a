//! MD5 and the passwords that `htpasswd` makes of it: for comparing with what exists, not for anything new.

/// RFC 1321.
pub(crate) fn md5(bytes: &[u8]) -> [u8; 16] {
    const SHIFTS: [[u32; 4]; 4] =
        [[7, 12, 17, 22], [5, 9, 14, 20], [4, 11, 16, 23], [6, 10, 15, 21]];
    let mut state: [u32; 4] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];
    let mut padded = bytes.to_vec();
    padded.push(0x80);
    padded.resize((padded.len() + 8).next_multiple_of(64), 0);
    let bits = (bytes.len() as u64).wrapping_mul(8).to_le_bytes();
    let end = padded.len() - 8;
    padded[end..].copy_from_slice(&bits);
    for block in padded.chunks_exact(64) {
        let word = |n: usize| {
            u32::from_le_bytes([block[4 * n], block[4 * n + 1], block[4 * n + 2], block[4 * n + 3]])
        };
        let [mut a, mut b, mut c, mut d] = state;
        for step in 0..64 {
            let round = step / 16;
            let (mixed, n) = match round {
                0 => ((b & c) | (!b & d), step),
                1 => ((d & b) | (!d & c), 5 * step + 1),
                2 => (b ^ c ^ d, 3 * step + 5),
                _ => (c ^ (b | !d), 7 * step),
            };
            let sum = a.wrapping_add(mixed).wrapping_add(constant(step)).wrapping_add(word(n % 16));
            (a, d, c) = (d, c, b);
            b = b.wrapping_add(sum.rotate_left(SHIFTS[round][step % 4]));
        }
        for (own, new) in state.iter_mut().zip([a, b, c, d]) {
            *own = own.wrapping_add(new);
        }
    }
    let mut out = [0; 16];
    for (out, word) in out.chunks_exact_mut(4).zip(state) {
        out.copy_from_slice(&word.to_le_bytes());
    }
    out
}

/// The whole part of 2^32 times the sine of the step's number, as the RFC defines its table.
fn constant(step: usize) -> u32 {
    let number = f64::from(u32::try_from(step + 1).unwrap_or(0));
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is below 2^32 and not negative"
    )]
    let whole = (number.sin().abs() * 4_294_967_296.0) as u32;
    whole
}

/// Whether `hash` (`$apr1$SALT$...` or `$1$SALT$...`) is made of this password.
pub(crate) fn is_crypt(hash: &str, password: &str) -> bool {
    let mut parts = hash.splitn(4, '$').skip(1);
    let (Some(magic), Some(salt), Some(digest)) = (parts.next(), parts.next(), parts.next()) else {
        return false;
    };
    let salt = &salt[..salt.floor_char_boundary(8)];
    // What is compared is made by us: how long it takes says nothing of where it differs from the other's.
    let made = crypt(magic, salt.as_bytes(), password.as_bytes());
    made.len() == digest.len()
        && made.bytes().zip(digest.bytes()).fold(0, |all, (a, b)| all | (a ^ b)) == 0
}

/// A password longer than this is nobody's; the work is a thousand times its length.
pub(crate) const PASSWORD_MAX_BYTES: usize = 256;

fn crypt(magic: &str, salt: &[u8], password: &[u8]) -> String {
    let mut text = [password, format!("${magic}$").as_bytes(), salt].concat();
    let mixed = md5(&[password, salt, password].concat());
    text.extend(mixed.iter().cycle().take(password.len()));
    let mut n = password.len();
    while n > 0 {
        text.push(if n & 1 == 1 { 0 } else { password.first().copied().unwrap_or(0) });
        n >>= 1;
    }
    let mut digest = md5(&text);
    for round in 0..1000 {
        let mut text = Vec::new();
        text.extend_from_slice(if round & 1 == 1 { password } else { &digest });
        if round % 3 != 0 {
            text.extend_from_slice(salt);
        }
        if round % 7 != 0 {
            text.extend_from_slice(password);
        }
        text.extend_from_slice(if round & 1 == 1 { &digest } else { password });
        digest = md5(&text);
    }
    const DIGITS: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut out = String::new();
    let mut put = |high: u8, middle: u8, low: u8, n: usize| {
        let mut bits = u32::from(high) << 16 | u32::from(middle) << 8 | u32::from(low);
        for _ in 0..n {
            out.push(char::from(DIGITS[(bits & 63) as usize]));
            bits >>= 6;
        }
    };
    for (a, b, c) in [(0, 6, 12), (1, 7, 13), (2, 8, 14), (3, 9, 15), (4, 10, 5)] {
        put(digest[a], digest[b], digest[c], 4);
    }
    put(0, 0, digest[11], 2);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_those_of_the_rfc() {
        let hex = |text: &str| {
            md5(text.as_bytes()).iter().map(|b| format!("{b:02x}")).collect::<String>()
        };
        assert_eq!(hex(""), "d41d8cd98f00b204e9800998ecf8427e");
        assert_eq!(hex("abc"), "900150983cd24fb0d6963f7d28e17f72");
        let long =
            "12345678901234567890123456789012345678901234567890123456789012345678901234567890";
        assert_eq!(hex(long), "57edf4a22be3c955ac49da2e2107b67a");
        for n in 50..70 {
            assert_eq!(hex(&"a".repeat(n)).len(), 32);
        }
        assert_eq!(hex(&"a".repeat(56)), "3b0c8ac703f828b04c6c197006d17218");
        assert_eq!(hex(&"a".repeat(64)), "014842d480b571495a4a0363793f7367");
    }

    #[test]
    fn passwords_are_those_of_htpasswd() {
        for (hash, password) in [
            ("$apr1$H6uskkkW$IgXLP6ewTrSuBkTrqE8wj/", "test"),
            ("$1$saltsalt$qjXMvbEw8oaL.CzflDtaK/", "password"),
        ] {
            assert!(is_crypt(hash, password), "{hash}");
            assert!(!is_crypt(hash, "another"), "{hash}");
        }
        for bad in ["", "$apr1$", "$apr1$x", "$apr1$x$", "apr1"] {
            assert!(!is_crypt(bad, "x"), "{bad}");
        }
    }
}
