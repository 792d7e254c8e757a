//! JSON trees to YAML, byte for byte as sigs.k8s.io/yaml writes it: what is computed of such a text (charts hash
//! theirs) is the same here.
//!
//! Its habits are libyaml's: lists are not indented below their key, texts that would be read as something else are
//! quoted, long ones are folded at 80 columns, keys are sorted with the numbers in them as numbers.

use std::cmp::Ordering;

use serde_json::{Map, Value};
use stdx::Arrange;

/// A line that is longer is folded at the next space.
const WIDTH: usize = 80;
/// A longer key is written as `? key`.
const KEY_BYTES_MAX: usize = 128;

/// How lists and long texts look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// As `yaml.Marshal` of sigs.k8s.io/yaml.
    Plain,
    /// As yaml.v3 with an indent of two: lists below a key are indented, nothing is folded.
    Pretty,
}

/// `tree` as YAML, with a line break at its end. The depth of trees is bounded by what reads them.
pub fn emit(tree: &Value, style: Style) -> String {
    let mut emitter = Emitter { out: String::new(), column: 0, is_fresh: false, style };
    emitter.node(tree, None, false);
    if !emitter.is_fresh {
        emitter.out.push('\n');
    }
    emitter.out
}

struct Emitter {
    out: String,
    /// Characters in the present line.
    column: usize,
    /// A text that ends with a line break has begun the next line.
    is_fresh: bool,
    style: Style,
}

impl Emitter {
    fn put(&mut self, text: &str) {
        self.out.push_str(text);
        self.column += text.chars().count();
    }

    fn line(&mut self, indent: usize) {
        if !std::mem::take(&mut self.is_fresh) {
            self.out.push('\n');
        }
        self.out.extend(std::iter::repeat_n(' ', indent));
        self.column = indent;
    }

    /// A node behind a mark that has no space behind it yet. `indent` is the one of the collection around, `in_map`
    /// tells that it is a map's value.
    fn node(&mut self, tree: &Value, indent: Option<usize>, in_map: bool) {
        let is_first = indent.is_none();
        match tree {
            Value::Object(map) if !map.is_empty() => {
                let inner = indent.map_or(0, |indent| indent + 2);
                if in_map {
                    self.line(inner);
                } else if !is_first {
                    self.put(" ");
                }
                self.map(map, inner);
            }
            Value::Array(items) if !items.is_empty() => {
                let mut inner = indent.map_or(0, |indent| indent + 2);
                if in_map {
                    if self.style == Style::Plain {
                        inner -= 2;
                    }
                    self.line(inner);
                } else if !is_first {
                    self.put(" ");
                }
                for (idx, item) in items.iter().enumerate() {
                    if idx > 0 {
                        self.line(inner);
                    }
                    self.put("-");
                    self.node(item, Some(inner), false);
                }
            }
            leaf => {
                if !is_first {
                    self.put(" ");
                }
                let inner = indent.map_or(2, |indent| indent + 2);
                match leaf {
                    Value::Null => self.put("null"),
                    Value::Bool(truth) => self.put(if *truth { "true" } else { "false" }),
                    Value::Number(number) => self.put(&self::number(number)),
                    Value::String(text) => self.text(text, inner, false),
                    Value::Array(_) => self.put("[]"),
                    Value::Object(_) => self.put("{}"),
                }
            }
        }
    }

    fn map(&mut self, map: &Map<String, Value>, indent: usize) {
        let mut keys: Vec<&String> = map.keys().collect();
        keys.arrange_by(|a, b| natural(a, b, self.style));
        for (idx, key) in keys.into_iter().enumerate() {
            if idx > 0 {
                self.line(indent);
            }
            let is_simple = key.len() <= KEY_BYTES_MAX && !key.contains('\n');
            if is_simple {
                self.text(key, indent, true);
            } else {
                self.put("? ");
                self.text(key, indent + 2, false);
                self.line(indent);
            }
            self.put(":");
            self.node(&map[key], Some(indent), true);
        }
    }

    fn text(&mut self, text: &str, indent: usize, is_key: bool) {
        let traits = Traits::of(text);
        let is_plain = !is_something_else(text);
        let folds = !is_key && self.style == Style::Plain;
        if text.contains('\n') && !is_key && !text.is_empty() {
            match traits.literal {
                true => self.literal(text, indent),
                false => self.double(text, indent, folds),
            }
        } else if !is_plain || (text.contains('\n') && is_key) {
            self.double(text, indent, folds);
        } else if traits.plain {
            self.plain(text, indent, folds);
        } else if traits.single {
            self.single(text, indent, folds);
        } else {
            self.double(text, indent, folds);
        }
    }

    /// Writes what has no line breaks; `folds` lets lines end at single spaces.
    fn folded(&mut self, text: &str, indent: usize, folds: bool, keeps_ends: bool) {
        let chars: Vec<char> = text.chars().collect();
        let mut after_space = false;
        for (idx, c) in chars.iter().enumerate() {
            let is_end = keeps_ends && (idx == 0 || idx + 1 == chars.len());
            if *c == ' '
                && folds
                && !after_space
                && self.column > WIDTH
                && !is_end
                && chars.get(idx + 1) != Some(&' ')
            {
                self.line(indent);
            } else {
                self.out.push(*c);
                self.column += 1;
            }
            after_space = *c == ' ';
        }
    }

    fn plain(&mut self, text: &str, indent: usize, folds: bool) {
        self.folded(text, indent, folds, false);
    }

    fn single(&mut self, text: &str, indent: usize, folds: bool) {
        self.put("'");
        self.folded(&text.replace('\'', "''"), indent, folds, true);
        self.put("'");
    }

    fn double(&mut self, text: &str, indent: usize, folds: bool) {
        self.put("\"");
        let mut after_space = false;
        let mut chars = text.chars().enumerate().peekable();
        while let Some((idx, c)) = chars.next() {
            let next = chars.peek().map(|(_, c)| *c);
            if c == ' ' && folds && !after_space && self.column > WIDTH && idx > 0 && next.is_some()
            {
                self.line(indent);
                if next == Some(' ') {
                    self.put("\\");
                }
                after_space = true;
                continue;
            }
            after_space = c == ' ';
            match escape(c) {
                Some(escaped) => self.put(&escaped),
                None => {
                    self.out.push(c);
                    self.column += 1;
                }
            }
        }
        self.put("\"");
    }

    fn literal(&mut self, text: &str, indent: usize) {
        self.put("|");
        if text.starts_with([' ', '\n', '\u{85}', '\u{2028}', '\u{2029}']) {
            self.put("2");
        }
        let breaks = text.chars().rev().take_while(|c| is_break(*c)).count();
        match breaks {
            0 => self.put("-"),
            1 if text.chars().count() > 1 => {}
            _ => self.put("+"),
        }
        let mut at_start = true;
        self.out.push('\n');
        for c in text.chars() {
            if !is_break(c) && at_start {
                self.out.extend(std::iter::repeat_n(' ', indent));
            }
            self.out.push(c);
            at_start = is_break(c);
        }
        self.is_fresh = at_start;
        self.column = 0;
    }
}

/// Which forms a text may take.
struct Traits {
    plain: bool,
    single: bool,
    literal: bool,
}

impl Traits {
    fn of(text: &str) -> Traits {
        let (mut indicators, mut special) = (false, false);
        let (mut break_space, mut space_break, mut breaks) = (false, false, false);
        let (mut after_space, mut after_break, mut after_blank) = (false, false, true);
        if text.starts_with("---") || text.starts_with("...") {
            indicators = true;
        }
        let mut chars = text.chars().enumerate().peekable();
        while let Some((idx, c)) = chars.next() {
            let before_blank = chars.peek().is_none_or(|(_, c)| matches!(*c, ' ' | '\t'));
            indicators |= match c {
                '#' | ',' | '[' | ']' | '{' | '}' | '&' | '*' | '!' | '|' | '>' | '\'' | '"'
                | '%' | '@' | '`'
                    if idx == 0 =>
                {
                    true
                }
                '?' | '-' if idx == 0 => before_blank,
                ':' => before_blank,
                '#' => after_blank,
                _ => false,
            };
            special |= !is_printable(c);
            if c == ' ' {
                break_space |= after_break;
            } else if is_break(c) {
                breaks = true;
                space_break |= after_space;
            }
            (after_space, after_break) = (c == ' ', is_break(c));
            after_blank = matches!(c, ' ' | '\t') || is_break(c);
        }
        let edge = |c: Option<char>| c.is_some_and(|c| c == ' ' || is_break(c));
        let (first, last) = (text.chars().next(), text.chars().next_back());
        let is_ragged = edge(first) || edge(last);
        let is_hard = space_break || special;
        Traits {
            plain: !(is_ragged || break_space || is_hard || breaks || indicators),
            single: !(break_space || is_hard),
            literal: !(last == Some(' ') || is_hard),
        }
    }
}

fn is_break(c: char) -> bool {
    matches!(c, '\n' | '\r' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// What libyaml prints as it is; characters beyond the first plane are not among it.
fn is_printable(c: char) -> bool {
    matches!(c, '\n' | ' '..='~' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}')
        && c != '\u{feff}'
}

fn escape(c: char) -> Option<String> {
    let short = match c {
        '\0' => '0',
        '\x07' => 'a',
        '\x08' => 'b',
        '\t' => 't',
        '\n' => 'n',
        '\x0b' => 'v',
        '\x0c' => 'f',
        '\r' => 'r',
        '\x1b' => 'e',
        '"' => '"',
        '\\' => '\\',
        '\u{85}' => 'N',
        '\u{2028}' => 'L',
        '\u{2029}' => 'P',
        c if is_printable(c) => return None,
        c => {
            let code = u32::from(c);
            return Some(match code {
                0..=0xff => format!("\\x{code:02X}"),
                0x100..=0xffff => format!("\\u{code:04X}"),
                _ => format!("\\U{code:08X}"),
            });
        }
    };
    Some(format!("\\{short}"))
}

/// A number as Go prints it: integers whole, floats by `%g` of their shortest digits.
fn number(number: &serde_json::Number) -> String {
    if !number.is_f64() {
        return number.to_string();
    }
    let n = number.as_f64().unwrap_or_default();
    if n.fract() == 0.0 && n.abs() < 1e21 {
        return format!("{n}");
    }
    let raw = format!("{n:e}");
    let (mantissa, exponent) = raw.split_once('e').unwrap_or((&raw, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..21).contains(&exponent) {
        return format!("{n}");
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.unsigned_abs())
}

/// Whether a reader would take an unquoted text for something that is none.
fn is_something_else(text: &str) -> bool {
    const WORDS: &[&str] = &["y", "yes", "true", "on", "n", "no", "false", "off", "null"];
    if matches!(text, "" | "~" | "<<") {
        return true;
    }
    let lower = text.to_ascii_lowercase();
    if !text.is_char_boundary(1) {
        return false;
    }
    let is_cased = text == lower
        || text == text.to_ascii_uppercase()
        || text[..1] == text[..1].to_ascii_uppercase() && text[1..] == lower[1..];
    if is_cased && WORDS.contains(&lower.as_str()) {
        return true;
    }
    let unsigned = lower.strip_prefix(['+', '-']).unwrap_or(&lower);
    if matches!(unsigned, ".inf" | ".nan") {
        return true;
    }
    let Some(first) = text.bytes().next() else { return true };
    if !(first.is_ascii_digit() || matches!(first, b'+' | b'-' | b'.')) {
        return false;
    }
    let plain = lower.replace('_', "");
    let plain = if first == b'.' { lower.as_str() } else { plain.as_str() };
    is_integer(plain) || is_float(plain) || is_timestamp(text) || is_base60(text)
}

fn is_integer(text: &str) -> bool {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (radix, digits) = match digits.as_bytes() {
        [b'0', b'x', ..] => (16, &digits[2..]),
        [b'0', b'o', ..] => (8, &digits[2..]),
        [b'0', b'b', ..] => (2, &digits[2..]),
        [b'0', _, ..] => (8, &digits[1..]),
        _ => (10, digits),
    };
    !digits.starts_with(['+', '-']) && u64::from_str_radix(digits, radix).is_ok()
}

/// `[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`
fn is_float(text: &str) -> bool {
    let text = text.strip_prefix(['+', '-']).unwrap_or(text);
    let is_digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let (mantissa, exponent) = match text.split_once('e') {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (text, None),
    };
    if let Some(exponent) = exponent {
        let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        if digits.is_empty() || !is_digits(digits) {
            return false;
        }
    }
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if !is_digits(whole) || !is_digits(fraction) {
        return false;
    }
    !whole.is_empty() || !fraction.is_empty()
}

/// Hours and minutes, once numbers of base 60.
fn is_base60(text: &str) -> bool {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let whole = match digits.split_once('.') {
        Some((whole, fraction)) if fraction.bytes().all(|b| b.is_ascii_digit() || b == b'_') => {
            whole
        }
        Some(_) => return false,
        None => digits,
    };
    let mut parts = whole.split(':');
    let first = parts.next().unwrap_or("");
    let is_first = first.bytes().next().is_some_and(|b| b.is_ascii_digit())
        && first.bytes().all(|b| b.is_ascii_digit() || b == b'_');
    let mut n = 0;
    let is_rest = parts.all(|part| {
        n += 1;
        let bytes = part.as_bytes();
        match bytes {
            [digit] => digit.is_ascii_digit(),
            [tens, digit] => (b'0'..=b'5').contains(tens) && digit.is_ascii_digit(),
            _ => false,
        }
    });
    is_first && is_rest && n > 0
}

/// `2006-1-2`, alone or with a time behind it.
fn is_timestamp(text: &str) -> bool {
    let mut rest = text;
    let mut number = |n_min: usize, n_max: usize, end: &[char]| -> Option<(u32, char)> {
        let n = rest.bytes().take_while(u8::is_ascii_digit).count();
        if n < n_min || n > n_max {
            return None;
        }
        let value = rest[..n].parse().ok()?;
        rest = &rest[n..];
        let Some(c) = rest.chars().next() else { return end.is_empty().then_some((value, '\0')) };
        rest = &rest[c.len_utf8()..];
        (end.contains(&c) || end.is_empty()).then_some((value, c))
    };
    let Some((year, _)) = number(4, 4, &['-']) else { return false };
    let Some((month, _)) = number(1, 2, &['-']) else { return false };
    let Some((day, mark)) = number(1, 2, &[]) else { return false };
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let n_days = match month {
        2 if is_leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => 0,
    };
    if day == 0 || day > n_days {
        return false;
    }
    if mark == '\0' {
        return true;
    }
    if !matches!(mark, 'T' | 't' | ' ') {
        return false;
    }
    let Some((hour, _)) = number(1, 2, &[':']) else { return false };
    let Some((minute, _)) = number(1, 2, &[':']) else { return false };
    let Some((second, mut end)) = number(1, 2, &[]) else { return false };
    if hour > 23 || minute > 59 || second > 59 {
        return false;
    }
    if end == '.' {
        match number(1, 9, &[]) {
            Some((_, next)) => end = next,
            None => return false,
        }
    }
    match (mark, end) {
        (' ', end) => end == '\0',
        (_, 'Z') => rest.is_empty(),
        (_, '+' | '-') => {
            let bytes = rest.as_bytes();
            bytes.len() == 5
                && bytes[2] == b':'
                && [0, 1, 3, 4].iter().all(|idx| bytes[*idx].is_ascii_digit())
        }
        _ => false,
    }
}

/// The order of keys: numbers in them as numbers, letters after all else.
fn natural(a: &str, b: &str, style: Style) -> Ordering {
    let (x, y): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut after_digit = false;
    for idx in 0..x.len().min(y.len()) {
        if x[idx] == y[idx] {
            after_digit = x[idx].is_numeric();
            continue;
        }
        let (x_letter, y_letter) = (x[idx].is_alphabetic(), y[idx].is_alphabetic());
        if x_letter && y_letter {
            return x[idx].cmp(&y[idx]);
        }
        if x_letter || y_letter {
            let is_less = if style == Style::Pretty && after_digit { x_letter } else { y_letter };
            return if is_less { Ordering::Less } else { Ordering::Greater };
        }
        let mut start = 0u64;
        if x[idx] == '0' || y[idx] == '0' {
            let digits = x[..idx].iter().rev().take_while(|c| c.is_ascii_digit());
            start = u64::from(digits.into_iter().any(|c| *c != '0'));
        }
        let read = |chars: &[char]| {
            let mut n = start;
            let mut length = 0;
            for c in &chars[idx..] {
                let Some(digit) = c.to_digit(10) else { break };
                n = n.wrapping_mul(10).wrapping_add(u64::from(digit));
                length += 1;
            }
            (n, length)
        };
        let (x_number, y_number) = (read(&x), read(&y));
        return x_number.cmp(&y_number).then(x[idx].cmp(&y[idx]));
    }
    x.len().cmp(&y.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn as_sigs_yaml_writes_it() {
        let words = "aaaaaaaaaa bbbbbbbbbbbbbbbbbbb ccccccccccccccccccccccc dddddddddddddddddd eeeeeeeeeeeeeeee ffffff";
        for (tree, expected) in [
            (
                json!({"a":1,"b":[1,{"c":2,"d":[3]}],"e":{},"f":[],"g":null}),
                "a: 1\nb:\n- 1\n- c: 2\n  d:\n  - 3\ne: {}\nf: []\ng: null\n",
            ),
            (json!([[1, 2], []]), "- - 1\n  - 2\n- []\n"),
            (
                json!({"a10":"1e3","a2":"yes","b":"No","c":"nO"}),
                "a2: \"yes\"\na10: \"1e3\"\nb: \"No\"\nc: nO\n",
            ),
            (
                json!({"a":"x\ny","b":"x\n","c":"x\n\n","d":" x\ny","e":"x \ny","f":"\n"}),
                "a: |-\n  x\n  y\nb: |\n  x\nc: |+\n  x\n\nd: |2-\n   x\n  y\ne: \"x \\ny\"\nf: |2+\n\n",
            ),
            (
                json!({"a":words}),
                "a: aaaaaaaaaa bbbbbbbbbbbbbbbbbbb ccccccccccccccccccccccc dddddddddddddddddd eeeeeeeeeeeeeeee\n  ffffff\n",
            ),
            (
                json!({"a":": x","b":"a: b","c":"a #b","d":"'q'","e":"- x","f":"-x","g":"a:b","h":"x ","i":"@a","j":"*"}),
                "a: ': x'\nb: 'a: b'\nc: 'a #b'\nd: '''q'''\ne: '- x'\nf: -x\ng: a:b\nh: 'x '\ni: '@a'\nj: '*'\n",
            ),
            (
                json!({"a":"2024-01-01","b":"2024-13-01","c":"12:30","d":"0o17","e":"0x1f","f":"1_000","g":"1.2.3","h":"","i":"~",".5":".5","k":"2024-01-01T10:00:00Z"}),
                "\".5\": \".5\"\na: \"2024-01-01\"\nb: 2024-13-01\nc: \"12:30\"\nd: \"0o17\"\ne: \"0x1f\"\nf: \"1_000\"\ng: 1.2.3\nh: \"\"\ni: \"~\"\nk: \"2024-01-01T10:00:00Z\"\n",
            ),
            (json!({"a":"t\tx","b":"ä😀","c":"\\"}), "a: \"t\\tx\"\nb: \"ä\\U0001F600\"\nc: \\\n"),
            (
                json!({"a":1.5,"b":1e21,"c":1e-7,"d":1e6,"e":0.1}),
                "a: 1.5\nb: 1e+21\nc: 1e-07\nd: 1000000\ne: 0.1\n",
            ),
            (json!("x"), "x\n"),
            (json!(null), "null\n"),
        ] {
            assert_eq!(emit(&tree, Style::Plain), expected, "{tree}");
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let mut prng = stdx::prng::Prng::new(5);
        let alphabet: Vec<char> = "ab: \n-[]{}&*!|>'\"#%,?0x1\t.~äy😀\r".chars().collect();
        for _ in 0..20_000 {
            let mut text = || -> String {
                let n = prng.below(12);
                (0..n)
                    .map(|_| alphabet[usize::try_from(prng.below(alphabet.len() as u64)).unwrap()])
                    .collect()
            };
            let tree = json!({"k": [text(), {"x": text()}], "l": text()});
            for style in [Style::Plain, Style::Pretty] {
                let written = emit(&tree, style);
                assert_eq!(crate::yaml::parse_one(&written).unwrap(), tree, "{written}");
            }
        }
    }
}
