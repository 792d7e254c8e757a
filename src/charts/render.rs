//! A chart and values to what is installed, in Helm's order.

use std::rc::Rc;
use stdx::OrdMap;

use serde_json::Value as Json;
use stdx::{Arrange, Error, Result};
use template::{Bounds, Heap, Map, MissingKey, Run, Set, Value};

use crate::chart::Chart;
use crate::functions::{Engine, stopped};
use crate::manifests::{Hook, Manifest, sorted};
use crate::values::{coalesce, is_shallow};
use crate::world::{Asked, World};
use crate::{dependencies, objects, schema};

/// What one rendering may do: the largest public charts take a tenth of it.
const BOUNDS: Bounds = Bounds { steps_max: 100_000_000, bytes_max: 1 << 30, depth_max: 500 };

/// Which release of a chart it is.
#[derive(Clone, Copy, Debug)]
pub struct Release<'a> {
    pub name: &'a str,
    pub namespace: &'a str,
    pub revision: u64,
    pub is_upgrade: bool,
}

/// What the cluster can do.
#[derive(Clone, Debug)]
pub struct Capabilities {
    /// As the API server tells it: `v1.32.9+k3s1`.
    pub kube_version: String,
    /// `v1`, `apps/v1`, `apps/v1/Deployment`.
    pub api_versions: Vec<String>,
}

/// What a chart became.
#[derive(Clone, Debug)]
pub struct Rendered {
    /// In the order of installing. Documents without anything in them are in `manifest` only.
    pub manifests: Vec<Manifest>,
    /// By weight, then by name.
    pub hooks: Vec<Hook>,
    pub notes: String,
    /// What lookups asked for that the world did not know: to be fetched before it is rendered again.
    pub asked: Vec<Asked>,
    /// The text that a record keeps.
    pub manifest: String,
}

/// Renders a chart with the user's values.
///
/// # Errors
/// As Helm: what does not fit, fails or is said by the chart, with the template and its line.
pub fn render(
    chart: &Chart,
    values: &Json,
    release: &Release<'_>,
    capabilities: &Capabilities,
    world: &dyn World,
) -> Result<Rendered> {
    if chart.is_library() {
        return Err(Error::new("library charts are not installable"));
    }
    if !chart.kube_version_fits(&capabilities.kube_version) {
        return Err(Error::new(format!(
            "chart requires kubeVersion: {} which is incompatible with Kubernetes {}",
            chart.metadata()["kubeVersion"].as_str().unwrap_or(""),
            capabilities.kube_version
        )));
    }
    let mut merged = match values {
        Json::Null => Json::Object(serde_json::Map::new()),
        values => values.clone(),
    };
    if !is_shallow(&merged) {
        return Err(Error::new("the values are nested too deeply"));
    }
    let mut chart = chart.clone();
    dependencies::process(&mut chart, &merged)?;
    coalesce(&chart, &mut merged, false)?;
    let complaints = schema::complaints(&chart, &merged);
    if !complaints.is_empty() {
        return Err(Error::new(format!(
            "values don't meet the specifications of the schema(s) in the following chart(s):\n{complaints}"
        )));
    }
    let heap = Heap::new(BOUNDS);
    let engine = Engine::new(world);
    let files = texts(&chart, &merged, release, capabilities, &engine, &heap)?;
    finish(&chart, files, engine.into_asked())
}

/// A template and what it sees.
struct Source<'a> {
    text: std::borrow::Cow<'a, str>,
    data: Rc<Map>,
    base_path: String,
}

/// Every template's text, by path.
fn texts(
    chart: &Chart,
    values: &Json,
    release: &Release<'_>,
    capabilities: &Capabilities,
    engine: &Engine<'_>,
    heap: &Heap,
) -> Result<Vec<(String, String)>> {
    let word = |text: &str| Value::text(text);
    let revision = i64::try_from(release.revision).unwrap_or(i64::MAX);
    let release = Value::map(
        [
            (Rc::from("Name"), word(release.name)),
            (Rc::from("Namespace"), word(release.namespace)),
            (Rc::from("IsUpgrade"), Value::Bool(release.is_upgrade)),
            (Rc::from("IsInstall"), Value::Bool(!release.is_upgrade)),
            (Rc::from("Revision"), Value::int(revision)),
            (Rc::from("Service"), word("Helm")),
        ]
        .into(),
    );
    let shared =
        (release, objects::capabilities(&capabilities.kube_version, &capabilities.api_versions));
    let mut sources = OrdMap::default();
    gather(chart, chart.name(), true, &Value::from_json(values), &shared, &mut sources);
    let mut paths: Vec<&String> = sources.keys().collect();
    paths.arrange_by(|a, b| {
        let depth = |path: &str| path.matches('/').count();
        (depth(b), b).cmp(&(depth(a), a))
    });
    let mut set = Set::new();
    for path in &paths {
        let parsed = set.parse(path, &sources[*path].text, engine);
        parsed.map_err(|error| Error::new(parse_error(path, &error)))?;
    }
    let set = Rc::new(set);
    let mut out = Vec::new();
    for path in paths {
        if path.rsplit('/').next().is_some_and(|name| name.starts_with('_')) {
            continue;
        }
        let source = &sources[path];
        let template = Value::map(
            [
                (Rc::from("Name"), Value::text(path)),
                (Rc::from("BasePath"), Value::text(&source.base_path)),
            ]
            .into(),
        );
        heap.set(&source.data, Rc::from("Template"), template);
        let mut run = Run::new(set.clone(), engine, MissingKey::Zero, heap);
        let done = run.execute(path, &Value::Map(source.data.clone()));
        let bytes = done.map_err(|error| Error::new(stopped(&error)))?;
        let text = String::from_utf8_lossy(&bytes).replace("<no value>", "");
        out.push((path.clone(), text));
    }
    out.arrange();
    Ok(out)
}

/// Helm's form of an error of reading: the place, and the last thing said.
fn parse_error(path: &str, error: &str) -> String {
    let parts: Vec<&str> = error.split(": ").collect();
    match parts[..] {
        ["template", place, .., what] => format!("parse error at ({place}): {what}"),
        _ => format!("parse error in ({path}): {error}"),
    }
}

/// The templates of a chart and of those inside, and what the chart's templates see.
fn gather<'a>(
    chart: &'a Chart,
    path: &str,
    is_root: bool,
    values: &Value,
    shared: &(Value, Value),
    sources: &mut OrdMap<String, Source<'a>>,
) -> Value {
    let mut inner = OrdMap::default();
    for child in &chart.dependencies {
        let own = match values {
            Value::Map(map) => map.get(child.name()).unwrap_or(Value::Nil),
            _ => Value::Nil,
        };
        let path = format!("{path}/charts/{}", child.name());
        let seen = gather(child, &path, false, &own, shared, sources);
        inner.insert(Rc::from(child.name()), seen);
    }
    let data = Map::new(
        "chartutil.Values",
        [
            (Rc::from("Chart"), objects::chart(chart, is_root)),
            (Rc::from("Files"), Value::object(objects::Files::of(chart))),
            (Rc::from("Release"), shared.0.clone()),
            (Rc::from("Capabilities"), shared.1.clone()),
            (Rc::from("Values"), objects::values(values)),
            (Rc::from("Subcharts"), Value::map(inner)),
        ]
        .into(),
    );
    for file in &chart.content.templates {
        let is_partial = file.name.rsplit('/').next().is_some_and(|name| name.starts_with('_'));
        if chart.is_library() && !is_partial {
            continue;
        }
        let source = Source {
            text: String::from_utf8_lossy(&file.data),
            data: data.clone(),
            base_path: format!("{path}/templates"),
        };
        sources.insert(format!("{path}/{}", file.name), source);
    }
    Value::Map(data)
}

fn finish(chart: &Chart, mut files: Vec<(String, String)>, asked: Vec<Asked>) -> Result<Rendered> {
    let own_notes = format!("{}/templates/NOTES.txt", chart.name());
    let mut notes = String::new();
    files.retain_mut(|(path, text)| {
        if *path == own_notes {
            notes = std::mem::take(text);
        }
        !path.ends_with("NOTES.txt")
    });
    let (mut manifests, hooks) = sorted(&files)?;
    let mut manifest = String::new();
    for one in &manifests {
        manifest.push_str(&format!("---\n# Source: {}\n{}\n", one.path, one.text));
    }
    manifests.retain(|one| !one.object.is_null());
    Ok(Rendered { manifests, hooks, notes, asked, manifest })
}
