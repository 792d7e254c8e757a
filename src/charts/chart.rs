//! Charts from their archives: metadata, values, templates, files, and the charts inside.

use std::io::Read;
use std::sync::Arc;
use stdx::OrdMap;

use serde_json::{Map, Value, json};
use stdx::{Context, Error, Result};
use wire::decompress::Decompressor;
use wire::tar;

use crate::semver;

/// Helm's bounds: of all that an archive unpacks to, the charts in it included, and of one file.
const UNPACKED_BYTES_MAX: u64 = 100 << 20;
const FILE_BYTES_MAX: u64 = 5 << 20;
/// Headers and padding of an archive, and the names in them.
const HEADERS_BYTES_MAX: u64 = 64 << 20;
/// Files of one archive.
const FILES_MAX: usize = 20_000;
/// Charts inside charts.
pub(crate) const DEPTH_MAX: usize = 10;

/// A chart, read and checked.
#[derive(Clone)]
pub struct Chart {
    pub(crate) metadata: Value,
    /// Of `values.yaml`, an object.
    pub(crate) values: Value,
    pub(crate) dependencies: Vec<Chart>,
    pub(crate) content: Arc<Content>,
}

/// What nothing changes once it is read.
pub(crate) struct Content {
    pub(crate) templates: Vec<File>,
    pub(crate) files: Vec<File>,
    pub(crate) schema: Option<Vec<u8>>,
    lock: Value,
}

#[derive(Clone, Debug)]
pub(crate) struct File {
    /// Below the chart's folder.
    pub(crate) name: String,
    pub(crate) data: Vec<u8>,
}

impl std::fmt::Debug for Chart {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Chart").field("name", &self.name()).finish_non_exhaustive()
    }
}

impl Chart {
    /// Reads a gzip'd tar archive with the chart in one folder.
    ///
    /// # Errors
    /// If it is none, leads outside its folder, or passes a bound.
    pub fn read(archive: &[u8]) -> Result<Chart> {
        let mut left = UNPACKED_BYTES_MAX;
        read_archive(archive, &mut left, 0)
    }

    /// `Chart.yaml` as JSON, in Helm's words; of charts of version 1 with the dependencies of `requirements.yaml`.
    pub fn metadata(&self) -> &Value {
        &self.metadata
    }

    /// The charts that `Chart.yaml` names.
    pub(crate) fn wanted(&self) -> &[Value] {
        match self.metadata.get("dependencies") {
            Some(Value::Array(list)) => list,
            _ => &[],
        }
    }

    fn word(&self, name: &str) -> &str {
        self.metadata.get(name).and_then(Value::as_str).unwrap_or("")
    }

    pub fn name(&self) -> &str {
        self.word("name")
    }

    pub fn version(&self) -> &str {
        self.word("version")
    }

    pub fn app_version(&self) -> &str {
        self.word("appVersion")
    }

    /// A chart that has nothing to install.
    pub fn is_library(&self) -> bool {
        self.word("type").eq_ignore_ascii_case("library")
    }

    /// Whether it may be installed on a cluster of this version.
    pub fn kube_version_fits(&self, git_version: &str) -> bool {
        let wanted = self.word("kubeVersion");
        wanted.is_empty() || semver::is_compatible(wanted, git_version)
    }

    /// The texts of `crds/`, with their paths below the archive, of the charts inside after its own.
    pub fn crds(&self) -> Vec<(String, String)> {
        let mut out = Vec::new();
        self.add_crds(self.name(), &mut out);
        out
    }

    fn add_crds(&self, path: &str, out: &mut Vec<(String, String)>) {
        for file in &self.content.files {
            let extension = file.name.rsplit_once('.').map_or("", |(_, extension)| extension);
            if file.name.starts_with("crds/")
                && ["yaml", "yml", "json"].contains(&extension.to_ascii_lowercase().as_str())
            {
                let text = String::from_utf8_lossy(&file.data).into_owned();
                out.push((format!("{path}/{}", file.name), text));
            }
        }
        for child in &self.dependencies {
            child.add_crds(&format!("{path}/charts/{}", child.name()), out);
        }
    }

    /// The `chart` member of Helm's record of a release.
    pub fn to_release_json(&self) -> Value {
        let files = |files: &[File]| -> Value {
            files
                .iter()
                .map(|file| json!({"name": file.name, "data": wire::base64::encode(&file.data)}))
                .collect()
        };
        json!({
            "metadata": self.metadata,
            "lock": self.content.lock,
            "templates": files(&self.content.templates),
            "values": self.values,
            "schema": self.content.schema.as_ref().map(|schema| wire::base64::encode(schema)),
            "files": files(&self.content.files),
        })
    }
}

fn read_archive(archive: &[u8], left: &mut u64, depth: usize) -> Result<Chart> {
    if !archive.starts_with(&[0x1f, 0x8b]) {
        return Err(Error::new("file does not appear to be a gzipped archive"));
    }
    let stream = Decompressor::new(archive).context(|| "unpack the chart")?;
    let mut entries = tar::Archive::new(stream.take(*left + HEADERS_BYTES_MAX));
    let mut files = Vec::new();
    while let Some(entry) = entries.next_entry().context(|| "unpack the chart")? {
        if entry.kind != tar::Kind::File {
            continue;
        }
        let path = String::from_utf8(entry.path)
            .map_err(|_| Error::new("chart has a file whose name is not UTF-8"))?;
        let Some(name) = inner_path(&path)? else { continue };
        if entry.size > FILE_BYTES_MAX {
            return Err(Error::new(format!(
                "decompressed chart file {name:?} is larger than the maximum file size {FILE_BYTES_MAX}"
            )));
        }
        *left = left.checked_sub(entry.size).context(|| {
            format!("decompressed chart is larger than the maximum size {UNPACKED_BYTES_MAX}")
        })?;
        if files.len() >= FILES_MAX {
            return Err(Error::new(format!("chart has more than {FILES_MAX} files")));
        }
        let mut data = Vec::new();
        entries.read_to_end(&mut data).context(|| format!("unpack {name:?}"))?;
        if data.starts_with(b"\xef\xbb\xbf") {
            data.drain(..3);
        }
        files.push(File { name, data });
    }
    if files.is_empty() {
        return Err(Error::new("no files in chart archive"));
    }
    assemble(files, left, depth)
}

/// The path below the archive's folder; `None` for what is in no folder but harmless.
fn inner_path(path: &str) -> Result<Option<String>> {
    let path = match path.contains('\\') {
        true => path.replace('\\', "/"),
        false => path.to_owned(),
    };
    let Some((_, inner)) = path.split_once('/') else {
        return match path.as_str() {
            "Chart.yaml" => Err(Error::new("chart yaml not in base directory")),
            _ => Err(Error::new("chart illegally contains content outside the base directory")),
        };
    };
    if inner.starts_with('/') || path.starts_with('/') {
        return Err(Error::new("chart illegally contains absolute paths"));
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in inner.split('/') {
        match part {
            "" | "." => {}
            ".." => return Err(Error::new("chart illegally references parent directory")),
            part => parts.push(part),
        }
    }
    let Some(first) = parts.first() else {
        return Err(Error::new("chart illegally contains content outside the base directory"));
    };
    if first.len() == 2 && first.ends_with(':') && first.as_bytes()[0].is_ascii_alphabetic() {
        return Err(Error::new("chart contains illegally named files"));
    }
    Ok(Some(parts.join("/")))
}

fn assemble(files: Vec<File>, left: &mut u64, depth: usize) -> Result<Chart> {
    if depth > DEPTH_MAX {
        return Err(Error::new(format!("more than {DEPTH_MAX} charts inside each other")));
    }
    let yaml = |file: &File| -> Result<Value> {
        let text = String::from_utf8_lossy(&file.data);
        let documents = wire::yaml::parse_loose(&text);
        let documents = documents.context(|| format!("cannot load {}", file.name))?;
        Ok(documents.into_iter().next().unwrap_or(Value::Null))
    };
    let mut metadata = Value::Null;
    if let Some(file) = files.iter().find(|file| file.name == "Chart.yaml") {
        metadata = tidy_metadata(&yaml(file)?)?;
    }
    let is_v1 = metadata.get("apiVersion").is_none_or(|version| version == "v1");
    let mut content =
        Content { templates: Vec::new(), files: Vec::new(), schema: None, lock: Value::Null };
    let mut values = Value::Object(Map::new());
    let mut inner: OrdMap<String, Vec<File>> = OrdMap::default();
    for file in files {
        match file.name.as_str() {
            "Chart.yaml" => {}
            "Chart.lock" => content.lock = yaml(&file)?,
            "values.yaml" => match yaml(&file)? {
                Value::Null => {}
                tree @ Value::Object(_) => values = tree,
                _ => return Err(Error::new("cannot load values.yaml: it is not a map")),
            },
            "values.schema.json" => content.schema = Some(file.data),
            "requirements.yaml" => {
                let tree = yaml(&file)?;
                if let (Some(list), Some(map)) =
                    (tree.get("dependencies"), metadata.as_object_mut())
                {
                    map.insert("dependencies".into(), tidy_dependencies(list)?);
                }
                if is_v1 {
                    content.files.push(file);
                }
            }
            "requirements.lock" => {
                content.lock = yaml(&file)?;
                if is_v1 {
                    content.files.push(file);
                }
            }
            name if name.starts_with("templates/") => content.templates.push(file),
            name => match name.strip_prefix("charts/") {
                Some(rest) if !name.ends_with(".prov") => {
                    let folder = rest.split('/').next().unwrap_or("").to_owned();
                    let name = rest.to_owned();
                    inner.entry(folder).or_default().push(File { name, ..file });
                }
                _ => content.files.push(file),
            },
        }
    }
    if metadata.is_null() {
        return Err(Error::new("Chart.yaml file is missing"));
    }
    let mut chart =
        Chart { metadata, values, dependencies: Vec::new(), content: Arc::new(content) };
    validate(&chart)?;
    for (folder, files) in inner {
        if folder.starts_with(['_', '.']) {
            continue;
        }
        let child = match folder.ends_with(".tgz") {
            true => match files.first() {
                Some(file) if file.name == folder => read_archive(&file.data, left, depth + 1),
                _ => Err(Error::new("it is a folder")),
            },
            false => {
                let files = files.into_iter().filter_map(|file| {
                    let name = file.name.split_once('/')?.1.to_owned();
                    Some(File { name, data: file.data })
                });
                let files: Vec<File> = files.collect();
                // A file that stands in `charts/` belongs to no chart.
                if files.is_empty() {
                    continue;
                }
                assemble(files, left, depth + 1)
            }
        };
        let child =
            child.context(|| format!("error unpacking subchart {folder} in {}", chart.name()))?;
        chart.dependencies.push(child);
    }
    Ok(chart)
}

/// The members of `Chart.yaml` that Helm knows: texts, lists of texts, and others.
const WORDS: &[&str] = &[
    "name",
    "home",
    "version",
    "description",
    "icon",
    "apiVersion",
    "condition",
    "tags",
    "appVersion",
    "kubeVersion",
    "type",
];

fn tidy_metadata(tree: &Value) -> Result<Value> {
    let Some(tree) = tree.as_object() else {
        return Err(Error::new("cannot load Chart.yaml: it is not a map"));
    };
    let mut out = Map::new();
    for name in WORDS {
        if let Some(text) = tree.get(*name).map(|value| word(name, value)).transpose()?
            && !text.is_empty()
        {
            out.insert((*name).to_owned(), text.into());
        }
    }
    // Charts of Helm 2 did not say so.
    out.entry("apiVersion").or_insert_with(|| "v1".into());
    for name in ["sources", "keywords"] {
        if let Some(Value::Array(items)) = tree.get(name) {
            let items = items.iter().map(|item| word(name, item)).collect::<Result<Vec<_>>>()?;
            out.insert(name.to_owned(), items.into());
        }
    }
    if let Some(Value::Array(people)) = tree.get("maintainers") {
        let people = people.iter().filter_map(Value::as_object).map(|person| {
            let mut out = Map::new();
            for name in ["name", "email", "url"] {
                if let Some(Value::String(text)) = person.get(name) {
                    out.insert(name.to_owned(), text.clone().into());
                }
            }
            Value::Object(out)
        });
        out.insert("maintainers".into(), people.collect());
    }
    if let Some(Value::Object(annotations)) = tree.get("annotations") {
        let mut texts = Map::new();
        for (key, value) in annotations {
            texts.insert(key.clone(), word(key, value)?.into());
        }
        out.insert("annotations".into(), texts.into());
    }
    if tree.get("deprecated") == Some(&Value::Bool(true)) {
        out.insert("deprecated".into(), true.into());
    }
    if let Some(list) = tree.get("dependencies") {
        out.insert("dependencies".into(), tidy_dependencies(list)?);
    }
    Ok(Value::Object(out))
}

fn tidy_dependencies(list: &Value) -> Result<Value> {
    let mut out = Vec::new();
    for item in list.as_array().map(Vec::as_slice).unwrap_or_default() {
        let Some(item) = item.as_object() else { continue };
        let mut dependency = Map::new();
        for name in ["name", "version", "repository", "condition", "alias"] {
            if let Some(value) = item.get(name) {
                let text = word(name, value)?;
                if !text.is_empty() || name == "repository" {
                    dependency.insert(name.to_owned(), text.into());
                }
            }
        }
        for name in ["tags", "import-values"] {
            if let Some(Value::Array(items)) = item.get(name) {
                dependency.insert(name.to_owned(), items.clone().into());
            }
        }
        dependency.entry("repository").or_insert_with(|| "".into());
        out.push(Value::Object(dependency));
    }
    Ok(out.into())
}

/// A text where a number may have been written without quotes.
fn word(name: &str, value: &Value) -> Result<String> {
    Ok(match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Bool(truth) => truth.to_string(),
        Value::Number(number) => match number.as_i64() {
            Some(n) => n.to_string(),
            None => template::float(number.as_f64().unwrap_or_default()),
        },
        _ => return Err(Error::new(format!("cannot load Chart.yaml: {name} is not a string"))),
    })
}

fn validate(chart: &Chart) -> Result<()> {
    let invalid = |what: String| Err(Error::new(format!("validation: {what}")));
    let name = chart.name();
    if name.is_empty() {
        return invalid("chart.metadata.name is required".into());
    }
    if name.contains('/') || name == "." || name == ".." {
        return invalid(format!("chart.metadata.name {name:?} is invalid"));
    }
    if chart.version().is_empty() {
        return invalid("chart.metadata.version is required".into());
    }
    if semver::Version::parse(chart.version()).is_err() {
        return invalid(format!("chart.metadata.version {:?} is invalid", chart.version()));
    }
    if !matches!(chart.word("type"), "" | "application" | "library") {
        return invalid("chart.metadata.type must be application or library".into());
    }
    let mut seen = stdx::OrdSet::new();
    for dependency in chart.wanted() {
        let alias = dependency.get("alias").and_then(Value::as_str).unwrap_or("");
        let is_allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
        if !alias.bytes().all(is_allowed) {
            return invalid(format!(
                "dependency {:?} has disallowed characters in the alias",
                dependency["name"].as_str().unwrap_or("")
            ));
        }
        let name = if alias.is_empty() { dependency["name"].as_str().unwrap_or("") } else { alias };
        if !seen.insert(name.to_owned()) {
            return invalid(format!("more than one dependency with name or alias {name:?}"));
        }
    }
    Ok(())
}
