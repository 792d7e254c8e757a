//! What the cluster is told of snapshots, as k3s tells it: an ETCDSnapshotFile each, and all of them in a ConfigMap.

use api::kinds::{CONFIG_MAP, ETCD_SNAPSHOT_FILE, EVENT};
use api::{Lens, LensMut, Object, Status, Value, json};
use client::events::{Folder, Source, Tell};
use client::{Client, DeleteOptions, ListOptions, PatchType};
use cluster::token;
use stdx::OrdMap;

use crate::etcd::snapshot_files::File;
use crate::settings::snapshot_flags::ZIP;

const NAMESPACE: &str = "kube-system";
const CONFIG: &str = "k3s-etcd-snapshots";
/// What an administrator has told of each snapshot that is taken.
const EXTRA: &str = "k3s-etcd-snapshot-extra-metadata";
const STORAGE_NODE: &str = "etcd.k3s.cattle.io/snapshot-storage-node";
const TOKEN_HASH: &str = "etcd.k3s.cattle.io/snapshot-token-hash";
/// Of a node with more, the newest are told: all of them are in one ConfigMap.
const TOLD_MAX: usize = 1000;
/// Room for what names are made of.
const NAME_MAX_BYTES: usize = 253 - 13;

/// An object's name: the snapshot's, where that can be one.
pub(super) fn object_name(file: &File, storage: &str, node: &str) -> String {
    let node = if file.node.is_empty() { node } else { &file.node };
    let digest = token::hash(format!("{node}{}", file.location).as_bytes());
    let lower = file.name.to_ascii_lowercase();
    let base = match api::names::is_subdomain(&lower) && lower.len() <= NAME_MAX_BYTES {
        true => lower,
        false => {
            let node = node.split('.').next().unwrap_or_default();
            let ending = if file.is_compressed() { ZIP } else { "" };
            format!("etcd-snapshot-{node}-{}{ending}", file.created.secs())
        }
    };
    let place = if storage == "s3" { "s3" } else { "local" };
    format!("{place}-{base}-{}", &digest[..6])
}

/// A number of bytes as Kubernetes writes it.
fn quantity(bytes: u64) -> String {
    let (mut rest, mut suffix) = (bytes, "");
    for larger in ["k", "M", "G", "T"] {
        if rest == 0 || !rest.is_multiple_of(1000) {
            break;
        }
        (rest, suffix) = (rest / 1000, larger);
    }
    format!("{rest}{suffix}")
}

/// The ETCDSnapshotFile of a snapshot; `storage` is the node that has it, or `s3`. What a file says itself of its node
/// and token counts.
pub(super) fn object(file: &File, storage: &str, node: &str, token_hash: &str) -> Value {
    let node = if file.node.is_empty() { node } else { &file.node };
    let token_hash = if file.token_hash.is_empty() { token_hash } else { &file.token_hash };
    let mut tree = json!({
        "apiVersion": "k3s.cattle.io/v1", "kind": "ETCDSnapshotFile",
        "metadata": {"name": object_name(file, storage, node), "labels": {STORAGE_NODE: storage}},
        "spec": {"snapshotName": file.name, "nodeName": node, "location": file.location},
        "status": {
            "size": quantity(file.bytes), "creationTime": api::time::format(file.created),
            "readyToUse": true,
        },
    });
    if !token_hash.is_empty() {
        tree.set("metadata.annotations", json!({TOKEN_HASH: token_hash}));
    }
    if !file.metadata.is_null() {
        tree.set("spec.metadata", file.metadata.clone());
    }
    if !file.s3.is_null() {
        tree.set("spec.s3", file.s3.clone());
    }
    tree
}

/// The entry of a snapshot in the ConfigMap.
fn entry(file: &File, storage: &str) -> String {
    let mut tree = json!({
        "name": file.name, "location": file.location, "nodeName": storage,
        "createdAt": api::time::format(file.created), "size": file.bytes, "status": "successful",
        "compressed": file.is_compressed(),
    });
    if !file.metadata.is_null() {
        tree["metadata"] = file.metadata.to_string().into();
    }
    tree.to_string()
}

fn key(file: &File, storage: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    let name: String = file.name.chars().map(|c| if plain(c) { c } else { '_' }).collect();
    format!("{}-{name}", if storage == "s3" { "s3" } else { "local" })
}

/// What the administrator has to say of the next snapshot.
pub(super) async fn extra(client: &Client) -> Result<Value, Status> {
    let told = client.get_optional(&CONFIG_MAP, NAMESPACE, EXTRA).await?;
    Ok(told.map_or(Value::Null, |told| told.tree().at("data").clone()))
}

/// What the cluster knows of a storage already.
pub(super) struct Known {
    objects: Vec<Object>,
    config: Option<Object>,
}

/// To be asked before the storage is: what another server adds to a bucket meanwhile is not taken for gone then.
pub(super) async fn known(client: &Client, storage: &str) -> Result<Known, Status> {
    let options = ListOptions {
        label_selector: format!("{STORAGE_NODE}={storage}"),
        ..ListOptions::default()
    };
    let objects = client.list(&ETCD_SNAPSHOT_FILE, "", options).await?.items;
    let config = client.get_optional(&CONFIG_MAP, NAMESPACE, CONFIG).await?;
    Ok(Known { objects, config })
}

/// Tells of these and no others in this storage; the objects that are new.
pub(super) async fn tell(
    client: &Client,
    known: Known,
    files: &[File],
    (storage, node): (&str, &str),
    token_hash: &str,
) -> Result<Vec<Object>, Status> {
    let files = &files[files.len().saturating_sub(TOLD_MAX)..];
    let Known { objects: known, config } = known;
    let mut wanted: OrdMap<String, &File> = OrdMap::new();
    for file in files {
        wanted.insert(object_name(file, storage, node), file);
    }
    let mut new = Vec::new();
    for (name, file) in &wanted {
        if known.iter().any(|known| known.name() == name) {
            continue;
        }
        match client.create(&ETCD_SNAPSHOT_FILE, object(file, storage, node, token_hash)).await {
            Ok(object) => new.push(object),
            Err(status) if status.is_already_exists() => {}
            Err(status) => return Err(status),
        }
    }
    for gone in known.iter().filter(|known| !wanted.contains_key(known.name())) {
        match client.delete(&ETCD_SNAPSHOT_FILE, "", gone.name(), DeleteOptions::default()).await {
            Err(status) if !status.is_not_found() => return Err(status),
            _ => {}
        }
    }
    tell_in_one(client, config, files, storage).await?;
    Ok(new)
}

async fn tell_in_one(
    client: &Client,
    mut known: Option<Object>,
    files: &[File],
    storage: &str,
) -> Result<(), Status> {
    if known.is_none() {
        let tree = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": CONFIG, "namespace": NAMESPACE}, "data": {},
        });
        known = match client.create(&CONFIG_MAP, tree).await {
            Ok(_) => None,
            // Another server's was first.
            Err(status) if status.is_already_exists() => {
                client.get_optional(&CONFIG_MAP, NAMESPACE, CONFIG).await?
            }
            Err(status) => return Err(status),
        };
    }
    let entries = files.iter().map(|file| (key(file, storage), Value::from(entry(file, storage))));
    let mut data: OrdMap<String, Value> = entries.collect();
    let tree = known.map(|known| known.tree()).unwrap_or_default();
    for (key, value) in tree.at("data").as_object().into_iter().flatten() {
        if data.get(key) == Some(value) {
            data.remove(key);
            continue;
        }
        let of = serde_json::from_str::<Value>(value.as_str().unwrap_or_default());
        if of.is_ok_and(|of| of.str("nodeName") == storage) && !data.contains_key(key) {
            data.insert(key.clone(), Value::Null);
        }
    }
    if data.is_empty() {
        return Ok(());
    }
    let patch = json!({"data": data});
    client.patch(&CONFIG_MAP, NAMESPACE, CONFIG, "", PatchType::Merge, patch).await.map(drop)
}

/// Tells that a snapshot was taken, as an Event.
pub(super) async fn announce(client: &Client, about: &Object, node: &str) -> Result<(), Status> {
    let source = Source { component: "k3s-supervisor".into(), host: node.to_owned() };
    let tree = about.tree();
    let place = if tree.at("spec.s3").is_null() { node } else { "S3" };
    let message = format!("Snapshot {} saved on {place}", tree.str("spec.snapshotName"));
    let (now, suffix) = (rt::now().wall, rt::random_u64());
    let told = Folder::default().tell(
        &source,
        about,
        "",
        false,
        "ETCDSnapshotCreated",
        &message,
        now,
        suffix,
    );
    match told {
        Tell::Create(event) => client.create(&EVENT, event).await.map(drop),
        Tell::Patch { .. } => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stdx::time::Wall;

    fn file(name: &str) -> File {
        File {
            name: name.to_owned(),
            location: format!("file:///snapshots/{name}"),
            bytes: 4_096_000,
            created: Wall::from_secs(1_800_000_000),
            ..File::default()
        }
    }

    #[test]
    fn objects_are_named_and_made_as_k3s_makes_them() {
        let one = file("on-demand-n1-1800000000");
        let name = object_name(&one, "n1", "n1");
        let digest = token::hash(b"n1file:///snapshots/on-demand-n1-1800000000");
        assert_eq!(name, format!("local-on-demand-n1-1800000000-{}", &digest[..6]));
        assert!(object_name(&one, "s3", "n1").starts_with("s3-on-demand-n1-1800000000-"));
        let odd = object_name(&file("My_Name.zip"), "n1", "n1.example");
        assert!(odd.starts_with("local-etcd-snapshot-n1-1800000000.zip-"), "{odd}");
        let long = object_name(&file(&"x".repeat(250)), "n1", "n1");
        assert!(long.starts_with("local-etcd-snapshot-n1-"), "{long}");
        let tree = object(&one, "n1", "n1", "0123456789ab");
        assert_eq!(tree.str("status.size"), "4096k");
        assert!(Object::from_tree(&ETCD_SNAPSHOT_FILE, &tree).is_ok());
        for (bytes, wanted) in
            [(0, "0"), (7, "7"), (1000, "1k"), (3_000_000_000, "3G"), (1_001, "1001")]
        {
            assert_eq!(quantity(bytes), wanted);
        }
        assert_eq!(key(&file("a b"), "n1"), "local-a_b");
        let told: Value = serde_json::from_str(&entry(&one, "n1")).unwrap();
        assert_eq!(
            (told.str("status"), told.at("compressed")),
            ("successful", &Value::Bool(false))
        );
    }
}
