//! ServiceAccount: every pod runs as one, with its token, the cluster's CA and its namespace mounted.

use std::time::Duration;

use api::kinds::{POD, SERVICE_ACCOUNT};
use api::pod::references::{self, Target};
use api::{Lens, LensMut, Object, Status, Value, json};

use super::{Act, Operation};
use crate::auth::MIRROR;
use crate::storage;

const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// An account with this annotation lends its pods no secret that it does not list.
const ENFORCE_MOUNTABLE_SECRETS: &str = "kubernetes.io/enforce-mountable-secrets";
const VOLUME_PREFIX: &str = "kube-api-access-";

/// The controller makes `default` in a moment after the namespace: it is waited for this often.
const DEFAULT_TRIES_MAX: usize = 20;
const DEFAULT_TRY_EVERY: Duration = Duration::from_millis(75);

/// Whoever pods run as is settled when they are made; ephemeral containers come later.
pub(super) fn handles(act: &Act<'_>) -> bool {
    act.creates(&POD)
        || *act.kind == POD
            && act.operation == Operation::Update
            && act.subresource() == "ephemeralcontainers"
}

/// Gives a new pod its account and what comes with it; says whether the pod changed.
pub(super) async fn apply(act: &Act<'_>, pod: &mut Value) -> Result<bool, Status> {
    if act.operation != Operation::Create {
        return Ok(false);
    }
    if pod.entry("metadata.annotations", MIRROR).is_some() {
        return check_mirror(act, pod).map(|()| false);
    }
    if pod.str("spec.serviceAccountName").is_empty() {
        let name = match pod.str("spec.serviceAccount") {
            "" => "default".to_owned(),
            name => name.to_owned(),
        };
        pod.set("spec.serviceAccountName", name);
    }
    let name = pod.str("spec.serviceAccountName").to_owned();
    // The old name of the field says the same.
    pod.set("spec.serviceAccount", name.as_str());
    let account = find(act, pod, &name).await?.tree();
    let automount = pod
        .at("spec.automountServiceAccountToken")
        .as_bool()
        .or(account.at("automountServiceAccountToken").as_bool())
        .unwrap_or(true);
    if automount {
        mount_token(pod);
    }
    if pod.list("spec.imagePullSecrets").is_empty() && !account.list("imagePullSecrets").is_empty()
    {
        pod.set("spec.imagePullSecrets", account.at("imagePullSecrets").clone());
    }
    Ok(true)
}

/// Refuses secrets that an account with `kubernetes.io/enforce-mountable-secrets` does not list.
pub(super) async fn check(act: &Act<'_>, pod: &Value) -> Result<(), Status> {
    let created = act.operation == Operation::Create;
    if created && pod.entry("metadata.annotations", MIRROR).is_some() {
        return check_mirror(act, pod);
    }
    let name = pod.str("spec.serviceAccountName");
    if name.is_empty() {
        let why = format!(
            "no service account specified for pod {}/{}",
            act.request.namespace,
            pod.str("metadata.name")
        );
        return Err(act.forbidden(pod, why));
    }
    let account = find(act, pod, name).await?.tree();
    let enforced = account.entry("metadata.annotations", ENFORCE_MOUNTABLE_SECRETS);
    // As Go's ParseBool.
    if !matches!(enforced, Some("1" | "t" | "T" | "true" | "TRUE" | "True")) {
        return Ok(());
    }
    let refused = if created { unlisted(&account, pod) } else { unlisted_later(&account, pod) };
    refused.map_or(Ok(()), |why| Err(act.forbidden(pod, why)))
}

/// What of a new pod its account does not allow.
fn unlisted(account: &Value, pod: &Value) -> Option<String> {
    let name = account.str("metadata.name");
    for volume in pod.list("spec.volumes").iter().filter(|volume| volume.has("secret")) {
        let secret = volume.str("secret.secretName");
        if !lists(account, "secrets", secret) {
            return Some(format!(
                "volume with secret.secretName=\"{secret}\" is not allowed because service account {name} does not reference that secret"
            ));
        }
    }
    for (path, what) in
        [("spec.initContainers", "init container"), ("spec.containers", "container")]
    {
        let mut each = pod.list(path).iter();
        if let Some(why) = each.find_map(|container| unlisted_by(account, container, what)) {
            return Some(why);
        }
    }
    let mut pulls = pod.list("spec.imagePullSecrets").iter().map(|secret| secret.str("name"));
    let idx = pulls.clone().position(|pull| !lists(account, "imagePullSecrets", pull))?;
    let pull = pulls.nth(idx)?;
    Some(format!(
        "imagePullSecrets[{idx}].name=\"{pull}\" is not allowed because service account {name} does not reference that imagePullSecret"
    ))
}

/// What of a pod's ephemeral containers its account does not allow.
fn unlisted_later(account: &Value, pod: &Value) -> Option<String> {
    let mut each = pod.list("spec.ephemeralContainers").iter();
    each.find_map(|container| unlisted_by(account, container, "ephemeral container"))
}

fn unlisted_by(account: &Value, container: &Value, what: &str) -> Option<String> {
    let (name, account_name) = (container.str("name"), account.str("metadata.name"));
    let refuse = |how: String, secret: &str| {
        format!(
            "{what} {name} with {how} referencing secret.secretName=\"{secret}\" is not allowed because service account {account_name} does not reference that secret"
        )
    };
    for env in container.list("env").iter().filter(|env| env.has("valueFrom.secretKeyRef")) {
        let secret = env.str("valueFrom.secretKeyRef.name");
        if !lists(account, "secrets", secret) {
            return Some(refuse(format!("envVar {}", env.str("name")), secret));
        }
    }
    for from in container.list("envFrom").iter().filter(|from| from.has("secretRef")) {
        let secret = from.str("secretRef.name");
        if !lists(account, "secrets", secret) {
            return Some(refuse("envFrom".into(), secret));
        }
    }
    None
}

fn lists(account: &Value, path: &str, secret: &str) -> bool {
    account.list(path).iter().any(|own| own.str("name") == secret)
}

async fn find(act: &Act<'_>, pod: &Value, name: &str) -> Result<Object, Status> {
    let namespace = &act.request.namespace;
    let tries = if name == "default" { DEFAULT_TRIES_MAX } else { 1 };
    for attempt in 0..tries {
        if attempt > 0 {
            rt::sleep(DEFAULT_TRY_EVERY).await;
        }
        if let Some(found) =
            storage::find(&act.core.store, &SERVICE_ACCOUNT, namespace, name).await?
        {
            return Ok(found);
        }
    }
    let why =
        api::names::unaskable(name).unwrap_or_else(|| format!("serviceaccount {name:?} not found"));
    Err(act.forbidden(pod, format!("error looking up service account {namespace}/{name}: {why}")))
}

/// Mirror pods show what a kubelet runs by itself: they can have nothing of the API.
fn check_mirror(act: &Act<'_>, pod: &Value) -> Result<(), Status> {
    let why = match references::first(pod, |target| target <= Target::Secret) {
        None => return Ok(()),
        Some(Target::ServiceAccount) => "a mirror pod may not reference service accounts",
        Some(Target::ServiceAccountToken) => {
            "a mirror pod may not use ServiceAccountToken volume projections"
        }
        Some(_) => "a mirror pod may not reference secrets",
    };
    Err(act.forbidden(pod, why))
}

fn mount_token(pod: &mut Value) {
    let existing = pod
        .list("spec.volumes")
        .iter()
        .map(|volume| volume.str("name"))
        .find(|name| name.starts_with(VOLUME_PREFIX))
        .map(str::to_owned);
    let name = existing.clone().unwrap_or_else(|| {
        let mut random = [0; 5];
        rt::random(&mut random);
        api::names::generate(VOLUME_PREFIX, random)
    });
    let mut mounted = false;
    for path in ["spec.initContainers", "spec.containers"] {
        let Some(Value::Array(containers)) = pod.at_mut(path) else { continue };
        for container in containers {
            let own =
                container.list("volumeMounts").iter().any(|m| m.str("mountPath") == MOUNT_PATH);
            if !own {
                container
                    .list_mut("volumeMounts")
                    .push(json!({"name": name, "readOnly": true, "mountPath": MOUNT_PATH}));
                mounted = true;
            }
        }
    }
    if mounted && existing.is_none() {
        pod.list_mut("spec.volumes").push(json!({
            "name": name,
            "projected": {
                "defaultMode": 0o644,
                "sources": [
                    {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
                    {"configMap": {
                        "name": "kube-root-ca.crt",
                        "items": [{"key": "ca.crt", "path": "ca.crt"}],
                    }},
                    {"downwardAPI": {"items": [{
                        "path": "namespace",
                        "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"},
                    }]}},
                ],
            },
        }));
    }
}
