//! Having the pod's volumes made, refreshed and taken down.

use std::sync::Arc;
use std::time::Duration;
use stdx::OrdMap;

use api::pod::fields::FieldContext;
use api::{Lens, Value, json, kinds};

use super::journal::Gate;
use super::start::sources;
use super::tokens::Tokens;
use super::{MOUNTED, Worker};
use crate::drivers;
use crate::shared::{Shared, Slot};
use crate::volumes::{self, Claims, Mounted, Setup};
use podplan::{Done, Pod};

/// A refresh that failed is tried again after this long.
const REFRESH_RETRY: Duration = Duration::from_secs(30);
/// How often drivers that want it hear of their volumes again, and claims are looked at that may have to grow, as upstream's
/// pods are looked at.
const FOLLOW_EVERY: Duration = Duration::from_secs(60);

impl Worker {
    pub(super) fn mount_volumes(&mut self) {
        let limb = self.limb();
        let gate = self.gate.clone();
        self.launch("volumes", Done::VolumesFailed, async move {
            let shared = Arc::clone(&limb.shared);
            let (pod, slot) = (Arc::clone(&limb.pod), Arc::clone(&limb.slot));
            let mounted = match limb.setup(false).await {
                Ok((setup, follows)) => {
                    if follows {
                        slot.post(|inbox| inbox.refreshed = Some(Some(FOLLOW_EVERY)));
                    }
                    let ending = || Err("the pod is ending".to_owned());
                    let work = move || gate.enter(|| volumes::set_up(&setup));
                    rt::unblock(work).await.unwrap_or_else(ending)
                }
                Err(message) => Err(message),
            };
            match mounted {
                Ok(mounted) => {
                    remember(&shared, &slot.uid, &mounted).await;
                    slot.lock().snapshot.mounted = Some(Arc::new(mounted));
                    Done::VolumesReady
                }
                Err(message) => {
                    let reason = match message.starts_with("MapVolume.") {
                        true => "FailedMapVolume",
                        false => "FailedMount",
                    };
                    shared.recorder.warning(&pod.object, reason, message);
                    Done::VolumesFailed
                }
            }
        });
    }

    pub(super) fn unmount_volumes(&mut self) {
        let directory = self.shared.config.pod_directory(&self.slot.uid);
        let volatile = self.shared.config.pod_volatile_directory(&self.slot.uid);
        let pod = Arc::clone(&self.pod);
        self.refresh_at = None;
        let gate = self.gate.clone();
        let (shared, uid) = (Arc::clone(&self.shared), self.slot.uid.clone());
        self.launch("end of the volumes", Done::VolumesGone, async move {
            let done = rt::unblock(move || {
                gate.close();
                volumes::take_down(&directory, &volatile)
            });
            let done = match done.await {
                Ok(()) => drivers::take_down(&shared, &uid).await,
                failed => failed,
            };
            if let Err(error) = done {
                // `Finish` meets it again; a terminal pod keeps it until it is deleted.
                log::warn!("pod {}/{}: take down volumes: {error}", pod.namespace, pod.name);
            }
            shared.slots.let_go(&uid);
            Done::VolumesGone
        });
    }

    /// Brings volumes up to date with what they are made from, if that may have changed.
    pub(super) fn refresh(&mut self) {
        let now = rt::now();
        let due = self.refresh_at.is_some_and(|at| at <= now.mono);
        if self.refreshing
            || !(due || self.refresh_again)
            || self.state.volumes != podplan::Volumes::Ready
        {
            return;
        }
        let tree = self.pod.object.tree();
        self.refresh_again = false;
        self.refresh_at = None;
        // Whether a driver wants to hear of its volumes is not known without asking.
        let drivers = self.shared.csi.has_drivers();
        let may_be_drivers = |volume: &Value| {
            let kinds = ["csi", "persistentVolumeClaim", "ephemeral"];
            due && drivers && kinds.iter().any(|kind| volume.has(kind))
        };
        let mut volumes = tree.list("spec.volumes").iter();
        if !volumes.any(|volume| volumes::is_dynamic(volume) || may_be_drivers(volume)) {
            return;
        }
        self.refreshing = true;
        let limb = self.limb();
        let slot = Arc::clone(&self.slot);
        let name = format!("refresh of volumes of pod {}/{}", self.pod.namespace, self.pod.name);
        self.tasks.push(rt::spawn(async move {
            let wait = rt::spawn_named(name, limb.refresh()).await.unwrap_or(Some(REFRESH_RETRY));
            slot.post(|inbox| inbox.refreshed = Some(wait));
        }));
    }

    pub(super) fn refresh_due(&self) -> Option<Duration> {
        let at = self.refresh_at.filter(|_| !self.refreshing)?;
        Some(at.since(rt::now().mono))
    }

    fn limb(&self) -> Limb {
        Limb {
            shared: Arc::clone(&self.shared),
            slot: Arc::clone(&self.slot),
            pod: Arc::clone(&self.pod),
            tokens: Arc::clone(&self.tokens),
            gate: self.gate.clone(),
            context: FieldContext {
                pod_ips: self.pod_ips(),
                host_ips: self.shared.host_ips(),
                allocatable: self.shared.node().tree.at("status.allocatable").clone(),
            },
        }
    }
}

/// What setting up needs, away from the worker.
struct Limb {
    shared: Arc<Shared>,
    slot: Arc<Slot>,
    pod: Arc<Pod>,
    tokens: Arc<rt::lock::Mutex<Tokens>>,
    gate: Gate,
    context: FieldContext,
}

impl Limb {
    /// Answers when to refresh next.
    async fn refresh(self) -> Option<Duration> {
        let (shared, pod) = (Arc::clone(&self.shared), Arc::clone(&self.pod));
        let (tokens, gate) = (Arc::clone(&self.tokens), self.gate.clone());
        let mut follow = None;
        let done = match self.setup(true).await {
            Ok((setup, follows)) => {
                follow = follows.then_some(FOLLOW_EVERY);
                let work = move || gate.enter(|| volumes::refresh(&setup));
                rt::unblock(work).await.unwrap_or(Ok(false))
            }
            Err(message) => Err(message),
        };
        if let Err(message) = done {
            shared.recorder.warning(&pod.object, "FailedMount", message);
            return Some(REFRESH_RETRY);
        }
        let renew_at = tokens.lock().await.renew_at();
        let renew = renew_at.map(|at| at.since(rt::now().mono).max(Duration::from_secs(1)));
        [renew, follow].into_iter().flatten().min()
    }

    /// Looks up everything that the volumes are made from, and has storage drivers mount theirs, or `again` those
    /// that want it again and again, and grow what waits for it. True if there are volumes to look at again.
    async fn setup(self, again: bool) -> Result<(Setup, bool), String> {
        let tree = self.pod.object.tree();
        let mut tokens = OrdMap::new();
        let account = match tree.str("spec.serviceAccountName") {
            "" => "default".to_owned(),
            account => account.to_owned(),
        };
        let account = account.as_str();
        for volume in tree.list("spec.volumes") {
            let name = volume.str("name");
            for wanted in volumes::tokens_wanted(volume) {
                let mut held = self.tokens.lock().await;
                let text = held.get(&self.shared.client, &self.pod, account, name, &wanted).await;
                let (text, _) = text.map_err(|error| {
                    format!("MountVolume.SetUp failed for volume \"{name}\" : {error}")
                })?;
                tokens.insert((name.to_owned(), wanted.path), text);
            }
        }
        let config = &self.shared.config;
        let mut setup = Setup {
            sources: sources(&self.shared, &tree).await?,
            claims: self.claims(&tree).await?,
            drivers: OrdMap::new(),
            context: self.context.clone(),
            tokens,
            directory: config.pod_directory(&self.slot.uid),
            volatile: config.pod_volatile_directory(&self.slot.uid),
            now: rt::now().wall,
            pod: tree,
        };
        let mut wanted = drivers::wanted(&self.shared, &setup, again).await?;
        for volume in &mut wanted {
            for token in volume.tokens_wanted() {
                let mut held = self.tokens.lock().await;
                let (client, name) = (&self.shared.client, volume.name.clone());
                let given = held.get(client, &self.pod, account, &name, &token).await;
                let given = given.map_err(|error| {
                    format!("MountVolume.SetUp failed for volume \"{name}\" : {error}")
                })?;
                volume.tokens.insert(token.audience, given);
            }
        }
        let pod = &self.pod.object;
        setup.drivers = drivers::set_up(&self.shared, pod, &setup, &wanted, again).await?;
        let follows = wanted.iter().any(|volume| volume.is_followed(&self.shared.csi));
        Ok((setup, follows))
    }

    async fn claims(&self, tree: &Value) -> Result<Claims, String> {
        let mut claims = Claims::default();
        for name in Claims::wanted(tree) {
            // A node may get claims and volumes, one at a time; it may not watch them.
            let claim = self
                .shared
                .client
                .get_optional(&kinds::PERSISTENT_VOLUME_CLAIM, &self.pod.namespace, &name)
                .await
                .map_err(|status| status.to_string())?
                .map(|object| object.tree());
            let bound = claim.as_ref().map(|claim| claim.str("spec.volumeName").to_owned());
            let volume = match bound.as_deref() {
                None | Some("") => None,
                Some(bound) => self
                    .shared
                    .client
                    .get_optional(&kinds::PERSISTENT_VOLUME, "", bound)
                    .await
                    .map_err(|status| status.to_string())?
                    .map(|object| object.tree()),
            };
            if let Some(volume) = &volume {
                self.use_alone(&name, volume)?;
            }
            claims.found.insert(name, (claim, volume));
        }
        Ok(claims)
    }

    /// `ReadWriteOncePod`, where it is the only mode of the volume, as upstream has it.
    fn use_alone(&self, claim: &str, volume: &Value) -> Result<(), String> {
        let modes = volume.list("spec.accessModes");
        if modes.len() != 1 || modes.first().and_then(Value::as_str) != Some("ReadWriteOncePod") {
            return Ok(());
        }
        // Those that ran before this kubelet began are known by their pods.
        let elsewhere = self.shared.slots.all().into_iter().any(|slot| {
            let snapshot = slot.snapshot();
            slot.uid != self.slot.uid
                && slot.namespace == self.slot.namespace
                && snapshot.mounted.is_some()
                && !snapshot.released
                && snapshot.pod.is_some_and(|pod| {
                    Claims::wanted(&pod.object.tree()).iter().any(|name| name == claim)
                })
        });
        let name = volume.str("metadata.name");
        match !elsewhere && self.shared.slots.use_alone(name, &self.slot.uid) {
            true => Ok(()),
            false => Err(format!(
                "MountVolume.SetUp failed for volume \"{name}\" : volume uses the ReadWriteOncePod access mode and is already in use by another pod"
            )),
        }
    }
}

/// Writes down where the volumes are, for a kubelet that starts while the API is away.
async fn remember(shared: &Shared, uid: &str, mounted: &OrdMap<String, Mounted>) {
    let tree: Vec<Value> = mounted
        .iter()
        .map(|(name, m)| {
            json!({"name": name, "path": m.path, "readOnly": m.read_only, "block": m.block})
        })
        .collect();
    let path = shared.config.pod_directory(uid);
    let written = rt::unblock(move || {
        rt::fs::create_dir_all(&path, 0o750)?;
        super::replace(&path.join(MOUNTED), Value::from(tree).to_string().as_bytes())
    });
    if let Err(error) = written.await {
        log::warn!("pod {uid}: {error}");
    }
}

/// Reads what `remember` wrote. Blocking.
pub(crate) fn remembered(directory: &std::path::Path) -> Option<OrdMap<String, Mounted>> {
    let bytes = rt::fs::read_record(directory.join(MOUNTED), rt::fs::SMALL_MAX_BYTES).ok()??;
    let tree: Value = serde_json::from_slice(&bytes).ok()?;
    Some(
        tree.list("")
            .iter()
            .map(|entry| {
                let mounted = Mounted {
                    path: entry.str("path").into(),
                    read_only: entry.flag("readOnly"),
                    block: entry.flag("block"),
                };
                (entry.str("name").to_owned(), mounted)
            })
            .collect(),
    )
}
