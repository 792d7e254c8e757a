//! What templates see beside values: the chart, its files, what the cluster can do.

use std::rc::Rc;
use stdx::OrdMap;

use serde_json::Value as Json;
use template::{Heap, Map, Object, Value};

use crate::chart::Chart;
use crate::semver::Version;

type Out = Result<Value, String>;

/// The Helm whose words and habits these are.
const HELM_VERSION: &str = "v3.18.4";

/// A Go struct: fields, of which one that is not there is an error.
pub(crate) struct Record {
    type_name: &'static str,
    fields: Vec<(&'static str, Value)>,
    /// What `String` gives, if it has this method.
    word: Option<String>,
}

impl Object for Record {
    fn type_name(&self) -> &'static str {
        self.type_name
    }

    fn field(&self, name: &str) -> Option<Value> {
        self.fields.iter().find(|field| field.0 == name).map(|field| field.1.clone())
    }

    fn method(&self, _: &Heap, name: &str, args: &[Value]) -> Option<Out> {
        match (name, args, &self.word) {
            ("String" | "GitVersion", [], Some(word)) => Some(Ok(Value::text(word))),
            _ => None,
        }
    }

    fn show(&self) -> String {
        if let Some(word) = &self.word {
            return word.clone();
        }
        let heap = Heap::new(template::Bounds::default());
        let shown = self.fields.iter().map(|field| template::sprint(&field.1, &heap));
        let shown: Vec<String> = shown.map(Result::unwrap_or_default).collect();
        format!("{{{}}}", shown.join(" "))
    }

    fn plain(&self) -> Value {
        let fields = self.fields.iter().map(|(name, value)| (Rc::from(*name), value.clone()));
        Value::map(fields.collect())
    }

    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
}

/// The members of `Chart.yaml` under their names in Go.
pub(crate) fn chart(chart: &Chart, is_root: bool) -> Value {
    let metadata = chart.metadata();
    let word = |name: &str| match metadata.get(name) {
        Some(Json::String(text)) => Value::text(text),
        _ => Value::text(""),
    };
    let list = |name: &str| match metadata.get(name) {
        Some(Json::Array(items)) => {
            let items = items.iter().filter_map(Json::as_str).map(str::as_bytes);
            Value::texts(items)
        }
        _ => Value::texts(std::iter::empty::<&[u8]>()),
    };
    let objects = |name: &str, type_name, fields: &[(&'static str, &str)]| {
        let items = metadata.get(name).and_then(Json::as_array).map(Vec::as_slice);
        let items = items.unwrap_or_default().iter().map(|item| {
            let field = |(name, key): &(&'static str, &str)| {
                let value = item.get(*key).map_or_else(|| Value::text(""), Value::from_json);
                (*name, value)
            };
            Value::object(Record {
                type_name,
                fields: fields.iter().map(field).collect(),
                word: None,
            })
        });
        Value::list(items.collect())
    };
    let annotations = match metadata.get("annotations") {
        Some(Json::Object(map)) => {
            map.iter().map(|(key, value)| (Rc::from(&**key), Value::from_json(value))).collect()
        }
        _ => OrdMap::default(),
    };
    let people = [("Name", "name"), ("Email", "email"), ("URL", "url")];
    let needed = [
        ("Name", "name"),
        ("Version", "version"),
        ("Repository", "repository"),
        ("Condition", "condition"),
        ("Tags", "tags"),
        ("Enabled", "enabled"),
        ("ImportValues", "import-values"),
        ("Alias", "alias"),
    ];
    Value::object(Record {
        type_name: "struct { chart.Metadata; IsRoot bool }",
        fields: vec![
            ("Name", word("name")),
            ("Home", word("home")),
            ("Sources", list("sources")),
            ("Version", word("version")),
            ("Description", word("description")),
            ("Keywords", list("keywords")),
            ("Maintainers", objects("maintainers", "*chart.Maintainer", &people)),
            ("Icon", word("icon")),
            ("APIVersion", word("apiVersion")),
            ("Condition", word("condition")),
            ("Tags", word("tags")),
            ("AppVersion", word("appVersion")),
            ("Deprecated", Value::Bool(metadata.get("deprecated").is_some())),
            ("Annotations", Value::Map(Map::new("map[string]string", annotations))),
            ("KubeVersion", word("kubeVersion")),
            ("Dependencies", objects("dependencies", "*chart.Dependency", &needed)),
            ("Type", word("type")),
            ("IsRoot", Value::Bool(is_root)),
        ],
        word: None,
    })
}

/// `.Capabilities`.
pub(crate) fn capabilities(kube_version: &str, api_versions: &[String]) -> Value {
    let parsed = Version::parse(kube_version).ok();
    let number = |choose: fn(&Version) -> u64| {
        Value::text(parsed.as_ref().map(|version| choose(version).to_string()).unwrap_or_default())
    };
    let version = match kube_version.starts_with('v') {
        true => kube_version.to_owned(),
        false => format!("v{kube_version}"),
    };
    let kube = Record {
        type_name: "chartutil.KubeVersion",
        fields: vec![
            ("Version", Value::text(&version)),
            ("Major", number(|version| version.major)),
            ("Minor", number(|version| version.minor)),
        ],
        word: Some(version),
    };
    let helm = Record {
        type_name: "version.BuildInfo",
        fields: vec![
            ("Version", Value::text(HELM_VERSION)),
            ("GitCommit", Value::text("")),
            ("GitTreeState", Value::text("clean")),
            ("GoVersion", Value::text("go1.24")),
        ],
        word: None,
    };
    let versions = Versions(api_versions.to_vec());
    Value::object(Record {
        type_name: "*chartutil.Capabilities",
        fields: vec![
            ("KubeVersion", Value::object(kube)),
            ("APIVersions", Value::object(versions)),
            ("HelmVersion", Value::object(helm)),
        ],
        word: None,
    })
}

/// `.Capabilities.APIVersions`.
struct Versions(Vec<String>);

impl Object for Versions {
    fn type_name(&self) -> &'static str {
        "chartutil.VersionSet"
    }

    fn kind(&self) -> &'static str {
        "slice"
    }

    fn method(&self, _: &Heap, name: &str, args: &[Value]) -> Option<Out> {
        match (name, args) {
            ("Has", [Value::Text(version)]) => {
                let has = self.0.iter().any(|known| known.as_bytes() == &**version);
                Some(Ok(Value::Bool(has)))
            }
            _ => None,
        }
    }

    fn show(&self) -> String {
        format!("[{}]", self.0.join(" "))
    }

    fn plain(&self) -> Value {
        Value::texts(self.0.iter())
    }

    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
}

/// `.Files`: names and contents, shared by all that glob them.
pub(crate) struct Files(Rc<OrdMap<Rc<str>, Rc<[u8]>>>);

impl Files {
    pub(crate) fn of(chart: &Chart) -> Files {
        let files = &chart.content.files;
        let entries = files.iter().map(|file| (Rc::from(&*file.name), Rc::from(&*file.data)));
        Files(Rc::new(entries.collect()))
    }

    fn base_names(&self, encode: fn(&[u8]) -> Json) -> String {
        let mut map = serde_json::Map::new();
        for (name, data) in self.0.iter() {
            let base = name.rsplit('/').next().unwrap_or(name);
            map.insert(base.to_owned(), encode(data));
        }
        let written = wire::yaml_text::text(&Json::Object(map));
        written.strip_suffix('\n').unwrap_or(&written).to_owned()
    }
}

impl Object for Files {
    fn type_name(&self) -> &'static str {
        "engine.files"
    }

    fn kind(&self) -> &'static str {
        "map"
    }

    fn field(&self, name: &str) -> Option<Value> {
        self.0.get(name).map(|data| Value::Bytes(data.clone()))
    }

    fn method(&self, heap: &Heap, name: &str, args: &[Value]) -> Option<Out> {
        let word = match args.first() {
            Some(Value::Text(word)) => String::from_utf8_lossy(word).into_owned(),
            Some(other) => {
                let found = other.type_name();
                return Some(Err(format!("wrong type for value; expected string; got {found}")));
            }
            None => String::new(),
        };
        let file = || self.0.get(&*word);
        let n_bytes: usize = self.0.values().map(|data| data.len()).sum();
        let made = |text: String| heap.charge(text.len()).map(|()| Value::text(text));
        Some(match (name, args.len()) {
            ("Get", 1) => Ok(Value::Text(file().cloned().unwrap_or_else(|| Rc::from(&b""[..])))),
            ("GetBytes", 1) => {
                Ok(Value::Bytes(file().cloned().unwrap_or_else(|| Rc::from(&b""[..]))))
            }
            ("Glob", 1) => {
                let pattern: Vec<char> = word.chars().collect();
                let mut found = OrdMap::default();
                for (name, data) in self.0.iter() {
                    let name_chars: Vec<char> = name.chars().collect();
                    match glob(&pattern, &name_chars, heap, 0) {
                        Ok(true) => drop(found.insert(name.clone(), data.clone())),
                        Ok(false) => {}
                        Err(error) => return Some(Err(error)),
                    }
                }
                Ok(Value::object(Files(Rc::new(found))))
            }
            ("AsConfig", 0) => heap
                .charge(n_bytes * 3)
                .and_then(|()| made(self.base_names(|data| String::from_utf8_lossy(data).into()))),
            ("AsSecrets", 0) => heap
                .charge(n_bytes * 3)
                .and_then(|()| made(self.base_names(|data| wire::base64::encode(data).into()))),
            ("Lines", 1) => {
                let text = file().map(|data| String::from_utf8_lossy(data).into_owned());
                let text = text.unwrap_or_default();
                let text = text.strip_suffix('\n').unwrap_or(&text);
                heap.charge(text.len() * 4).map(|()| match file() {
                    Some(_) => Value::texts(text.split('\n')),
                    None => Value::texts(std::iter::empty::<&str>()),
                })
            }
            _ => return None,
        })
    }

    fn show(&self) -> String {
        let shown: Vec<String> =
            self.0.iter().map(|(name, data)| format!("{name}:{data:?}").replace(',', "")).collect();
        format!("map[{}]", shown.join(" "))
    }

    fn plain(&self) -> Value {
        let entries = self.0.iter().map(|(name, data)| (name.clone(), Value::Bytes(data.clone())));
        Value::Map(Map::new("engine.files", entries.collect()))
    }

    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
}

/// Alternatives inside each other.
const ALTERNATIVES_MAX: usize = 10;

/// Gobwas' globs with `/` as separator: `*`, `**`, `?`, `[a-z]`, `{a,b}`, `\`.
fn glob(pattern: &[char], name: &[char], heap: &Heap, depth: usize) -> Result<bool, String> {
    heap.step(1)?;
    let Some(first) = pattern.first() else { return Ok(name.is_empty()) };
    match first {
        '*' => {
            let crosses = pattern.get(1) == Some(&'*');
            let n_stars = pattern.iter().take_while(|c| **c == '*').count();
            let rest = &pattern[n_stars..];
            // Without recursion over the name, so that only stars and braces nest.
            for end in 0..=name.len() {
                if has_no_star(rest) && rest.len() > name.len() - end {
                    break;
                }
                if depth < 50 && glob(rest, &name[end..], heap, depth + 1)? {
                    return Ok(true);
                }
                if !crosses && name.get(end) == Some(&'/') {
                    break;
                }
            }
            Ok(false)
        }
        '{' => {
            let Some(end) = pattern.iter().position(|c| *c == '}') else { return Ok(false) };
            if depth > ALTERNATIVES_MAX + 50 {
                return Ok(false);
            }
            for choice in pattern[1..end].split(|c| *c == ',') {
                let whole: Vec<char> = choice.iter().chain(&pattern[end + 1..]).copied().collect();
                if glob(&whole, name, heap, depth + 1)? {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        _ => plain_glob(pattern, name, heap, depth),
    }
}

fn has_no_star(pattern: &[char]) -> bool {
    !pattern.iter().any(|c| matches!(c, '*' | '{' | '[' | '\\'))
}

/// The part of a pattern before its next star or brace.
fn plain_glob(pattern: &[char], name: &[char], heap: &Heap, depth: usize) -> Result<bool, String> {
    let (mut pattern, mut name) = (pattern, name);
    loop {
        let Some(first) = pattern.first() else { return Ok(name.is_empty()) };
        if matches!(first, '*' | '{') {
            return glob(pattern, name, heap, depth + 1);
        }
        let Some((c, rest)) = name.split_first() else { return Ok(false) };
        name = rest;
        let (fits, n) = match first {
            '?' => (*c != '/', 1),
            '\\' => (pattern.get(1) == Some(c), 2.min(pattern.len())),
            '[' => {
                let Some(end) = pattern.iter().position(|c| *c == ']') else { return Ok(false) };
                let inside = &pattern[1..end];
                let (is_not, inside) = match inside.split_first() {
                    Some(('!', rest)) => (true, rest),
                    _ => (false, inside),
                };
                let is_in = match inside {
                    [low, '-', high] => (low..=high).contains(&c),
                    list => list.contains(c),
                };
                (is_in != is_not, end + 1)
            }
            other => (other == c, 1),
        };
        if !fits {
            return Ok(false);
        }
        pattern = &pattern[n..];
    }
}

/// `.Values` of a chart, a map of a type of its own.
pub(crate) fn values(tree: &Value) -> Value {
    match tree {
        Value::Map(map) => Value::Map(Map::new("chartutil.Values", map.entries.borrow().clone())),
        _ => Value::Map(Map::new("chartutil.Values", OrdMap::default())),
    }
}
