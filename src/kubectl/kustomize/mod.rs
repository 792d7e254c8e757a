//! Kustomizations: directories of resources with what is to be changed in them, as kustomize 5.5 builds them.
//!
//! What people use is here; fields that are not are refused by their names. Order and words are kustomize's.

mod generate;
mod names;
mod patch;
mod transform;

use std::path::{Path, PathBuf};

use api::{Lens, Value};
use stdx::Arrange;

use crate::failure::{Failure, Outcome, failed};
use crate::{files, out};

/// One file.
const FILE_MAX_BYTES: u64 = 64 << 20;
/// Kustomizations within kustomizations.
const DEPTH_MAX: usize = 64;
const RESOURCES_MAX: usize = 100_000;

/// What a build may do, and where it finds values of the environment.
pub(crate) struct Settings<'a> {
    pub(crate) env: &'a dyn Fn(&str) -> Option<String>,
    /// Files outside of a kustomization's own directory may be read.
    pub(crate) is_unrestricted: bool,
}

/// An object with the names that it had before.
#[derive(Clone)]
struct Resource {
    object: Value,
    names: Vec<String>,
    needs_hash: bool,
}

impl Resource {
    fn of(object: Value, needs_hash: bool) -> Resource {
        let names = vec![object.str("metadata.name").to_owned()];
        Resource { object, names, needs_hash }
    }

    fn group(&self) -> &str {
        self.object.str("apiVersion").split_once('/').map_or("", |(group, _)| group)
    }

    /// `Deployment.v1.apps/web.[noNs]`
    fn id(&self) -> String {
        let (group, version) = match self.object.str("apiVersion").split_once('/') {
            Some(pair) => pair,
            None => ("[noGrp]", self.object.str("apiVersion")),
        };
        let namespace = self.object.str("metadata.namespace");
        let namespace = if namespace.is_empty() { "[noNs]" } else { namespace };
        let (kind, name) = (self.object.str("kind"), self.object.str("metadata.name"));
        format!("{kind}.{version}.{group}/{name}.{namespace}")
    }

    /// Whether it is, or was, called so.
    fn is_called(&self, name: &str) -> bool {
        self.object.str("metadata.name") == name || self.names.iter().any(|own| own == name)
    }
}

/// The objects of a kustomization, in the order in which they are to be applied.
///
/// # Errors
/// If it cannot be read, or asks for what there is not.
pub(crate) fn build(directory: &str, settings: &Settings<'_>) -> Outcome<Vec<Value>> {
    if directory.contains("://") || directory.starts_with("git@") {
        return failed(format!(
            "remote kustomizations are not supported by this version of k3rs: {directory}"
        ));
    }
    let Some(root) = canonical(Path::new(directory))
        .filter(|_| rt::fs::metadata(directory).is_ok_and(|it| it.is_dir()))
    else {
        let shown = std::path::absolute(directory).unwrap_or_else(|_| directory.into());
        return failed(match rt::fs::metadata(directory).is_ok() {
            true => {
                format!("must build at directory: '{directory}': file is not directory")
            }
            false => format!(
                "must build at directory: not a valid directory: evalsymlink failure on '{directory}' : lstat {}: no such file or directory",
                shown.display()
            ),
        });
    };
    let mut set = Vec::new();
    let is_fifo = Target { settings, parents: &[] }.accumulate(&root, &mut set, false)?;
    names::add_hashes(&mut set)?;
    if !is_fifo {
        set.arrange_by_key(sort_key);
    }
    Ok(set.into_iter().map(|resource| resource.object).collect())
}

/// What kustomize's legacy order goes by.
fn sort_key(resource: &Resource) -> (i32, String, String, String, String) {
    let object = &resource.object;
    let kind = object.str("kind");
    let place = |list: &[&str]| {
        list.iter().position(|own| *own == kind).and_then(|at| i32::try_from(at).ok())
    };
    let order = match (place(FIRST), place(LAST)) {
        (Some(at), _) => at - 1000,
        (None, Some(at)) => at + 1,
        (None, None) => 0,
    };
    let or =
        |text: &str, other: &str| if text.is_empty() { other.to_owned() } else { text.to_owned() };
    let version = object.str("apiVersion").rsplit('/').next().unwrap_or("");
    (
        order,
        format!("{}_{version}_{kind}", or(resource.group(), "~G")),
        or(object.str("metadata.namespace"), "~X"),
        or(object.str("metadata.name"), "~N"),
        String::new(),
    )
}

const FIRST: &[&str] = &[
    "Namespace",
    "ResourceQuota",
    "StorageClass",
    "CustomResourceDefinition",
    "ServiceAccount",
    "PodSecurityPolicy",
    "Role",
    "ClusterRole",
    "RoleBinding",
    "ClusterRoleBinding",
    "ConfigMap",
    "Secret",
    "Endpoints",
    "Service",
    "LimitRange",
    "PriorityClass",
    "PersistentVolume",
    "PersistentVolumeClaim",
    "Deployment",
    "StatefulSet",
    "CronJob",
    "PodDisruptionBudget",
];
const LAST: &[&str] = &["MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"];

/// Fields that are read, and those that are known and refused where they say something.
const FIELDS: &[&str] = &[
    "apiVersion",
    "kind",
    "metadata",
    "resources",
    "bases",
    "components",
    "namespace",
    "namePrefix",
    "nameSuffix",
    "labels",
    "commonLabels",
    "commonAnnotations",
    "images",
    "replicas",
    "patches",
    "patchesStrategicMerge",
    "patchesJson6902",
    "configMapGenerator",
    "secretGenerator",
    "generatorOptions",
    "sortOptions",
];
const REFUSED: &[&str] = &[
    "buildMetadata",
    "configurations",
    "crds",
    "generators",
    "helmChartInflationGenerator",
    "helmCharts",
    "helmGlobals",
    "openapi",
    "replacements",
    "transformers",
    "validators",
    "vars",
];
const DEPRECATED: &[(&str, &str)] = &[
    ("bases", "resources"),
    ("commonLabels", "labels"),
    ("patchesJson6902", "patches"),
    ("patchesStrategicMerge", "patches"),
];

/// One kustomization among those that lead to it.
struct Target<'a> {
    settings: &'a Settings<'a>,
    parents: &'a [PathBuf],
}

impl Target<'_> {
    /// Adds what a directory's kustomization has to the set, and changes the set as it says: only its own part, or, if it is
    /// a component, all. Tells whether the order of the files is kept.
    fn accumulate(
        &self,
        root: &Path,
        set: &mut Vec<Resource>,
        is_component: bool,
    ) -> Outcome<bool> {
        if self.parents.iter().any(|parent| parent == root) || self.parents.len() > DEPTH_MAX {
            return failed(format!(
                "cycle detected: candidate root '{}' contains visited root",
                root.display()
            ));
        }
        let tree = read(root)?;
        let kind = tree.str("kind");
        if is_component && kind != "Component" {
            let kind = if kind.is_empty() { "Kustomization" } else { kind };
            return failed(format!(
                "accumulating components: accumulateDirectory: \"expected kind 'Component' for path '{}' but got '{kind}'\"",
                root.display()
            ));
        }
        let mut parents = self.parents.to_vec();
        parents.push(root.to_owned());
        let inner = Target { settings: self.settings, parents: &parents };
        let mut own = if is_component { std::mem::take(set) } else { Vec::new() };
        let lists = tree.list("resources").iter().chain(tree.list("bases"));
        for path in lists.filter_map(Value::as_str) {
            inner.resource(root, path, &mut own)?;
        }
        for path in tree.list("components").iter().filter_map(Value::as_str) {
            let Some(directory) = canonical(&root.join(path)) else {
                return failed(format!(
                    "accumulating components: '{path}' is not a valid directory"
                ));
            };
            inner.accumulate(&directory, &mut own, true)?;
        }
        generate::generate(&inner, root, &tree, &mut own)?;
        let merge = tree.list("patchesStrategicMerge").iter().filter_map(Value::as_str);
        for text in merge {
            let text =
                if text.contains('\n') { text.to_owned() } else { inner.text(root, text)? };
            patch::strategic_alone(&mut own, &text)?;
        }
        patch::patches(&inner, root, tree.list("patches"), &mut own)?;
        transform::namespace(&mut own, tree.str("namespace"));
        names::rename(&mut own, tree.str("namePrefix"), tree.str("nameSuffix"));
        transform::labels(&mut own, &tree);
        transform::annotations(&mut own, tree.at("commonAnnotations"));
        patch::patches(&inner, root, tree.list("patchesJson6902"), &mut own)?;
        transform::replicas(&mut own, tree.list("replicas"))?;
        transform::images(&mut own, tree.list("images"));
        for resource in own {
            add(set, resource)?;
        }
        Ok(match tree.str("sortOptions.order") {
            "" | "legacy" => false,
            "fifo" => true,
            _ => return failed("the field 'sortOptions.order' must be one of [fifo, legacy]"),
        })
    }

    /// A file's objects, or a directory's.
    fn resource(&self, root: &Path, path: &str, set: &mut Vec<Resource>) -> Outcome {
        if path.starts_with("http://") || path.starts_with("https://") {
            if !path.ends_with(".yaml") && !path.ends_with(".yml") && !path.ends_with(".json") {
                return failed(format!(
                    "accumulating resources: remote kustomizations are not supported by this version of k3rs: {path}"
                ));
            }
            for read in files::read(&[path.to_owned()], false)? {
                add(set, Resource::of(read?.checked()?.object, false))?;
            }
            return Ok(());
        }
        let full = root.join(path);
        if rt::fs::metadata(&full).is_ok_and(|it| it.is_dir()) {
            let Some(directory) = canonical(&full) else { return failed("accumulating resources") };
            if path.starts_with('/') {
                return failed(format!(
                    "accumulating resources: new root '{path}' cannot be absolute"
                ));
            }
            let read = self.accumulate(&directory, set, false);
            return read.map(|_| ()).map_err(|failure| {
                let why = failure.text();
                Failure::Message(format!(
                    "accumulating resources: accumulation err='accumulating resources from '{path}': read {}: is a directory': recursed accumulation of path '{}': {why}",
                    full.display(),
                    directory.display()
                ))
            });
        }
        let text = self.text(root, path).map_err(|failure| {
            let why = failure.text();
            let end = match rt::fs::metadata(&full).is_ok() {
                true if path.starts_with('/') => format!("new root '{path}' cannot be absolute"),
                true => format!(
                    "must build at directory: '{}': file is not directory",
                    canonical(&full).unwrap_or(full.clone()).display()
                ),
                false => format!("must build at directory: not a valid directory: {why}"),
            };
            Failure::Message(format!(
                "accumulating resources: accumulation err='accumulating resources from '{path}': {why}': {end}"
            ))
        })?;
        for object in objects(&text, path)? {
            add(set, Resource::of(object, false)).map_err(|failure| {
                Failure::Message(format!(
                    "accumulating resources: accumulation err='merging resources from '{path}': {}': must build at directory: '{}': file is not directory",
                    failure.text(),
                    full.display()
                ))
            })?;
        }
        Ok(())
    }

    /// What a file holds, which must lie within the kustomization.
    fn bytes(&self, root: &Path, path: &str) -> Outcome<Vec<u8>> {
        let full = root.join(path);
        let Some(real) = canonical(&full) else {
            let shown = full.display();
            return failed(format!(
                "evalsymlink failure on '{shown}' : lstat {shown}: no such file or directory"
            ));
        };
        if !self.settings.is_unrestricted && !real.starts_with(root) {
            return failed(format!(
                "security; file '{}' is not in or below '{}'",
                real.display(),
                root.display()
            ));
        }
        rt::fs::read_within(&real, FILE_MAX_BYTES).map_err(Failure::from)
    }

    fn text(&self, root: &Path, path: &str) -> Outcome<String> {
        let bytes = self.bytes(root, path)?;
        String::from_utf8(bytes).map_err(|_| Failure::Message(format!("{path} is no text")))
    }
}

/// The place itself, whatever links lead to it.
fn canonical(path: &Path) -> Option<PathBuf> {
    path.canonicalize().ok()
}

fn add(set: &mut Vec<Resource>, resource: Resource) -> Outcome {
    let id = resource.id();
    if set.iter().any(|own| own.object.at("kind") == resource.object.at("kind") && own.id() == id) {
        return failed(format!("may not add resource with an already registered id: {id}"));
    }
    if set.len() >= RESOURCES_MAX {
        return failed(format!("more than {RESOURCES_MAX} resources"));
    }
    set.push(resource);
    Ok(())
}

/// The kustomization of a directory.
fn read(root: &Path) -> Outcome<Value> {
    let names = ["kustomization.yaml", "kustomization.yml", "Kustomization"];
    let found: Vec<PathBuf> = names
        .iter()
        .map(|name| root.join(name))
        .filter(|path| rt::fs::metadata(path).is_ok())
        .collect();
    let path = match found.as_slice() {
        [path] => path,
        [] => {
            return failed(format!(
                "unable to find one of 'kustomization.yaml', 'kustomization.yml' or 'Kustomization' in directory '{}'",
                root.display()
            ));
        }
        _ => return failed(format!("Found multiple kustomization files: {}\n", root.display())),
    };
    let bytes = rt::fs::read_within(path, FILE_MAX_BYTES)?;
    let text = String::from_utf8_lossy(&bytes);
    let tree = wire::yaml::parse_one(&text)
        .map_err(|error| Failure::Message(format!("invalid Kustomization: {error}")))?;
    let fields = tree.as_object().into_iter().flatten();
    if tree.as_object().is_none_or(api::Map::is_empty) {
        return failed("kustomization.yaml is empty");
    }
    for (field, value) in fields {
        if REFUSED.contains(&field.as_str()) && !is_empty(value) {
            return failed(format!(
                "the field {field:?} of a kustomization is not supported by this version of k3rs"
            ));
        }
        if !FIELDS.contains(&field.as_str()) && !REFUSED.contains(&field.as_str()) {
            return failed(format!("invalid Kustomization: json: unknown field {field:?}"));
        }
        if let Some((_, now)) = DEPRECATED.iter().find(|(old, _)| old == field) {
            out::tell(&format!(
                "# Warning: '{field}' is deprecated. Please use '{now}' instead. Run 'kustomize edit fix' to update your Kustomization automatically."
            ));
        }
    }
    Ok(tree)
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::String(text) => text.is_empty(),
        _ => false,
    }
}

/// The objects of a text, lists taken apart.
fn objects(text: &str, source: &str) -> Outcome<Vec<Value>> {
    let documents = wire::yaml::parse(text).map_err(|error| {
        Failure::Message(format!(
            "accumulating resources: accumulating resources from '{source}': {error}"
        ))
    })?;
    let mut found = Vec::new();
    for document in documents {
        if document.str("kind").ends_with("List") && document.has("items") {
            found.extend(document.list("items").iter().cloned());
        } else if document.is_object() {
            found.push(document);
        }
    }
    for object in &found {
        if object.str("kind").is_empty() {
            return failed(format!(
                "accumulating resources: missing Resource metadata in '{source}'"
            ));
        }
        if object.str("metadata.name").is_empty() {
            return failed(format!(
                "accumulating resources: missing metadata.name in object of '{source}'"
            ));
        }
    }
    Ok(found)
}

/// Calls `change` with what a path leads to, in each element of lists on the way. What is missing is made if `creates`.
fn visit(tree: &mut Value, path: &[&str], creates: bool, change: &mut dyn FnMut(&mut Value)) {
    if let Value::Array(items) = tree {
        return items.iter_mut().for_each(|item| visit(item, path, creates, change));
    }
    let Some((name, rest)) = path.split_first() else { return change(tree) };
    if creates && tree.is_null() {
        *tree = Value::Object(api::Map::new());
    }
    let Value::Object(map) = tree else { return };
    if creates && !map.contains_key(*name) {
        map.insert((*name).to_owned(), Value::Null);
    }
    if let Some(inner) = map.get_mut(*name) {
        visit(inner, rest, creates, change);
    }
}

/// `visit` of a path with slashes.
fn at_path(tree: &mut Value, path: &str, creates: bool, change: &mut dyn FnMut(&mut Value)) {
    let parts: Vec<&str> = path.split('/').collect();
    visit(tree, &parts, creates, change);
}
