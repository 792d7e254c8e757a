//! AlwaysPullImages: who runs a pod shows each time that it may have the image.

use api::pod::all_containers;
use api::{Lens, LensMut, Status, Value};

use super::Act;

const PATHS: [&str; 3] = ["spec.initContainers", "spec.containers", "spec.ephemeralContainers"];

/// Whether an update brings no image that the pod does not have; what runs already stays as it is.
fn has_no_new_image(act: &Act<'_>, pod: &Value) -> bool {
    let Some(old) = act.old else { return false };
    let known: Vec<&str> =
        all_containers(old.at("spec")).map(|(_, _, container)| container.str("image")).collect();
    all_containers(pod.at("spec")).all(|(_, _, container)| known.contains(&container.str("image")))
}

/// Makes every image of a pod be pulled at each start; says whether anything changed.
pub(super) fn always_pull(act: &Act<'_>, pod: &mut Value) -> bool {
    if has_no_new_image(act, pod) {
        return false;
    }
    let mut changed = false;
    let mut set = |tree: &mut Value, path: &str| {
        if tree.str(path) != "Always" {
            tree.set(path, "Always");
            changed = true;
        }
    };
    for path in PATHS {
        let Some(Value::Array(containers)) = pod.at_mut(path) else { continue };
        containers.iter_mut().for_each(|container| set(container, "imagePullPolicy"));
    }
    let Some(Value::Array(volumes)) = pod.at_mut("spec.volumes") else { return changed };
    for volume in volumes.iter_mut().filter(|volume| volume.has("image")) {
        set(volume, "image.pullPolicy");
    }
    changed
}

/// Refuses what a later plugin made of the policies.
///
/// # Errors
/// 403
pub(super) fn check_always_pulled(act: &Act<'_>, pod: &Value) -> Result<(), Status> {
    if has_no_new_image(act, pod) {
        return Ok(());
    }
    let refuse = |path: String, policy: &str| {
        let why = format!("{path}: Unsupported value: {policy:?}: supported values: \"Always\"");
        Err(act.forbidden(pod, why))
    };
    for path in PATHS {
        for (idx, container) in pod.list(path).iter().enumerate() {
            match container.str("imagePullPolicy") {
                "Always" => {}
                policy => return refuse(format!("{path}[{idx}].imagePullPolicy"), policy),
            }
        }
    }
    for (idx, volume) in pod.list("spec.volumes").iter().enumerate() {
        match volume.str("image.pullPolicy") {
            policy if volume.has("image") && policy != "Always" => {
                return refuse(format!("spec.volumes[{idx}].image.pullPolicy"), policy);
            }
            _ => {}
        }
    }
    Ok(())
}
