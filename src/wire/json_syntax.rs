//! What is wrong with a text that is no JSON, in the words of Go's `encoding/json`, which users search for.

/// The first byte that no JSON has there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// How many bytes were read, the wrong one among them.
    pub offset: usize,
    /// What Go says of it; `None` where the text ends in the middle of a value.
    pub why: Option<String>,
}

/// Looks through values that follow each other with nothing but space between them.
/// Nesting is counted, not followed, so a text may be as deep as it is long.
///
/// # Errors
/// The first fault.
pub fn check(bytes: &[u8]) -> Result<(), Fault> {
    walk(bytes, false)
}

/// What Go's `json.Unmarshal` says of a text that `error` refused.
pub fn unmarshal_words(bytes: &[u8], error: &serde_json::Error) -> String {
    match walk(bytes, true) {
        Err(Fault { why: Some(why), .. }) => why,
        Err(Fault { why: None, .. }) => "unexpected end of JSON input".to_owned(),
        // Go takes more: half a surrogate pair, bytes that are no UTF-8.
        Ok(()) => error.to_string(),
    }
}

fn walk(bytes: &[u8], is_single: bool) -> Result<(), Fault> {
    let mut scan = Scan { bytes, at: 0 };
    let mut inside: Vec<Inside> = Vec::new();
    let mut n_values = 0_usize;
    loop {
        let Some(byte) = scan.next_word() else {
            let is_whole = inside.is_empty() && (n_values > 0 || !is_single);
            return if is_whole { Ok(()) } else { Err(scan.ended()) };
        };
        if is_single && n_values > 0 && inside.is_empty() {
            return Err(scan.wrong("after top-level value"));
        }
        n_values += 1;
        // A value begins, or an object or a list is empty.
        match byte {
            b'{' => {
                if scan.next_word().ok_or_else(|| scan.ended())? != b'}' {
                    scan.key()?;
                    inside.push(Inside::Object);
                    continue;
                }
            }
            b'[' => {
                if scan.next_word().ok_or_else(|| scan.ended())? != b']' {
                    scan.at -= 1;
                    inside.push(Inside::List);
                    continue;
                }
            }
            b'"' => scan.string()?,
            b'-' | b'0'..=b'9' => scan.number(byte)?,
            b't' => scan.literal("true")?,
            b'f' => scan.literal("false")?,
            b'n' => scan.literal("null")?,
            _ => return Err(scan.wrong("looking for beginning of value")),
        }
        // It has ended, and perhaps what it was in.
        while let Some(innermost) = inside.last() {
            match (scan.next_word().ok_or_else(|| scan.ended())?, innermost) {
                (b',', Inside::List) => break,
                (b',', Inside::Object) => {
                    scan.next_word().ok_or_else(|| scan.ended())?;
                    scan.key()?;
                    break;
                }
                (b']', Inside::List) | (b'}', Inside::Object) => drop(inside.pop()),
                (_, Inside::List) => return Err(scan.wrong("after array element")),
                (_, Inside::Object) => return Err(scan.wrong("after object key:value pair")),
            }
        }
    }
}

#[derive(Clone, Copy)]
enum Inside {
    Object,
    List,
}

struct Scan<'a> {
    bytes: &'a [u8],
    /// Behind the byte that was read last.
    at: usize,
}

impl Scan<'_> {
    fn next(&mut self) -> Option<u8> {
        let byte = self.bytes.get(self.at).copied();
        self.at += usize::from(byte.is_some());
        byte
    }

    /// The next byte that is no space.
    fn next_word(&mut self) -> Option<u8> {
        loop {
            match self.next()? {
                b' ' | b'\t' | b'\r' | b'\n' => {}
                byte => return Some(byte),
            }
        }
    }

    fn ended(&self) -> Fault {
        Fault { offset: self.at, why: None }
    }

    /// The byte that was read last is wrong.
    fn wrong(&self, whereabouts: &str) -> Fault {
        let byte = self.at.checked_sub(1).and_then(|at| self.bytes.get(at)).copied();
        let shown = match byte.map(char::from) {
            Some('\'') => "\\'".to_owned(),
            Some('"') => "\"".to_owned(),
            Some(letter) => shown(letter),
            None => return self.ended(),
        };
        let why = Some(format!("invalid character '{shown}' {whereabouts}"));
        Fault { offset: self.at, why }
    }

    /// A key whose first byte was read, and the colon behind it.
    fn key(&mut self) -> Result<(), Fault> {
        if self.bytes.get(self.at - 1) != Some(&b'"') {
            return Err(self.wrong("looking for beginning of object key string"));
        }
        self.string()?;
        match self.next_word() {
            Some(b':') => Ok(()),
            Some(_) => Err(self.wrong("after object key")),
            None => Err(self.ended()),
        }
    }

    /// The rest of a string.
    fn string(&mut self) -> Result<(), Fault> {
        loop {
            match self.next() {
                None => return Err(self.ended()),
                Some(b'"') => return Ok(()),
                Some(b'\\') => self.escape()?,
                Some(0..0x20) => return Err(self.wrong("in string literal")),
                Some(_) => {}
            }
        }
    }

    fn escape(&mut self) -> Result<(), Fault> {
        match self.next() {
            None => Err(self.ended()),
            Some(b'b' | b'f' | b'n' | b'r' | b't' | b'\\' | b'/' | b'"') => Ok(()),
            Some(b'u') => {
                for _ in 0..4 {
                    match self.next() {
                        None => return Err(self.ended()),
                        Some(byte) if byte.is_ascii_hexdigit() => {}
                        Some(_) => return Err(self.wrong("in \\u hexadecimal character escape")),
                    }
                }
                Ok(())
            }
            Some(_) => Err(self.wrong("in string escape code")),
        }
    }

    /// The rest of a number. What follows it is not its fault.
    fn number(&mut self, first: u8) -> Result<(), Fault> {
        let mut digit = first;
        if first == b'-' {
            digit = self.digit("in numeric literal")?;
        }
        if digit != b'0' {
            self.digits();
        }
        if self.bytes.get(self.at) == Some(&b'.') {
            self.at += 1;
            self.digit("after decimal point in numeric literal")?;
            self.digits();
        }
        if let Some(b'e' | b'E') = self.bytes.get(self.at) {
            self.at += 1;
            if let Some(b'+' | b'-') = self.bytes.get(self.at) {
                self.at += 1;
            }
            self.digit("in exponent of numeric literal")?;
            self.digits();
        }
        Ok(())
    }

    fn digit(&mut self, whereabouts: &str) -> Result<u8, Fault> {
        match self.next() {
            None => Err(self.ended()),
            Some(byte) if byte.is_ascii_digit() => Ok(byte),
            Some(_) => Err(self.wrong(whereabouts)),
        }
    }

    fn digits(&mut self) {
        while self.bytes.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
    }

    fn literal(&mut self, word: &str) -> Result<(), Fault> {
        for wanted in word.chars().skip(1) {
            match self.next() {
                None => return Err(self.ended()),
                Some(byte) if char::from(byte) == wanted => {}
                Some(_) => {
                    return Err(self.wrong(&format!("in literal {word} (expecting '{wanted}')")));
                }
            }
        }
        Ok(())
    }
}

/// A byte as `strconv.Quote` has the letter of that number.
fn shown(letter: char) -> String {
    match letter {
        '\\' => "\\\\".to_owned(),
        '\x07' => "\\a".to_owned(),
        '\x08' => "\\b".to_owned(),
        '\x0c' => "\\f".to_owned(),
        '\n' => "\\n".to_owned(),
        '\r' => "\\r".to_owned(),
        '\t' => "\\t".to_owned(),
        '\x0b' => "\\v".to_owned(),
        '\0'..'\x20' | '\x7f' => format!("\\x{:02x}", u32::from(letter)),
        // The soft hyphen is no letter that is shown, nor are these spaces and controls.
        '\u{80}'..='\u{a0}' | '\u{ad}' => format!("\\u{:04x}", u32::from(letter)),
        _ => letter.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_told_as_go_does() {
        // Texts, and what kubectl 1.32 said of them.
        for (text, offset, why) in [
            (r#"{"a":1,}"#, 8, "invalid character '}' looking for beginning of object key string"),
            ("{a: 1}", 2, "invalid character 'a' looking for beginning of object key string"),
            ("{'a':1}", 2, r"invalid character '\'' looking for beginning of object key string"),
            (r#"{"a":tru}"#, 9, "invalid character '}' in literal true (expecting 'e')"),
            ("{\"a\":\"\u{1}\"}", 7, r"invalid character '\x01' in string literal"),
            (r#"{"a":é}"#, 6, "invalid character 'Ã' looking for beginning of value"),
            (r#"{"a":1.x}"#, 8, "invalid character 'x' after decimal point in numeric literal"),
            (r#"{"a":1 "b":2}"#, 8, "invalid character '\"' after object key:value pair"),
            (r#"{"a" 1}"#, 6, "invalid character '1' after object key"),
            (r#"{"a":[1 2]}"#, 9, "invalid character '2' after array element"),
            (r#"{"a":"\u12x"}"#, 11, r"invalid character 'x' in \u hexadecimal character escape"),
            (r#"{"a":"\x"}"#, 8, "invalid character 'x' in string escape code"),
            (r#"{"a":1ex}"#, 8, "invalid character 'x' in exponent of numeric literal"),
            (r#"{"a":01}"#, 7, "invalid character '1' after object key:value pair"),
            ("{}\n---\n", 5, "invalid character '-' in numeric literal"),
            ("{}}", 3, "invalid character '}' looking for beginning of value"),
            (r#"{"a":[1,]}"#, 9, "invalid character ']' looking for beginning of value"),
        ] {
            let fault = Fault { offset, why: Some(why.to_owned()) };
            assert_eq!(check(text.as_bytes()), Err(fault), "{text}");
        }
        for text in [
            "{",
            "[",
            "[1",
            "{\"a",
            "{\"a\"",
            "{\"a\":",
            "{\"a\":1",
            "{\"a\":1,",
            "-",
            "1.",
            "nul",
            "\"\\u1",
        ] {
            let why = check(text.as_bytes()).map_err(|fault| fault.why);
            assert_eq!(why, Err(None), "{text}");
        }
    }

    #[test]
    fn one_value_is_told_as_unmarshal_does() {
        for (text, why) in [
            ("", "unexpected end of JSON input"),
            ("{\"a\":", "unexpected end of JSON input"),
            ("{} x", "invalid character 'x' after top-level value"),
            ("{} {}", "invalid character '{' after top-level value"),
            ("k8s", "invalid character 'k' looking for beginning of value"),
            ("{\"a\":,}", "invalid character ',' looking for beginning of value"),
        ] {
            let error = serde_json::from_str::<serde_json::Value>(text).unwrap_err();
            assert_eq!(unmarshal_words(text.as_bytes(), &error), why, "{text}");
        }
    }

    #[test]
    fn json_has_no_fault() {
        for text in [
            "",
            "  ",
            "{}",
            "[]",
            "[[], {}]",
            r#"{"a":{"b":[1,-0.5e+3,true,false,null,"x\n\u00e9/\/"]}} {"c":1}"#,
            "1 2",
        ] {
            assert_eq!(check(text.as_bytes()), Ok(()), "{text}");
        }
        assert_eq!(check(&[b'['; 100_000]).map_err(|fault| fault.why), Err(None));
    }
}
