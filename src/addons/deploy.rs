//! The deploy controller: what lies in `server/manifests/` is applied, and applied again when it changes.
//!
//! As k3s's: one Addon a file with its checksum, objects marked with the set they belong to, so that
//! what a new version of a file no longer holds is deleted. Removing a file deletes nothing;
//! disabling a component deletes what its file made.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::{Kind, Lens, LensMut, Object, Status, Value, json, kinds};
use client::events::{Folder, Source};
use client::{Client, DeleteOptions, ListOptions, PatchType, Registry, Request, Verb};
use stdx::backoff::Backoff;
use stdx::{Arrange, OrdMap, OrdSet};
use stdx::{Context, Error, Result};

use crate::values::{self, Check};

/// Files larger than this are no manifests.
const FILE_MAX_BYTES: u64 = 8 << 20;
/// Directories below the base are followed this deep.
const DEPTH_MAX: usize = 8;
/// Failed files are tried again this often, changes or not.
const RETRY: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(15));
/// Editors write in several steps; wait for the last one.
const SETTLE: Duration = Duration::from_millis(50);

/// A kind that a file defines and uses is served within this.
const DEFINED_MAX: Duration = Duration::from_secs(10);

const OWNER_HASH: &str = "objectset.rio.cattle.io/hash";
const OWNER_ID: &str = "objectset.rio.cattle.io/id";
const OWNER_GVK: &str = "objectset.rio.cattle.io/owner-gvk";
const OWNER_NAME: &str = "objectset.rio.cattle.io/owner-name";
const OWNER_NAMESPACE: &str = "objectset.rio.cattle.io/owner-namespace";
const ADDON_GVK: &str = "k3s.cattle.io/v1, Kind=Addon";
const GVKS: &str = "addon.k3s.cattle.io/gvks";
const NAMESPACE: &str = "kube-system";
const MANAGER: &str = "deploy";

/// Applies the manifests of one directory.
#[derive(Debug)]
pub struct Deploy {
    client: Client,
    registry: Arc<Registry>,
    base: PathBuf,
    /// Names from `--disable`.
    disabled: Vec<String>,
    node: String,
    values: Option<Values>,
    folder: Mutex<Folder>,
    /// Checksums of files already looked at in this run, by path.
    applied: OrdMap<PathBuf, String>,
}

/// How the values of a HelmChartConfig are honoured.
#[derive(Debug)]
pub struct Values {
    /// Whether the ingress takes an argument.
    pub check: Check,
    /// Told when a HelmChartConfig is another one.
    pub changed: Arc<rt::Event>,
}

/// A file below the base.
struct File {
    path: PathBuf,
    /// A directory on the way to it is a link: what is behind it is not ours to delete.
    linked: bool,
    disabled: bool,
}

impl Deploy {
    /// `registry` tells which kinds the server behind `client` serves. Without `values` HelmChartConfigs are not read.
    pub fn new(
        client: Client,
        registry: Arc<Registry>,
        base: PathBuf,
        disabled: Vec<String>,
        node: String,
        values: Option<Values>,
    ) -> Deploy {
        Deploy {
            client,
            registry,
            base,
            disabled,
            node,
            values,
            folder: Mutex::default(),
            applied: OrdMap::new(),
        }
    }

    /// Applies, then waits for changes, for ever.
    ///
    /// # Errors
    /// If the directory cannot be watched.
    pub async fn run(mut self) -> Result<()> {
        let watch = rt::FileWatch::new();
        let mut failures = 0;
        loop {
            let epoch = self.registry.current().epoch();
            let asked = self.values.as_ref().map(|values| values.changed.listen());
            let files = self.files(&watch)?;
            let mut failed = false;
            for file in files {
                let done = match file.disabled {
                    true => self.remove(&file).await,
                    false => self.file(&file.path).await,
                };
                if let Err(error) = done {
                    log::error!("Failed to process {}: {error}", file.path.display());
                    failed = true;
                }
            }
            failures = if failed { failures + 1 } else { 0 };
            // What failed is tried again, and at once when a kind comes that it may have lacked.
            let retry = async {
                match failed {
                    true => {
                        let defined = async { drop(self.registry.after(epoch).await) };
                        rt::future::or(defined, rt::sleep(RETRY.delay(failures))).await;
                    }
                    false => std::future::pending().await,
                }
                Ok(())
            };
            let asked = async {
                match asked {
                    Some(asked) => asked.await,
                    None => std::future::pending().await,
                }
                Ok(())
            };
            let changed = rt::future::or(async { watch.changed().await }, asked);
            rt::future::or(changed, retry).await?;
            rt::sleep(SETTLE).await;
        }
    }

    /// Every manifest below the base, sorted; new directories are added to the watch.
    fn files(&self, watch: &rt::FileWatch) -> Result<Vec<File>> {
        let mut files = Vec::new();
        let mut dirs = vec![(self.base.clone(), 0, false)];
        while let Some((dir, depth, linked)) = dirs.pop() {
            watch.add(&dir)?;
            for path in rt::fs::list_dir(&dir)? {
                match path.is_dir() {
                    true if depth < DEPTH_MAX => {
                        let linked = linked || rt::fs::read_link(&path).is_some();
                        dirs.push((path, depth + 1, linked));
                    }
                    true => {}
                    false => {
                        let disabled = is_disabled(&self.base, &path, &self.disabled);
                        files.push(File { path, linked, disabled });
                    }
                }
            }
        }
        files.arrange_by(|a, b| a.path.cmp(&b.path));
        let skips: OrdSet<String> = files
            .iter()
            .filter_map(|file| Some(file_name(&file.path).strip_suffix(".skip")?.to_owned()))
            .collect();
        // What is disabled is deleted even if it is skipped, as k3s does.
        files.retain(|file| {
            let name = file_name(&file.path);
            let known =
                [".yaml", ".yml", ".json"].iter().any(|extension| name.ends_with(extension));
            known && !name.starts_with('.') && (file.disabled || !skips.contains(name))
        });
        Ok(files)
    }

    async fn file(&mut self, path: &Path) -> Result<()> {
        let name = addon_name(path);
        let bytes = match read(path) {
            Ok(bytes) => bytes,
            Err(error) => {
                let addon = self.addon(&name, path).await?;
                let message = format!("Read manifest at {path:?} failed: {error}");
                self.tell(&addon, true, "ReadManifestFailed", &message).await;
                return Err(error);
            }
        };
        let config = self.config(&name, path).await?;
        let checksum = match &config {
            None => sha256(&bytes),
            Some(config) => {
                let spec = config.tree().at("spec").to_string();
                sha256(&[&bytes, spec.as_bytes()].concat())
            }
        };
        if self.applied.get(path) == Some(&checksum) {
            return Ok(());
        }
        let addon = self.addon(&name, path).await?;
        let mut trees = match parse(&bytes) {
            Ok(trees) => trees,
            Err(error) => {
                let message = format!("Parse manifest at {path:?} failed: {error}");
                self.tell(&addon, true, "ParseManifestFailed", &message).await;
                return Err(error);
            }
        };
        if let Some((values, config)) = self.values.as_ref().zip(config) {
            values::honour(&mut trees, &config, values.check);
        }
        let tree = addon.tree();
        let changed = tree.str("spec.checksum") != checksum;
        // A restart with the same file is no news: the objects are the cluster's by now.
        if changed {
            self.tell(&addon, false, "ApplyingManifest", &format!("Applying manifest at {path:?}"))
                .await;
        }
        let previous = tree.entry("metadata.annotations", GVKS).unwrap_or("").to_owned();
        match self.apply(&name, trees, &previous).await {
            Ok(gvks) => {
                if changed || previous != gvks {
                    let patch = json!({"metadata": {"annotations": {GVKS: gvks}}, "spec": {"source": path.display().to_string(), "checksum": checksum}});
                    self.client
                        .patch(&kinds::ADDON, NAMESPACE, &name, "", PatchType::Merge, patch)
                        .await
                        .context(|| "record the checksum")?;
                    let message = format!("Applied manifest at {path:?}");
                    self.tell(&addon, false, "AppliedManifest", &message).await;
                }
                self.applied.insert(path.to_owned(), checksum);
                Ok(())
            }
            Err(error) => {
                let message = format!("Applying manifest at {path:?} failed: {error}");
                self.tell(&addon, true, "ApplyManifestFailed", &message).await;
                Err(error)
            }
        }
    }

    /// The HelmChartConfig for what a file of ours holds.
    async fn config(&self, name: &str, path: &Path) -> Result<Option<Object>> {
        if self.values.is_none() || name != values::NAME || path.parent() != Some(&*self.base) {
            return Ok(None);
        }
        let kinds = self.registry.current();
        let Some(kind) = kinds.by_name("helm.cattle.io", "HelmChartConfig") else {
            return Ok(None);
        };
        let found = self.client.get_optional(kind, NAMESPACE, name).await;
        found.context(|| format!("read HelmChartConfig {name}"))
    }

    async fn addon(&self, name: &str, path: &Path) -> Result<Object> {
        let found = self
            .client
            .get_optional(&kinds::ADDON, NAMESPACE, name)
            .await
            .context(|| format!("read addon {name}"))?;
        if let Some(addon) = found {
            return Ok(addon);
        }
        let tree = json!({
            "apiVersion": kinds::ADDON.api_version(), "kind": "Addon",
            "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": {"source": path.display().to_string(), "checksum": ""},
        });
        self.client.create(&kinds::ADDON, tree).await.context(|| format!("create addon {name}"))
    }

    /// Applies every object, then deletes those of the set that are no longer in it. Gives the kinds it holds now.
    async fn apply(&self, name: &str, mut trees: Vec<Value>, previous: &str) -> Result<String> {
        let owner = owner_hash(name);
        let mut kept = OrdSet::new();
        let mut gvks = OrdSet::new();
        // What others need comes first; the order of the file stays otherwise.
        trees.arrange_by_key(rank);
        let defined: OrdSet<(String, String)> = trees.iter().filter_map(defines).collect();
        for mut tree in trees {
            let kind = self.kind_of(&tree, &defined).await?;
            if kind.namespaced() {
                tree.set_default("metadata.namespace", "default");
            }
            tree.map_mut("metadata.labels").insert(OWNER_HASH.into(), owner.as_str().into());
            let annotations = tree.map_mut("metadata.annotations");
            for (key, value) in [
                (OWNER_ID, ""),
                (OWNER_GVK, ADDON_GVK),
                (OWNER_NAME, name),
                (OWNER_NAMESPACE, NAMESPACE),
            ] {
                annotations.insert(key.into(), value.into());
            }
            let (namespace, object) =
                (tree.str("metadata.namespace").to_owned(), tree.str("metadata.name").to_owned());
            gvks.insert(gvk(&tree));
            let mut request = Request::new(Verb::Patch, kind, &namespace, &object);
            tree.str("apiVersion").clone_into(&mut request.group_version);
            request.field_manager = MANAGER.into();
            request.force = true;
            request.body = client::Body::Patch(PatchType::Apply, tree);
            self.client
                .call(request)
                .await
                .context(|| format!("apply {} {namespace}/{object}", kind.name))?;
            kept.insert((kind, namespace, object));
        }
        let before = previous.split(';').filter_map(|gvk| self.kind_of_gvk(gvk));
        let held: OrdSet<&'static Kind> =
            before.chain(kept.iter().map(|(kind, ..)| *kind)).collect();
        for kind in held {
            self.prune(kind, &owner, |object| {
                !kept.contains(&(kind, object.namespace().to_owned(), object.name().to_owned()))
            })
            .await?;
        }
        Ok(gvks.into_iter().collect::<Vec<_>>().join(";"))
    }

    /// The kind of an object. One that the same file defines is waited for.
    async fn kind_of(
        &self,
        tree: &Value,
        defined: &OrdSet<(String, String)>,
    ) -> Result<&'static Kind> {
        let (group, version) = group_version(tree);
        let served = async {
            loop {
                let kinds = self.registry.current();
                let found = kinds
                    .by_name(group, tree.str("kind"))
                    .filter(|kind| kinds.of_kind(kind, group, version).is_some());
                match found {
                    Some(kind) => return Some(kind),
                    None if defined.contains(&(group.to_owned(), tree.str("kind").to_owned())) => {
                        self.registry.after(kinds.epoch()).await;
                    }
                    None => return None,
                }
            }
        };
        let found = rt::timeout(DEFINED_MAX, served).await.ok().flatten();
        found.context(|| {
            format!(
                "no matches for kind {:?} in version {:?}",
                tree.str("kind"),
                tree.str("apiVersion")
            )
        })
    }

    /// The kind that k3s's words name, if it is served.
    fn kind_of_gvk(&self, text: &str) -> Option<&'static Kind> {
        let (group_version, name) = text.split_once(", Kind=")?;
        self.registry.current().by_name(group_version.rsplit_once('/')?.0, name)
    }

    async fn prune(
        &self,
        kind: &'static Kind,
        owner: &str,
        goes: impl Fn(&Object) -> bool,
    ) -> Result<()> {
        let options = ListOptions {
            label_selector: format!("{OWNER_HASH}={owner}"),
            ..ListOptions::default()
        };
        let list = self
            .client
            .list(kind, "", options)
            .await
            .context(|| format!("list {}", kind.plural))?;
        for object in list.items.iter().filter(|object| goes(object)) {
            let options =
                DeleteOptions { uid: Some(object.uid().to_owned()), ..DeleteOptions::default() };
            match self.client.delete(kind, object.namespace(), object.name(), options).await {
                Err(status) if !status.is_not_found() => {
                    return Err(status).context(|| format!("delete {object:?}"));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Deletes what a disabled component's file made, then the file.
    async fn remove(&mut self, file: &File) -> Result<()> {
        let (path, name) = (&file.path, addon_name(&file.path));
        let addon = self
            .client
            .get_optional(&kinds::ADDON, NAMESPACE, &name)
            .await
            .context(|| format!("read addon {name}"))?;
        if addon.is_none() && file.linked {
            return Ok(());
        }
        let owner = owner_hash(&name);
        let in_file = read(path).and_then(|bytes| parse(&bytes)).unwrap_or_default();
        let mut gvks: OrdSet<String> = in_file.iter().map(gvk).collect();
        if let Some(addon) = &addon {
            let tree = addon.tree();
            let before = tree.entry("metadata.annotations", GVKS).unwrap_or("");
            gvks.extend(before.split(';').map(str::to_owned));
        }
        for kind in gvks.iter().filter_map(|gvk| self.kind_of_gvk(gvk)) {
            self.prune(kind, &owner, |_| true).await?;
        }
        if !file.linked {
            rt::fs::remove_file(path)?;
        }
        if let Some(addon) = addon {
            self.tell(&addon, false, "DeletingManifest", &format!("Deleting manifest at {path:?}"))
                .await;
            match self
                .client
                .delete(&kinds::ADDON, NAMESPACE, &name, DeleteOptions::default())
                .await
            {
                Err(status) if !status.is_not_found() => {
                    return Err(status).context(|| format!("delete addon {name}"));
                }
                _ => {}
            }
        }
        self.applied.remove(path);
        Ok(())
    }

    async fn tell(&self, about: &Object, warning: bool, reason: &str, message: &str) {
        let source = Source { component: MANAGER.into(), host: self.node.clone() };
        let (now, suffix) = (rt::now().wall, rt::random_u64());
        let tell = {
            let mut folder = self.folder.lock().unwrap_or_else(PoisonError::into_inner);
            folder.tell(&source, about, "", warning, reason, message, now, suffix)
        };
        let sent: std::result::Result<(), Status> =
            client::driver::send_event(&self.client, tell, &self.folder).await;
        if let Err(status) = sent {
            log::debug!("deploy: event {reason}: {status}");
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    rt::fs::read_within(path, FILE_MAX_BYTES)
}

/// The objects of a file; a `List` is its items.
fn parse(bytes: &[u8]) -> Result<Vec<Value>> {
    let text = std::str::from_utf8(bytes).context(|| "read it as text")?;
    let mut objects = Vec::new();
    for tree in wire::yaml::parse_loose(text)? {
        match tree.str("kind") {
            "" => return Err(Error::new("Object 'Kind' is missing")),
            kind if kind.ends_with("List") && tree.at("items").is_array() => {
                objects.extend(tree.list("items").iter().cloned());
            }
            _ => objects.push(tree),
        }
    }
    Ok(objects)
}

/// Namespaces and definitions come before what is in them and of them.
fn rank(tree: &Value) -> u8 {
    match (tree.str("apiVersion"), tree.str("kind")) {
        ("v1", "Namespace") => 0,
        ("apiextensions.k8s.io/v1", "CustomResourceDefinition") => 1,
        _ => 2,
    }
}

/// The group and kind that a definition makes.
fn defines(tree: &Value) -> Option<(String, String)> {
    (rank(tree) == 1)
        .then(|| (tree.str("spec.group").to_owned(), tree.str("spec.names.kind").to_owned()))
}

fn group_version(tree: &Value) -> (&str, &str) {
    tree.str("apiVersion").rsplit_once('/').unwrap_or(("", tree.str("apiVersion")))
}

/// `apps/v1, Kind=Deployment`, as k3s writes it.
fn gvk(tree: &Value) -> String {
    let (group, version) = group_version(tree);
    format!("{group}/{version}, Kind={}", tree.str("kind"))
}

fn file_name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or("")
}

/// The file's name up to the first dot.
fn addon_name(path: &Path) -> String {
    file_name(path).split('.').next().unwrap_or("").to_owned()
}

/// `--disable` names a file, with its extension or without, or a directory that it is in.
fn is_disabled(base: &Path, path: &Path, names: &[String]) -> bool {
    let file = file_name(path);
    let stem = file.rsplit_once('.').map_or(file, |(stem, _)| stem);
    let below = path.strip_prefix(base).unwrap_or(path);
    let mut dirs = below.ancestors().skip(1);
    names.iter().any(|name| name == file || name == stem)
        || dirs.any(|dir| names.iter().any(|name| Path::new(name) == dir && dir != Path::new("")))
}

/// What marks the objects of one addon; wrangler's hash of its four annotations, so that those which k3s made are known.
fn owner_hash(name: &str) -> String {
    let text = format!("{ADDON_GVK}{name}{NAMESPACE}");
    let digest = &ring::digest::SHA1_FOR_LEGACY_USE_ONLY;
    wire::hex::encode(ring::digest::digest(digest, text.as_bytes()).as_ref())
}

fn sha256(bytes: &[u8]) -> String {
    wire::hex::encode(ring::digest::digest(&ring::digest::SHA256, bytes).as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_marked_as_k3s_marks_them() {
        assert_eq!(owner_hash("coredns"), "bce283298811743a0386ab510f2f67ef74240c57");
        let tree = json!({"apiVersion": "v1", "kind": "Pod"});
        assert_eq!(gvk(&tree), "/v1, Kind=Pod");
        let tree = json!({"apiVersion": "apps/v1", "kind": "Deployment"});
        assert_eq!(gvk(&tree), "apps/v1, Kind=Deployment");
    }

    #[test]
    fn files_and_directories_are_disabled_by_name() {
        let disabled = |names: &[&str], path: &str| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            is_disabled(Path::new("/m"), &Path::new("/m").join(path), &names)
        };
        for (names, path, wanted) in [
            (&["ccm"][..], "ccm.yaml", true),
            (&["ccm.yaml"], "ccm.yaml", true),
            (&["ccm"], "ccm.more.yaml", false),
            (&["sub"], "sub/a.yaml", true),
            (&["sub/"], "sub/deep/a.yaml", true),
            (&["sub/deep"], "sub/deep/a.yaml", true),
            (&["deep"], "sub/deep/a.yaml", false),
            (&["a"], "sub/a.yaml", true),
            (&["m", ""], "b.yaml", false),
        ] {
            assert_eq!(disabled(names, path), wanted, "{names:?} {path}");
        }
    }

    #[test]
    fn what_others_need_comes_first_and_lists_are_their_items() {
        let text = "
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: ConfigMap}
- {apiVersion: apiextensions.k8s.io/v1, kind: CustomResourceDefinition, spec: {group: a.b, names: {kind: C}}}
---
apiVersion: v1
kind: Namespace
";
        let mut trees = parse(text.as_bytes()).unwrap();
        trees.arrange_by_key(rank);
        let kinds: Vec<&str> = trees.iter().map(|tree| tree.str("kind")).collect();
        assert_eq!(kinds, ["Namespace", "CustomResourceDefinition", "ConfigMap"]);
        assert_eq!(defines(&trees[1]), Some(("a.b".into(), "C".into())));
        assert!(parse(b"a: 1").unwrap_err().to_string().contains("'Kind' is missing"));
    }
}
