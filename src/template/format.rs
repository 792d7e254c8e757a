//! Go's fmt: `%v` and the other verbs over values, with its words for what does not fit.

use crate::value::{Heap, Int, Value, WALK_DEPTH_MAX};

/// Widths and precisions above this are refused, as in Go.
const WIDTH_MAX: usize = 1_000_000;

/// As `%v` prints it.
///
/// # Errors
/// If there is too much of it.
pub fn show(value: &Value, heap: &Heap) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    Printer { heap, out: &mut out, spec: Spec::default(), depth: 0 }.value(value, b'v')?;
    Ok(out)
}

/// As [`show`], as text.
///
/// # Errors
/// As [`show`].
pub fn sprint(value: &Value, heap: &Heap) -> Result<String, String> {
    Ok(String::from_utf8_lossy(&show(value, heap)?).into_owned())
}

/// Go's `Sprint`: spaces between operands that are both no strings.
pub(crate) fn print(args: &[Value], heap: &Heap) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    for (idx, arg) in args.iter().enumerate() {
        let is_text = |value: &Value| matches!(value, Value::Text(_));
        if idx > 0 && !is_text(arg) && !is_text(&args[idx - 1]) {
            out.push(b' ');
        }
        out.append(&mut show(arg, heap)?);
    }
    Ok(out)
}

pub(crate) fn println(args: &[Value], heap: &Heap) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    for (idx, arg) in args.iter().enumerate() {
        if idx > 0 {
            out.push(b' ');
        }
        out.append(&mut show(arg, heap)?);
    }
    out.push(b'\n');
    Ok(out)
}

/// A float as `%v` prints it: the shortest digits, an exponent from a million on.
pub fn float(n: f64) -> String {
    float_as(n, b'v', None, false)
}

/// Go's `%q` of a string.
pub fn quote(text: &[u8]) -> String {
    quote_with(text, '"')
}

fn quote_with(text: &[u8], mark: char) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push(mark);
    for chunk in text.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                c if c == mark || c == '\\' => out.extend(['\\', c]),
                '\x07' => out.push_str("\\a"),
                '\x08' => out.push_str("\\b"),
                '\x0c' => out.push_str("\\f"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                '\x0b' => out.push_str("\\v"),
                c if is_printable(c) => out.push(c),
                c if u32::from(c) < 0x80 => out.push_str(&format!("\\x{:02x}", u32::from(c))),
                c if u32::from(c) < 0x1_0000 => out.push_str(&format!("\\u{:04x}", u32::from(c))),
                c => out.push_str(&format!("\\U{:08x}", u32::from(c))),
            }
        }
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
    out.push(mark);
    out
}

/// Go's `strconv.IsPrint`, as far as texts of configuration need it.
fn is_printable(c: char) -> bool {
    c == ' '
        || !(c.is_control()
            || c.is_whitespace()
            || matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e000}'..='\u{f8ff}' | '\u{fff0}'..='\u{fffb}' | '\u{f0000}'..))
}

/// Go's `Sprintf`.
///
/// # Errors
/// If there is too much of it.
pub(crate) fn sprintf(pattern: &[u8], args: &[Value], heap: &Heap) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    let mut pos = 0;
    let mut next = 0;
    let mut is_reordered = false;
    while pos < pattern.len() {
        if pattern[pos] != b'%' {
            let end = pattern[pos..].iter().position(|byte| *byte == b'%');
            let end = end.map_or(pattern.len(), |length| pos + length);
            heap.charge(end - pos)?;
            out.extend_from_slice(&pattern[pos..end]);
            pos = end;
            continue;
        }
        pos += 1;
        heap.step(1)?;
        let mut spec = Spec::default();
        let mut is_bad_index = false;
        while let Some(flag) = pattern.get(pos) {
            match flag {
                b'+' => spec.plus = true,
                b'-' => (spec.minus, spec.zero) = (true, false),
                b'#' => spec.sharp = true,
                b' ' => spec.space = true,
                b'0' => spec.zero = !spec.minus,
                _ => break,
            }
            pos += 1;
        }
        is_reordered |= argument_index(pattern, &mut pos, &mut next, args, &mut is_bad_index);
        spec.width = size(pattern, &mut pos, args, &mut next, &mut out, b"%!(BADWIDTH)");
        if let Some(width) = spec.width
            && width < 0
        {
            (spec.minus, spec.zero, spec.width) = (true, false, Some(-width));
        }
        if pattern.get(pos) == Some(&b'.') {
            pos += 1;
            is_reordered |= argument_index(pattern, &mut pos, &mut next, args, &mut is_bad_index);
            spec.precision = size(pattern, &mut pos, args, &mut next, &mut out, b"%!(BADPREC)");
            spec.precision = Some(spec.precision.unwrap_or(0)).filter(|n| *n >= 0);
        }
        is_reordered |= argument_index(pattern, &mut pos, &mut next, args, &mut is_bad_index);
        let rest = String::from_utf8_lossy(&pattern[pos..(pos + 4).min(pattern.len())]);
        let Some(verb) = rest.chars().next() else {
            out.extend_from_slice(b"%!(NOVERB)");
            break;
        };
        pos += if pattern[pos].is_ascii() { 1 } else { verb.len_utf8().min(pattern.len() - pos) };
        if verb == '%' {
            out.push(b'%');
        } else if is_bad_index {
            out.extend_from_slice(format!("%!{verb}(BADINDEX)").as_bytes());
        } else if let Some(arg) = args.get(next) {
            next += 1;
            // The verbs are ASCII; all else is a bad verb.
            let mut printer = Printer { heap, out: &mut out, spec, depth: 0 };
            match u8::try_from(verb) {
                Ok(verb) => printer.value(arg, verb)?,
                Err(_) => printer.bad(arg, &verb.to_string())?,
            }
        } else {
            out.extend_from_slice(format!("%!{verb}(MISSING)").as_bytes());
        }
    }
    if !is_reordered && next < args.len() {
        out.extend_from_slice(b"%!(EXTRA ");
        for (idx, arg) in args[next..].iter().enumerate() {
            if idx > 0 {
                out.extend_from_slice(b", ");
            }
            if arg.is_nil() {
                out.extend_from_slice(b"<nil>");
            } else {
                out.extend_from_slice(arg.type_name().as_bytes());
                out.push(b'=');
                out.append(&mut show(arg, heap)?);
            }
        }
        out.push(b')');
    }
    Ok(out)
}

/// `[2]`: which argument comes next. Whether there was one.
fn argument_index(
    pattern: &[u8],
    pos: &mut usize,
    next: &mut usize,
    args: &[Value],
    is_bad: &mut bool,
) -> bool {
    if pattern.get(*pos) != Some(&b'[') {
        return false;
    }
    let Some(length) = pattern[*pos..].iter().position(|byte| *byte == b']') else {
        *is_bad = true;
        *pos += 1;
        return true;
    };
    let text = std::str::from_utf8(&pattern[*pos + 1..*pos + length]).unwrap_or("");
    *pos += length + 1;
    match text.parse::<usize>() {
        Ok(n) if n >= 1 && n <= args.len() => *next = n - 1,
        _ => *is_bad = true,
    }
    true
}

/// A width or precision: digits, or `*` and an argument.
fn size(
    pattern: &[u8],
    pos: &mut usize,
    args: &[Value],
    next: &mut usize,
    out: &mut Vec<u8>,
    bad: &[u8],
) -> Option<i64> {
    let fits = |n: &i64| n.unsigned_abs() <= WIDTH_MAX as u64;
    if pattern.get(*pos) == Some(&b'*') {
        *pos += 1;
        let arg = args.get(*next);
        *next += 1;
        let size = match arg {
            Some(Value::Int(n, _)) => Some(*n).filter(fits),
            _ => None,
        };
        if size.is_none() {
            out.extend_from_slice(bad);
        }
        return size;
    }
    let start = *pos;
    while pattern.get(*pos).is_some_and(u8::is_ascii_digit) {
        *pos += 1;
    }
    let digits = std::str::from_utf8(&pattern[start..*pos]).unwrap_or("");
    digits.parse().ok().filter(fits)
}

#[derive(Clone, Copy, Default)]
struct Spec {
    plus: bool,
    minus: bool,
    sharp: bool,
    space: bool,
    zero: bool,
    width: Option<i64>,
    precision: Option<i64>,
}

struct Printer<'a> {
    heap: &'a Heap,
    out: &'a mut Vec<u8>,
    spec: Spec,
    depth: usize,
}

impl Printer<'_> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.heap.charge(bytes.len())?;
        self.out.extend_from_slice(bytes);
        Ok(())
    }

    /// Pads to the width, which counts characters.
    fn pad(&mut self, text: &[u8], with_zeros: bool) -> Result<(), String> {
        let n = text.iter().filter(|byte| **byte & 0xc0 != 0x80).count();
        let width = usize::try_from(self.spec.width.unwrap_or(0)).unwrap_or(0);
        let fill = width.saturating_sub(n);
        self.heap.charge(fill)?;
        if self.spec.minus {
            self.put(text)?;
            self.out.resize(self.out.len() + fill, b' ');
            return Ok(());
        }
        if with_zeros && self.spec.zero {
            let n_sign = usize::from(matches!(text.first(), Some(b'+' | b'-' | b' ')));
            self.put(&text[..n_sign])?;
            self.out.resize(self.out.len() + fill, b'0');
            return self.put(&text[n_sign..]);
        }
        self.out.resize(self.out.len() + fill, b' ');
        self.put(text)
    }

    /// `%!d(string=x)`.
    fn bad(&mut self, value: &Value, verb: &str) -> Result<(), String> {
        self.put(format!("%!{verb}(").as_bytes())?;
        if value.is_nil() {
            self.put(b"<nil>")?;
        } else {
            self.put(value.type_name().as_bytes())?;
            self.put(b"=")?;
            let spec = std::mem::take(&mut self.spec);
            self.value(value, b'v')?;
            self.spec = spec;
        }
        self.put(b")")
    }

    fn value(&mut self, value: &Value, verb: u8) -> Result<(), String> {
        if self.depth > WALK_DEPTH_MAX {
            return Err("the value is nested too deeply to be printed".to_owned());
        }
        self.heap.step(1)?;
        if verb == b'T' {
            return self.text(value.type_name().as_bytes(), b's');
        }
        match value {
            Value::Nil | Value::Invalid if verb == b'v' => self.pad(b"<nil>", false),
            Value::Bool(truth) if matches!(verb, b'v' | b't') => {
                self.pad(if *truth { b"true" } else { b"false" }, false)
            }
            Value::Int(n, kind) => self.int(value, *n, *kind, verb),
            Value::Float(n) => match verb {
                b'v' | b'e' | b'E' | b'f' | b'F' | b'g' | b'G' => {
                    let precision = self.spec.precision.and_then(|n| usize::try_from(n).ok());
                    if precision.is_some_and(|n| n > 1000) {
                        return Err("a precision of more than 1000 digits".to_owned());
                    }
                    let mut text = float_as(*n, verb, precision, self.spec.sharp);
                    self.sign(&mut text);
                    self.pad(text.as_bytes(), n.is_finite())
                }
                _ => self.bad(value, &char::from(verb).to_string()),
            },
            Value::Text(text) => match verb {
                b'v' if self.spec.sharp => self.text(text, b'q'),
                b'v' | b's' | b'q' | b'x' | b'X' => self.text(text, verb),
                _ => self.bad(value, &char::from(verb).to_string()),
            },
            Value::Bytes(bytes) => match verb {
                b's' | b'q' | b'x' | b'X' => self.text(bytes, verb),
                _ => {
                    self.put(b"[")?;
                    for (idx, byte) in bytes.iter().enumerate() {
                        if idx > 0 {
                            self.put(b" ")?;
                        }
                        self.int(value, i64::from(*byte), Int::Uint8, verb)?;
                    }
                    self.put(b"]")
                }
            },
            Value::List(list) => {
                self.depth += 1;
                self.put(b"[")?;
                for (idx, item) in list.items.iter().enumerate() {
                    if idx > 0 {
                        self.put(b" ")?;
                    }
                    self.value(item, verb)?;
                }
                self.depth -= 1;
                self.put(b"]")
            }
            Value::Map(map) => {
                self.depth += 1;
                self.put(b"map[")?;
                for (idx, (key, item)) in map.entries.borrow().iter().enumerate() {
                    if idx > 0 {
                        self.put(b" ")?;
                    }
                    self.text(
                        key.as_bytes(),
                        if matches!(verb, b'q' | b'x') { verb } else { b's' },
                    )?;
                    self.put(b":")?;
                    self.value(item, verb)?;
                }
                self.depth -= 1;
                self.put(b"]")
            }
            Value::Object(object) => {
                let shown = object.show();
                self.text(shown.as_bytes(), if verb == b'q' { b'q' } else { b's' })
            }
            _ => self.bad(value, &char::from(verb).to_string()),
        }
    }

    fn sign(&self, text: &mut String) {
        if !text.starts_with('-') {
            if self.spec.plus {
                text.insert(0, '+');
            } else if self.spec.space {
                text.insert(0, ' ');
            }
        }
    }

    fn int(&mut self, value: &Value, n: i64, kind: Int, verb: u8) -> Result<(), String> {
        let magnitude = if kind == Int::Uint64 { n.cast_unsigned() } else { n.unsigned_abs() };
        let (prefix, mut digits) = match verb {
            b'v' | b'd' => ("", magnitude.to_string()),
            b'b' => ("0b", format!("{magnitude:b}")),
            b'o' => ("0", format!("{magnitude:o}")),
            b'O' => ("", format!("0o{magnitude:o}")),
            b'x' => ("0x", format!("{magnitude:x}")),
            b'X' => ("0X", format!("{magnitude:X}")),
            b'c' | b'q' | b'U' => {
                let c = u32::try_from(n).ok().and_then(char::from_u32).unwrap_or('\u{fffd}');
                let text = match verb {
                    b'c' => c.to_string(),
                    b'q' => quote_with(c.to_string().as_bytes(), '\''),
                    _ => format!("U+{magnitude:04X}"),
                };
                return self.pad(text.as_bytes(), false);
            }
            _ => return self.bad(value, &char::from(verb).to_string()),
        };
        if let Some(precision) = self.spec.precision {
            let wanted = usize::try_from(precision).unwrap_or(0);
            self.heap.charge(wanted)?;
            if digits.len() < wanted {
                digits.insert_str(0, &"0".repeat(wanted - digits.len()));
            }
        }
        if self.spec.sharp {
            digits.insert_str(0, prefix);
        }
        if n < 0 && kind != Int::Uint64 {
            digits.insert(0, '-');
        }
        self.sign(&mut digits);
        let with_zeros = self.spec.precision.is_none();
        self.pad(digits.as_bytes(), with_zeros)
    }

    fn text(&mut self, text: &[u8], verb: u8) -> Result<(), String> {
        self.heap.charge(text.len() * 2)?;
        let mut text = text;
        let cut;
        if let Some(precision) = self.spec.precision {
            let n = usize::try_from(precision).unwrap_or(0);
            let whole = String::from_utf8_lossy(text);
            cut = match verb {
                b'x' | b'X' => text[..n.min(text.len())].to_vec(),
                _ => whole.chars().take(n).collect::<String>().into_bytes(),
            };
            text = &cut;
        }
        match verb {
            b'q' if self.spec.sharp && !text.contains(&b'`') => {
                let shown = format!("`{}`", String::from_utf8_lossy(text));
                self.pad(shown.as_bytes(), false)
            }
            b'q' => self.pad(quote(text).as_bytes(), false),
            b'x' | b'X' => {
                let digits: &[u8; 16] =
                    if verb == b'x' { b"0123456789abcdef" } else { b"0123456789ABCDEF" };
                let mut out = Vec::with_capacity(text.len() * 2);
                for byte in text {
                    out.push(digits[usize::from(byte >> 4)]);
                    out.push(digits[usize::from(byte & 15)]);
                }
                self.pad(&out, false)
            }
            _ => self.pad(text, false),
        }
    }
}

/// A float by a verb; without a precision the shortest digits that are the same number.
fn float_as(n: f64, verb: u8, precision: Option<usize>, keeps_zeros: bool) -> String {
    if n.is_nan() {
        return "NaN".to_owned();
    }
    if n.is_infinite() {
        return if n > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let upper = verb.is_ascii_uppercase();
    let text = match verb.to_ascii_lowercase() {
        b'f' => format!("{n:.*}", precision.unwrap_or(6)),
        b'e' => scientific(&format!("{n:.*e}", precision.unwrap_or(6))),
        _ => {
            let raw = match precision {
                None => format!("{n:e}"),
                Some(digits) => format!("{n:.*e}", digits.max(1) - 1),
            };
            let (mantissa, exponent) = raw.split_once('e').unwrap_or((&raw, "0"));
            let exponent: i32 = exponent.parse().unwrap_or(0);
            let n_digits = mantissa.bytes().filter(u8::is_ascii_digit).count();
            let limit = match precision {
                None => 6,
                Some(digits) => i32::try_from(digits.max(1)).unwrap_or(i32::MAX),
            };
            if exponent < -4 || exponent >= limit {
                let mantissa = if precision.is_some() && !keeps_zeros {
                    trim_zeros(mantissa)
                } else {
                    mantissa
                };
                scientific(&format!("{mantissa}e{exponent}"))
            } else {
                let places = i32::try_from(n_digits).unwrap_or(0) - 1 - exponent;
                let places = usize::try_from(places).unwrap_or(0);
                let fixed = format!("{n:.places$}");
                match precision.is_some() && !keeps_zeros {
                    true => trim_zeros(&fixed).to_owned(),
                    false => fixed,
                }
            }
        }
    };
    if upper { text.to_uppercase() } else { text }
}

fn trim_zeros(text: &str) -> &str {
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.'),
        false => text,
    }
}

/// Rust's `1e6` as Go's `1e+06`.
fn scientific(text: &str) -> String {
    let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
    let (sign, digits) = match exponent.strip_prefix('-') {
        Some(digits) => ('-', digits),
        None => ('+', exponent),
    };
    format!("{mantissa}e{sign}{digits:0>2}")
}
