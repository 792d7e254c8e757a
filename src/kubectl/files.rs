//! Objects from files: `-f` with files, directories, URLs and standard input; YAML and JSON, lists taken apart.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use api::message::json_type;
use api::{Lens, LensMut, Value};
use http::Request;
use http::client::{Client, Endpoint, Options, Url};
use http::tls::{Trust, client_config, public_roots};
use stdx::Arrange;
use wire::json_syntax::Fault;

use crate::failure::{Failure, Outcome, failed};
use crate::rest::unreachable;

/// One file, or what an URL gives.
const FILE_MAX_BYTES: u64 = 64 << 20;
/// Directories within directories, and redirects.
const DEPTH_MAX: usize = 64;
const REDIRECTS_MAX: usize = 10;

/// An object, and the file that it came from as messages call it. A whole document may be something else than an object, too.
#[derive(Debug, Clone)]
pub(crate) struct Read {
    pub(crate) object: Value,
    pub(crate) source: String,
}

impl Read {
    /// Refuses what is no object.
    pub(crate) fn checked(self) -> Outcome<Read> {
        match self.object.is_object() {
            true => Ok(self),
            false => failed(no_object(&self.object, &self.source, "unstructured.detector")),
        }
    }
}

/// Everything that the named files hold; where one is neither YAML nor JSON, that stands behind what was before it, and the other files follow.
///
/// # Errors
/// If a file cannot be read.
pub(crate) fn read(names: &[String], recursive: bool) -> Outcome<Vec<Outcome<Read>>> {
    let mut found = Vec::new();
    for name in names {
        match name.as_str() {
            "-" => {
                let mut bytes = Vec::new();
                let read = std::io::stdin().take(FILE_MAX_BYTES + 1).read_to_end(&mut bytes);
                read.map_err(|error| Failure::Message(format!("error reading STDIN: {error}")))?;
                documents(&bytes, "STDIN", &mut found);
            }
            url if url.starts_with("http://") || url.starts_with("https://") => {
                documents(&download(url)?, url, &mut found);
            }
            path => {
                for file in files(path, recursive)? {
                    let bytes =
                        rt::fs::read_within(&file, FILE_MAX_BYTES).map_err(|error| match error
                            .io_kind()
                        {
                            Some(std::io::ErrorKind::PermissionDenied) => Failure::Message(
                                format!("open {}: permission denied", file.display()),
                            ),
                            _ => Failure::from(error),
                        })?;
                    documents(&bytes, &file.display().to_string(), &mut found);
                }
            }
        }
    }
    Ok(found)
}

/// Looks whether everything is there that is not read elsewhere.
///
/// # Errors
/// What is not.
pub(crate) fn check(names: &[String], recursive: bool) -> Outcome {
    let is_path = |name: &&String| {
        *name != "-" && !name.starts_with("http://") && !name.starts_with("https://")
    };
    names.iter().filter(is_path).try_for_each(|path| files(path, recursive).map(|_| ()))
}

fn files(path: &str, recursive: bool) -> Outcome<Vec<PathBuf>> {
    let mut paths = vec![PathBuf::from(path)];
    if rt::fs::metadata(path).is_err() && path.contains(['*', '?', '[']) {
        paths = glob(path);
    }
    let mut found = Vec::new();
    for path in paths {
        match rt::fs::metadata(&path) {
            Ok(meta) if meta.is_dir() => {
                let before = found.len();
                directory(&path, recursive, 0, &mut found);
                if found.len() == before {
                    return failed(format!(
                        "error reading [{}]: recognized file extensions are [.json .yaml .yml]",
                        path.display()
                    ));
                }
            }
            Ok(_) => found.push(path),
            Err(_) => {
                return failed(format!("the path {:?} does not exist", path.display().to_string()));
            }
        }
    }
    match found.is_empty() {
        true => failed(format!("the path {path:?} does not exist")),
        false => Ok(found),
    }
}

fn directory(path: &Path, recursive: bool, depth: usize, found: &mut Vec<PathBuf>) {
    let mut names = rt::fs::dir_names(path);
    names.arrange();
    for (name, _) in names {
        let inner = path.join(name);
        let is_dir = rt::fs::metadata(&inner).is_ok_and(|meta| meta.is_dir());
        if is_dir {
            if recursive && depth < DEPTH_MAX {
                directory(&inner, true, depth + 1, found);
            }
        } else if inner.extension().is_some_and(|it| it == "json" || it == "yaml" || it == "yml") {
            found.push(inner);
        }
    }
}

/// The files that a pattern means in its directory.
fn glob(pattern: &str) -> Vec<PathBuf> {
    let (dir, name) = pattern.rsplit_once('/').unwrap_or((".", pattern));
    let mut found: Vec<PathBuf> = Vec::new();
    for (own, _) in rt::fs::dir_names(if dir.is_empty() { "/" } else { dir }) {
        let own = own.to_string_lossy();
        if matches(name.as_bytes(), own.as_bytes()) {
            found.push(match pattern.contains('/') {
                true => Path::new(dir).join(&*own),
                false => PathBuf::from(&*own),
            });
        }
    }
    found.arrange();
    found
}

/// Whether a name fits a pattern of `*`, `?` and `[a-z]`.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut at, mut own) = (0, 0);
    let mut back: Option<(usize, usize)> = None;
    while own < name.len() {
        let step = match pattern.get(at) {
            Some(b'*') => {
                back = Some((at + 1, own));
                at += 1;
                continue;
            }
            Some(b'?') => Some(1),
            Some(b'[') => pattern[at..].iter().position(|b| *b == b']').and_then(|end| {
                let set = &pattern[at + 1..at + end];
                let (negated, set) = match set.first() {
                    Some(b'^') => (true, &set[1..]),
                    _ => (false, set),
                };
                let is_in = set.contains(&name[own])
                    || set.windows(3).any(|w| w[1] == b'-' && (w[0]..=w[2]).contains(&name[own]));
                (is_in != negated).then_some(end + 1)
            }),
            Some(byte) if *byte == name[own] => Some(1),
            _ => None,
        };
        match (step, back) {
            (Some(step), _) => {
                at += step;
                own += 1;
            }
            (None, Some((pattern_at, name_at))) => {
                at = pattern_at;
                own = name_at + 1;
                back = Some((pattern_at, name_at + 1));
            }
            (None, None) => return false,
        }
    }
    pattern[at..].iter().all(|b| *b == b'*')
}

fn download(url: &str) -> Outcome<Vec<u8>> {
    let tls = client_config(Trust::Roots(public_roots()), None)?;
    let client = Client::new(Options::default());
    let mut at = Url::parse(url)?;
    for _ in 0..REDIRECTS_MAX {
        let endpoint = Endpoint::url(&at, &Arc::clone(&tls));
        let request = Request::get(&at.target).header("user-agent", "kubectl");
        let (status, location, bytes) = rt::block_on(async {
            let mut response = client.send(&endpoint, request).await?;
            let location = response.headers.get("location").map(str::to_owned);
            let max = usize::try_from(FILE_MAX_BYTES).unwrap_or(usize::MAX);
            Ok::<_, stdx::Error>((response.status, location, response.body.read_all(max).await?))
        })
        .map_err(|error| unreachable(&error, url))?;
        match (status, location) {
            (200, _) => return Ok(bytes),
            (301 | 302 | 303 | 307 | 308, Some(location)) => at = at.join(&location)?,
            _ => {
                return failed(format!(
                    "unable to read URL {url:?}, server reported {status}, status code={status}"
                ));
            }
        }
    }
    failed(format!("unable to read URL {url:?}: too many redirects"))
}

/// The objects of a text, and behind them what is wrong with the rest of it.
pub(crate) fn documents(bytes: &[u8], source: &str, found: &mut Vec<Outcome<Read>>) {
    if bytes.len() as u64 > FILE_MAX_BYTES {
        return found.push(failed(format!("{source}: it is larger than {FILE_MAX_BYTES} bytes")));
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let first = bytes.iter().find(|byte| !byte.is_ascii_whitespace());
    let complain = |why: String| failed(format!("error parsing {source}: {why}"));
    if first == Some(&b'{') {
        // As upstream: what begins as JSON is JSON to its end, even if it would be YAML, too.
        for tree in serde_json::Deserializer::from_slice(bytes).into_iter::<Value>() {
            match tree {
                Ok(tree) => flatten(tree, source, 0, found),
                Err(error) => return found.push(complain(json_fault(bytes, &error))),
            }
        }
        return;
    }
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            return found.push(complain(format!("error converting YAML to JSON: yaml: {error}")));
        }
    };
    // Each document is read by itself: its lines are counted from its beginning, and what is wrong with it is not wrong with those before.
    for text in split(text) {
        match wire::yaml::parse_loose(text) {
            Ok(trees) => {
                for tree in trees {
                    flatten(tree, source, 0, found);
                }
            }
            Err(error) => {
                let why = wire::yaml::go_words(&error.to_string());
                return found.push(complain(format!("error converting YAML to JSON: yaml: {why}")));
            }
        }
    }
}

/// The documents of a text, as upstream's splitter finds them: before lines that begin with `---`.
fn split(text: &str) -> Vec<&str> {
    let (mut documents, mut rest) = (Vec::new(), text);
    if let Some(behind) = rest.strip_prefix("---") {
        rest = behind.split_once('\n').map_or("", |(_, behind)| behind);
    }
    while let Some((document, behind)) = rest.split_once("\n---") {
        documents.push(document);
        rest = behind.split_once('\n').map_or("", |(_, behind)| behind);
    }
    documents.push(rest);
    documents
}

fn json_fault(bytes: &[u8], error: &serde_json::Error) -> String {
    match wire::json_syntax::check(bytes) {
        Err(Fault { offset, why: Some(why) }) => format!("json: offset {offset}: {why}"),
        Err(Fault { why: None, .. }) => "unexpected EOF".to_owned(),
        // Go takes more: half a surrogate pair, bytes that are no UTF-8.
        Ok(()) => format!("json: {error}"),
    }
}

/// The refusal of a document that holds something else than an object: `target` is what Go would have made of it.
fn no_object(tree: &Value, source: &str, target: &str) -> String {
    let found = json_type(tree);
    format!(
        "unable to decode {source:?}: json: cannot unmarshal {found} into Go value of type {target}"
    )
}

/// Takes lists apart.
fn flatten(tree: Value, source: &str, depth: usize, found: &mut Vec<Outcome<Read>>) {
    if tree.is_null() {
        return;
    }
    if !tree.is_object() {
        return found.push(match depth {
            0 => Ok(Read { object: tree, source: source.to_owned() }),
            _ => failed(no_object(&tree, source, "map[string]interface {}")),
        });
    }
    let is_list = tree.str("kind").ends_with("List") && tree.get("items").is_some();
    if !is_list || depth >= DEPTH_MAX {
        return found.push(Ok(Read { object: tree, source: source.to_owned() }));
    }
    let (api_version, kind) = (tree.str("apiVersion").to_owned(), tree.str("kind").to_owned());
    // Items of a typed list do not say what they are, as a server gives them.
    let kind = kind.strip_suffix("List").unwrap_or_default();
    let Value::Object(mut map) = tree else { return };
    match map.remove("items") {
        Some(Value::Array(items)) => {
            for mut item in items {
                if !kind.is_empty() && item.is_object() && item.str("kind").is_empty() {
                    item.set("kind", kind);
                    item.set("apiVersion", api_version.as_str());
                }
                flatten(item, source, depth + 1, found);
            }
        }
        None | Some(Value::Null) => {}
        Some(other) => found.push(failed(format!(
            "unable to decode {source:?}: json: cannot unmarshal {} into Go struct field decodeList.items of type []json.RawMessage",
            json_type(&other)
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The kinds in a text, and what is wrong with it.
    fn kinds(text: &str) -> Vec<String> {
        let mut found = Vec::new();
        documents(text.as_bytes(), "x", &mut found);
        found
            .into_iter()
            .map(|it| it.and_then(Read::checked))
            .map(|it| it.map_or_else(|why| why.text(), |it| it.object.str("kind").to_owned()))
            .collect()
    }

    #[test]
    fn documents_and_lists() {
        for (text, want) in [
            ("kind: A\n---\n---\nkind: List\nitems:\n- kind: B\n- kind: C\n", &["A", "B", "C"][..]),
            ("{\"kind\":\"D\"}\n{\"kind\":\"E\"}", &["D", "E"]),
            ("--- # one\nkind: A\nkind: B\n--- two\n{kind: C}", &["B", "C"]),
            ("", &[]),
            ("null", &[]),
            ("kind: List\nitems: null", &[]),
            ("kind: AList\nitems: [{a: b}, {kind: C}]", &["A", "C"]),
        ] {
            assert_eq!(kinds(text), want, "{text}");
        }
    }

    #[test]
    fn faults_stand_behind_what_was_before_them() {
        for (text, want) in [
            (
                "{kind: A}",
                "error parsing x: json: offset 2: invalid character 'k' looking for beginning of object key string",
            ),
            (
                "{\"kind\":\"A\"}\n---\n",
                "error parsing x: json: offset 15: invalid character '-' in numeric literal",
            ),
            (
                "kind: A\n---\n\na: b\na: : c\n---\nkind: B",
                "error parsing x: error converting YAML to JSON: yaml: line 3: mapping values are not allowed in this context",
            ),
            (
                "- a",
                "unable to decode \"x\": json: cannot unmarshal array into Go value of type unstructured.detector",
            ),
            (
                "kind: List\nitems: [1]",
                "unable to decode \"x\": json: cannot unmarshal number into Go value of type map[string]interface {}",
            ),
            (
                "kind: List\nitems: {}",
                "unable to decode \"x\": json: cannot unmarshal object into Go struct field decodeList.items of type []json.RawMessage",
            ),
        ] {
            assert_eq!(kinds(text).last().map(String::as_str), Some(want), "{text}");
        }
    }

    #[test]
    fn patterns() {
        for (pattern, name, want) in [
            ("*.yaml", "a.yaml", true),
            ("a?[0-9]*", "ab7x", true),
            ("*.yaml", "a.json", false),
            ("*a*b", "xxayybzb", true),
        ] {
            assert_eq!(matches(pattern.as_bytes(), name.as_bytes()), want, "{pattern} {name}");
        }
    }
}
