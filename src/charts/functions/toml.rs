//! TOML, read and written as BurntSushi's library does.

use serde_json::{Map, Value as Json};
use template::{Heap, Value};

/// Tables and arrays inside each other.
const DEPTH_MAX: usize = 100;

/// A map as TOML.
///
/// # Errors
/// If it is no map, or has a nil in a list.
pub(super) fn emit(value: &Value, heap: &Heap) -> Result<String, String> {
    let Value::Map(_) = value else {
        return Err("toml: top-level values must be Go maps or structs".to_owned());
    };
    let mut out = String::new();
    table(&mut out, value, &[], heap)?;
    Ok(out)
}

fn is_table(value: &Value) -> bool {
    matches!(value, Value::Map(_))
}

fn is_tables(value: &Value) -> bool {
    matches!(value, Value::List(list) if !list.items.is_empty() && list.items.iter().all(is_table))
}

fn table(out: &mut String, value: &Value, path: &[String], heap: &Heap) -> Result<(), String> {
    if path.len() > DEPTH_MAX {
        return Err("toml: the tables are nested too deeply".to_owned());
    }
    let Value::Map(map) = value else { return Ok(()) };
    let entries = map.entries.borrow();
    let indent = "  ".repeat(path.len());
    let shown = entries.iter().filter(|(_, value)| !value.is_nil());
    let (tables, direct): (Vec<_>, Vec<_>) =
        shown.partition(|(_, value)| is_table(value) || is_tables(value));
    for (name, value) in direct {
        out.push_str(&format!("{indent}{} = ", key(name)));
        element(out, value, heap, 0)?;
        out.push('\n');
    }
    for (name, value) in tables {
        let mut path = path.to_vec();
        path.push(key(name));
        let title = path.join(".");
        match value {
            Value::List(list) => {
                for item in &list.items {
                    if !out.is_empty() {
                        out.push('\n');
                    }
                    out.push_str(&format!("{indent}[[{title}]]\n"));
                    table(out, item, &path, heap)?;
                }
            }
            value => {
                if path.len() == 1 && !out.is_empty() {
                    out.push('\n');
                }
                out.push_str(&format!("{indent}[{title}]\n"));
                table(out, value, &path, heap)?;
            }
        }
        heap.charge(out.len())?;
    }
    Ok(())
}

fn key(name: &str) -> String {
    let is_bare = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    match !name.is_empty() && name.bytes().all(is_bare) {
        true => name.to_owned(),
        false => quoted(name),
    }
}

fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            c if c < ' ' || c == '\x7f' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn element(out: &mut String, value: &Value, heap: &Heap, depth: usize) -> Result<(), String> {
    if depth > DEPTH_MAX {
        return Err("toml: the values are nested too deeply".to_owned());
    }
    heap.step(1)?;
    match value {
        Value::Bool(truth) => out.push_str(if *truth { "true" } else { "false" }),
        Value::Int(n, _) => out.push_str(&n.to_string()),
        Value::Float(n) => {
            let text = format!("{n}");
            out.push_str(&text);
            if n.is_finite() && !text.contains('.') {
                out.push_str(".0");
            }
        }
        Value::List(list) => {
            out.push('[');
            for (idx, item) in list.items.iter().enumerate() {
                if item.is_nil() {
                    return Err("toml: cannot encode array with nil element".to_owned());
                }
                if idx > 0 {
                    out.push_str(", ");
                }
                element(out, item, heap, depth + 1)?;
            }
            out.push(']');
        }
        Value::Map(map) => {
            out.push('{');
            let entries = map.entries.borrow();
            for (idx, (name, value)) in
                entries.iter().filter(|(_, value)| !value.is_nil()).enumerate()
            {
                if idx > 0 {
                    out.push_str(", ");
                }
                out.push_str(&format!("{} = ", key(name)));
                element(out, value, heap, depth + 1)?;
            }
            out.push('}');
        }
        other => {
            let shown = super::text::shown(heap, other)?;
            heap.charge(shown.len() * 2)?;
            out.push_str(&quoted(&String::from_utf8_lossy(&shown)));
        }
    }
    Ok(())
}

/// A text of TOML as a tree. Dates stay texts.
///
/// # Errors
/// What is wrong, with the line.
pub(super) fn parse(text: &str) -> Result<Json, String> {
    let mut reader = Reader { text, pos: 0 };
    let mut root = Map::new();
    let mut path: Vec<String> = Vec::new();
    loop {
        reader.skip(true);
        let Some(c) = reader.peek() else { break };
        if c == '[' {
            reader.pos += 1;
            let is_list = reader.take('[');
            path = reader.path()?;
            let is_closed = reader.take(']') && (!is_list || reader.take(']'));
            if !is_closed {
                return Err(reader.error("expected a ']'"));
            }
            if is_list {
                let (last, outer) = path.split_last().ok_or("toml: empty key")?;
                let table =
                    descend(&mut root, outer).ok_or_else(|| reader.error("key defined twice"))?;
                let list = table.entry(last.clone()).or_insert_with(|| Json::Array(Vec::new()));
                match list {
                    Json::Array(items) => items.push(Json::Object(Map::new())),
                    _ => return Err(reader.error("key defined twice")),
                }
            } else if descend(&mut root, &path).is_none() {
                return Err(reader.error("key defined twice"));
            }
        } else {
            let name = reader.path()?;
            let value = reader.assigned()?;
            let (last, outer) = name.split_last().ok_or("toml: empty key")?;
            let table = descend(&mut root, &path)
                .and_then(|table| descend(table, outer))
                .ok_or_else(|| reader.error("key defined twice"))?;
            if table.insert(last.clone(), value).is_some() {
                return Err(reader.error(&format!("Key '{last}' has already been defined")));
            }
        }
        reader.skip(false);
        match reader.peek() {
            None | Some('\n' | '\r') => {}
            Some(c) => {
                let what = format!(
                    "expected a top-level item to end with a newline, comment, or EOF, but got '{c}' instead"
                );
                return Err(reader.error(&what));
            }
        }
    }
    Ok(Json::Object(root))
}

/// The table at a path, of lists their last one.
fn descend<'a>(
    table: &'a mut Map<String, Json>,
    path: &[String],
) -> Option<&'a mut Map<String, Json>> {
    if path.len() > DEPTH_MAX {
        return None;
    }
    path.iter().try_fold(table, |table, name| {
        let inner = table.entry(name.clone()).or_insert_with(|| Json::Object(Map::new()));
        match inner {
            Json::Object(inner) => Some(inner),
            Json::Array(items) => items.last_mut()?.as_object_mut(),
            _ => None,
        }
    })
}

struct Reader<'a> {
    text: &'a str,
    pos: usize,
}

impl Reader<'_> {
    fn rest(&self) -> &str {
        &self.text[self.pos..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn take(&mut self, c: char) -> bool {
        let is_there = self.rest().starts_with(c);
        if is_there {
            self.pos += c.len_utf8();
        }
        is_there
    }

    fn error(&self, what: &str) -> String {
        let line = 1 + self.text[..self.pos].matches('\n').count();
        format!("toml: line {line}: {what}")
    }

    /// White space and comments, line breaks too if `over_lines`.
    fn skip(&mut self, over_lines: bool) {
        while let Some(c) = self.peek() {
            match c {
                ' ' | '\t' => self.pos += 1,
                '\n' | '\r' if over_lines => self.pos += 1,
                '#' => {
                    let end = self.rest().find('\n').unwrap_or(self.rest().len());
                    self.pos += end;
                }
                _ => break,
            }
        }
    }

    /// `a."b".c`
    fn path(&mut self) -> Result<Vec<String>, String> {
        let mut path = Vec::new();
        loop {
            self.skip(false);
            let part = match self.peek() {
                Some('"' | '\'') => self.string()?,
                _ => {
                    let rest = self.rest();
                    let is_bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
                    let end = rest.find(|c| !is_bare(c)).unwrap_or(rest.len());
                    if end == 0 {
                        return Err(self.error("expected a key"));
                    }
                    let part = rest[..end].to_owned();
                    self.pos += end;
                    part
                }
            };
            path.push(part);
            self.skip(false);
            if !self.take('.') {
                return Ok(path);
            }
        }
    }

    fn assigned(&mut self) -> Result<Json, String> {
        self.skip(false);
        if !self.take('=') {
            return Err(self.error("expected '=' after a key"));
        }
        self.value(0)
    }

    fn value(&mut self, depth: usize) -> Result<Json, String> {
        if depth > DEPTH_MAX {
            return Err(self.error("nested too deeply"));
        }
        self.skip(false);
        match self.peek() {
            Some('"' | '\'') => Ok(Json::String(self.string()?)),
            Some('[') => {
                self.pos += 1;
                let mut items = Vec::new();
                loop {
                    self.skip(true);
                    if self.take(']') {
                        return Ok(items.into());
                    }
                    items.push(self.value(depth + 1)?);
                    self.skip(true);
                    if !self.take(',') && self.peek() != Some(']') {
                        return Err(self.error("expected a comma or array terminator ']'"));
                    }
                }
            }
            Some('{') => {
                self.pos += 1;
                let mut map = Map::new();
                loop {
                    self.skip(true);
                    if self.take('}') {
                        return Ok(map.into());
                    }
                    let path = self.path()?;
                    self.skip(false);
                    if !self.take('=') {
                        return Err(self.error("expected '=' after a key"));
                    }
                    let value = self.value(depth + 1)?;
                    let (last, outer) = path.split_last().ok_or("toml: empty key")?;
                    match descend(&mut map, outer) {
                        Some(table) => table.insert(last.clone(), value),
                        None => return Err(self.error("key defined twice")),
                    };
                    self.skip(true);
                    if !self.take(',') && self.peek() != Some('}') {
                        return Err(
                            self.error("expected a comma or an inline table terminator '}'")
                        );
                    }
                }
            }
            _ => self.scalar(),
        }
    }

    fn scalar(&mut self) -> Result<Json, String> {
        let rest = self.rest();
        let end = rest.find([',', ']', '}', '#', '\n', '\r']).unwrap_or(rest.len());
        let word = rest[..end].trim_end().to_owned();
        self.pos += word.len();
        let plain = word.replace('_', "");
        let radix = |text: &str, radix| i64::from_str_radix(text, radix).ok().map(Json::from);
        let read = match plain.as_str() {
            "true" => Some(true.into()),
            "false" => Some(false.into()),
            text if text.starts_with("0x") => radix(&text[2..], 16),
            text if text.starts_with("0o") => radix(&text[2..], 8),
            text if text.starts_with("0b") => radix(&text[2..], 2),
            text => text.parse::<i64>().ok().map(Json::from).or_else(|| {
                let is_number = text.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b));
                let float = text.parse::<f64>().ok().filter(|_| is_number)?;
                serde_json::Number::from_f64(float).map(Json::Number)
            }),
        };
        let is_date = word.len() >= 8
            && word.starts_with(|c: char| c.is_ascii_digit())
            && word.bytes().all(|b| b.is_ascii_digit() || b"-:.+TtZz ".contains(&b));
        match read {
            Some(value) => Ok(value),
            None if is_date => Ok(Json::String(word)),
            None => Err(self.error(&format!("expected value but found {word:?} instead"))),
        }
    }

    fn string(&mut self) -> Result<String, String> {
        let mark = self.peek().unwrap_or('"');
        let triple: String = std::iter::repeat_n(mark, 3).collect();
        let is_long = self.rest().starts_with(&triple);
        self.pos += if is_long { 3 } else { 1 };
        if is_long {
            self.take('\r');
            self.take('\n');
        }
        let mut out = String::new();
        loop {
            let Some(c) = self.peek() else { return Err(self.error("unexpected EOF in a string")) };
            if is_long && self.rest().starts_with(&triple) {
                self.pos += 3;
                // Up to two more marks belong to the text.
                while self.peek() == Some(mark) {
                    out.push(mark);
                    self.pos += 1;
                }
                return Ok(out);
            }
            self.pos += c.len_utf8();
            match c {
                c if c == mark && !is_long => return Ok(out),
                '\n' if !is_long => return Err(self.error("strings cannot contain newlines")),
                '\\' if mark == '"' => self.escape(&mut out, is_long)?,
                c => out.push(c),
            }
        }
    }

    fn escape(&mut self, out: &mut String, is_long: bool) -> Result<(), String> {
        let c = self.peek().ok_or_else(|| self.error("unexpected EOF in a string"))?;
        self.pos += c.len_utf8();
        let n_digits = match c {
            'b' | 't' | 'n' | 'f' | 'r' | '"' | '\\' => {
                out.push(match c {
                    'b' => '\x08',
                    't' => '\t',
                    'n' => '\n',
                    'f' => '\x0c',
                    'r' => '\r',
                    c => c,
                });
                return Ok(());
            }
            ' ' | '\t' | '\n' | '\r' if is_long => {
                while self.peek().is_some_and(char::is_whitespace) {
                    self.pos += 1;
                }
                return Ok(());
            }
            'u' => 4,
            'U' => 8,
            _ => return Err(self.error(&format!("invalid escape character '{c}'"))),
        };
        let digits = self.rest().get(..n_digits);
        let code = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
        match code.and_then(char::from_u32) {
            Some(c) => {
                out.push(c);
                self.pos += n_digits;
                Ok(())
            }
            None => Err(self.error("invalid escape")),
        }
    }
}
