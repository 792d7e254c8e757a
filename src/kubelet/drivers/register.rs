//! Plugins tell of themselves by a socket in `plugins_registry`: each is asked, and drivers are made known to the cluster.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use api::{Lens, LensMut, Object, Value, json, kinds};
use client::PatchType;
use stdx::backoff::Backoff;
use stdx::{Arrange, OrdMap, Result};
use wire::csi::{
    NODE, NodeGetCapabilitiesResponse, NodeGetInfoResponse, PluginInfo, REGISTRATION,
    RegistrationStatus,
};
use wire::message::Message;

use super::unmount::keep_sweeping;
use crate::csi::{Driver, ask, is_driver_name, read, said};
use crate::shared::Shared;

/// Sockets that are looked at.
const PLUGINS_MAX: usize = 64;
/// What a plugin has to say who it is, and a driver where it runs.
const INFO_MAX: Duration = Duration::from_secs(10);
const RETRY: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(120));
/// The next look at the directory, where the watch on it fails.
const WATCH_RETRY: Duration = Duration::from_secs(30);
/// Writes to one object in a row that met another's.
const CONFLICTS_MAX: usize = 10;
/// The API's answer while a driver is on its way out.
const LEAVE_MAX: Duration = Duration::from_secs(10);
const NODE_ID: &str = "csi.volume.kubernetes.io/nodeid";

/// A socket as it was found, and who asks it; nobody once it has answered.
struct Plugin {
    /// Inode and time: a socket that is made again is another.
    stamp: (u64, i64, i64),
    _task: rt::Task<Option<()>>,
}

/// Follows the directory, and sweeps, for the kubelet's life.
pub(crate) async fn run(shared: Arc<Shared>) {
    let root = shared.csi.root.clone();
    let directory = root.join("plugins_registry");
    let made = rt::unblock(move || -> Result<rt::FileWatch> {
        // Drivers mount these into their pods.
        for name in ["plugins", "pods", "plugins_registry"] {
            rt::fs::create_dir_all(root.join(name), 0o750)?;
        }
        let watch = rt::FileWatch::new();
        watch.add(root.join("plugins_registry"))?;
        Ok(watch)
    });
    let watch = match made.await {
        Ok(watch) => watch,
        Err(error) => return log::warn!("there will be no storage drivers: {error}"),
    };
    let node = async {
        begin_csi_node(&shared).await;
        rt::future::pending().await
    };
    let plugins = rt::future::or(follow(&shared, watch, directory), keep_sweeping(&shared));
    rt::future::or(plugins, node).await;
}

/// A node has its CSINode before it has a driver: whoever places volumes sees that it has none.
async fn begin_csi_node(shared: &Shared) {
    let mut failures = 0;
    // The Node, whose it is, may not be registered yet.
    while let Err(error) = write_csi_node(shared, "", None).await {
        failures += 1;
        log::debug!("the node's CSINode: {error}");
        rt::sleep(RETRY.delay(failures)).await;
    }
}

async fn follow(shared: &Arc<Shared>, watch: rt::FileWatch, directory: PathBuf) {
    let mut known: OrdMap<PathBuf, Plugin> = OrdMap::new();
    loop {
        let place = directory.clone();
        let found = rt::unblock(move || sockets(&place)).await;
        let gone = known.iter().filter(|(path, plugin)| found.get(*path) != Some(&plugin.stamp));
        let gone: Vec<PathBuf> = gone.map(|(path, _)| path.clone()).collect();
        for path in gone {
            known.remove(&path);
            leave(shared, &path).await;
        }
        for (path, stamp) in found {
            if !known.contains_key(&path) {
                let name = format!("plugin {}", path.display());
                let task = rt::spawn_named(name, keep_asking(Arc::clone(shared), path.clone()));
                known.insert(path, Plugin { stamp, _task: task });
            }
        }
        if let Err(error) = watch.changed().await {
            log::error!("plugins_registry: {error}");
            rt::sleep(WATCH_RETRY).await;
        }
    }
}

/// The directory's sockets with their stamps. Blocking.
fn sockets(directory: &Path) -> OrdMap<PathBuf, (u64, i64, i64)> {
    let mut paths = rt::fs::list_dir(directory).unwrap_or_default();
    paths.arrange();
    let sockets = paths.into_iter().filter_map(|path| {
        let hidden = path.file_name()?.to_str()?.starts_with('.');
        let metadata = path.symlink_metadata().ok()?;
        let stamp = (metadata.ino(), metadata.ctime(), metadata.ctime_nsec());
        (metadata.file_type().is_socket() && !hidden).then_some((path, stamp))
    });
    sockets.take(PLUGINS_MAX).collect()
}

async fn keep_asking(shared: Arc<Shared>, socket: PathBuf) {
    let mut failures = 0;
    while let Err(error) = introduce(&shared, &socket).await {
        failures += 1;
        log::warn!("plugin {}: {error}", socket.display());
        rt::sleep(RETRY.delay(failures)).await;
    }
}

/// Asks a plugin who it is, takes it in, and tells it how that went.
async fn introduce(shared: &Shared, socket: &Path) -> Result<(), String> {
    let method = |name: &str| format!("{REGISTRATION}{name}");
    let info = ask(socket, &method("GetInfo"), Vec::new(), INFO_MAX).await;
    let info: PluginInfo = read(&info.map_err(|status| said(&status))?)?;
    let done = take_in(shared, socket, &info).await;
    let status = RegistrationStatus {
        plugin_registered: done.is_ok(),
        error: done.as_ref().err().cloned().unwrap_or_default(),
    };
    let told = ask(socket, &method("NotifyRegistrationStatus"), status.encode(), INFO_MAX).await;
    told.map_err(|status| said(&status))?;
    if done.is_ok() {
        log::info!("storage driver {}: registered", info.name);
    }
    done
}

async fn take_in(shared: &Shared, socket: &Path, info: &PluginInfo) -> Result<(), String> {
    let at = socket.display();
    if info.kind != "CSIPlugin" {
        return Err(format!("no handler registered for plugin type: {} at socket {at}", info.kind));
    }
    if !is_driver_name(&info.name) {
        return Err(format!("{:?} is not a name of a driver", info.name));
    }
    if !info
        .supported_versions
        .iter()
        .any(|version| version.trim_start_matches('v').starts_with("1."))
    {
        return Err(format!(
            "none of the versions {:?} of CSI driver {} is supported",
            info.supported_versions, info.name
        ));
    }
    let endpoint = match info.endpoint.as_str() {
        "" => socket.to_owned(),
        path => PathBuf::from(path),
    };
    let call = async |name: &str| {
        let answer = ask(&endpoint, &format!("{NODE}{name}"), Vec::new(), INFO_MAX).await;
        answer.map_err(|status| said(&status))
    };
    let node: NodeGetInfoResponse = read(&call("NodeGetInfo").await?)?;
    if node.node_id.is_empty() {
        return Err(format!("CSI driver {} gave no name of this node", info.name));
    }
    let can: NodeGetCapabilitiesResponse = read(&call("NodeGetCapabilities").await?)?;
    write_node(shared, &info.name, &node).await?;
    write_csi_node(shared, &info.name, Some(&node)).await?;
    let driver = Driver {
        name: info.name.clone(),
        endpoint,
        registered_by: socket.to_owned(),
        capabilities: can.capabilities.iter().map(|capability| capability.rpc.kind).collect(),
    };
    let mut drivers = shared.csi.drivers.lock().unwrap_or_else(PoisonError::into_inner);
    drivers.insert(info.name.clone(), Arc::new(driver));
    drop(drivers);
    // Pods may wait for it, and what an earlier one left.
    for slot in shared.slots.all() {
        slot.post(|inbox| {
            inbox.poke = true;
            inbox.driver_came = true;
        });
    }
    shared.csi.want_sweep(false);
    Ok(())
}

/// The driver that this socket told of is gone.
async fn leave(shared: &Shared, socket: &Path) {
    let name = {
        let mut drivers = shared.csi.drivers.lock().unwrap_or_else(PoisonError::into_inner);
        let name = drivers.values().find(|driver| driver.registered_by == socket);
        let Some(name) = name.map(|driver| driver.name.clone()) else { return };
        drivers.remove(&name);
        name
    };
    log::info!("storage driver {name}: gone");
    let writes = async {
        write_csi_node(shared, &name, None).await?;
        forget_node_id(shared, &name).await
    };
    if let Ok(Err(error)) = rt::timeout(LEAVE_MAX, writes).await {
        log::warn!("storage driver {name}: {error}");
    }
}

/// The driver's names of where this node is become labels, and what it calls the node an annotation.
async fn write_node(shared: &Shared, name: &str, info: &NodeGetInfoResponse) -> Result<(), String> {
    let node = own_node(shared).await?;
    let tree = node.tree();
    let mut labels = api::Map::new();
    for (key, value) in info.accessible_topology.iter().flat_map(|it| it.segments.iter()) {
        match tree.entry("metadata.labels", key) {
            Some(there) if there != value => {
                return Err(format!(
                    "detected topology value collision: driver reported {key:?}:{value:?} but existing label is {key:?}:{there:?}"
                ));
            }
            Some(_) => {}
            None => drop(labels.insert(key.clone(), value.clone().into())),
        }
    }
    let mut ids = node_ids(&tree);
    ids.insert(name.to_owned(), info.node_id.clone().into());
    let ids = Value::from(ids).to_string();
    if labels.is_empty() && tree.entry("metadata.annotations", NODE_ID) == Some(&ids) {
        return Ok(());
    }
    patch_node(shared, json!({"labels": labels, "annotations": {NODE_ID: ids}})).await
}

async fn forget_node_id(shared: &Shared, name: &str) -> Result<(), String> {
    let mut ids = node_ids(&own_node(shared).await?.tree());
    ids.remove(name);
    let left = (!ids.is_empty()).then(|| Value::from(ids).to_string());
    patch_node(shared, json!({"annotations": {NODE_ID: left}})).await
}

async fn own_node(shared: &Shared) -> Result<Object, String> {
    let name = &shared.config.node_name;
    shared.client.get(&kinds::NODE, "", name).await.map_err(|status| status.to_string())
}

fn node_ids(node: &Value) -> api::Map<String, Value> {
    let text = node.entry("metadata.annotations", NODE_ID).unwrap_or("{}");
    let tree: Value = text.parse().unwrap_or_default();
    tree.as_object().cloned().unwrap_or_default()
}

async fn patch_node(shared: &Shared, metadata: Value) -> Result<(), String> {
    let patch = json!({"metadata": metadata});
    let name = &shared.config.node_name;
    let done = shared.client.patch(&kinds::NODE, "", name, "", PatchType::Merge, patch).await;
    done.map(drop).map_err(|status| status.to_string())
}

/// Puts the driver into the node's CSINode, which is made if it is not there, or takes it out.
async fn write_csi_node(
    shared: &Shared,
    name: &str,
    info: Option<&NodeGetInfoResponse>,
) -> Result<(), String> {
    let wanted = info.map(|info| entry(name, info));
    for _ in 0..CONFLICTS_MAX {
        match write_csi_node_once(shared, name, wanted.as_ref()).await {
            Ok(true) => return Ok(()),
            // One step of two, or somebody else was faster.
            Ok(false) => {}
            Err(status) if status.is_conflict() || status.is_already_exists() => {}
            Err(status) => return Err(status.to_string()),
        }
    }
    Err("the CSINode is written by others all the time".to_owned())
}

/// True if it is as it should be now.
async fn write_csi_node_once(
    shared: &Shared,
    name: &str,
    wanted: Option<&Value>,
) -> Result<bool, api::Status> {
    let (client, node) = (&shared.client, &shared.config.node_name);
    let Some(found) = client.get_optional(&kinds::CSI_NODE, "", node).await? else {
        let owner = client.get(&kinds::NODE, "", node).await?;
        let tree = json!({
            "metadata": {"name": node, "ownerReferences": [
                {"apiVersion": "v1", "kind": "Node", "name": node, "uid": owner.uid()}]},
            "spec": {"drivers": Value::from_iter(wanted.cloned())},
        });
        client.create(&kinds::CSI_NODE, tree).await?;
        return Ok(true);
    };
    let mut tree = found.tree();
    let old = tree.list("spec.drivers").iter().find(|driver| driver.str("name") == name).cloned();
    if old.as_ref() == wanted {
        return Ok(true);
    }
    // An entry cannot be changed: one that says something else goes first.
    let drivers = tree.list_mut("spec.drivers");
    drivers.retain(|driver| driver.str("name") != name);
    let whole = old.is_none() || wanted.is_none();
    if whole {
        drivers.extend(wanted.cloned());
    }
    client.update(&kinds::CSI_NODE, tree).await?;
    Ok(whole)
}

fn entry(name: &str, info: &NodeGetInfoResponse) -> Value {
    let keys = info.accessible_topology.iter().flat_map(|it| it.segments.keys());
    let keys: Vec<&str> = keys.map(String::as_str).collect();
    let mut entry = json!({"name": name, "nodeID": info.node_id});
    // As the API gives it back: none is null.
    entry.set("topologyKeys", if keys.is_empty() { Value::Null } else { json!(keys) });
    if info.max_volumes_per_node > 0 {
        let count = i32::try_from(info.max_volumes_per_node).unwrap_or(i32::MAX);
        entry.set("allocatable", json!({"count": count}));
    }
    entry
}
