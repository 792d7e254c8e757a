//! Having drivers mount a pod's volumes.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use api::{Lens, Object, Value, json, kinds};
use http::grpc::Status;
use stdx::{Error, OrdMap, Result};
use wire::csi::{
    Access, AccessMode, Capability, Empty, Mode, MountVolume, NodePublishVolumeRequest,
    NodeStageVolumeRequest, Secret, VolumeCapability,
};
use wire::message::Message;

use crate::csi::{Csi, Driver, Held, Record, is_uncertain, said};
use crate::shared::Shared;
use crate::volumes::{Made, Mounted, Setup, TokenWanted, is_block_device};

/// How long a volume's attachment is waited for before the pod's event says so, and it is waited for anew.
const ATTACH_MAX: Duration = Duration::from_secs(20);

/// A volume of a driver that a pod asks for.
#[derive(Debug)]
pub(crate) struct Wanted {
    /// The pod's name of it.
    pub name: String,
    /// The PersistentVolume's name, or the pod's.
    pub(super) spec: String,
    pub(super) driver: String,
    pub(super) handle: String,
    pub(super) read_only: bool,
    ephemeral: bool,
    /// Of its claim the name, how large the volume is said to be, and how large the claim.
    pub(super) claim: Option<(String, Value, Value)>,
    /// A device, without a file system.
    block: bool,
    /// `csi` of the PersistentVolume or of the pod's volume.
    source: Value,
    modes: Vec<String>,
    mount_flags: Vec<String>,
    /// The CSIDriver's spec; null where nobody made one.
    about: Value,
    /// Audience to the token and its end.
    pub tokens: OrdMap<String, (String, String)>,
}

impl Wanted {
    /// The service account tokens that the driver asks for.
    pub(crate) fn tokens_wanted(&self) -> Vec<TokenWanted> {
        let requests = self.about.list("tokenRequests").iter();
        let wanted = requests.map(|request| TokenWanted {
            path: format!("csi:{}", request.str("audience")),
            audience: request.str("audience").to_owned(),
            expiration_secs: request.int("expirationSeconds").unwrap_or(3600),
        });
        wanted.collect()
    }

    /// The driver wants to hear of it again and again.
    fn republishes(&self) -> bool {
        self.about.flag("requiresRepublish")
    }

    /// It is looked at again and again: its driver wants to hear of it, or it may have to grow.
    pub(crate) fn is_followed(&self, csi: &Csi) -> bool {
        // A driver that is not here yet may be one that can.
        let grows =
            || csi.driver(&self.driver).map_or(true, |it| it.can(Capability::EXPAND_VOLUME));
        self.republishes() || (self.claim.is_some() && !self.read_only && grows())
    }

    fn attaches(&self) -> bool {
        !self.ephemeral && self.about.at("attachRequired").as_bool() != Some(false)
    }

    pub(super) fn capability(&self, driver: &Driver, group: Option<&str>) -> VolumeCapability {
        let many = driver.can(Capability::SINGLE_NODE_MULTI_WRITER);
        let mode = match self.modes.first().map(String::as_str) {
            Some("ReadOnlyMany") => AccessMode::MULTI_NODE_READER_ONLY,
            Some("ReadWriteMany") => AccessMode::MULTI_NODE_MULTI_WRITER,
            Some("ReadWriteOncePod") if many => AccessMode::SINGLE_NODE_SINGLE_WRITER,
            _ if many => AccessMode::SINGLE_NODE_MULTI_WRITER,
            _ => AccessMode::SINGLE_NODE_WRITER,
        };
        let access = match self.block {
            true => Access::Block(Empty {}),
            false => Access::Mount(MountVolume {
                fs_type: self.source.str("fsType").to_owned(),
                mount_flags: self.mount_flags.clone(),
                volume_mount_group: group.unwrap_or_default().to_owned(),
            }),
        };
        VolumeCapability { access, mode: Mode { mode } }
    }

    fn takes_group(&self, driver: &Driver) -> bool {
        if self.block || self.read_only || driver.can(Capability::VOLUME_MOUNT_GROUP) {
            return false;
        }
        match self.about.str("fsGroupPolicy") {
            "None" => false,
            "File" => true,
            _ if self.source.str("fsType").is_empty() => false,
            _ => {
                let once = |mode: &String| mode.starts_with("ReadWriteOnce");
                self.ephemeral || self.modes.iter().any(once)
            }
        }
    }

    /// What the driver is told of the volume, and of its pod where it asked for that.
    fn context(&self, pod: &Value) -> OrdMap<String, String> {
        let mut context = texts(self.source.at("volumeAttributes"));
        let mut add = |key: &str, value: &str| {
            context.insert(format!("csi.storage.k8s.io/{key}"), value.to_owned());
        };
        if self.about.flag("podInfoOnMount") {
            add("pod.name", pod.str("metadata.name"));
            add("pod.namespace", pod.str("metadata.namespace"));
            add("pod.uid", pod.str("metadata.uid"));
            add("serviceAccount.name", pod.str("spec.serviceAccountName"));
            add("ephemeral", if self.ephemeral { "true" } else { "false" });
        }
        if !self.tokens.is_empty() {
            let tokens = self.tokens.iter().map(|(audience, (token, end))| {
                (audience.clone(), json!({"token": token, "expirationTimestamp": end}))
            });
            let tokens: api::Map<String, Value> = tokens.collect();
            add("serviceAccount.tokens", &Value::from(tokens).to_string());
        }
        context
    }

    fn failed(&self, step: &str, error: &str) -> String {
        let (act, step) = match (self.block, step) {
            (false, step) => ("MountVolume", step),
            (true, "SetUp") => ("MapVolume", "MapPodDevice"),
            (true, "MountDevice") => ("MapVolume", "SetUpDevice"),
            (true, step) => ("MapVolume", step),
        };
        format!("{act}.{step} failed for volume \"{}\" : {error}", self.spec)
    }
}

/// The volumes of drivers among a pod's.
///
/// # Errors
/// If one is not to be had, with upstream's event message.
pub(crate) async fn wanted(
    shared: &Shared,
    setup: &Setup,
    again: bool,
) -> Result<Vec<Wanted>, String> {
    let (pod, mut found) = (&setup.pod, Vec::new());
    for volume in pod.list("spec.volumes") {
        let name = volume.str("name");
        let failed = |error: &dyn std::fmt::Display| {
            format!("MountVolume.SetUp failed for volume \"{name}\" : {error}")
        };
        let mut wanted = if volume.has("csi") {
            Wanted {
                name: name.to_owned(),
                spec: name.to_owned(),
                driver: volume.str("csi.driver").to_owned(),
                handle: api::csi::inline_handle(pod.str("metadata.uid"), name),
                read_only: volume.flag("csi.readOnly"),
                ephemeral: true,
                block: false,
                claim: None,
                source: volume.at("csi").clone(),
                modes: Vec::new(),
                mount_flags: Vec::new(),
                about: Value::Null,
                tokens: OrdMap::new(),
            }
        } else if volume.has("persistentVolumeClaim") || volume.has("ephemeral") {
            let (claim, bound) = match setup.claims.bound(pod, volume) {
                // What became of it since it was mounted keeps nothing else from being done again.
                Err(_) if again => continue,
                bound => bound.map_err(|error| failed(&error))?,
            };
            if !bound.has("spec.csi") {
                continue;
            }
            let words = |path: &str| -> Vec<String> {
                bound.list(path).iter().filter_map(Value::as_str).map(str::to_owned).collect()
            };
            Wanted {
                name: name.to_owned(),
                spec: bound.str("metadata.name").to_owned(),
                driver: bound.str("spec.csi.driver").to_owned(),
                handle: bound.str("spec.csi.volumeHandle").to_owned(),
                read_only: volume.flag("persistentVolumeClaim.readOnly"),
                ephemeral: false,
                block: bound.str("spec.volumeMode") == "Block",
                claim: Some((
                    claim.str("metadata.name").to_owned(),
                    bound.at("spec.capacity.storage").clone(),
                    claim.at("status.capacity.storage").clone(),
                )),
                source: bound.at("spec.csi").clone(),
                modes: words("spec.accessModes"),
                mount_flags: words("spec.mountOptions"),
                about: Value::Null,
                tokens: OrdMap::new(),
            }
        } else {
            continue;
        };
        let about = shared.client.get_optional(&kinds::CSI_DRIVER, "", &wanted.driver).await;
        let about = about.map_err(|status| failed(&status))?.map(|object| object.tree());
        wanted.about = about.map(|tree| tree.at("spec").clone()).unwrap_or_default();
        let mode = if wanted.ephemeral { "Ephemeral" } else { "Persistent" };
        let modes = wanted.about.list("volumeLifecycleModes");
        // Persistent is what a driver is for that says nothing.
        let fits = match modes {
            [] => !wanted.ephemeral,
            modes => modes.iter().any(|it| it.as_str() == Some(mode)),
        };
        if !fits {
            let can = Value::from(modes.to_vec());
            return Err(failed(&format!(
                "volume mode \"{mode}\" not supported by driver {} (only supports {can})",
                wanted.driver
            )));
        }
        found.push(wanted);
    }
    Ok(found)
}

/// Has drivers mount a pod's volumes; the answer is by the pod's names of them. With `again`, those are mounted once
/// more whose drivers ask for that, and no other; all grow whose claims wait for it.
///
/// # Errors
/// The first volume that fails, with upstream's event message.
pub(crate) async fn set_up(
    shared: &Shared,
    pod: &Object,
    setup: &Setup,
    wanted: &[Wanted],
    again: bool,
) -> Result<OrdMap<String, Made>, String> {
    let mut made = OrdMap::new();
    for one in wanted {
        let mount = Mount { shared, csi: &shared.csi, pod, wanted: one };
        if again {
            mount.grow_online(setup).await;
        }
        if !again || one.republishes() {
            let done = mount.run(setup, again).await?;
            made.insert(one.name.clone(), done);
        }
    }
    Ok(made)
}

/// One volume on its way to one pod.
pub(super) struct Mount<'a> {
    pub(super) shared: &'a Shared,
    pub(super) csi: &'a Csi,
    pub(super) pod: &'a Object,
    pub(super) wanted: &'a Wanted,
}

impl Mount<'_> {
    async fn run(&self, setup: &Setup, again: bool) -> Result<Made, String> {
        let (csi, wanted) = (self.csi, self.wanted);
        let missing = |error: String| {
            wanted.failed(
                "SetUp",
                &format!("kubernetes.io/csi: mounter.SetUpAt failed to get CSI client: {error}"),
            )
        };
        let driver = csi.driver(&wanted.driver).map_err(missing)?;
        loop {
            let held = csi.held(&wanted.driver, &wanted.handle);
            let mut staged = held.staged.lock().await;
            if csi.is_current(&wanted.driver, &wanted.handle, &held) {
                let done = self.mount(setup, &driver, &held, &mut staged, again).await;
                if done.is_err() {
                    drop(staged);
                    self.forget(&held).await;
                }
                return done;
            }
        }
    }

    /// Grows the volume under its pod, and tells the pod if that fails.
    async fn grow_online(&self, setup: &Setup) {
        let (csi, wanted) = (self.csi, self.wanted);
        let Ok(driver) = csi.driver(&wanted.driver) else { return };
        if wanted.claim.is_none() {
            return;
        }
        let held = csi.held(&wanted.driver, &wanted.handle);
        let _lock = held.staged.lock().await;
        if !csi.is_current(&wanted.driver, &wanted.handle, &held) {
            return;
        }
        let (_, target) = csi.places(self.pod.uid(), &wanted.spec, wanted.block);
        if let Err(why) = self.grow(setup, &driver, &held, &target, true).await {
            let message = format!(
                "NodeExpandVolume.NodeExpandVolume failed for volume \"{}\" : {why}",
                wanted.spec
            );
            self.shared.recorder.warning(self.pod, "VolumeResizeFailed", message);
        }
    }

    /// A volume of which nothing came is not in use.
    async fn forget(&self, held: &Arc<Held>) {
        let Some(_lock) = held.staged.try_lock() else { return };
        let (csi, wanted) = (Arc::clone(&self.shared.csi), self.wanted);
        let (driver, handle) = (wanted.driver.clone(), wanted.handle.clone());
        let here = rt::unblock(move || csi.is_here(&driver, &handle)).await;
        if !here && self.csi.is_current(&wanted.driver, &wanted.handle, held) {
            self.csi.let_go(&wanted.driver, &wanted.handle);
        }
    }

    async fn mount(
        &self,
        setup: &Setup,
        driver: &Driver,
        held: &Held,
        staged: &mut bool,
        again: bool,
    ) -> Result<Made, String> {
        let (csi, wanted) = (self.csi, self.wanted);
        let broken = |error: Error| wanted.failed("SetUp", &error.to_string());
        let attachment = match wanted.attaches() {
            true => self.attached(held).await?,
            false => Value::Null,
        };
        let publish_context = texts(attachment.at("status.attachmentMetadata"));
        let group = setup.pod.int("spec.securityContext.fsGroup").map(|gid| gid.to_string());
        let group = group.filter(|_| driver.can(Capability::VOLUME_MOUNT_GROUP));
        let capability = wanted.capability(driver, group.as_deref());

        let (directory, target) = csi.places(self.pod.uid(), &wanted.spec, wanted.block);
        let record = Record {
            driver: wanted.driver.clone(),
            handle: wanted.handle.clone(),
            spec: wanted.spec.clone(),
            attachment: attachment.str("metadata.name").to_owned(),
            ephemeral: wanted.ephemeral,
            node: self.shared.config.node_name.clone(),
            block: wanted.block,
            directory,
            target: target.clone(),
        };
        let stages = !wanted.ephemeral && driver.can(Capability::STAGE_UNSTAGE_VOLUME);
        let (kept, of_all) = (record.clone(), Arc::clone(&self.shared.csi));
        let fresh = rt::unblock(move || {
            kept.write()?;
            if stages {
                of_all.write_staged(&kept.driver, &kept.handle)?;
            }
            is_mounted(&kept.target).map(|is| !is)
        });
        let fresh = fresh.await.map_err(broken)?;
        let staging_target_path = match stages {
            true => text(&csi.staging_place(&wanted.driver, &wanted.handle)),
            false => String::new(),
        };
        if stages && !*staged {
            let request = NodeStageVolumeRequest {
                volume_id: wanted.handle.clone(),
                publish_context: publish_context.clone(),
                staging_target_path: staging_target_path.clone(),
                volume_capability: capability.clone(),
                secrets: self.secrets("nodeStageSecretRef", setup).await?,
                volume_context: texts(wanted.source.at("volumeAttributes")),
            };
            if let Err(status) = driver.call("NodeStageVolume", request.encode()).await {
                self.undo(&status, record, true).await;
                return Err(wanted.failed("MountDevice", &said(&status)));
            }
            *staged = true;
        }
        let request = NodePublishVolumeRequest {
            volume_id: wanted.handle.clone(),
            publish_context,
            staging_target_path,
            target_path: text(&target),
            volume_capability: capability,
            readonly: wanted.read_only,
            secrets: self.secrets("nodePublishSecretRef", setup).await?,
            volume_context: wanted.context(&setup.pod),
        };
        if let Err(status) = driver.call("NodePublishVolume", request.encode()).await {
            if !again {
                self.undo(&status, record, false).await;
            }
            return Err(wanted.failed("SetUp", &said(&status)));
        }
        let (place, block) = (target.clone(), wanted.block);
        let there = rt::unblock(move || match block {
            true => Ok(is_block_device(&place)),
            false => is_mounted(&place).map(|is| is || is_plain(&place)),
        });
        if !there.await.map_err(broken)? {
            let what = if block { "made no device" } else { "mounted nothing" };
            let what = format!("the driver {what} at {}", target.display());
            return Err(wanted.failed("SetUp", &what));
        }
        if !again {
            let grown = self.grow(setup, driver, held, &target, false).await;
            grown.map_err(|why| {
                let act = match block {
                    true => "MapVolume.MarkVolumeAsMounted",
                    false => "MountVolume.Setup",
                };
                let spec = &wanted.spec;
                format!("{act} failed while expanding volume for volume \"{spec}\" : {why}")
            })?;
        }
        let mounted = Mounted { path: target, read_only: wanted.read_only, block };
        Ok(Made { mounted, takes_group: wanted.takes_group(driver), fresh })
    }

    /// Takes away what was written down for a call that the driver is done with, and of which nothing came.
    async fn undo(&self, status: &Status, record: Record, staging: bool) {
        if is_uncertain(status) {
            return;
        }
        let csi = Arc::clone(&self.shared.csi);
        let undone = rt::unblock(move || {
            if !is_mounted(&record.target)? {
                record.remove()?;
            }
            let place = csi.staging_place(&record.driver, &record.handle);
            match staging && csi.users(&record.driver, &record.handle) == 0 && !is_mounted(&place)?
            {
                true => csi.remove_staged(&record.driver, &record.handle),
                false => Ok(()),
            }
        });
        if let Err(error) = undone.await {
            log::debug!("volume {}: {error}", self.wanted.spec);
        }
    }

    /// The VolumeAttachment, as soon as the Node says that the volume is attached, and that it is in use: nobody
    /// detaches it any more.
    async fn attached(&self, held: &Held) -> Result<Value, String> {
        let (shared, wanted) = (self.shared, self.wanted);
        let unique = api::csi::unique_name(&wanted.driver, &wanted.handle);
        let waiting = async {
            loop {
                let heard = shared.csi.heard.listen();
                let node = shared.node().tree;
                let attached = node.list("status.volumesAttached");
                if attached.iter().any(|volume| volume.str("name") == unique) {
                    if !held.attaches.swap(true, Ordering::AcqRel) {
                        shared.csi.in_use_changed.notify(usize::MAX);
                    }
                    let mut used = node.list("status.volumesInUse").iter();
                    if used.any(|volume| volume.as_str() == Some(&unique)) {
                        return;
                    }
                }
                heard.await;
            }
        };
        let name = &wanted.name;
        if rt::timeout(ATTACH_MAX, waiting).await.is_err() {
            return Err(format!(
                "Unable to attach or mount volumes: unmounted volumes=[{name}], unattached volumes=[{name}], failed to process volumes=[]: timed out waiting for the condition"
            ));
        }
        let node = &shared.config.node_name;
        let attachment = api::csi::attachment_name(&wanted.driver, &wanted.handle, node);
        let found = shared.client.get(&kinds::VOLUME_ATTACHMENT, "", &attachment).await;
        let tree = found.map_err(|status| wanted.failed("WaitForAttach", &status.to_string()))?;
        let tree = tree.tree();
        match tree.flag("status.attached") {
            true => Ok(tree),
            false => {
                let why = format!("volume attachment {attachment} is not attached");
                Err(wanted.failed("WaitForAttach", &why))
            }
        }
    }

    /// What a reference of the volume to a Secret leads to; nothing where it has none.
    pub(super) async fn secrets(
        &self,
        reference: &str,
        setup: &Setup,
    ) -> Result<Vec<Secret>, String> {
        let reference = self.wanted.source.at(reference);
        let name = reference.str("name");
        if name.is_empty() {
            return Ok(Vec::new());
        }
        let (namespace, found) = match self.wanted.ephemeral {
            true => {
                let found = setup.sources.secret(name).cloned();
                (self.pod.namespace(), Ok(found))
            }
            false => {
                let namespace = reference.str("namespace");
                let found = self.shared.client.get_optional(&kinds::SECRET, namespace, name).await;
                (namespace, found.map(|found| found.map(|object| object.tree())))
            }
        };
        let failed = |why: String| {
            let what = format!("fetching NodePublishSecretRef {namespace}/{name} failed: {why}");
            Err(self.wanted.failed("SetUp", &what))
        };
        match found {
            Ok(Some(secret)) => {
                let keys = secret.at("data").as_object().into_iter().flat_map(|data| data.keys());
                let entries = keys.filter_map(|key| {
                    let bytes = wire::base64::decode(secret.entry("data", key)?)?;
                    let value = String::from_utf8(bytes).ok()?;
                    Some(Secret { key: key.clone(), value: value.into() })
                });
                Ok(entries.collect())
            }
            Ok(None) => failed(format!("secrets \"{name}\" not found")),
            Err(status) => failed(status.to_string()),
        }
    }
}

/// Blocking, but never on the file system that is mounted.
pub(super) fn is_mounted(path: &Path) -> Result<bool> {
    use std::os::unix::ffi::OsStrExt;
    let mounts = sys::mount::list().map_err(|error| Error::new(format!("list mounts: {error}")))?;
    // As the kernel names it: the way to the directory may be a link.
    let parent = path.parent().and_then(|parent| parent.canonicalize().ok());
    let real = parent.zip(path.file_name()).map(|(parent, name)| parent.join(name));
    let real: PathBuf = real.unwrap_or_else(|| path.to_owned());
    Ok(mounts.iter().any(|mount| mount.target == real.as_os_str().as_bytes()))
}

/// A driver may also just make a directory. It may not lead elsewhere.
fn is_plain(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir())
}

pub(super) fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn texts(map: &Value) -> OrdMap<String, String> {
    let entries = map.as_object().into_iter().flatten();
    entries.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}
