//! The words of one action, between its delimiters.

use std::rc::Rc;

use crate::node::{At, Number};

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Token {
    Space,
    /// `|`, `,`, `(`, `)`.
    Mark(u8),
    Declare,
    Assign,
    Dot,
    /// `.name`.
    Field(Rc<str>),
    /// `$` or `$name`.
    Variable(Rc<str>),
    /// Keywords too: the parser knows where they mean something.
    Word(Rc<str>),
    Number(NumberText),
    Text(Rc<[u8]>),
    /// The closing delimiter.
    End,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct NumberText(pub(crate) Number);

impl PartialEq for NumberText {
    fn eq(&self, _: &NumberText) -> bool {
        false
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Placed {
    pub(crate) token: Token,
    pub(crate) at: At,
    pub(crate) end: At,
}

/// An action's tokens, and where the text goes on. `is_trimmed` tells of a `-}}`.
#[derive(Debug)]
pub(crate) struct Action {
    pub(crate) tokens: Vec<Placed>,
    pub(crate) next: usize,
    pub(crate) is_trimmed: bool,
}

pub(crate) fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// The length of a closing delimiter at the beginning of `rest`, with its trim mark.
pub(crate) fn closing(rest: &str) -> Option<(usize, bool)> {
    let bytes = rest.as_bytes();
    if rest.starts_with("}}") {
        return Some((2, false));
    }
    (bytes.len() >= 4 && is_space(bytes[0]) && &bytes[1..4] == b"-}}").then_some((4, true))
}

/// Reads from behind the opening delimiter.
///
/// # Errors
/// Where it fails and why.
pub(crate) fn action(text: &str, start: usize) -> Result<Action, (usize, String)> {
    let mut tokens = Vec::new();
    let mut pos = start;
    let mut n_open = 0usize;
    loop {
        let rest = &text[pos..];
        if let Some((length, is_trimmed)) = closing(rest) {
            if n_open > 0 {
                return Err((pos, "unclosed left paren".to_owned()));
            }
            push(&mut tokens, Token::End, pos, pos + length);
            return Ok(Action { tokens, next: pos + length, is_trimmed });
        }
        let Some(first) = rest.chars().next() else {
            return Err((pos, "unclosed action".to_owned()));
        };
        let second = rest.as_bytes().get(1).copied().unwrap_or(0);
        let (token, length) = match first {
            ' ' | '\t' | '\r' | '\n' => {
                let mut length = 1;
                while length < rest.len()
                    && is_space(rest.as_bytes()[length])
                    && closing(&rest[length..]).is_none()
                {
                    length += 1;
                }
                (Token::Space, length)
            }
            '=' => (Token::Assign, 1),
            ':' if second == b'=' => (Token::Declare, 2),
            ':' => return Err((pos, "expected :=".to_owned())),
            '|' | ',' => (Token::Mark(rest.as_bytes()[0]), 1),
            '(' => {
                n_open += 1;
                (Token::Mark(b'('), 1)
            }
            ')' => {
                n_open = n_open
                    .checked_sub(1)
                    .ok_or_else(|| (pos, "unexpected right paren".to_owned()))?;
                (Token::Mark(b')'), 1)
            }
            '"' => quoted(rest).map_err(|what| (pos, what))?,
            '`' => match rest[1..].find('`') {
                Some(idx) => (Token::Text(Rc::from(&rest.as_bytes()[1..=idx])), idx + 2),
                None => return Err((pos, "unterminated raw quoted string".to_owned())),
            },
            '\'' => character(rest).map_err(|what| (pos, what))?,
            '.' if !second.is_ascii_digit() => {
                let length = 1 + word_length(&rest[1..]);
                end_of_word(text, pos + length)?;
                match length {
                    1 => (Token::Dot, 1),
                    _ => (Token::Field(Rc::from(&rest[1..length])), length),
                }
            }
            '$' => {
                let length = 1 + word_length(&rest[1..]);
                end_of_word(text, pos + length)?;
                (Token::Variable(Rc::from(&rest[..length])), length)
            }
            '.' | '+' | '-' | '0'..='9' => number(rest).map_err(|what| (pos, what))?,
            c if c == '_' || c.is_alphanumeric() => {
                let length = word_length(rest);
                end_of_word(text, pos + length)?;
                (Token::Word(Rc::from(&rest[..length])), length)
            }
            c => {
                return Err((pos, format!("unrecognized character in action: {}", unicode(c))));
            }
        };
        push(&mut tokens, token, pos, pos + length);
        pos += length;
    }
}

#[expect(clippy::cast_possible_truncation)] // texts are shorter than 4 GiB (`Set::parse`)
fn push(tokens: &mut Vec<Placed>, token: Token, at: usize, end: usize) {
    tokens.push(Placed { token, at: at as At, end: end as At });
}

fn word_length(text: &str) -> usize {
    text.find(|c: char| c != '_' && !c.is_alphanumeric()).unwrap_or(text.len())
}

/// What may stand behind a word, so that `.a+1` is an error and not something else.
fn end_of_word(text: &str, pos: usize) -> Result<(), (usize, String)> {
    match text[pos..].chars().next() {
        None | Some(' ' | '\t' | '\r' | '\n' | '.' | ',' | '|' | ':' | ')' | '(') => Ok(()),
        Some('}') if text[pos..].starts_with("}}") => Ok(()),
        Some(c) => Err((pos, format!("bad character {}", unicode(c)))),
    }
}

/// Go's `%#U`.
fn unicode(c: char) -> String {
    format!("U+{:04X} '{c}'", u32::from(c))
}

fn quoted(rest: &str) -> Result<(Token, usize), String> {
    let bytes = rest.as_bytes();
    let mut idx = 1;
    loop {
        match bytes.get(idx) {
            None | Some(b'\n') => return Err("unterminated quoted string".to_owned()),
            Some(b'"') => break,
            Some(b'\\') => idx += 2,
            Some(_) => idx += 1,
        }
    }
    let text = rest.get(1..idx).ok_or("unterminated quoted string")?;
    let text = unquote(text, '"').ok_or("invalid syntax")?;
    Ok((Token::Text(Rc::from(text)), idx + 1))
}

fn character(rest: &str) -> Result<(Token, usize), String> {
    let bytes = rest.as_bytes();
    let mut idx = 1;
    loop {
        match bytes.get(idx) {
            None | Some(b'\n') => return Err("unterminated character constant".to_owned()),
            Some(b'\'') => break,
            Some(b'\\') => idx += 2,
            Some(_) => idx += 1,
        }
    }
    let inside = rest.get(1..idx).ok_or("unterminated character constant")?;
    let malformed = || format!("malformed character constant: '{inside}'");
    let read = unquote(inside, '\'').ok_or_else(malformed)?;
    let code = match std::str::from_utf8(&read).ok().map(|text| text.chars().collect::<Vec<_>>()) {
        Some(chars) if chars.len() == 1 => i64::from(u32::from(chars[0])),
        None if read.len() == 1 => i64::from(read[0]),
        _ => return Err(malformed()),
    };
    #[expect(clippy::cast_precision_loss)] // below 2^21
    let float = code as f64;
    let number = Number { int: Some(code), float: Some(float), is_float: false };
    Ok((Token::Number(NumberText(number)), idx + 1))
}

/// The bytes that a Go string's inside stands for.
pub(crate) fn unquote(text: &str, quote: char) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        match chars.next()? {
            'a' => out.push(7),
            'b' => out.push(8),
            'f' => out.push(12),
            'n' => out.push(b'\n'),
            'r' => out.push(b'\r'),
            't' => out.push(b'\t'),
            'v' => out.push(11),
            '\\' => out.push(b'\\'),
            c if c == quote => out.push(u8::try_from(c).ok()?),
            'x' => out.push(u8::try_from(digits(&mut chars, 2, 16)?).ok()?),
            c @ ('u' | 'U') => {
                let n = if c == 'u' { 4 } else { 8 };
                let c = char::from_u32(digits(&mut chars, n, 16)?)?;
                out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            }
            c @ '0'..='7' => {
                let sum = c.to_digit(8)? * 64 + digits(&mut chars, 2, 8)?;
                out.push(u8::try_from(sum).ok()?);
            }
            _ => return None,
        }
    }
    Some(out)
}

fn digits(chars: &mut std::str::Chars<'_>, n: usize, radix: u32) -> Option<u32> {
    let mut sum: u32 = 0;
    for _ in 0..n {
        sum = sum.checked_mul(radix)?.checked_add(chars.next()?.to_digit(radix)?)?;
    }
    Some(sum)
}

fn number(rest: &str) -> Result<(Token, usize), String> {
    let bytes = rest.as_bytes();
    let mut idx = usize::from(matches!(bytes[0], b'+' | b'-'));
    let is_hex = rest[idx..].starts_with("0x") || rest[idx..].starts_with("0X");
    while let Some(byte) = bytes.get(idx) {
        let is_exponent_sign = matches!(byte, b'+' | b'-')
            && match bytes[idx - usize::from(idx > 0)] {
                b'e' | b'E' => !is_hex,
                b'p' | b'P' => true,
                _ => false,
            };
        if !(byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_') || is_exponent_sign) {
            break;
        }
        idx += 1;
    }
    let text = &rest[..idx];
    match read_number(text) {
        Some(number) => Ok((Token::Number(NumberText(number)), idx)),
        None => Err(format!("bad number syntax: {}", crate::format::quote(text.as_bytes()))),
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss)] // as Go converts; checked by converting back
fn read_number(text: &str) -> Option<Number> {
    let (sign, digits) = match text.as_bytes()[0] {
        b'-' => ("-", &text[1..]),
        b'+' => ("", &text[1..]),
        _ => ("", text),
    };
    let lower = digits.to_ascii_lowercase();
    let is_hex = lower.starts_with("0x");
    if let Some(int) = read_int(sign, &lower) {
        return Some(Number { int: Some(int), float: Some(int as f64), is_float: false });
    }
    if !lower.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return None;
    }
    let float = match is_hex {
        true => hex_float(&lower[2..])?,
        false => {
            if lower.contains(|c: char| c.is_ascii_alphabetic() && c != 'e') {
                return None;
            }
            lower.replace('_', "").parse::<f64>().ok()?
        }
    };
    let float = if sign == "-" { -float } else { float };
    if !lower.contains(['.', 'e', 'p']) {
        return None; // An integer that does not fit.
    }
    let int = (float.fract() == 0.0 && float.abs() < 9e18).then_some(float as i64);
    Some(Number { int, float: Some(float), is_float: true })
}

fn read_int(sign: &str, lower: &str) -> Option<i64> {
    let (radix, digits) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, &lower[2..]),
        [b'0', b'b', ..] => (2, &lower[2..]),
        [b'0', b'o', ..] => (8, &lower[2..]),
        [b'0', _, ..] => (8, &lower[1..]),
        _ => (10, lower),
    };
    let digits = digits.replace('_', "");
    if digits.starts_with(['+', '-']) {
        return None;
    }
    i64::from_str_radix(&format!("{sign}{digits}"), radix).ok()
}

/// `1.8p3` behind `0x`.
fn hex_float(text: &str) -> Option<f64> {
    let (mantissa, exponent) = text.split_once('p')?;
    let exponent: i32 = exponent.parse().ok()?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let mut sum = 0.0;
    for c in whole.chars().chain(fraction.chars()) {
        sum = sum * 16.0 + f64::from(c.to_digit(16)?);
    }
    let places = i32::try_from(fraction.len()).ok()?;
    Some(sum * 2f64.powi(exponent.checked_sub(places.checked_mul(4)?)?))
}
