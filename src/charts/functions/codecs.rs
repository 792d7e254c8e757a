//! Encodings, digests, JSON, URLs, versions.

use std::rc::Rc;

use ring::digest;
use serde_json::Value as Json;
use template::{Heap, Object, Run, Value};

use super::text::{bytes, made, map, text};
use super::{Engine, Entry, Given, Out};
use crate::semver::{Constraint, Version};
use crate::values::floats;

pub(super) const TABLE: &[Entry] = &[
    ("b64enc", "s", |_, run, args| made(run.heap, wire::base64::encode(bytes(&args[0])))),
    ("b64dec", "s", |_, run, args| {
        match wire::base64::decode(&text(&args[0]).replace(['\n', '\r'], "")) {
            Some(decoded) => made(run.heap, decoded),
            None => Ok(Value::text(bad_base64(&text(&args[0])))),
        }
    }),
    ("b32enc", "s", |_, run, args| made(run.heap, base32(bytes(&args[0])))),
    ("b32dec", "s", |_, run, args| match unbase32(&text(&args[0])) {
        Some(decoded) => made(run.heap, decoded),
        None => Ok(Value::text("illegal base32 data at input byte 0")),
    }),
    ("sha1sum", "s", |_, run, args| hash(run, &digest::SHA1_FOR_LEGACY_USE_ONLY, &args[0])),
    ("sha256sum", "s", |_, run, args| hash(run, &digest::SHA256, &args[0])),
    ("sha512sum", "s", |_, run, args| hash(run, &digest::SHA512, &args[0])),
    ("adler32sum", "s", |_, run, args| {
        let (mut a, mut b) = (1u32, 0u32);
        for byte in bytes(&args[0]) {
            a = (a + u32::from(*byte)) % 65_521;
            b = (b + a) % 65_521;
        }
        made(run.heap, (b << 16 | a).to_string())
    }),
    ("toJson", "a", |_, run, args| json(run, &args[0], Looks::COMPACT).or_else(swallowed)),
    ("mustToJson", "a", |_, run, args| json(run, &args[0], Looks::COMPACT)),
    ("toPrettyJson", "a", |_, run, args| json(run, &args[0], Looks::PRETTY).or_else(swallowed)),
    ("mustToPrettyJson", "a", |_, run, args| json(run, &args[0], Looks::PRETTY)),
    ("toRawJson", "a", |_, run, args| json(run, &args[0], Looks::RAW).or_else(swallowed)),
    ("mustToRawJson", "a", |_, run, args| json(run, &args[0], Looks::RAW)),
    ("mustFromJson", "s", |_, run, args| {
        let source = text(&args[0]);
        run.heap.charge(source.len() * 4)?;
        let mut tree: Json = serde_json::from_str(&source).map_err(|error| error.to_string())?;
        floats(&mut tree);
        Ok(Value::from_json(&tree))
    }),
    ("urlParse", "s", url_parse),
    ("urlJoin", "m", url_join),
    ("semver", "s", |_, _, args| match Version::parse(&text(&args[0])) {
        Ok(version) => Ok(Value::object(Semver(version))),
        Err(error) => Err(error.to_string()),
    }),
    ("semverCompare", "ss", |_, _, args| {
        let constraint = Constraint::parse(&text(&args[0])).map_err(|error| error.to_string())?;
        let version = Version::parse(&text(&args[1])).map_err(|error| error.to_string())?;
        Ok(Value::Bool(constraint.allows(&version)))
    }),
];

fn swallowed(_: String) -> Out {
    Ok(Value::text(""))
}

fn bad_base64(text: &str) -> String {
    let is_digit = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/');
    let at = text.bytes().position(|b| !is_digit(b)).unwrap_or(text.len() / 4 * 4);
    format!("illegal base64 data at input byte {at}")
}

const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

fn base32(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(5) * 8);
    for chunk in bytes.chunks(5) {
        let mut group = [0u8; 8];
        group[3..3 + chunk.len()].copy_from_slice(chunk);
        let group = u64::from_be_bytes(group);
        let n_digits = (chunk.len() * 8).div_ceil(5);
        for idx in 0..8 {
            let digit = BASE32[(group >> (35 - 5 * idx)) as usize & 31];
            out.push(if idx < n_digits { char::from(digit) } else { '=' });
        }
    }
    out
}

fn unbase32(text: &str) -> Option<Vec<u8>> {
    let text = text.replace(['\n', '\r'], "");
    if !text.len().is_multiple_of(8) {
        return None;
    }
    let digits = text.trim_end_matches('=');
    if !matches!(text.len() - digits.len(), 0 | 1 | 3 | 4 | 6) {
        return None;
    }
    let mut out = Vec::with_capacity(digits.len() * 5 / 8);
    let (mut group, mut n_bits) = (0u32, 0);
    for digit in digits.bytes() {
        let value = BASE32.iter().position(|known| *known == digit)?;
        group = group << 5 | u32::try_from(value).ok()?;
        n_bits += 5;
        if n_bits >= 8 {
            n_bits -= 8;
            out.push((group >> n_bits) as u8);
            group &= (1 << n_bits) - 1;
        }
    }
    Some(out)
}

fn hash(run: &Run<'_>, algorithm: &'static digest::Algorithm, value: &Value) -> Out {
    let digest = digest::digest(algorithm, bytes(value));
    let mut out = String::new();
    for byte in digest.as_ref() {
        out.push_str(&format!("{byte:02x}"));
    }
    made(run.heap, out)
}

/// How JSON is written.
#[derive(Clone, Copy)]
struct Looks {
    escapes_html: bool,
    is_indented: bool,
}

impl Looks {
    const COMPACT: Looks = Looks { escapes_html: true, is_indented: false };
    const PRETTY: Looks = Looks { escapes_html: true, is_indented: true };
    const RAW: Looks = Looks { escapes_html: false, is_indented: false };
}

fn json(run: &Run<'_>, value: &Value, looks: Looks) -> Out {
    let tree = value.to_json(run.heap)?;
    let mut out = String::new();
    write_json(&mut out, &tree, looks, 0);
    made(run.heap, out)
}

fn write_json(out: &mut String, tree: &Json, looks: Looks, depth: usize) {
    let line = |out: &mut String, depth: usize| {
        if looks.is_indented {
            out.push('\n');
            out.extend(std::iter::repeat_n("  ", depth));
        }
    };
    match tree {
        Json::Array(items) if !items.is_empty() => {
            out.push('[');
            for (idx, item) in items.iter().enumerate() {
                if idx > 0 {
                    out.push(',');
                }
                line(out, depth + 1);
                write_json(out, item, looks, depth + 1);
            }
            line(out, depth);
            out.push(']');
        }
        Json::Object(map) if !map.is_empty() => {
            out.push('{');
            for (idx, (key, value)) in map.iter().enumerate() {
                if idx > 0 {
                    out.push(',');
                }
                line(out, depth + 1);
                write_string(out, key, looks);
                out.push_str(if looks.is_indented { ": " } else { ":" });
                write_json(out, value, looks, depth + 1);
            }
            line(out, depth);
            out.push('}');
        }
        Json::String(text) => write_string(out, text, looks),
        Json::Number(number) if number.is_f64() => {
            let n = number.as_f64().unwrap_or_default();
            let raw = format!("{n:e}");
            let (mantissa, exponent) = raw.split_once('e').unwrap_or((&raw, "0"));
            match exponent.parse::<i32>() {
                Ok(exponent) if exponent < -6 => {
                    out.push_str(&format!("{mantissa}e-{:02}", exponent.unsigned_abs()));
                }
                Ok(exponent) if exponent >= 21 => {
                    out.push_str(&format!("{mantissa}e+{exponent:02}"));
                }
                _ => out.push_str(&format!("{n}")),
            }
        }
        leaf => out.push_str(&leaf.to_string()),
    }
}

fn write_string(out: &mut String, text: &str, looks: Looks) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            '<' | '>' | '&' if looks.escapes_html => {
                out.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c if c < ' ' || matches!(c, '\u{2028}' | '\u{2029}') => {
                out.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

fn url_parse(_: &Engine<'_>, run: &mut Run<'_>, args: Given<'_>) -> Out {
    let whole = text(&args[0]).into_owned();
    run.heap.charge(whole.len() * 2)?;
    if whole.chars().any(char::is_control) {
        return Err(format!(
            "unable to parse url: parse {whole:?}: net/url: invalid control character in URL"
        ));
    }
    let (rest, fragment) = whole.split_once('#').unwrap_or((&whole, ""));
    let is_scheme = |text: &str| {
        text.starts_with(|c: char| c.is_ascii_alphabetic())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
    };
    let (scheme, rest) = match rest.split_once(':') {
        Some((scheme, rest)) if is_scheme(scheme) => (scheme.to_ascii_lowercase(), rest),
        Some(("", _)) => {
            return Err(format!("unable to parse url: parse {whole:?}: missing protocol scheme"));
        }
        _ => (String::new(), rest),
    };
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (mut user, mut host, mut path, mut opaque) = ("", "", rest, "");
    if !scheme.is_empty() && !rest.starts_with('/') {
        (opaque, path) = (rest, "");
    } else if let Some(authority) = rest.strip_prefix("//") {
        let end = authority.find('/').unwrap_or(authority.len());
        path = &authority[end..];
        (user, host) = authority[..end].rsplit_once('@').unwrap_or(("", &authority[..end]));
    }
    let hostname = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((inside, _)) => inside,
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    let decoded = |part: &str| Value::text(unescaped(part));
    Ok(Value::map(
        [
            (Rc::from("scheme"), Value::text(&scheme)),
            (Rc::from("host"), Value::text(host)),
            (Rc::from("hostname"), Value::text(hostname)),
            (Rc::from("path"), decoded(path)),
            (Rc::from("query"), Value::text(query)),
            (Rc::from("opaque"), Value::text(opaque)),
            (Rc::from("fragment"), decoded(fragment)),
            (Rc::from("userinfo"), Value::text(user)),
        ]
        .into(),
    ))
}

fn unescaped(part: &str) -> Vec<u8> {
    let bytes = part.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut idx = 0;
    while idx < bytes.len() {
        let digits =
            part.get(idx + 1..idx + 3).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match (bytes[idx], digits) {
            (b'%', Some(byte)) => {
                out.push(byte);
                idx += 3;
            }
            (byte, _) => {
                out.push(byte);
                idx += 1;
            }
        }
    }
    out
}

fn url_join(_: &Engine<'_>, run: &mut Run<'_>, args: Given<'_>) -> Out {
    let map = map(&args[0]);
    let mut parts = [const { String::new() }; 7];
    let names = ["scheme", "host", "path", "query", "opaque", "fragment", "userinfo"];
    for (part, name) in parts.iter_mut().zip(names) {
        match map.get(name) {
            None => {}
            Some(value @ Value::Text(_)) => *part = text(&value).into_owned(),
            Some(other) => {
                return Err(format!(
                    "unable to parse {name} key, must be of type string, but {} found",
                    other.kind()
                ));
            }
        }
    }
    let [scheme, host, path, query, opaque, fragment, user] = parts;
    let mut out = String::new();
    if !scheme.is_empty() {
        out.push_str(&format!("{scheme}:"));
    }
    if !opaque.is_empty() {
        out.push_str(&opaque);
    } else {
        if !host.is_empty() || !user.is_empty() {
            out.push_str("//");
            if !user.is_empty() {
                out.push_str(&format!("{user}@"));
            }
            out.push_str(&host);
            if !path.is_empty() && !path.starts_with('/') {
                out.push('/');
            }
        }
        escape_path(&mut out, &path);
    }
    if !query.is_empty() {
        out.push_str(&format!("?{query}"));
    }
    if !fragment.is_empty() {
        out.push('#');
        escape_path(&mut out, &fragment);
    }
    made(run.heap, out)
}

fn escape_path(out: &mut String, path: &str) {
    for byte in path.bytes() {
        match byte {
            b if b.is_ascii_alphanumeric() || b"-_.~$&+,/:;=@!*'()".contains(&b) => {
                out.push(char::from(b));
            }
            b => out.push_str(&format!("%{b:02X}")),
        }
    }
}

/// What `semver` gives.
struct Semver(Version);

impl Object for Semver {
    fn type_name(&self) -> &'static str {
        "*semver.Version"
    }

    fn kind(&self) -> &'static str {
        "ptr"
    }

    fn method(&self, _: &Heap, name: &str, args: &[Value]) -> Option<Out> {
        let version = &self.0;
        let other = || {
            let object = args.first().and_then(|arg| match arg {
                Value::Object(object) => object.as_any().downcast_ref::<Semver>(),
                _ => None,
            });
            object
                .map(|other| &other.0)
                .ok_or_else(|| "wrong type for value; expected *semver.Version".to_owned())
        };
        let number = |n: u64| Value::Int(n.cast_signed(), template::Int::Uint64);
        Some(Ok(match name {
            "Major" => number(version.major),
            "Minor" => number(version.minor),
            "Patch" => number(version.patch),
            "Prerelease" => Value::text(&version.prerelease),
            "Metadata" => Value::text(&version.metadata),
            "Original" => Value::text(&version.original),
            "String" => Value::text(version.to_string()),
            "Compare" => match other() {
                Ok(other) => Value::int(version.cmp(other) as i64),
                Err(error) => return Some(Err(error)),
            },
            "Equal" | "LessThan" | "GreaterThan" | "LessThanEqual" | "GreaterThanEqual" => {
                match other() {
                    Ok(other) => Value::Bool(match name {
                        "Equal" => version == other,
                        "LessThan" => version < other,
                        "GreaterThan" => version > other,
                        "LessThanEqual" => version <= other,
                        _ => version >= other,
                    }),
                    Err(error) => return Some(Err(error)),
                }
            }
            _ => return None,
        }))
    }

    fn show(&self) -> String {
        self.0.to_string()
    }

    fn plain(&self) -> Value {
        Value::text(self.0.to_string())
    }

    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
}
