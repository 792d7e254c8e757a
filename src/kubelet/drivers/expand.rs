//! Having drivers grow volumes on this node, where a claim waits for that, and writing into the claim how far it is.
//!
//! What the control plane's half did stands in the claim and its volume: the volume is larger than the claim's
//! capacity, and `allocatedResourceStatuses` says whose turn it is. That is upstream's protocol with the drivers' helper
//! (external-resizer), of before that field and with it.

use std::path::Path;
use std::sync::PoisonError;

use api::{Lens, LensMut, Object, Quantity, Value, json, kinds};
use client::PatchType;
use http::grpc::{Code, Status};
use stdx::time::Wall;
use wire::csi::{Capability, CapacityRange, NodeExpandVolumeRequest};
use wire::message::Message;

use super::mount::{Mount, Wanted, text};
use crate::csi::{Driver, Growth, Held, is_uncertain, said};
use crate::volumes::Setup;

/// Writes to a claim in a row that met another's.
const CONFLICTS_MAX: usize = 10;
const PENDING: &str = "NodeResizePending";
const IN_PROGRESS: &str = "NodeResizeInProgress";
const INFEASIBLE: &str = "NodeResizeInfeasible";
const FAILED: &str = "NodeResizeError";
/// Conditions that are about a resize.
const CONDITIONS: [&str; 4] =
    ["FileSystemResizePending", "Resizing", "ControllerResizeError", FAILED];

/// What a claim is told.
#[derive(Debug, PartialEq)]
enum Mark {
    InProgress,
    Failed {
        infeasible: bool,
        message: String,
    },
    /// It is this large now.
    Finished(Value),
}

/// What there is to do.
#[derive(Debug, PartialEq)]
enum Step {
    Nothing,
    /// The claim knows the size already: another node grew it, or nothing on a node had to.
    Known,
    /// Grow it; whether the claim hears of it before and after, and of a failure.
    Grow {
        tells: bool,
        writes: bool,
    },
}

impl Mount<'_> {
    /// Grows the volume, which is at `target`, if its claim waits for that; `online` if a pod runs with it.
    ///
    /// # Errors
    /// If it has to grow and does not, with why.
    pub(super) async fn grow(
        &self,
        setup: &Setup,
        driver: &Driver,
        held: &Held,
        target: &Path,
        online: bool,
    ) -> Result<(), String> {
        let (shared, wanted) = (self.shared, self.wanted);
        let Some((name, size, claimed)) = &wanted.claim else { return Ok(()) };
        let size = Quantity::from_tree(size).unwrap_or_default();
        let claimed = Quantity::from_tree(claimed).unwrap_or_default();
        {
            let mut growth = held.growth.lock().unwrap_or_else(PoisonError::into_inner);
            growth.in_use &= online;
            let known = *growth.size.get_or_insert(claimed);
            let waits = claimed < size || (online && known < size);
            if !waits || growth.in_use || (online && wanted.read_only) {
                return Ok(());
            }
        }
        let namespace = self.pod.namespace();
        let found = shared.client.get(&kinds::PERSISTENT_VOLUME_CLAIM, namespace, name).await;
        let claim = found
            .map_err(|status| format!("mountVolume.NodeExpandVolume get PVC failed : {status}"))?;
        let tell = |warning, reason, act: &str, rest: &str| {
            let message =
                format!("MountVolume.NodeExpandVolume {act} for volume \"{}\" {rest}", wanted.spec);
            for about in [self.pod, &claim] {
                shared.recorder.tell(about, "", warning, reason, message.clone());
            }
        };
        if wanted.read_only {
            tell(true, "FileSystemResizeFailed", "failed", "requested read-only file system");
            return Ok(());
        }
        let tree = claim.tree();
        let (step, size) = step(&tree, &wanted.claim_size());
        let grown = Quantity::from_tree(&size).unwrap_or_default();
        let remember = || {
            let mut growth = held.growth.lock().unwrap_or_else(PoisonError::into_inner);
            *growth = Growth { size: Some(grown), ..Growth::default() };
        };
        let (tells, writes) = match step {
            Step::Nothing => return Ok(()),
            Step::Known => {
                remember();
                return Ok(());
            }
            Step::Grow { tells, writes } => (tells, writes),
        };
        if !driver.can(Capability::EXPAND_VOLUME) {
            if !tells || !writes {
                remember();
                return Ok(());
            }
            let message =
                format!("NodeExpand is not supported by the CSI driver {}", wanted.driver);
            self.mark(name, &Mark::Failed { infeasible: false, message: message.clone() }).await?;
            return Err(message);
        }
        if tells && writes {
            self.mark(name, &Mark::InProgress).await?;
        }
        let request = NodeExpandVolumeRequest {
            volume_id: wanted.handle.clone(),
            volume_path: text(target),
            capacity_range: CapacityRange { required_bytes: grown.units(), limit_bytes: 0 },
            staging_target_path: match driver.can(Capability::STAGE_UNSTAGE_VOLUME) {
                true => text(&self.csi.staging_place(&wanted.driver, &wanted.handle)),
                false => String::new(),
            },
            volume_capability: wanted.capability(driver, None),
            secrets: self.secrets("nodeExpandSecretRef", setup).await?,
        };
        if let Err(status) = driver.call("NodeExpandVolume", request.encode()).await {
            let other = Quantity::from_tree(tree.at("spec.resources.requests.storage"));
            let given_up = other != Some(grown);
            return self.failed_to_grow(held, name, tells, given_up, &status).await;
        }
        tell(false, "FileSystemResizeSuccessful", "succeeded", &shared.config.node_name);
        remember();
        match writes {
            true => self.mark(name, &Mark::Finished(size)).await,
            false => Ok(()),
        }
    }

    /// What becomes of a driver's refusal; `given_up` if the claim asks for another size by now.
    async fn failed_to_grow(
        &self,
        held: &Held,
        claim: &str,
        tells: bool,
        given_up: bool,
        status: &Status,
    ) -> Result<(), String> {
        let infeasible =
            [Code::INVALID_ARGUMENT, Code::OUT_OF_RANGE, Code::NOT_FOUND].contains(&status.code);
        let colon = if infeasible { "" } else { ": " };
        let why =
            format!("Expander.NodeExpand failed to expand the volume {colon}{}", said(status));
        let in_use = status.code == Code::FAILED_PRECONDITION;
        let failed_before = {
            let mut growth = held.growth.lock().unwrap_or_else(PoisonError::into_inner);
            growth.in_use |= in_use;
            let before = growth.failed;
            growth.failed |= !is_uncertain(status);
            before
        };
        if tells && !is_uncertain(status) {
            let infeasible = infeasible || (given_up && failed_before);
            let message = format!("failed to expand pvc with {why}");
            self.mark(claim, &Mark::Failed { infeasible, message }).await?;
        }
        if in_use {
            // The pod has its volume all the same, as it was.
            log::warn!("volume {}: {why}", self.wanted.spec);
            return Ok(());
        }
        Err(why)
    }

    /// Tells the claim, which others write to as well.
    async fn mark(&self, claim: &str, mark: &Mark) -> Result<(), String> {
        let (client, namespace) = (&self.shared.client, self.pod.namespace());
        let kind = &kinds::PERSISTENT_VOLUME_CLAIM;
        for _ in 0..CONFLICTS_MAX {
            let found = client.get(kind, namespace, claim).await;
            let found = found.map_err(|status| status.to_string())?;
            let patch = patch(&found, mark, rt::now().wall);
            match client.patch(kind, namespace, claim, "status", PatchType::Merge, patch).await {
                Ok(_) => return Ok(()),
                Err(status) if status.is_conflict() => {}
                Err(status) => {
                    return Err(format!(
                        "patchPVCStatus failed to patch PVC \"{claim}\": {status}"
                    ));
                }
            }
        }
        Err(format!("the status of claim {claim} is written by others all the time"))
    }
}

impl Wanted {
    fn claim_size(&self) -> Value {
        self.claim.as_ref().map(|(_, size, _)| size.clone()).unwrap_or_default()
    }
}

/// What a claim asks of the node for its volume, which is said to be of `size`; and how large it shall be.
fn step(claim: &Value, size: &Value) -> (Step, Value) {
    let status = claim.entry("status.allocatedResourceStatuses", "storage").unwrap_or("");
    let allocated = claim.at("status.allocatedResources");
    let large = |value: &Value| Quantity::from_tree(value).unwrap_or_default();
    let is = large(claim.at("status.capacity.storage"));
    if status.is_empty() && allocated.is_null() {
        // A resizer from before these fields.
        return (Step::Grow { tells: false, writes: is < large(size) }, size.clone());
    }
    let shall = match allocated.get("storage") {
        Some(allocated) => allocated,
        None => size,
    };
    let step = match status {
        "" if is >= large(shall) => {
            let modes = claim.list("spec.accessModes");
            match modes.iter().any(|mode| mode.as_str() == Some("ReadWriteMany")) {
                true => Step::Grow { tells: true, writes: false },
                false => Step::Known,
            }
        }
        PENDING | IN_PROGRESS => Step::Grow { tells: true, writes: true },
        _ => Step::Nothing,
    };
    (step, shall.clone())
}

/// The patch of a claim's status, which fails if the claim was written meanwhile.
fn patch(claim: &Object, mark: &Mark, now: Wall) -> Value {
    let tree = claim.tree();
    let mut status = json!({});
    let mut conditions = tree.list("status.conditions").to_vec();
    let progress = match mark {
        Mark::InProgress => Some(IN_PROGRESS),
        Mark::Failed { infeasible: true, .. } => Some(INFEASIBLE),
        Mark::Failed { .. } => tree.entry("status.allocatedResourceStatuses", "storage"),
        Mark::Finished(_) => None,
    };
    status.set("allocatedResourceStatuses", json!({"storage": progress}));
    match mark {
        Mark::InProgress => {}
        Mark::Failed { message, .. } => {
            conditions.retain(|condition| condition.str("type") != FAILED);
            conditions.push(json!({
                "type": FAILED, "status": "True", "message": message,
                "lastTransitionTime": api::time::format(now),
            }));
        }
        Mark::Finished(size) => {
            conditions.retain(|condition| !CONDITIONS.contains(&condition.str("type")));
            status.set("capacity", json!({"storage": size.clone()}));
        }
    }
    if !matches!(mark, Mark::InProgress) {
        status.set("conditions", conditions);
    }
    json!({"metadata": {"resourceVersion": claim.revision().to_string()}, "status": status})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(status: Value) -> Value {
        json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "c", "namespace": "n"},
            "spec": {"accessModes": ["ReadWriteOnce"]}, "status": status})
    }

    #[test]
    fn whose_turn_it_is_stands_in_the_claim() {
        let check = |status: Value| step(&claim(status), &json!("2Gi"));
        let capacity = json!({"storage": "1Gi"});
        let grow = |tells, writes| Step::Grow { tells, writes };
        assert_eq!(check(json!({"capacity": capacity})), (grow(false, true), json!("2Gi")));
        assert_eq!(check(json!({"capacity": {"storage": "2Gi"}})).0, grow(false, false));
        let with = |progress: Value, allocated: &str| {
            check(json!({"capacity": capacity, "allocatedResources": {"storage": allocated},
                "allocatedResourceStatuses": {"storage": progress}}))
        };
        assert_eq!(with(json!(PENDING), "3Gi"), (grow(true, true), json!("3Gi")));
        assert_eq!(with(json!(IN_PROGRESS), "3Gi").0, grow(true, true));
        for other in [INFEASIBLE, "ControllerResizeInProgress", "ControllerResizeInfeasible"] {
            assert_eq!(with(json!(other), "3Gi").0, Step::Nothing, "{other}");
        }
        assert_eq!(with(Value::Null, "3Gi").0, Step::Nothing);
        assert_eq!(with(Value::Null, "1Gi").0, Step::Known);
        let mut many = claim(json!({"capacity": capacity, "allocatedResources": capacity}));
        many["spec"]["accessModes"] = json!(["ReadWriteMany"]);
        assert_eq!(step(&many, &json!("1Gi")).0, grow(true, false));
    }

    #[test]
    fn a_claim_hears_how_far_it_is() {
        let conditions = json!([
            {"type": "FileSystemResizePending", "status": "True"}, {"type": "Other", "status": "True"}]);
        let status = json!({"conditions": conditions, "capacity": {"storage": "1Gi"},
            "allocatedResourceStatuses": {"storage": PENDING}});
        let object = Object::from_tree(&kinds::PERSISTENT_VOLUME_CLAIM, &claim(status));
        let object = object.unwrap().at_revision(7);
        let check = |mark: Mark| {
            let patch = patch(&object, &mark, Wall::default());
            assert_eq!(patch.str("metadata.resourceVersion"), "7");
            let mut tree = object.tree();
            api::patch::merge(&mut tree, &patch);
            let conditions = tree.list("status.conditions").iter();
            let conditions: Vec<&str> = conditions.map(|condition| condition.str("type")).collect();
            let progress = tree.entry("status.allocatedResourceStatuses", "storage");
            let (progress, size) = (progress.unwrap_or("-"), tree.str("status.capacity.storage"));
            format!("{progress} {size} {}", conditions.join(" "))
        };
        assert_eq!(
            check(Mark::InProgress),
            "NodeResizeInProgress 1Gi FileSystemResizePending Other"
        );
        assert_eq!(check(Mark::Finished(json!("2Gi"))), "- 2Gi Other");
        let failed = |infeasible| Mark::Failed { infeasible, message: "no".into() };
        let rest = "1Gi FileSystemResizePending Other NodeResizeError";
        assert_eq!(check(failed(false)), format!("NodeResizePending {rest}"));
        assert_eq!(check(failed(true)), format!("NodeResizeInfeasible {rest}"));
    }
}
