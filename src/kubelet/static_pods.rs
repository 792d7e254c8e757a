//! Static pods: manifests in a directory and of a URL, run without the API, and shown in it as mirrors.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use api::codec::{FieldValidation, decode_yaml};
use api::controller::Cache;
use api::{Lens, LensMut, Object, Value, json, kinds};
use client::DeleteOptions;
use stdx::{Context, Error, Result};
use stdx::{OrdMap, time::Wall};

use crate::manager::{mirror_of, take_new};
use crate::shared::{Shared, Slot};
use crate::static_url::StaticUrl;
use podplan::{CONFIG_HASH, CONFIG_MIRROR, CONFIG_SEEN, CONFIG_SOURCE};

/// Manifests that one node takes, and the size of one.
pub(crate) const MANIFESTS_MAX: usize = 256;
const MANIFEST_MAX_BYTES: u64 = 1 << 20;
/// What a manifest may take of memory while it is read.
const TREE_MAX_BYTES: usize = 8 << 20;
/// A mirror that could not be written is tried again after this long.
const MIRROR_RETRY: Duration = Duration::from_secs(10);
/// Editors write in several steps; one look at the end is enough.
const SETTLE: Duration = Duration::from_millis(50);

/// The static pods that there should be.
#[derive(Debug)]
pub(crate) struct Wanted {
    by_uid: OrdMap<String, Object>,
    /// The URL has not answered yet: nobody knows which of its pods are still wanted.
    is_unsure: bool,
    /// One waits until nothing is left of another.
    waits: bool,
}

impl Wanted {
    /// Whether a mirror has a pod, as far as is known.
    fn has(&self, uid: &str, mirror: &Object) -> bool {
        let of_url = || mirror.tree().entry("metadata.annotations", CONFIG_SOURCE) == Some("http");
        self.by_uid.contains_key(uid) || self.is_unsure && of_url()
    }
}

/// Follows the directory for the kubelet's life.
pub(crate) async fn run(shared: Arc<Shared>) {
    let directory = shared.config.manifest_directory.clone();
    let made = rt::fs::create_dir_all(&directory, 0o755).and_then(|()| {
        let watch = rt::FileWatch::new();
        watch.add(&directory)?;
        Ok(watch)
    });
    let watch = match made {
        Ok(watch) => watch,
        Err(error) => return log::error!("static pods: {error}"),
    };
    // Filled by the listener before the view is looked at, so that no change falls between.
    let (tell, changed) = rt::channel::bounded(1);
    shared.informers.listen(Arc::new(move |_| {
        // Full is as good: it says that there is something to look at.
        let _ = tell.try_send(());
    }));
    loop {
        let ended = shared.slots.removed.listen();
        let said = shared.static_url.as_ref().map(|url| url.changed.listen());
        let current = load(&shared).await;
        let mirrored = mirror(&shared, &current).await;
        let retry = async {
            match mirrored {
                Ok(()) => rt::future::pending::<()>().await,
                Err(_) => rt::sleep(MIRROR_RETRY).await,
            }
        };
        let ended = async {
            match current.waits {
                true => ended.await,
                false => rt::future::pending().await,
            }
        };
        let change = async {
            if let Err(error) = watch.changed().await {
                log::error!("static pods: {error}");
                rt::sleep(MIRROR_RETRY).await;
            }
        };
        // A mirror that someone deleted is made again.
        let lost = wait_for_lost_mirror(&shared, &current, &changed);
        let said = async {
            match said {
                Some(said) => said.await,
                None => rt::future::pending().await,
            }
        };
        let ended = rt::future::or(ended, said);
        rt::future::or(rt::future::or(change, ended), rt::future::or(lost, retry)).await;
        rt::sleep(SETTLE).await;
    }
}

/// Reads the manifests, starts what is new and ends what is no longer there.
///
/// A static pod's uid and name repeat when its manifest comes back or is edited, and everything that is
/// kept of a pod is kept under them: so one begins only when nothing is left of the one before.
pub(crate) async fn load(shared: &Arc<Shared>) -> Wanted {
    let (node, path) = (shared.config.node_name.clone(), shared.config.manifest_directory.clone());
    let now = rt::now().wall;
    let mut found = rt::unblock(move || read_all(&path, &node, now)).await;
    let of_url = shared.static_url.as_ref().map(StaticUrl::pods);
    let url = PathBuf::from(&shared.config.static_url.url);
    found.extend(of_url.iter().flatten().flatten().map(|pod| (url.clone(), Ok(pod.clone()))));
    let is_unsure = of_url.is_some_and(|pods| pods.is_none());
    let wanted = by_uid(found);
    let running: Vec<Arc<Slot>> = shared
        .slots
        .all()
        .into_iter()
        .filter(|slot| slot.snapshot().pod.is_some_and(|pod| pod.is_static))
        .collect();
    // What this run started, and what a run before it did.
    let is_kept = |slot: &Slot| is_unsure && slot.snapshot().pod.is_some_and(|pod| pod.is_of_url);
    let unwanted = |slot: &&Arc<Slot>| !wanted.contains_key(&slot.uid) && !is_kept(slot);
    for slot in running.iter().filter(unwanted) {
        slot.post(|inbox| inbox.gone = true);
    }
    let mut waits = false;
    for object in wanted.values() {
        let mut same = running
            .iter()
            .filter(|slot| slot.namespace == object.namespace() && slot.name == object.name())
            .peekable();
        match same.peek() {
            None => take_new(shared, object.clone()),
            Some(_) => waits |= same.any(|slot| slot.lock().gone),
        }
    }
    Wanted { by_uid: wanted, is_unsure, waits }
}

/// One pod a name: of several manifests with one name the first counts, as upstream has it.
fn by_uid(found: Vec<(PathBuf, Result<Object>)>) -> OrdMap<String, Object> {
    let mut wanted: OrdMap<String, Object> = OrdMap::new();
    for (path, manifest) in found {
        match manifest {
            Ok(object) => {
                let taken = wanted.values().any(|known| {
                    known.uid() != object.uid()
                        && (known.namespace(), known.name()) == (object.namespace(), object.name())
                });
                if taken {
                    let (path, name) = (path.display(), object.name());
                    log::warn!("static pod {path}: another manifest has the name {name}");
                } else {
                    wanted.insert(object.uid().to_owned(), object);
                }
            }
            Err(error) => log::warn!("static pod {}: {error}", path.display()),
        }
    }
    wanted
}

fn read_all(directory: &Path, node: &str, now: Wall) -> Vec<(PathBuf, Result<Object>)> {
    let paths = rt::fs::list_dir(directory).unwrap_or_default();
    paths
        .into_iter()
        .filter(|path| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or(".");
            !name.starts_with('.') && path.is_file()
        })
        .take(MANIFESTS_MAX)
        .map(|path| {
            let object = read_manifest(&path, node, now);
            (path, object)
        })
        .collect()
}

fn read_manifest(path: &Path, node: &str, now: Wall) -> Result<Object> {
    let size = path.metadata().context(|| "read it")?.len();
    if size > MANIFEST_MAX_BYTES {
        return Err(Error::new(format!("it has {size} bytes, more than {MANIFEST_MAX_BYTES}")));
    }
    parse(&rt::fs::read_within(path, MANIFEST_MAX_BYTES)?, node, now, "file")
}

/// A manifest as the pod that this node runs; `source` is `file` or `http`.
///
/// # Errors
/// If it is no valid pod, or one that needs the API.
pub(crate) fn parse(text: &[u8], node: &str, now: Wall, source: &str) -> Result<Object> {
    let mut left = TREE_MAX_BYTES;
    let mut within = |bytes| {
        left = left.saturating_sub(bytes);
        left > 0
    };
    let decoded = decode_yaml(&kinds::POD, text, FieldValidation::Warn, &mut within);
    let decoded = decoded.context(|| "parse it")?;
    let mut tree = decoded.tree;
    let hash = hash(text, node);
    let name = format!("{}-{}", tree.str("metadata.name"), node.to_ascii_lowercase());
    tree.set("metadata.name", name);
    tree.set_default("metadata.namespace", "default");
    tree.set("metadata.uid", hash.as_str());
    tree.set("metadata.creationTimestamp", api::time::format(now));
    tree.remove("metadata.deletionTimestamp");
    tree.set("spec.nodeName", node);
    rules::defaults::apply(&kinds::POD, &mut tree);
    let annotations = tree.map_mut("metadata.annotations");
    annotations.insert(CONFIG_HASH.into(), hash.into());
    annotations.insert(CONFIG_SOURCE.into(), source.into());
    annotations.insert(CONFIG_SEEN.into(), api::time::format(now).into());
    tree.list_mut("spec.tolerations").push(json!({"operator": "Exists", "effect": "NoExecute"}));
    tree.set("status", json!({"phase": "Pending"}));
    if let Err(status) = rules::validate::create(&kinds::POD, &tree) {
        return Err(Error::new(status.to_string()));
    }
    for volume in tree.list("spec.volumes") {
        if volume.has("secret") || volume.has("configMap") || volume.has("persistentVolumeClaim") {
            return Err(Error::new(format!(
                "volume {:?}: a static pod may not refer to objects of the API",
                volume.str("name")
            )));
        }
    }
    Object::from_tree(&kinds::POD, &tree)
}

/// Two FNV-1a sums of the manifest and the node, as 32 hex digits: a uid that a restart finds again.
fn hash(text: &[u8], node: &str) -> String {
    const PRIME: u64 = 0x0100_0000_01b3;
    let sum = |basis: u64| {
        let bytes = node.bytes().chain([0]).chain(text.iter().copied());
        bytes.fold(basis, |sum, byte| (sum ^ u64::from(byte)).wrapping_mul(PRIME))
    };
    format!("{:016x}{:016x}", sum(0xcbf2_9ce4_8422_2325), sum(0x8422_2325_cbf2_9ce4))
}

/// Makes the API's mirrors what they should be.
async fn mirror(shared: &Shared, wanted: &Wanted) -> Result<(), api::Status> {
    if rt::timeout(MIRROR_RETRY, shared.informers.synced(&[&kinds::POD])).await.is_err() {
        return Err(api::Status::unavailable("the API has not answered yet"));
    }
    for object in shared.informers.list(&kinds::POD, None) {
        let Some(uid) = mirror_of(&object) else { continue };
        if !wanted.has(&uid, &object) || object.deleting() {
            let options = DeleteOptions {
                grace_secs: Some(0),
                uid: Some(object.uid().to_owned()),
                ..DeleteOptions::default()
            };
            let (namespace, name) = (object.namespace(), object.name());
            match shared.client.delete(&kinds::POD, namespace, name, options).await {
                Err(status) if !status.is_not_found() && !status.is_conflict() => {
                    return Err(status);
                }
                _ => {}
            }
        }
    }
    let node = shared.node().tree;
    if node.str("metadata.uid").is_empty() && !wanted.by_uid.is_empty() {
        return Err(api::Status::unavailable("the node is not registered yet"));
    }
    for (uid, object) in &wanted.by_uid {
        if has_mirror(shared, uid, object) {
            continue;
        }
        let mut tree = object.tree();
        for path in
            ["metadata.uid", "metadata.creationTimestamp", "metadata.resourceVersion", "status"]
        {
            tree.remove(path);
        }
        tree.map_mut("metadata.annotations").insert(CONFIG_MIRROR.into(), uid.as_str().into());
        tree.set(
            "metadata.ownerReferences",
            json!([{"apiVersion": "v1", "kind": "Node", "name": shared.config.node_name,
                "uid": node.str("metadata.uid"), "controller": true}]),
        );
        match shared.client.create(&kinds::POD, tree).await {
            Ok(_) => {}
            Err(status) if status.is_already_exists() => {}
            Err(status) => {
                log::warn!(
                    "mirror of static pod {}/{}: {status}",
                    object.namespace(),
                    object.name()
                );
                return Err(status);
            }
        }
    }
    Ok(())
}

fn has_mirror(shared: &Shared, uid: &str, object: &Object) -> bool {
    shared
        .informers
        .get(&kinds::POD, object.namespace(), object.name())
        .is_some_and(|mirror| mirror_of(&mirror).as_deref() == Some(uid))
}

/// Completes when a wanted pod has no mirror, or a mirror is being deleted or has no pod.
async fn wait_for_lost_mirror(
    shared: &Shared,
    wanted: &Wanted,
    changed: &rt::channel::Receiver<()>,
) {
    loop {
        if changed.recv().await.is_err() {
            return rt::future::pending().await;
        }
        let stray: Option<Value> = shared
            .informers
            .list(&kinds::POD, None)
            .iter()
            .find(|object| {
                mirror_of(object).is_some_and(|uid| object.deleting() || !wanted.has(&uid, object))
            })
            .map(Object::tree);
        if stray.is_some()
            || wanted.by_uid.iter().any(|(uid, object)| !has_mirror(shared, uid, object))
        {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_becomes_a_pod_of_this_node() {
        let text = b"apiVersion: v1\nkind: Pod\nmetadata:\n  name: web\nspec:\n  containers:\n  - name: a\n    image: i\n";
        let object = parse(text, "node1", Wall::from_secs(0), "file").unwrap();
        let tree = object.tree();
        assert_eq!(object.name(), "web-node1");
        assert_eq!(object.namespace(), "default");
        assert_eq!(object.uid().len(), 32);
        assert_eq!(tree.entry("metadata.annotations", CONFIG_HASH), Some(object.uid()));
        assert_eq!(tree.str("spec.restartPolicy"), "Always");
        assert_eq!(parse(text, "node1", Wall::from_secs(9), "file").unwrap().uid(), object.uid());
        assert_ne!(parse(text, "other", Wall::from_secs(0), "file").unwrap().uid(), object.uid());
    }

    #[test]
    fn of_two_manifests_with_one_name_the_first_counts() {
        let text = |image: &str| {
            format!(
                "apiVersion: v1\nkind: Pod\nmetadata: {{name: web}}\nspec: {{containers: [{{name: a, image: {image}}}]}}\n"
            )
        };
        let read = |file: &str, text: &str| {
            (PathBuf::from(file), parse(text.as_bytes(), "n", Wall::from_secs(0), "file"))
        };
        let wanted = by_uid(vec![
            read("a.yaml", &text("one")),
            read("b.yaml", &text("two")),
            read("c.yaml", &text("one")),
        ]);
        let images: Vec<String> = wanted
            .values()
            .map(|pod| pod.tree().str("spec.containers.0.image").to_owned())
            .collect();
        assert_eq!(images, ["one"]);
    }

    #[test]
    fn bad_manifests_are_told() {
        for text in [
            "",
            "kind: Service\n",
            "a: [",
            "apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec: {containers: [{name: a, image: i}], volumes: [{name: v, secret: {secretName: s}}]}",
        ] {
            assert!(parse(text.as_bytes(), "n", Wall::from_secs(0), "file").is_err(), "{text}");
        }
    }
}
