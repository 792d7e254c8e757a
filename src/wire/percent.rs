//! Percent escapes of URLs, decoded.

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
