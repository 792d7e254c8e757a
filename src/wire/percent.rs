//! Percent escapes of URLs.

/// Escapes every byte that is not kept. Which may be kept depends on the part of a URL or field that the text goes into.
pub fn escape(text: &str, kept: impl Fn(u8) -> bool) -> String {
    let mut out = String::with_capacity(text.len());
    let digit = |half: u8| char::from(b"0123456789ABCDEF"[usize::from(half)]);
    for byte in text.bytes() {
        match byte.is_ascii() && kept(byte) {
            true => out.push(char::from(byte)),
            false => out.extend(['%', digit(byte >> 4), digit(byte & 15)]),
        }
    }
    out
}

/// What RFC 3986 (2.3) calls unreserved: kept everywhere in a URL.
pub fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte)
}

/// Decodes percent escapes, and `+` as a space where `plus` says so. Broken escapes stay as they
/// are; bytes that are not UTF-8 become replacement characters, which no name holds.
pub fn unescape(text: &str, plus: bool) -> String {
    if !text.contains(['%', '+']) {
        return text.to_owned();
    }
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut idx = 0;
    while idx < bytes.len() {
        let digit = |at: usize| bytes.get(at).and_then(|b| char::from(*b).to_digit(16));
        match (bytes[idx], digit(idx + 1), digit(idx + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push(u8::try_from(high * 16 + low).unwrap_or(b'?'));
                idx += 3;
                continue;
            }
            (b'+', _, _) if plus => out.push(b' '),
            (byte, _, _) => out.push(byte),
        }
        idx += 1;
    }
    String::from_utf8(out).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_kept_is_escaped() {
        assert_eq!(escape("a b/\u{e9}~", is_unreserved), "a%20b%2F%C3%A9~");
        assert_eq!(escape("\u{e9}%", |byte| byte != b'%'), "%C3%A9%25");
    }

    #[test]
    fn broken_escapes_stay() {
        for (text, plus, want) in [
            ("a%2Fb+c", false, "a/b+c"),
            ("a%2fb+c", true, "a/b c"),
            ("%+1%", false, "%+1%"),
            ("%zz%4", false, "%zz%4"),
            ("%ff", false, "\u{fffd}"),
        ] {
            assert_eq!(unescape(text, plus), want, "{text}");
        }
    }
}
