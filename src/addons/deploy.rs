//! The deploy controller: what lies in `server/manifests/` is applied, and applied again when it changes.
//!
//! As k3s's: one Addon a file with its checksum, objects marked with the set they belong to, so that
//! what a new version of a file no longer holds is deleted. Removing a file deletes nothing;
//! disabling a component deletes what its file made.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use api::{Kind, Lens, LensMut, Object, Status, Value, json, kinds};
use client::events::{Folder, Source};
use client::{Client, DeleteOptions, ListOptions, PatchType, Request, Verb};
use stdx::Arrange;
use stdx::backoff::Backoff;
use stdx::{Context, Error, Gather, Result};

/// Files larger than this are no manifests.
const FILE_MAX_BYTES: usize = 8 << 20;
/// Directories below the base are followed this deep.
const DEPTH_MAX: usize = 8;
/// Failed files are tried again this often, changes or not.
const RETRY: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(15));
/// Editors write in several steps; wait for the last one.
const SETTLE: Duration = Duration::from_millis(50);

const OWNER_HASH: &str = "objectset.rio.cattle.io/hash";
const OWNER_NAME: &str = "objectset.rio.cattle.io/owner-name";
const GVKS: &str = "addon.k3s.cattle.io/gvks";
const NAMESPACE: &str = "kube-system";
const MANAGER: &str = "deploy";

/// Applies the manifests of one directory.
#[derive(Debug)]
pub struct Deploy {
    client: Client,
    base: PathBuf,
    /// Names from `--disable`.
    disabled: Vec<String>,
    node: String,
    folder: Mutex<Folder>,
    /// Checksums of files already looked at in this run, by path.
    applied: std::collections::BTreeMap<PathBuf, String>,
}

impl Deploy {
    pub fn new(client: Client, base: PathBuf, disabled: Vec<String>, node: String) -> Deploy {
        Deploy {
            client,
            base,
            disabled,
            node,
            folder: Mutex::default(),
            applied: Default::default(),
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
            let files = self.files(&watch)?;
            let mut failed = false;
            for path in files {
                if let Err(error) = self.file(&path).await {
                    log::error!("Failed to process {}: {error}", path.display());
                    failed = true;
                }
            }
            failures = if failed { failures + 1 } else { 0 };
            let retry = async {
                match failed {
                    true => rt::sleep(RETRY.delay(failures)).await,
                    false => std::future::pending().await,
                }
                Ok(())
            };
            rt::future::or(async { watch.changed().await }, retry).await?;
            rt::sleep(SETTLE).await;
        }
    }

    /// Every file below the base, sorted; new directories are added to the watch.
    fn files(&self, watch: &rt::FileWatch) -> Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        let mut dirs = vec![(self.base.clone(), 0)];
        while let Some((dir, depth)) = dirs.pop() {
            watch.add(&dir)?;
            for path in rt::fs::list_dir(&dir)? {
                match path.is_dir() {
                    true if depth < DEPTH_MAX => dirs.push((path, depth + 1)),
                    true => {}
                    false => files.push(path),
                }
            }
        }
        files.arrange();
        let skips: BTreeSet<String> = files
            .iter()
            .filter_map(|path| Some(file_name(path).strip_suffix(".skip")?.to_owned()))
            .gather();
        files.retain(|path| {
            let name = file_name(path);
            let known =
                [".yaml", ".yml", ".json"].iter().any(|extension| name.ends_with(extension));
            known && !name.starts_with('.') && !skips.contains(name)
        });
        Ok(files)
    }

    async fn file(&mut self, path: &Path) -> Result<()> {
        let name = addon_name(path);
        if self.disabled.iter().any(|disabled| *disabled == name || *disabled == file_name(path)) {
            return self.remove(path, &name).await;
        }
        let bytes = rt::fs::read(path)?;
        if bytes.len() > FILE_MAX_BYTES {
            return Err(Error::new(format!("it is larger than {FILE_MAX_BYTES} bytes")));
        }
        let checksum = sha256(&bytes);
        if self.applied.get(path) == Some(&checksum) {
            return Ok(());
        }
        let addon = self.addon(&name, path).await?;
        let first_look = !self.applied.contains_key(path);
        let tree = addon.tree();
        if tree.str("spec.checksum") == checksum && !first_look {
            return Ok(());
        }
        let trees = match parse(&bytes) {
            Ok(trees) => trees,
            Err(error) => {
                self.tell(
                    &addon,
                    true,
                    "ParseManifestFailed",
                    &format!("Parse manifest at {path:?} failed: {error}"),
                )
                .await;
                return Err(error);
            }
        };
        // A restart with the same file changes nothing: the objects are the cluster's by now.
        if tree.str("spec.checksum") != checksum {
            self.tell(&addon, false, "ApplyingManifest", &format!("Applying manifest at {path:?}"))
                .await;
        }
        let owner = owner_hash(&name);
        let previous = tree.entry("metadata.annotations", GVKS).unwrap_or("").to_owned();
        match self.apply(&name, &owner, &trees, &previous).await {
            Ok(gvks) => {
                if tree.str("spec.checksum") != checksum || previous != gvks {
                    let patch = json!({"metadata": {"annotations": {GVKS: gvks}}, "spec": {"source": path.display().to_string(), "checksum": checksum}});
                    self.client
                        .patch(&kinds::ADDON, NAMESPACE, &name, "", PatchType::Merge, patch)
                        .await
                        .context(|| "record the checksum")?;
                    self.tell(
                        &addon,
                        false,
                        "AppliedManifest",
                        &format!("Applied manifest at {path:?}"),
                    )
                    .await;
                }
                self.applied.insert(path.to_owned(), checksum);
                Ok(())
            }
            Err(error) => {
                self.tell(
                    &addon,
                    true,
                    "ApplyManifestFailed",
                    &format!("Applying manifest at {path:?} failed: {error}"),
                )
                .await;
                Err(error)
            }
        }
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
    async fn apply(
        &self,
        name: &str,
        owner: &str,
        trees: &[Value],
        previous: &str,
    ) -> Result<String> {
        let mut kept = BTreeSet::new();
        let mut gvks = BTreeSet::new();
        for tree in trees {
            let kind = kind_of(tree)?;
            let mut tree = tree.clone();
            if kind.namespaced() {
                tree.set_default("metadata.namespace", "default");
            }
            tree.map_mut("metadata.labels").insert(OWNER_HASH.into(), owner.into());
            tree.map_mut("metadata.annotations").insert(OWNER_NAME.into(), name.into());
            let (namespace, object) =
                (tree.str("metadata.namespace").to_owned(), tree.str("metadata.name").to_owned());
            let mut request = Request::new(Verb::Patch, kind, &namespace, &object);
            request.field_manager = MANAGER.into();
            request.force = true;
            request.body = client::Body::Patch(PatchType::Apply, tree);
            self.client
                .call(request)
                .await
                .context(|| format!("apply {} {namespace}/{object}", kind.name))?;
            kept.insert((kind, namespace, object));
            gvks.insert(gvk(kind));
        }
        for kind in previous
            .split(';')
            .filter_map(kind_of_gvk)
            .chain(kept.iter().map(|(kind, ..)| *kind).gather::<BTreeSet<_>>())
        {
            self.prune(kind, owner, |object| {
                !kept.contains(&(kind, object.namespace().to_owned(), object.name().to_owned()))
            })
            .await?;
        }
        Ok(gvks.into_iter().collect::<Vec<_>>().join(";"))
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
    async fn remove(&mut self, path: &Path, name: &str) -> Result<()> {
        let addon = self
            .client
            .get_optional(&kinds::ADDON, NAMESPACE, name)
            .await
            .context(|| format!("read addon {name}"))?;
        let owner = owner_hash(name);
        let mut held: BTreeSet<&'static Kind> = parse(&rt::fs::read(path)?)
            .unwrap_or_default()
            .iter()
            .filter_map(|tree| kind_of(tree).ok())
            .gather();
        if let Some(addon) = &addon {
            held.extend(
                addon
                    .tree()
                    .entry("metadata.annotations", GVKS)
                    .unwrap_or("")
                    .split(';')
                    .filter_map(kind_of_gvk),
            );
        }
        for kind in held {
            self.prune(kind, &owner, |_| true).await?;
        }
        rt::fs::remove_file(path)?;
        if let Some(addon) = addon {
            self.tell(&addon, false, "DeletingManifest", &format!("Deleting manifest at {path:?}"))
                .await;
            match self.client.delete(&kinds::ADDON, NAMESPACE, name, DeleteOptions::default()).await
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

/// The objects of a file; a `List` is its items.
fn parse(bytes: &[u8]) -> Result<Vec<Value>> {
    let text = std::str::from_utf8(bytes).context(|| "read it as text")?;
    let mut objects = Vec::new();
    for tree in wire::yaml::parse(text)? {
        match tree.str("kind") {
            "List" => objects.extend(tree.list("items").iter().cloned()),
            "" => return Err(Error::new("Object 'Kind' is missing")),
            _ => objects.push(tree),
        }
    }
    Ok(objects)
}

fn kind_of(tree: &Value) -> Result<&'static Kind> {
    kinds::of_tree(tree).context(|| {
        format!(
            "no kind {:?} is registered for version {:?}",
            tree.str("kind"),
            tree.str("apiVersion")
        )
    })
}

/// `apps/v1, Kind=Deployment`, as k3s writes it.
fn gvk(kind: &Kind) -> String {
    format!("{}/{}, Kind={}", kind.group, kind.declared.version, kind.name)
}

fn kind_of_gvk(text: &str) -> Option<&'static Kind> {
    let (group_version, name) = text.split_once(", Kind=")?;
    kinds::by_name(group_version.rsplit_once('/')?.0, name)
}

fn file_name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or("")
}

/// The file's name up to the first dot.
fn addon_name(path: &Path) -> String {
    file_name(path).split('.').next().unwrap_or("").to_owned()
}

/// What marks the objects of one addon.
fn owner_hash(name: &str) -> String {
    sha256(format!("k3s.cattle.io/v1, Kind=Addon {NAMESPACE}/{name}").as_bytes())[..40].to_owned()
}

fn sha256(bytes: &[u8]) -> String {
    wire::hex::encode(ring::digest::digest(&ring::digest::SHA256, bytes).as_ref())
}
