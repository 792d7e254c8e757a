//! The words of an expression.

use crate::words::KEYWORDS;

/// What a word is. Text and numbers are read by the parser, from the text between `at` and `end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Word {
    Ident,
    Int,
    Uint,
    Float,
    Str,
    Bytes,
    /// A keyword or a sign, as it is written.
    Sign(&'static str),
    End,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Token {
    pub(crate) word: Word,
    /// Where it is in the text, in bytes.
    pub(crate) at: u32,
    pub(crate) end: u32,
}

/// Longer ones first.
const SIGNS: [&str; 24] = [
    "==", "!=", "<=", ">=", "&&", "||", "[", "]", "{", "}", "(", ")", ".", ",", "-", "!", "?", ":",
    "+", "*", "/", "%", "<", ">",
];

/// The words of `text`, and where none could be recognized: from and to, in bytes.
pub(crate) fn words(text: &str) -> (Vec<Token>, Vec<(usize, usize)>) {
    let mut lexer = Lexer { text: text.as_bytes(), at: 0 };
    let (mut tokens, mut errors) = (Vec::new(), Vec::new());
    loop {
        lexer.blank();
        let at = lexer.at;
        if at >= text.len() {
            let end = at as u32;
            tokens.push(Token { word: Word::End, at: end, end });
            return (tokens, errors);
        }
        match lexer.word() {
            Ok(word) => tokens.push(Token { word, at: at as u32, end: lexer.at as u32 }),
            Err(end) => {
                let mut end = end.max(at + 1).min(text.len());
                while !text.is_char_boundary(end) {
                    end += 1;
                }
                errors.push((at, end));
                lexer.at = end;
            }
        }
    }
}

struct Lexer<'a> {
    text: &'a [u8],
    at: usize,
}

impl Lexer<'_> {
    fn peek(&self, ahead: usize) -> u8 {
        self.text.get(self.at + ahead).copied().unwrap_or(0)
    }

    fn blank(&mut self) {
        loop {
            match self.peek(0) {
                b' ' | b'\t' | b'\r' | b'\n' | 0x0c => self.at += 1,
                b'/' if self.peek(1) == b'/' => {
                    let rest = &self.text[self.at..];
                    self.at += rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
                }
                _ => return,
            }
        }
    }

    /// One word; else up to where the text was looked at in vain.
    fn word(&mut self) -> Result<Word, usize> {
        let first = self.peek(0);
        if first.is_ascii_digit() || (first == b'.' && self.peek(1).is_ascii_digit()) {
            return Ok(self.number());
        }
        if let Some((raw, bytes)) = self.quote_ahead() {
            self.at += usize::from(raw) + usize::from(bytes);
            return self.quoted(raw).map(|()| if bytes { Word::Bytes } else { Word::Str });
        }
        if first.is_ascii_alphabetic() || first == b'_' {
            let from = self.at;
            while self.peek(0).is_ascii_alphanumeric() || self.peek(0) == b'_' {
                self.at += 1;
            }
            let name = &self.text[from..self.at];
            let keyword = KEYWORDS.iter().find(|keyword| keyword.as_bytes() == name);
            return Ok(keyword.map_or(Word::Ident, |keyword| Word::Sign(keyword)));
        }
        let rest = &self.text[self.at..];
        let sign = SIGNS.iter().find(|sign| rest.starts_with(sign.as_bytes()));
        // A sign of two parts, of which only the first is there, takes what stands in the place of the other.
        let half = matches!(first, b'=' | b'&' | b'|');
        let sign = sign.ok_or(self.at + 1 + usize::from(half))?;
        self.at += sign.len();
        Ok(Word::Sign(sign))
    }

    /// Whether a text begins here, and its prefixes: raw, bytes.
    fn quote_ahead(&self) -> Option<(bool, bool)> {
        let bytes = matches!(self.peek(0), b'b' | b'B');
        let skip = usize::from(bytes);
        let raw = matches!(self.peek(skip), b'r' | b'R');
        let quote = self.peek(skip + usize::from(raw));
        matches!(quote, b'"' | b'\'').then_some((raw, bytes))
    }

    fn quoted(&mut self, raw: bool) -> Result<(), usize> {
        let quote = self.peek(0);
        let triple = self.peek(1) == quote && self.peek(2) == quote;
        let from = self.at;
        self.at += if triple { 3 } else { 1 };
        loop {
            let byte = self.peek(0);
            if self.at >= self.text.len() || (!triple && matches!(byte, b'\n' | b'\r')) {
                if triple {
                    // The first two quotes are an empty text then.
                    self.at = from + 2;
                    return Ok(());
                }
                return Err(self.at + 1);
            }
            if byte == quote && (!triple || (self.peek(1) == quote && self.peek(2) == quote)) {
                self.at += if triple { 3 } else { 1 };
                return Ok(());
            }
            if byte == b'\\' && !raw {
                match escape(&self.text[self.at + 1..]) {
                    Ok(length) => self.at += length + 1,
                    Err(_) if triple => {
                        self.at = from + 2;
                        return Ok(());
                    }
                    Err(length) => return Err(self.at + 1 + length),
                }
                continue;
            }
            self.at += 1;
        }
    }

    fn digits(&mut self, is: fn(&u8) -> bool) {
        while is(&self.peek(0)) {
            self.at += 1;
        }
    }

    fn number(&mut self) -> Word {
        if self.peek(0) == b'0' && self.peek(1) == b'x' && self.peek(2).is_ascii_hexdigit() {
            self.at += 2;
            self.digits(u8::is_ascii_hexdigit);
        } else {
            self.digits(u8::is_ascii_digit);
            let mut float = false;
            if self.peek(0) == b'.' && self.peek(1).is_ascii_digit() {
                self.at += 1;
                self.digits(u8::is_ascii_digit);
                float = true;
            }
            let signed = usize::from(matches!(self.peek(1), b'+' | b'-'));
            if matches!(self.peek(0), b'e' | b'E') && self.peek(1 + signed).is_ascii_digit() {
                self.at += 1 + signed;
                self.digits(u8::is_ascii_digit);
                float = true;
            }
            if float {
                return Word::Float;
            }
        }
        if matches!(self.peek(0), b'u' | b'U') {
            self.at += 1;
            return Word::Uint;
        }
        Word::Int
    }
}

/// How long the escape sequence is that follows a backslash; else up to what does not fit.
fn escape(rest: &[u8]) -> Result<usize, usize> {
    let digits = |from: usize, count: usize, is: fn(u8) -> bool| {
        let there = (from..from + count).take_while(|at| rest.get(*at).is_some_and(|b| is(*b)));
        match there.count() {
            found if found == count => Ok(from + count),
            found => Err(from + found + 1),
        }
    };
    let hex = |byte: u8| byte.is_ascii_hexdigit();
    match rest.first() {
        Some(
            b'a' | b'b' | b'f' | b'n' | b'r' | b't' | b'v' | b'"' | b'\'' | b'\\' | b'?' | b'`',
        ) => Ok(1),
        Some(b'x' | b'X') => digits(1, 2, hex),
        Some(b'u') => digits(1, 4, hex),
        Some(b'U') => digits(1, 8, hex),
        Some(b'0'..=b'3') => digits(1, 2, |byte| (b'0'..=b'7').contains(&byte)),
        _ => Err(1),
    }
}

/// What a quoted word means: its bytes, with escapes as `bytes` or text have them.
pub(crate) fn unquoted(word: &str, bytes: bool) -> Option<Vec<u8>> {
    let word = word.replace("\r\n", "\n").replace('\r', "\n");
    let raw = word.starts_with(['r', 'R']);
    let quoted = if raw { &word[1..] } else { &word[..] };
    let triple = quoted.len() >= 6 && (quoted.starts_with("'''") || quoted.starts_with("\"\"\""));
    let cut = if triple { 3 } else { 1 };
    let inner = quoted.get(cut..quoted.len().checked_sub(cut)?)?.as_bytes();
    if raw {
        return Some(inner.to_vec());
    }
    let mut out = Vec::with_capacity(inner.len());
    let mut at = 0;
    while at < inner.len() {
        if inner[at] != b'\\' {
            out.push(inner[at]);
            at += 1;
            continue;
        }
        let rest = &inner[at + 1..];
        let length = escape(rest).ok()?;
        let digits = std::str::from_utf8(&rest[..length]).ok()?;
        let code = match rest[0] {
            b'a' => 7,
            b'b' => 8,
            b'f' => 12,
            b'n' => 10,
            b'r' => 13,
            b't' => 9,
            b'v' => 11,
            b'u' | b'U' if bytes => return None,
            b'x' | b'X' | b'u' | b'U' => u32::from_str_radix(&digits[1..], 16).ok()?,
            b'0'..=b'3' => u32::from_str_radix(digits, 8).ok()?,
            other => u32::from(other),
        };
        if bytes {
            out.push(u8::try_from(code).ok()?);
        } else {
            // A surrogate cannot be written in UTF-8; Go writes the replacement character.
            let letter = match code {
                0xd800..=0xdfff => '\u{fffd}',
                _ => char::from_u32(code)?,
            };
            out.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
        }
        at += 1 + length;
    }
    Some(out)
}
