//! Where the metadata of an object lies in its JSON text, found without a tree.

/// The members of a JSON object's text, which is known to be valid, as they are written: names without
/// their quotes, values whole. Without recursion.
#[derive(Clone)]
pub(crate) struct Members<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Members<'a> {
    pub(crate) fn of(text: &'a [u8]) -> Members<'a> {
        Members { text, at: 0 }
    }

    fn byte(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn skip(&mut self, skipped: impl Fn(u8) -> bool) {
        while self.byte().is_some_and(&skipped) {
            self.at += 1;
        }
    }

    /// Steps over a string whose opening quote is here.
    fn string(&mut self) -> Option<()> {
        self.at += 1;
        loop {
            match self.byte()? {
                b'"' => break,
                b'\\' => self.at += 2,
                _ => self.at += 1,
            }
        }
        self.at += 1;
        Some(())
    }

    fn value(&mut self) -> Option<&'a [u8]> {
        let start = self.at;
        match self.byte()? {
            b'"' => self.string()?,
            b'{' | b'[' => {
                let mut depth = 0usize;
                loop {
                    match self.byte()? {
                        b'"' => {
                            self.string()?;
                            continue;
                        }
                        b'{' | b'[' => depth += 1,
                        b'}' | b']' => depth = depth.saturating_sub(1),
                        _ => {}
                    }
                    self.at += 1;
                    if depth == 0 {
                        break;
                    }
                }
            }
            _ => self.skip(|byte| !is_space(byte) && !matches!(byte, b',' | b'}' | b']')),
        }
        self.text.get(start..self.at)
    }
}

impl<'a> Iterator for Members<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        self.skip(|byte| is_space(byte) || matches!(byte, b'{' | b','));
        if self.byte()? != b'"' {
            return None;
        }
        let start = self.at + 1;
        self.string()?;
        let name = self.text.get(start..self.at - 1)?;
        self.skip(|byte| is_space(byte) || byte == b':');
        Some((name, self.value()?))
    }
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

/// The inside of a string's text.
pub(crate) fn inside(value: &[u8]) -> &[u8] {
    value.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_found_as_they_are_written() {
        let text = br#" { "a" : {"b":[1,"}",{"c":"\""}]} ,"d":"x\\","e" : -1.5e3 , "f":null} "#;
        let found: Vec<(String, String)> = Members::of(text)
            .map(|(name, value)| {
                let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
                (text(name), text(value))
            })
            .collect();
        let want = [
            ("a", r#"{"b":[1,"}",{"c":"\""}]}"#),
            ("d", r#""x\\""#),
            ("e", "-1.5e3"),
            ("f", "null"),
        ];
        assert_eq!(found, want.map(|(a, b)| (a.to_owned(), b.to_owned())));
    }

    #[test]
    fn any_bytes_are_read_without_a_panic() {
        let mut prng = stdx::prng::Prng::new(1);
        let alphabet = br#"{}[]",:\ a1"#;
        for _ in 0..20_000 {
            let length = prng.below(40) as usize;
            let text: Vec<u8> =
                (0..length).map(|_| alphabet[prng.below(alphabet.len() as u64) as usize]).collect();
            assert!(Members::of(&text).count() <= text.len());
        }
    }
}
