//! Trees as YAML text, byte for byte as Kubernetes' tools print them: keys sorted with numbers in them as
//! numbers, texts bare, quoted or as blocks, long ones folded at spaces behind column 80.
//!
//! Limits: what nests deeper than [`crate::yaml::DEPTH_MAX`] is written in one line as JSON, which is YAML, too.

use std::cmp::Ordering;

use serde_json::Value;
use stdx::Arrange;

/// A line is folded at the first space behind this column.
const WIDTH_MAX: usize = 80;
/// A key that is longer stands behind a `?`.
const KEY_MAX_BYTES: usize = 128;

/// The document of a tree, with a line feed at its end.
pub fn text(tree: &Value) -> String {
    let mut out = Out { text: String::new(), column: 0, is_loose: false };
    out.node(tree, 0, 0, Place::Root);
    out.text
}

/// As [`text`], with lists indented below their keys and nothing folded, as yaml.v3 writes it.
pub fn indented_text(tree: &Value) -> String {
    let mut out = Out { text: String::new(), column: 0, is_loose: true };
    out.node(tree, 0, 0, Place::Root);
    out.text
}

#[derive(Clone, Copy, PartialEq)]
enum Place {
    Root,
    /// After `key:`
    InMap,
    /// After `-`
    InList,
}

struct Out {
    text: String,
    /// Of the present line, in characters.
    column: usize,
    /// Lists are indented below their keys, and long lines stay.
    is_loose: bool,
}

impl Out {
    fn put(&mut self, text: &str) {
        self.text.push_str(text);
        self.column += text.chars().count();
    }

    fn line(&mut self, indent: usize) {
        self.text.push('\n');
        self.text.extend(std::iter::repeat_n(' ', indent));
        self.column = indent;
    }

    /// Writes a value whose parent's entries stand at `indent`; it ends its last line.
    fn node(&mut self, value: &Value, indent: usize, depth: usize, place: Place) {
        let is_deep = depth >= crate::yaml::DEPTH_MAX;
        match value {
            Value::Object(map) if !map.is_empty() && !is_deep => {
                let own = if place == Place::Root { 0 } else { indent + 2 };
                let mut keys: Vec<&String> = map.keys().collect();
                keys.arrange_by(|a, b| natural(a, b));
                for (idx, key) in keys.into_iter().enumerate() {
                    self.start(idx, own, place);
                    self.key(key, own);
                    self.node(&map[key], own, depth + 1, Place::InMap);
                }
            }
            Value::Array(items) if !items.is_empty() && !is_deep => {
                let is_inner = match place {
                    Place::InList => true,
                    Place::InMap => self.is_loose,
                    Place::Root => false,
                };
                let own = if is_inner { indent + 2 } else { indent };
                for (idx, item) in items.iter().enumerate() {
                    self.start(idx, own, place);
                    self.put("-");
                    self.node(item, own, depth + 1, Place::InList);
                }
            }
            value => {
                if place != Place::Root {
                    self.put(" ");
                }
                match value {
                    Value::String(text) => self.scalar(text, indent + 2, false),
                    Value::Number(n) => self.put(&number(n)),
                    other => self.put(&other.to_string()),
                }
                self.text.push('\n');
                self.column = 0;
            }
        }
    }

    /// Goes to where an entry begins: the first one of a map or list in a list stands in the list's line.
    fn start(&mut self, idx: usize, indent: usize, place: Place) {
        match (idx, place) {
            (0, Place::InList) => self.put(" "),
            (0, Place::InMap) => self.line(indent),
            _ => {
                self.text.extend(std::iter::repeat_n(' ', indent));
                self.column = indent;
            }
        }
    }

    fn key(&mut self, key: &str, indent: usize) {
        if key.len() > KEY_MAX_BYTES || key.contains('\n') {
            self.put("? ");
            self.scalar(key, indent + 2, false);
            self.line(indent);
        } else {
            self.scalar(key, indent + 2, true);
        }
        self.put(":");
    }

    fn scalar(&mut self, text: &str, indent: usize, is_key: bool) {
        let form = Form::of(text);
        let is_text = reads_as_text(text);
        if text.contains('\n') && form.block && !is_key {
            self.block(text, indent);
        } else if is_text && form.plain && !text.contains('\n') {
            self.folded(text, indent, is_key, false);
        } else if is_text && form.single && !text.is_empty() && !text.contains('\n') {
            self.put("'");
            self.folded(text, indent, is_key, true);
            self.put("'");
        } else {
            self.double_quoted(text, indent, is_key);
        }
    }

    /// A bare text, or what is between single quotes.
    fn folded(&mut self, text: &str, indent: usize, is_key: bool, is_quoted: bool) {
        let chars: Vec<char> = text.chars().collect();
        let mut was_space = false;
        for (idx, &c) in chars.iter().enumerate() {
            let next_is_space = chars.get(idx + 1) == Some(&' ');
            let is_inside = !is_quoted || idx > 0 && idx + 1 < chars.len();
            if c == ' ' {
                if !is_key
                    && !self.is_loose
                    && !was_space
                    && self.column > WIDTH_MAX
                    && is_inside
                    && !next_is_space
                {
                    self.line(indent);
                } else {
                    self.put(" ");
                }
                was_space = true;
                continue;
            }
            if c == '\'' && is_quoted {
                self.put("'");
            }
            self.text.push(c);
            self.column += 1;
            was_space = false;
        }
    }

    fn double_quoted(&mut self, text: &str, indent: usize, is_key: bool) {
        self.put("\"");
        let chars: Vec<char> = text.chars().collect();
        let mut was_space = false;
        for (idx, &c) in chars.iter().enumerate() {
            let is_inside = idx > 0 && idx + 1 < chars.len();
            if c == ' '
                && !is_key
                && !self.is_loose
                && !was_space
                && self.column > WIDTH_MAX
                && is_inside
            {
                self.line(indent);
                if chars.get(idx + 1) == Some(&' ') {
                    self.put("\\");
                }
                was_space = true;
                continue;
            }
            was_space = c == ' ';
            match escape(c) {
                Some(escaped) => self.put(&escaped),
                None => {
                    self.text.push(c);
                    self.column += 1;
                }
            }
        }
        self.put("\"");
    }

    /// Lines as they are, behind `|`.
    fn block(&mut self, text: &str, indent: usize) {
        self.put("|");
        if text.starts_with([' ', '\n']) {
            self.put("2");
        }
        let body = text.trim_end_matches('\n');
        match text.len() - body.len() {
            0 => self.put("-"),
            1 if !body.is_empty() => {}
            _ => self.put("+"),
        }
        let kept = text.strip_suffix('\n').unwrap_or(text);
        for line in kept.split('\n') {
            match line {
                "" => self.text.push('\n'),
                line => {
                    self.line(indent);
                    self.put(line);
                }
            }
        }
    }
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

/// What a double-quoted text has in place of a character.
fn escape(c: char) -> Option<String> {
    let short = match c {
        '"' => "\\\"",
        '\\' => "\\\\",
        '\0' => "\\0",
        '\u{7}' => "\\a",
        '\u{8}' => "\\b",
        '\t' => "\\t",
        '\n' => "\\n",
        '\u{b}' => "\\v",
        '\u{c}' => "\\f",
        '\r' => "\\r",
        '\u{1b}' => "\\e",
        '\u{85}' => "\\N",
        '\u{a0}' => "\\_",
        '\u{2028}' => "\\L",
        '\u{2029}' => "\\P",
        _ if is_printable(c) && c != '\u{feff}' => return None,
        _ => {
            let code = u32::from(c);
            return Some(match code {
                0..=0xff => format!("\\x{code:02X}"),
                0x100..=0xffff => format!("\\u{code:04X}"),
                _ => format!("\\U{code:08X}"),
            });
        }
    };
    Some(short.to_owned())
}

fn is_printable(c: char) -> bool {
    matches!(c, '\n' | ' '..='~' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fefe}' | '\u{ff00}'..='\u{fffd}')
}

/// In which forms a text can stand.
struct Form {
    plain: bool,
    single: bool,
    block: bool,
}

impl Form {
    fn of(text: &str) -> Form {
        let chars: Vec<char> = text.chars().collect();
        let is_blank = |c: Option<&char>| {
            c.is_none_or(|c| {
                matches!(c, ' ' | '\t' | '\n' | '\r' | '\u{85}' | '\u{2028}' | '\u{2029}')
            })
        };
        let is_break = |c: &char| matches!(c, '\n' | '\r' | '\u{85}' | '\u{2028}' | '\u{2029}');
        let mut form = Form { plain: true, single: true, block: true };
        if text.is_empty() {
            return Form { plain: false, single: true, block: false };
        }
        if text.starts_with("---") || text.starts_with("...") {
            form.plain = false;
        }
        let (mut special, mut space_break, mut break_space) = (false, false, false);
        for (idx, c) in chars.iter().enumerate() {
            let next = chars.get(idx + 1);
            let is_indicator = match (idx, c) {
                (
                    0,
                    '#' | ',' | '[' | ']' | '{' | '}' | '&' | '*' | '!' | '|' | '>' | '\'' | '"'
                    | '%' | '@' | '`',
                ) => true,
                (0, '?' | '-') => is_blank(next),
                (_, ':') => is_blank(next),
                (_, '#') => is_blank(chars.get(idx - 1)),
                _ => false,
            };
            form.plain &= !is_indicator;
            special |= !is_printable(*c) || *c == '\u{feff}';
            let before = idx.checked_sub(1).and_then(|idx| chars.get(idx));
            space_break |= is_break(c) && before == Some(&' ');
            break_space |= *c == ' ' && before.is_some_and(is_break);
        }
        let ends = [chars.first(), chars.last()];
        if ends.iter().any(|c| c.is_some_and(|c| *c == ' ' || is_break(c))) {
            form.plain = false;
        }
        if chars.last() == Some(&' ') {
            form.block = false;
        }
        if break_space {
            form.plain = false;
            form.single = false;
        }
        if space_break || special {
            form = Form { plain: false, single: false, block: false };
        }
        form
    }
}

/// Whether a bare text is read as a text again, and not as a number, a truth or a time.
fn reads_as_text(text: &str) -> bool {
    const WORDS: &[&str] = &[
        "", "~", "null", "Null", "NULL", "<<", "y", "Y", "yes", "Yes", "YES", "on", "On", "ON",
        "true", "True", "TRUE", "n", "N", "no", "No", "NO", "off", "Off", "OFF", "false", "False",
        "FALSE", ".nan", ".NaN", ".NAN", ".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF",
        "-.inf", "-.Inf", "-.INF",
    ];
    !WORDS.contains(&text) && !is_number(text) && !is_base_60(text) && !is_time(text)
}

fn is_number(text: &str) -> bool {
    if !text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c)) {
        return false;
    }
    let plain = text.replace('_', "");
    let unsigned = plain.strip_prefix(['+', '-']).unwrap_or(&plain);
    let lower = unsigned.to_ascii_lowercase();
    for (prefix, radix) in [("0x", 16), ("0b", 2), ("0o", 8)] {
        if let Some(digits) = lower.strip_prefix(prefix) {
            return u64::from_str_radix(digits, radix).is_ok() && !digits.starts_with('+');
        }
    }
    // Go's numbers: digits, at most one dot, an exponent.
    let (mantissa, exponent) = match unsigned.find(['e', 'E']) {
        Some(at) => (&unsigned[..at], Some(&unsigned[at + 1..])),
        None => (unsigned, None),
    };
    let digits = mantissa.bytes().filter(u8::is_ascii_digit).count();
    let dots = mantissa.bytes().filter(|b| *b == b'.').count();
    let exponent_fits = exponent.is_none_or(|e| {
        let e = e.strip_prefix(['+', '-']).unwrap_or(e);
        !e.is_empty() && e.bytes().all(|b| b.is_ascii_digit())
    });
    digits > 0 && dots <= 1 && digits + dots == mantissa.len() && exponent_fits
}

/// `1:30` and the like are numbers to YAML 1.1.
fn is_base_60(text: &str) -> bool {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let mut parts = unsigned.split(':');
    let first = parts.next().unwrap_or("");
    if !first.starts_with(|c: char| c.is_ascii_digit())
        || !first.bytes().all(|b| b.is_ascii_digit() || b == b'_')
    {
        return false;
    }
    let mut n_parts = 0;
    for part in parts {
        n_parts += 1;
        let whole = part.split('.').next().unwrap_or("");
        let fits = matches!(whole.as_bytes(), [b'0'..=b'9'] | [b'0'..=b'5', b'0'..=b'9']);
        let rest = &part[whole.len()..];
        if !fits || !rest.bytes().all(|b| b.is_ascii_digit() || b == b'.' || b == b'_') {
            return false;
        }
    }
    n_parts > 0
}

/// `2001-01-01`, and with a time behind it.
fn is_time(text: &str) -> bool {
    let bytes = text.as_bytes();
    let starts = bytes.len() >= 8 && bytes[..4].iter().all(u8::is_ascii_digit) && bytes[4] == b'-';
    if !starts {
        return false;
    }
    let (date, time) = match text.find(['T', 't', ' ']) {
        Some(at) => (&text[..at], &text[at + 1..]),
        None => (text, ""),
    };
    let parts: Vec<&str> = date.split('-').collect();
    let within = |part: &str, low: u32, high: u32| {
        part.len() <= 2 && part.parse::<u32>().is_ok_and(|n| (low..=high).contains(&n))
    };
    let date_fits = parts.len() == 3 && within(parts[1], 1, 12) && within(parts[2], 1, 31);
    if time.is_empty() {
        return date_fits && date.len() == text.len() && date.len() == 10;
    }
    let is_digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let clock = time.trim_end_matches('Z');
    let clock = clock.rfind(['+', '-']).map_or(clock, |at| &clock[..at]);
    let mut fields = clock.splitn(3, ':');
    let fits = [fields.next(), fields.next()].iter().all(|f| f.is_some_and(is_digits));
    let secs = fields.next().unwrap_or("");
    date_fits && fits && !secs.is_empty() && secs.split('.').all(is_digits)
}

/// The order of keys: numbers within them by value, letters behind all else.
fn natural(a: &str, b: &str) -> Ordering {
    let (left, right): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    for (idx, (x, y)) in left.iter().zip(&right).enumerate() {
        if x == y {
            continue;
        }
        match (x.is_alphabetic(), y.is_alphabetic()) {
            (true, true) => return x.cmp(y),
            (false, true) => return Ordering::Less,
            (true, false) => return Ordering::Greater,
            (false, false) => {}
        }
        // Zeros amid a number are digits of it, those before it are not.
        let amid = (*x == '0' || *y == '0')
            && left[..idx].iter().rev().take_while(|c| c.is_ascii_digit()).any(|c| *c != '0');
        let number = |chars: &[char]| {
            let digits = chars[idx..].iter().take_while(|c| c.is_ascii_digit());
            digits.fold((u128::from(amid), 0usize), |(value, n), digit| {
                let digit = u128::from(digit.to_digit(10).unwrap_or(0));
                (value.saturating_mul(10).saturating_add(digit), n + 1)
            })
        };
        return number(&left).cmp(&number(&right)).then(x.cmp(y));
    }
    left.len().cmp(&right.len())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn it_is_printed_as_the_tools_print_it() {
        let tree = json!({
            "a/b": {"c": "x: y", "d": [], "e": {}, "n": null, "f": 1.5, "t": true},
            "items": [{"k": 1, "l": ["m", "no", ["x", ["y"]]]}, "two", {}],
            "a10": "10", "a9": "0x1f", "A": "1:30", "time": "2024-01-02T03:04:05Z",
        });
        assert_eq!(
            super::text(&tree),
            "A: \"1:30\"\na/b:\n  c: 'x: y'\n  d: []\n  e: {}\n  f: 1.5\n  \"n\": null\n  t: true\na9: \"0x1f\"\na10: \"10\"\nitems:\n- k: 1\n  l:\n  - m\n  - \"no\"\n  - - x\n    - - \"y\"\n- two\n- {}\ntime: \"2024-01-02T03:04:05Z\"\n"
        );
        assert_eq!(super::text(&json!([])), "[]\n");
    }

    #[test]
    fn blocks_and_folds() {
        let check = |value: &str, want: &str| {
            assert_eq!(super::text(&json!({"k": value})), format!("k: {want}\n"), "{value:?}");
        };
        check("a\nb", "|-\n  a\n  b");
        check("a\n\n  b\n", "|\n  a\n\n    b");
        check("a\n\n", "|+\n  a\n");
        check(" a\n", "|2\n   a");
        check("a \nb", "\"a \\nb\"");
        check("tab\there", "\"tab\\there\"");
        check("", "\"\"");
        check(" lead", "' lead'");
        check("it's: x", "'it''s: x'");
        check("#x", "'#x'");
        check("é", "é");
        let long = "word ".repeat(30);
        check(
            long.trim(),
            "word word word word word word word word word word word word word word word word\n  word word word word word word word word word word word word word word",
        );
    }
}
