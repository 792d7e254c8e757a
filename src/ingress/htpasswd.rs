//! The passwords that `htpasswd` makes of MD5: for comparing with what exists, not for anything new.

use md5::{Digest, Md5};

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
    let mixed = Md5::digest([password, salt, password].concat());
    text.extend(mixed.iter().cycle().take(password.len()));
    let mut n = password.len();
    while n > 0 {
        text.push(if n & 1 == 1 { 0 } else { password.first().copied().unwrap_or(0) });
        n >>= 1;
    }
    let mut digest = Md5::digest(&text);
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
        digest = Md5::digest(&text);
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
