//! YAML to JSON trees, as sigs.k8s.io/yaml reads it: YAML 1.1 booleans, string keys, several documents.
//!
//! Limits: depth, number of nodes, and expansion by aliases are bounded, so that a small file
//! cannot become a large tree.

use saphyr_parser::{Event, Parser, ScalarStyle, Tag};
use serde_json::{Map, Number, Value};
use stdx::{Error, Result};

use crate::json::{ENTRY_BYTES, MAP_BYTES, TEXT_BYTES};

/// Deeper nesting than any API object has.
pub const DEPTH_MAX: usize = 100;

/// Nodes a text may expand to, aliases counted at each use.
pub const NODES_MAX: usize = 1_000_000;

/// Memory that a text may expand to where nobody else counts it.
pub const TREE_BYTES_MAX: usize = 256 << 20;

/// Asked for each piece of memory before it is taken; a `false` ends the reading.
pub type Meter<'a> = &'a mut dyn FnMut(usize) -> bool;

/// Memory is asked for in steps of this size.
const METER_STEP_BYTES: usize = 64 << 10;

/// Every document of `text`, empty ones left out.
///
/// # Errors
/// If it is not YAML, a key is not a scalar or appears twice in one map, or a limit is passed; with the line.
pub fn parse(text: &str) -> Result<Vec<Value>> {
    let mut left = TREE_BYTES_MAX;
    let mut meter = |bytes| {
        left = left.saturating_sub(bytes);
        left > 0
    };
    documents(text, &mut meter, false)
}

/// As [`parse`], but that of keys which are twice in a map the last one counts: what Go reads that is not strict.
///
/// # Errors
/// As [`parse`] else.
pub fn parse_loose(text: &str) -> Result<Vec<Value>> {
    let mut left = TREE_BYTES_MAX;
    let mut meter = |bytes| {
        left = left.saturating_sub(bytes);
        left > 0
    };
    documents(text, &mut meter, true)
}

/// The first document of a text.
#[derive(Debug, Default)]
pub struct First {
    /// Null if there is none.
    pub tree: Value,
    /// Which keys came twice, in Go's words (`line 2: key "a" already set in map`); the last one counts.
    pub twice: Vec<String>,
}

/// How many keys that came twice are told.
const TWICE_MAX: usize = 20;

/// The first document as Go reads it, for as long as `meter` gives memory; what follows is not looked at.
///
/// # Errors
/// As [`parse_loose`], and when it gives no more.
pub fn first_metered(text: &str, meter: Meter<'_>) -> Result<First> {
    let mut reader = Reader::new(text, meter, true);
    let tree = reader.document()?.unwrap_or_default();
    Ok(First { tree, twice: reader.twice })
}

/// What is wrong with a text, as Go says it: it counts a parser's lines from 0, and does not tell what it was about.
pub fn go_words(why: &str) -> String {
    let why = why.strip_prefix("parse YAML: ").unwrap_or(why);
    // What is wrong with one letter has its line, counted from 1, unless it is the first.
    let why = why.strip_prefix("line 1: ").unwrap_or(why);
    if why == "found unprintable character" {
        return "control characters are not allowed".to_owned();
    }
    if let Some((_, first)) = why.strip_prefix("while parsing ").and_then(|it| it.split_once(", "))
    {
        return first.to_owned();
    }
    let told = why.strip_prefix("line ").and_then(|rest| rest.split_once(": while parsing "));
    let Some((line, rest)) = told else { return why.to_owned() };
    let (Ok(line), Some((_, rest))) = (line.parse::<u64>(), rest.split_once(", ")) else {
        return why.to_owned();
    };
    match line {
        0 | 1 => rest.to_owned(),
        line => format!("line {}: {rest}", line - 1),
    }
}

fn documents(text: &str, meter: Meter<'_>, is_loose: bool) -> Result<Vec<Value>> {
    let mut reader = Reader::new(text, meter, is_loose);
    let mut documents = Vec::new();
    while let Some(document) = reader.document()? {
        if !document.is_null() {
            documents.push(document);
        }
    }
    Ok(documents)
}

/// The only document of `text`; null if there is none.
///
/// # Errors
/// As [`parse`], and if there are several.
pub fn parse_one(text: &str) -> Result<Value> {
    one(parse(text)?)
}

/// As [`parse_one`], but that of keys which are twice in a map the last one counts: what Go reads that is not strict.
///
/// # Errors
/// As [`parse_one`] else.
pub fn parse_one_loose(text: &str) -> Result<Value> {
    one(parse_loose(text)?)
}

fn one(mut documents: Vec<Value>) -> Result<Value> {
    match documents.len() {
        0 => Ok(Value::Null),
        1 => Ok(documents.remove(0)),
        n => Err(Error::new(format!("parse YAML: expected one document, found {n}"))),
    }
}

struct Reader<'a, 'm> {
    parser: Parser<'a, saphyr_parser::StrInput<'a>>,
    anchors: Vec<Anchor>,
    n_nodes: usize,
    line: usize,
    /// Keys may be twice in a map.
    is_loose: bool,
    /// Those that were.
    twice: Vec<String>,
    meter: Meter<'m>,
    /// Asked for and not used yet.
    left_bytes: usize,
    /// Used in all.
    n_bytes: usize,
}

/// A part of the text that has a name, and what it takes to repeat it.
struct Anchor {
    id: usize,
    value: Value,
    n_nodes: usize,
    n_bytes: usize,
}

impl<'a, 'm> Reader<'a, 'm> {
    fn new(text: &'a str, meter: Meter<'m>, is_loose: bool) -> Reader<'a, 'm> {
        Reader {
            parser: Parser::new_from_str(text),
            anchors: Vec::new(),
            n_nodes: 0,
            line: 1,
            is_loose,
            twice: Vec::new(),
            meter,
            left_bytes: 0,
            n_bytes: 0,
        }
    }

    /// The next document, if there is one.
    fn document(&mut self) -> Result<Option<Value>> {
        while let Some(event) = self.next()? {
            match event {
                Event::DocumentStart(_) => {
                    self.anchors.clear();
                    let first = self.expect()?;
                    return self.value(first, 0).map(Some);
                }
                Event::StreamEnd => break,
                _ => {}
            }
        }
        Ok(None)
    }

    fn next(&mut self) -> Result<Option<Event<'a>>> {
        match self.parser.next_event() {
            None => Ok(None),
            Some(Ok((event, span))) => {
                self.line = span.start.line();
                Ok(Some(event))
            }
            Some(Err(error)) => Err(Error::new(format!(
                "parse YAML: line {}: {}",
                error.marker().line(),
                error.info()
            ))),
        }
    }

    fn expect(&mut self) -> Result<Event<'a>> {
        match self.next()? {
            Some(event) => Ok(event),
            None => Err(self.error("the text ends inside a document")),
        }
    }

    fn error(&self, what: &str) -> Error {
        Error::new(format!("parse YAML: line {}: {what}", self.line))
    }

    fn value(&mut self, event: Event<'a>, depth: usize) -> Result<Value> {
        if depth > DEPTH_MAX {
            return Err(self.error("nested too deeply"));
        }
        self.count(1, ENTRY_BYTES)?;
        let (nodes_before, bytes_before) = (self.n_nodes, self.n_bytes);
        let (value, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.count(0, TEXT_BYTES + text.len())?;
                (scalar(&text, style, tag.as_deref()), anchor)
            }
            Event::SequenceStart(anchor, _) => {
                let mut items = Vec::new();
                loop {
                    match self.expect()? {
                        Event::SequenceEnd => break,
                        event => items.push(self.value(event, depth + 1)?),
                    }
                }
                (Value::Array(items), anchor)
            }
            Event::MappingStart(anchor, _) => {
                self.count(0, MAP_BYTES)?;
                (self.map(depth)?, anchor)
            }
            Event::Alias(id) => {
                let Some(idx) = self.anchors.iter().position(|anchor| anchor.id == id) else {
                    return Err(self.error("an alias names an anchor that is not there yet"));
                };
                // Counted before it is copied.
                self.count(self.anchors[idx].n_nodes, self.anchors[idx].n_bytes)?;
                return Ok(self.anchors[idx].value.clone());
            }
            _ => return Err(self.error("unexpected end of a collection")),
        };
        if anchor != 0 {
            let n_nodes = self.n_nodes - nodes_before;
            let n_bytes = self.n_bytes - bytes_before;
            self.count(0, n_bytes)?;
            self.anchors.push(Anchor { id: anchor, value: value.clone(), n_nodes, n_bytes });
        }
        Ok(value)
    }

    fn map(&mut self, depth: usize) -> Result<Value> {
        let mut map = Map::new();
        let mut merges = Vec::new();
        loop {
            let key = match self.expect()? {
                Event::MappingEnd => break,
                Event::Scalar(text, ScalarStyle::Plain, ..) if text == "<<" => None,
                Event::Scalar(text, style, _, tag) => {
                    self.count(0, TEXT_BYTES + text.len())?;
                    Some(key(&text, style, tag.as_deref()))
                }
                Event::Alias(id) => {
                    let anchored = self
                        .anchors
                        .iter()
                        .find(|anchor| anchor.id == id)
                        .and_then(|anchor| anchor.value.as_str().map(str::to_owned));
                    let key = anchored.ok_or_else(|| self.error("a map key is not a scalar"))?;
                    self.count(0, TEXT_BYTES + key.len())?;
                    Some(key)
                }
                _ => return Err(self.error("a map key is not a scalar")),
            };
            let event = self.expect()?;
            let value = self.value(event, depth + 1)?;
            match key {
                None => merges.push(value),
                Some(key) => {
                    if map.contains_key(&key) {
                        let why = format!("key {key:?} already set in map");
                        match self.is_loose {
                            false => return Err(self.error(&why)),
                            true if self.twice.len() < TWICE_MAX => {
                                self.twice.push(format!("line {}: {why}", self.line));
                            }
                            true => {}
                        }
                    }
                    map.insert(key, value);
                }
            }
        }
        // YAML 1.1 merge keys: what the map says itself wins.
        for merge in merges {
            let sources = match merge {
                Value::Array(items) => items,
                single => vec![single],
            };
            for source in sources {
                let Value::Object(source) = source else {
                    return Err(self.error("a merge key does not name a map"));
                };
                for (key, value) in source {
                    map.entry(key).or_insert(value);
                }
            }
        }
        Ok(Value::Object(map))
    }

    fn count(&mut self, n: usize, bytes: usize) -> Result<()> {
        self.n_nodes = self.n_nodes.saturating_add(n);
        if self.n_nodes > NODES_MAX {
            return Err(self.error("expands to too many nodes"));
        }
        self.n_bytes = self.n_bytes.saturating_add(bytes);
        if bytes > self.left_bytes {
            let step = (bytes - self.left_bytes).max(METER_STEP_BYTES);
            if !(self.meter)(step) {
                return Err(self.error("expands to too much memory"));
            }
            self.left_bytes += step;
        }
        self.left_bytes -= bytes;
        Ok(())
    }
}

/// A key is always text: what a plain scalar reads as is written back as JSON would.
fn key(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> String {
    match scalar(text, style, tag) {
        Value::String(text) => text,
        Value::Null => text.to_owned(),
        other => other.to_string(),
    }
}

/// Resolves a scalar by the YAML 1.1 rules that Go's yaml.v2 applies.
fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Value {
    let string = || Value::String(text.to_owned());
    if let Some(tag) = tag
        && tag.is_yaml_core_schema()
        && matches!(tag.suffix.as_str(), "str" | "binary")
    {
        return string();
    }
    if style != ScalarStyle::Plain {
        return string();
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" | "y" | "Y" => {
            Value::Bool(true)
        }
        "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" | "n" | "N" => {
            Value::Bool(false)
        }
        _ => number(text).map_or_else(string, Value::Number),
    }
}

fn number(text: &str) -> Option<Number> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return None;
    }
    let negative = text.starts_with('-');
    let plain: String = digits.chars().filter(|c| *c != '_').collect();
    let radix = |prefix: &str, radix: u32| {
        plain.strip_prefix(prefix).and_then(|rest| u64::from_str_radix(rest, radix).ok())
    };
    let octal = || {
        (plain.len() > 1 && plain.starts_with('0'))
            .then(|| u64::from_str_radix(&plain[1..], 8).ok())
            .flatten()
    };
    let whole =
        radix("0x", 16).or_else(|| radix("0o", 8)).or_else(|| radix("0b", 2)).or_else(octal);
    let whole = whole
        .or_else(|| plain.parse::<u64>().ok().filter(|_| plain == "0" || !plain.starts_with('0')));
    if let Some(whole) = whole {
        return match negative {
            true => i64::try_from(-i128::from(whole)).ok().map(Number::from),
            false => Some(Number::from(whole)),
        };
    }
    let looks_like_float =
        plain.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-'))
            && plain.bytes().any(|b| b.is_ascii_digit());
    let float: f64 = looks_like_float.then(|| plain.parse().ok()).flatten()?;
    let float = if negative { -float } else { float };
    // `1e3` is a whole number for Kubernetes' decoders.
    Number::from_f64(float)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn as_kubernetes_reads_it() {
        let text = "a: yes\nb: \"yes\"\nc: 0777\nd: 0x1F\ne: 1.5\nf: ~\ng: [1, -2, 1_000]\nh: |\n  x\n  y\ni: 2024-01-01\nj: 1.2.3\nk: !!str 5\n1: one\n";
        let want = json!({"a": true, "b": "yes", "c": 511, "d": 31, "e": 1.5, "f": null, "g": [1, -2, 1000], "h": "x\ny\n", "i": "2024-01-01", "j": "1.2.3", "k": "5", "1": "one"});
        assert_eq!(parse_one(text).unwrap(), want);
        assert_eq!(
            parse("---\n# nothing\n---\na: 1\n---\n---\nb: 2\n").unwrap(),
            [json!({"a": 1}), json!({"b": 2})]
        );
        assert_eq!(parse("").unwrap(), Vec::<Value>::new());
        assert_eq!(
            parse_one("x: &a {p: 1}\nw: *a\nz: {<<: *a, q: 2}\n").unwrap(),
            json!({"x": {"p": 1}, "w": {"p": 1}, "z": {"p": 1, "q": 2}})
        );
    }

    #[test]
    fn what_is_loose_takes_the_last_of_a_key() {
        assert_eq!(parse_loose("a: 1\nb: 2\na: 3\n").unwrap(), [json!({"a": 3, "b": 2})]);
        assert!(parse_loose("a: [1\n").is_err());
    }

    #[test]
    fn refusals_name_the_line() {
        for (text, want) in [
            ("a: 1\na: 2\n", "parse YAML: line 2: key \"a\" already set in map"),
            ("a: 1\n  b: 2\n", "line 2"),
            ("a: [1\n", "line"),
            ("? [x]\n: 1\n", "a map key is not a scalar"),
            ("a: *b\n", "line 1"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(want), "{text:?}: {error}");
        }
    }

    #[test]
    fn bombs_are_bounded() {
        let mut text = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
        for n in 1..10 {
            let refs = vec![format!("*a{}", n - 1); 10].join(",");
            text.push_str(&format!("a{n}: &a{n} [{refs}]\n"));
        }
        assert!(parse(&text).unwrap_err().to_string().contains("too many nodes"));
        assert!(parse(&"[".repeat(10_000)).is_err());
    }

    #[test]
    fn memory_is_asked_for_before_it_is_taken() {
        let asked = |text: &str, bytes_max: usize| {
            let mut n_bytes = 0;
            let parsed = first_metered(text, &mut |bytes| {
                n_bytes += bytes;
                n_bytes <= bytes_max
            });
            (parsed.is_ok(), n_bytes)
        };
        assert_eq!(asked("a: 1\n", 1 << 20), (true, METER_STEP_BYTES));
        // Half a kilobyte that names itself again and again, and one of empty-looking maps.
        let mut bomb = String::from("a0: &a0 {x: {y: {z: 1}}}\n");
        for n in 1..12 {
            bomb.push_str(&format!("a{n}: &a{n} [*a{0}, *a{0}, *a{0}, *a{0}]\n", n - 1));
        }
        let (whole, n_bytes) = asked(&bomb, 1 << 20);
        assert!(!whole && n_bytes < 4 << 20, "{n_bytes}");
        let maps = format!("a: [{}]", "{a: },".repeat(10_000));
        let (whole, n_bytes) = asked(&maps, usize::MAX);
        assert!(whole && n_bytes > 10_000 * 632, "{n_bytes}");
    }

    #[test]
    fn garbage_never_panics() {
        let mut prng = stdx::prng::Prng::new(3);
        let alphabet = b"ab: \n-[]{}&*!|>'\"#%,?0x1\t";
        for _ in 0..20_000 {
            let n = usize::try_from(prng.below(40)).unwrap();
            let text: String = (0..n)
                .map(|_| {
                    char::from(
                        alphabet[usize::try_from(prng.below(alphabet.len() as u64)).unwrap()],
                    )
                })
                .collect();
            let _ = parse(&text);
        }
    }
}
