//! Kubernetes' JSONPath: texts and paths between braces, ranges, filters, unions, slices, recursive descent.
//!
//! Limits: what nests deeper than [`DEPTH_MAX`] is refused; trees nest no deeper than their parser let them.

use api::Value;

const DEPTH_MAX: usize = 64;
/// Values that one path may lead to, in a tree that a server made.
const FOUND_MAX: usize = 1 << 20;

/// A template.
#[derive(Debug, Clone)]
pub(crate) struct JsonPath(Vec<Part>);

#[derive(Debug, Clone)]
enum Part {
    Text(String),
    Path(Vec<Step>),
    Range(Vec<Step>, Vec<Part>),
}

#[derive(Debug, Clone)]
enum Step {
    Text(String),
    Number(serde_json::Number),
    Truth(bool),
    Field(String),
    Wildcard,
    Recursive,
    /// Start, end, step; `true` if it was one index.
    Slice(Option<i64>, Option<i64>, Option<i64>, bool),
    Union(Vec<Vec<Step>>),
    Filter(Vec<Step>, String, Vec<Step>),
    Word(String),
}

/// A path as people write it without braces: `.metadata.name`, `metadata.name`.
pub(crate) fn relaxed(text: &str) -> Result<String, String> {
    let inner = match (text.strip_prefix('{'), text.strip_suffix('}')) {
        _ if text.is_empty() => return Ok(String::new()),
        (Some(inner), Some(_)) => inner.strip_suffix('}').unwrap_or(inner),
        (None, None) => text,
        _ => {
            return Err(
                "unexpected path string, expected a 'name1.name2' or '.name1.name2' or '{name1.name2}' or '{.name1.name2}'"
                    .to_owned(),
            );
        }
    };
    let inner = inner.strip_prefix('.').unwrap_or(inner);
    Ok(format!("{{.{inner}}}"))
}

impl JsonPath {
    /// # Errors
    /// What is wrong, in upstream's words.
    pub(crate) fn parse(text: &str) -> Result<JsonPath, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find('{') {
            if at > 0 {
                parts.push(Part::Text(rest[..at].to_owned()));
            }
            let mut reader = Reader { chars: rest[at + 1..].chars().collect(), at: 0, depth: 0 };
            let steps = reader.steps()?;
            let used: usize = reader.chars[..reader.at].iter().map(|c| c.len_utf8()).sum();
            rest = &rest[at + 1 + used..];
            parts.push(Part::Path(steps));
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        let mut parts = parts.into_iter();
        let (mut body, ended) = nest(&mut parts, 0)?;
        if ended {
            // It is a mistake only once it is come to.
            body.push(Part::Path(vec![Step::Word("end".to_owned())]));
        }
        Ok(JsonPath(body))
    }

    /// What the template gives for a tree.
    pub(crate) fn print(&self, tree: &Value, fills: bool, as_json: bool) -> Result<String, String> {
        let mut out = String::new();
        run(&self.0, tree, fills, as_json, &mut out)?;
        Ok(out)
    }

    /// The values that its paths lead to.
    pub(crate) fn find(&self, tree: &Value, fills: bool) -> Result<Vec<Value>, String> {
        let mut found = Vec::new();
        for part in &self.0 {
            match part {
                Part::Path(steps) => found.extend(walk(steps, vec![tree.clone()], fills)?),
                Part::Text(text) => found.push(Value::from(text.as_str())),
                Part::Range(..) => return Err("a range is not for this".to_owned()),
            }
        }
        Ok(found)
    }
}

/// Puts what stands between `range` and `end` into one part; true if an `end` came.
fn nest(parts: &mut dyn Iterator<Item = Part>, depth: usize) -> Result<(Vec<Part>, bool), String> {
    let mut body = Vec::new();
    while let Some(part) = parts.next() {
        match part {
            Part::Path(steps) => match steps.first() {
                Some(Step::Word(word)) if word == "range" => {
                    if depth >= DEPTH_MAX {
                        return Err("ranges nest too deep".to_owned());
                    }
                    let (inner, ended) = nest(parts, depth + 1)?;
                    match ended {
                        true => body.push(Part::Range(steps[1..].to_vec(), inner)),
                        // As upstream: what follows is done for each value, and once more for what was before.
                        false if depth == 0 => {
                            body.push(Part::Range(steps[1..].to_vec(), inner.clone()));
                            body.extend(inner);
                        }
                        false => return Err("unterminated range".to_owned()),
                    }
                }
                Some(Step::Word(word)) if word == "end" => return Ok((body, true)),
                _ => body.push(Part::Path(steps)),
            },
            other => body.push(other),
        }
    }
    Ok((body, false))
}

fn run(
    parts: &[Part],
    tree: &Value,
    fills: bool,
    as_json: bool,
    out: &mut String,
) -> Result<(), String> {
    for part in parts {
        match part {
            Part::Text(text) => out.push_str(text),
            Part::Path(steps) => {
                let found = walk(steps, vec![tree.clone()], fills)?;
                if as_json {
                    out.push_str(&super::json(&Value::Array(found), 4));
                    out.push('\n');
                    continue;
                }
                let texts: Vec<String> = found.iter().map(text_of).collect();
                out.push_str(&texts.join(" "));
            }
            Part::Range(steps, body) => {
                for value in walk(steps, vec![tree.clone()], fills)? {
                    run(body, &value, fills, as_json, out)?;
                }
            }
        }
    }
    Ok(())
}

/// A value as templates print it.
fn text_of(value: &Value) -> String {
    match value {
        Value::Array(_) | Value::Object(_) => compact(value),
        value => go_value(value),
    }
}

/// JSON as Go writes it.
pub(crate) fn compact(value: &Value) -> String {
    let text = value.to_string();
    match text.contains(['<', '>', '&']) {
        true => text.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026"),
        false => text,
    }
}

/// A value as Go's `%v` prints it.
pub(crate) fn go_value(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            let texts: Vec<String> = items.iter().map(go_value).collect();
            format!("[{}]", texts.join(" "))
        }
        Value::Object(map) => {
            let texts: Vec<String> =
                map.iter().map(|(k, v)| format!("{k}:{}", go_value(v))).collect();
            format!("map[{}]", texts.join(" "))
        }
        other => other.to_string(),
    }
}

/// A tree as Go's `%#v` prints it.
pub(crate) fn go_syntax(value: &Value) -> String {
    match value {
        Value::Null => "interface {}(nil)".to_owned(),
        Value::Array(items) => {
            let texts: Vec<String> = items.iter().map(go_syntax).collect();
            format!("[]interface {{}}{{{}}}", texts.join(", "))
        }
        Value::Object(map) => {
            let texts: Vec<String> =
                map.iter().map(|(k, v)| format!("{k:?}:{}", go_syntax(v))).collect();
            format!("map[string]interface {{}}{{{}}}", texts.join(", "))
        }
        other => other.to_string(),
    }
}

fn walk(steps: &[Step], mut values: Vec<Value>, fills: bool) -> Result<Vec<Value>, String> {
    for step in steps {
        let mut next = Vec::new();
        match step {
            Step::Text(text) => next.push(Value::from(text.as_str())),
            Step::Number(number) => next.push(Value::Number(number.clone())),
            Step::Truth(truth) => next.push(Value::Bool(*truth)),
            Step::Word(word) if word == "end" => {
                return Err("not in range, nothing to end".to_owned());
            }
            Step::Word(word) => return Err(format!("unrecognized identifier {word}")),
            step => {
                for value in &values {
                    one(step, value, fills, &mut next)?;
                }
            }
        }
        if next.len() > FOUND_MAX {
            return Err(format!("the path leads to more than {FOUND_MAX} values"));
        }
        values = next;
    }
    Ok(values)
}

/// Takes one step from one value.
fn one(step: &Step, value: &Value, fills: bool, next: &mut Vec<Value>) -> Result<(), String> {
    match step {
        Step::Field(name) if name.is_empty() => next.push(value.clone()),
        Step::Field(name) => match value.get(name.as_str()) {
            Some(found) => next.push(found.clone()),
            None if fills => {}
            None => return Err(format!("{name} is not found")),
        },
        Step::Wildcard => match value {
            Value::Array(items) => next.extend(items.iter().cloned()),
            Value::Object(map) => next.extend(map.values().cloned()),
            _ => {}
        },
        Step::Recursive => descend(value, next),
        Step::Union(paths) => {
            for path in paths {
                next.extend(walk(path, vec![value.clone()], fills)?);
            }
        }
        Step::Slice(start, end, every, is_index) => {
            let Value::Array(items) = value else {
                if value.is_null() && fills {
                    return Ok(());
                }
                return Err(format!("{} is not array or slice", go_value(value)));
            };
            slice(items, (*start, *end, *every), *is_index, next)?;
        }
        Step::Filter(left, operator, right) => {
            let Value::Array(items) = value else {
                return Err(format!(
                    "{} is not array or slice and cannot be filtered",
                    go_value(value)
                ));
            };
            for item in items {
                if passes(item, left, operator, right)? {
                    next.push(item.clone());
                }
            }
        }
        _ => {}
    }
    Ok(())
}

/// The value and all that is within it.
fn descend(value: &Value, next: &mut Vec<Value>) {
    next.push(value.clone());
    match value {
        Value::Array(items) => items.iter().for_each(|item| descend(item, next)),
        Value::Object(map) => map.values().for_each(|item| descend(item, next)),
        _ => {}
    }
}

fn slice(
    items: &[Value],
    (start, end, every): (Option<i64>, Option<i64>, Option<i64>),
    is_index: bool,
    next: &mut Vec<Value>,
) -> Result<(), String> {
    let len = i64::try_from(items.len()).unwrap_or(i64::MAX);
    let whole = |at: i64| if at < 0 { at + len } else { at };
    let from = whole(start.unwrap_or(0));
    if is_index {
        let found = usize::try_from(from).ok().and_then(|at| items.get(at));
        let found = found.ok_or_else(|| {
            format!("array index out of bounds: index {}, length {len}", start.unwrap_or(0))
        })?;
        next.push(found.clone());
        return Ok(());
    }
    let to = whole(end.unwrap_or(len)).min(len);
    let every = every.unwrap_or(1);
    if every <= 0 {
        return Err("step must be > 0".to_owned());
    }
    if from >= len && len > 0 || from < 0 {
        return Err(format!(
            "array index out of bounds: index {}, length {len}",
            start.unwrap_or(0)
        ));
    }
    let mut at = from;
    while at < to {
        if let Some(item) = usize::try_from(at).ok().and_then(|at| items.get(at)) {
            next.push(item.clone());
        }
        at += every;
    }
    Ok(())
}

fn passes(item: &Value, left: &[Step], operator: &str, right: &[Step]) -> Result<bool, String> {
    use std::cmp::Ordering::{Equal, Greater, Less};
    let left = walk(left, vec![item.clone()], true)?;
    if operator == "exists" {
        return Ok(!left.is_empty());
    }
    let right = walk(right, vec![item.clone()], true)?;
    if left.len() > 1 || right.len() > 1 {
        return Err("can only compare one element at a time".to_owned());
    }
    let (Some(left), Some(right)) = (left.first(), right.first()) else { return Ok(false) };
    let order = match (left, right) {
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        (Value::Number(a), Value::Number(b)) => {
            a.as_f64().zip(b.as_f64()).and_then(|(a, b)| a.partial_cmp(&b))
        }
        (a, b) if a == b => Some(Equal),
        _ => None,
    };
    Ok(match operator {
        "==" => order == Some(Equal),
        "!=" => order != Some(Equal),
        "<" => order == Some(Less),
        ">" => order == Some(Greater),
        "<=" => matches!(order, Some(Less | Equal)),
        ">=" => matches!(order, Some(Greater | Equal)),
        other => return Err(format!("unrecognized filter operator {other}")),
    })
}

/// Reads what is between braces.
struct Reader {
    chars: Vec<char>,
    at: usize,
    depth: usize,
}

impl Reader {
    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    /// Steps up to and with the closing brace.
    fn steps(&mut self) -> Result<Vec<Step>, String> {
        let mut steps = Vec::new();
        loop {
            let Some(c) = self.peek() else { return Err("unclosed action".to_owned()) };
            self.at += 1;
            match c {
                '}' => return Ok(steps),
                '\n' | '\r' => return Err("unclosed action".to_owned()),
                ' ' | '@' | '$' => {}
                '[' => steps.push(self.array()?),
                '"' | '\'' => steps.push(Step::Text(self.quoted(c)?)),
                '.' if self.peek() == Some('.') => {
                    self.at += 1;
                    steps.push(Step::Recursive);
                    if self.peek().is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '*') {
                        steps.push(self.field());
                    }
                }
                '.' => steps.push(self.field()),
                '+' | '-' | '0'..='9' => {
                    self.at -= 1;
                    steps.push(self.number()?);
                }
                c if c.is_alphanumeric() || c == '_' => {
                    self.at -= 1;
                    let word = self.word();
                    steps.push(match word.as_str() {
                        "true" => Step::Truth(true),
                        "false" => Step::Truth(false),
                        _ => Step::Word(word),
                    });
                }
                other => {
                    return Err(format!(
                        "unrecognized character in action: U+{:04X} '{other}'",
                        u32::from(other)
                    ));
                }
            }
        }
    }

    fn word(&mut self) -> String {
        let mut word = String::new();
        while let Some(c) = self.peek() {
            match c {
                ' ' | '\n' | '\r' | '\t' | '.' | ',' | '[' | ']' | '$' | '@' | '{' | '}' => break,
                '\\' => {
                    self.at += 1;
                    word.extend(self.peek());
                }
                c => word.push(c),
            }
            self.at += 1;
        }
        word
    }

    fn field(&mut self) -> Step {
        match self.word() {
            all if all == "*" => Step::Wildcard,
            name => Step::Field(name),
        }
    }

    fn number(&mut self) -> Result<Step, String> {
        let word: String = {
            let from = self.at;
            while self.peek().is_some_and(|c| c.is_ascii_digit() || "+-.eE".contains(c)) {
                self.at += 1;
            }
            self.chars[from..self.at].iter().collect()
        };
        let number = match word.parse::<i64>() {
            Ok(whole) => Some(whole.into()),
            Err(_) => word.parse().ok().and_then(serde_json::Number::from_f64),
        };
        number.map(Step::Number).ok_or_else(|| format!("cannot parse number {word}"))
    }

    fn quoted(&mut self, quote: char) -> Result<String, String> {
        let mut text = String::new();
        loop {
            let Some(c) = self.peek() else { return Err("unterminated quoted string".to_owned()) };
            self.at += 1;
            match c {
                c if c == quote => return Ok(text),
                '\\' => {
                    let Some(escaped) = self.peek() else {
                        return Err("unterminated quoted string".to_owned());
                    };
                    self.at += 1;
                    match escaped {
                        'n' => text.push('\n'),
                        't' => text.push('\t'),
                        'r' => text.push('\r'),
                        other => text.push(other),
                    }
                }
                '\n' => return Err("unterminated quoted string".to_owned()),
                c => text.push(c),
            }
        }
    }

    /// What is between brackets.
    fn array(&mut self) -> Result<Step, String> {
        let from = self.at;
        if self.peek() == Some('?') {
            return self.filter();
        }
        let mut quote = None;
        loop {
            let Some(c) = self.peek() else { return Err("unterminated array".to_owned()) };
            self.at += 1;
            match (c, quote) {
                (c, Some(open)) if c == open => quote = None,
                (_, Some(_)) => {}
                ('\'' | '"', None) => quote = Some(c),
                (']', None) => break,
                ('\n', None) => return Err("unterminated array".to_owned()),
                _ => {}
            }
        }
        let text: String = self.chars[from..self.at - 1].iter().collect();
        let parts = split_commas(&text);
        if parts.len() > 1 {
            let paths: Result<Vec<Vec<Step>>, String> =
                parts.iter().map(|part| Ok(vec![index(part.trim())?])).collect();
            return Ok(Step::Union(paths?));
        }
        index(&text)
    }

    fn filter(&mut self) -> Result<Step, String> {
        self.at += 1;
        if self.peek() != Some('(') || self.depth >= DEPTH_MAX {
            return Err("unterminated filter".to_owned());
        }
        self.at += 1;
        let from = self.at;
        let (mut open, mut quote) = (1, None);
        while open > 0 {
            let Some(c) = self.peek() else { return Err("unterminated filter".to_owned()) };
            self.at += 1;
            match (c, quote) {
                ('\\', Some(_)) => self.at += 1,
                (c, Some(begun)) if c == begun => quote = None,
                (_, Some(_)) => {}
                ('\'' | '"', None) => quote = Some(c),
                ('(', None) => open += 1,
                (')', None) => open -= 1,
                _ => {}
            }
        }
        let text: String = self.chars[from..self.at - 1].iter().collect();
        if self.peek() != Some(']') {
            return Err("unclosed array expect ]".to_owned());
        }
        self.at += 1;
        let inner = |text: &str| {
            let chars = format!("{}}}", text.trim()).chars().collect();
            Reader { chars, at: 0, depth: self.depth + 1 }.steps()
        };
        match operator(&text) {
            Some((left, operator, right)) => {
                Ok(Step::Filter(inner(left)?, operator.to_owned(), inner(right)?))
            }
            None => Ok(Step::Filter(inner(&text)?, "exists".to_owned(), Vec::new())),
        }
    }
}

/// Divides `left op right`.
fn operator(text: &str) -> Option<(&str, &str, &str)> {
    let at = text.find(['!', '<', '>', '=']).filter(|at| *at > 0)?;
    let rest = &text[at..];
    let len = rest.find(|c| !"!<>=".contains(c))?;
    Some((&text[..at], &rest[..len], &rest[len..]))
}

fn split_commas(text: &str) -> Vec<&str> {
    let (mut parts, mut from, mut quote) = (Vec::new(), 0, None);
    for (at, c) in text.char_indices() {
        match (c, quote) {
            (c, Some(open)) if c == open => quote = None,
            (_, Some(_)) => {}
            ('\'' | '"', None) => quote = Some(c),
            (',', None) => {
                parts.push(&text[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[from..]);
    parts
}

/// One index, slice or name between brackets.
fn index(text: &str) -> Result<Step, String> {
    if text == "*" {
        return Ok(Step::Wildcard);
    }
    let quoted = text.strip_prefix('\'').and_then(|name| name.strip_suffix('\''));
    if let Some(name) = quoted.filter(|name| !name.contains('\'')) {
        // As upstream: a dot that is not escaped divides here, too.
        let chars = format!(".{name}}}").chars().collect();
        return Ok(Step::Union(vec![Reader { chars, at: 0, depth: DEPTH_MAX }.steps()?]));
    }
    if text.starts_with("?(") {
        let mut reader = Reader { chars: format!("{text}]").chars().collect(), at: 0, depth: 1 };
        return reader.filter();
    }
    let parts: Vec<&str> = text.split(':').collect();
    let bad = || format!("invalid array index {text}");
    if parts.len() > 3 || text.is_empty() {
        return Err(bad());
    }
    let mut numbers = [None; 3];
    for (number, part) in numbers.iter_mut().zip(&parts) {
        if !part.is_empty() {
            *number = Some(part.parse::<i64>().map_err(|_| bad())?);
        }
    }
    Ok(Step::Slice(numbers[0], numbers[1], numbers[2], parts.len() == 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::json;

    fn check(template: &str, want: &str) {
        let tree = json!({
            "kind": "List",
            "items": [
                {"metadata": {"name": "a", "labels": {"x.y/z": "1"}}, "n": 1, "ok": true},
                {"metadata": {"name": "b"}, "n": 2.5, "list": [1, 2, 3]},
            ],
        });
        let got = JsonPath::parse(template).and_then(|path| path.print(&tree, true, false));
        assert_eq!(got.unwrap_or_else(|why| format!("error: {why}")), want, "{template}");
    }

    #[test]
    fn templates_give_what_upstream_gives() {
        check("{.items[*].metadata.name}", "a b");
        check("{.items[0].metadata.labels.x\\.y/z}", "1");
        check("{.items[0].metadata.labels['x\\.y/z']}", "1");
        check("{.items[0].metadata.labels['x.y/z']}", "");
        check("{.items[0][\"n\"]}", "error: invalid array index \"n\"");
        check("{range .items[*]}{.metadata.name}{\"\\t\"}{.n}{\"\\n\"}{end}", "a\t1\nb\t2.5\n");
        check("{.items[?(@.n>1)].metadata.name}", "b");
        check("{.items[?(@.metadata.name==\"a\")].n}", "1");
        check("{.items[?(@.list)].metadata.name}", "b");
        check("{.items[-1].list[0:2]}", "1 2");
        check("{.items[1].list[::2]}", "1 3");
        check("{..name}", "a b");
        check("{.items[0]['metadata.name','n']}", "a 1");
        check("{.items[1].list}", "[1,2,3]");
        check("{.items[0].metadata}", "{\"labels\":{\"x.y/z\":\"1\"},\"name\":\"a\"}");
        check("x{.kind}y", "xListy");
        check("{.missing}", "");
        check("{.items[7].n}", "error: array index out of bounds: index 7, length 2");
        check("{.items[0", "error: unterminated array");
        check("{range .items[*]}{.n}-", "1-2.5--");
        check("{end}", "error: not in range, nothing to end");
        check("{foo}", "error: unrecognized identifier foo");
        check("{.kind", "error: unclosed action");
    }
}
