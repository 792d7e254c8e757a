//! Every object that a pod's spec refers to: the one place that knows the fields.
//!
//! Admission, the node authorizer, the kubelet, the scheduler and the protection of claims all ask
//! here, so that what one of them mounts is what the others allow and keep.

use std::borrow::Cow;

use serde_json::Value;

use super::all_containers;
use crate::lens::Lens;

/// What is referred to. In the order in which admission complains about them, as upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    ServiceAccount,
    /// A token of the pod's service account, made on request.
    ServiceAccountToken,
    Secret,
    ConfigMap,
    ClusterTrustBundle,
    /// Named by the pod, or made for an `ephemeral` volume.
    Claim,
    ResourceClaim,
    ResourceClaimTemplate,
    Endpoints,
    PriorityClass,
    RuntimeClass,
}

impl Target {
    /// The plural, as messages write it.
    pub fn plural(self) -> &'static str {
        match self {
            Target::ServiceAccount => "serviceaccounts",
            Target::ServiceAccountToken => "serviceaccounts/token",
            Target::Secret => "secrets",
            Target::ConfigMap => "configmaps",
            Target::ClusterTrustBundle => "clustertrustbundles",
            Target::Claim => "persistentvolumeclaims",
            Target::ResourceClaim => "resourceclaims",
            Target::ResourceClaimTemplate => "resourceclaimtemplates",
            Target::Endpoints => "endpoints",
            Target::PriorityClass => "priorityclasses",
            Target::RuntimeClass => "runtimeclasses",
        }
    }
}

/// Where in the spec a reference stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    Pod,
    /// `imagePullSecrets`: the pod starts without those that are missing.
    Pull,
    Container,
    Volume,
}

/// One reference of a pod.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reference<'a> {
    pub target: Target,
    pub place: Place,
    /// May be empty where a selector stands for the name (trust bundles), or where nobody set it.
    pub name: Cow<'a, str>,
}

/// Calls `each` with every reference of a pod, in the order of the spec.
pub fn visit<'a>(pod: &'a Value, each: &mut dyn FnMut(Reference<'a>)) {
    let spec = pod.at("spec");
    let mut place = Place::Pod;
    let mut named = |place, target, name: &'a str| {
        if !name.is_empty() {
            each(Reference { target, place, name: Cow::Borrowed(name) });
        }
    };
    named(place, Target::ServiceAccount, account(spec));
    named(place, Target::PriorityClass, spec.str("priorityClassName"));
    named(place, Target::RuntimeClass, spec.str("runtimeClassName"));
    for secret in spec.list("imagePullSecrets") {
        named(Place::Pull, Target::Secret, secret.str("name"));
    }
    for claim in spec.list("resourceClaims") {
        named(place, Target::ResourceClaim, claim.str("resourceClaimName"));
        named(place, Target::ResourceClaimTemplate, claim.str("resourceClaimTemplateName"));
    }
    place = Place::Container;
    for (_, _, container) in all_containers(spec) {
        for from in container.list("envFrom") {
            named(place, Target::ConfigMap, from.str("configMapRef.name"));
            named(place, Target::Secret, from.str("secretRef.name"));
        }
        for env in container.list("env") {
            named(place, Target::ConfigMap, env.str("valueFrom.configMapKeyRef.name"));
            named(place, Target::Secret, env.str("valueFrom.secretKeyRef.name"));
        }
    }
    for volume in spec.list("volumes") {
        visit_volume(pod, volume, each);
    }
}

fn visit_volume<'a>(pod: &'a Value, volume: &'a Value, each: &mut dyn FnMut(Reference<'a>)) {
    let mut found = |target, name: Cow<'a, str>| {
        let nameless = matches!(target, Target::ServiceAccountToken | Target::ClusterTrustBundle);
        if nameless || !name.is_empty() {
            each(Reference { target, place: Place::Volume, name });
        }
    };
    if let Some(name) = claim_of(pod.str("metadata.name"), volume) {
        found(Target::Claim, name);
    }
    found(Target::ConfigMap, volume.str("configMap.name").into());
    found(Target::Endpoints, volume.str("glusterfs.endpoints").into());
    // Every type of volume names its secret in one of these ways, those to come as well.
    for source in volume.as_object().into_iter().flat_map(|volume| volume.values()) {
        found(Target::Secret, source.str("secretName").into());
        for (field, reference) in source.as_object().into_iter().flatten() {
            if field == "secretRef" || field.ends_with("SecretRef") {
                found(Target::Secret, reference.str("name").into());
            }
        }
    }
    for source in volume.list("projected.sources") {
        found(Target::ConfigMap, source.str("configMap.name").into());
        found(Target::Secret, source.str("secret.name").into());
        if source.has("serviceAccountToken") {
            found(Target::ServiceAccountToken, account(pod.at("spec")).into());
        }
        if source.has("clusterTrustBundle") {
            found(Target::ClusterTrustBundle, source.str("clusterTrustBundle.name").into());
        }
    }
}

fn account(spec: &Value) -> &str {
    match spec.str("serviceAccountName") {
        "" => spec.str("serviceAccount"),
        name => name,
    }
}

/// The claim that a volume of the pod of this name is about: the one it names, or the one that is
/// made for it.
pub fn claim_of<'a>(pod: &str, volume: &'a Value) -> Option<Cow<'a, str>> {
    if volume.has("ephemeral") {
        return Some(Cow::Owned(format!("{pod}-{}", volume.str("name"))));
    }
    let claim = volume.str("persistentVolumeClaim.claimName");
    (!claim.is_empty()).then_some(Cow::Borrowed(claim))
}

/// The names of what a pod refers to of one sort, each once, in order.
pub fn names(pod: &Value, target: Target) -> Vec<String> {
    let mut names = Vec::new();
    visit(pod, &mut |reference| {
        if reference.target == target && !names.iter().any(|known| *known == reference.name) {
            names.push(reference.name.into_owned());
        }
    });
    names
}

/// Whether a pod refers to the object of this name.
pub fn refers(pod: &Value, target: Target, name: &str) -> bool {
    let mut found = false;
    visit(pod, &mut |reference| found |= reference.target == target && reference.name == name);
    found
}

/// What a pod refers to first in the order of `Target`, among those that `wanted` takes.
pub fn first(pod: &Value, wanted: impl Fn(Target) -> bool) -> Option<Target> {
    let mut first: Option<Target> = None;
    visit(pod, &mut |reference| {
        if wanted(reference.target) {
            first = Some(first.map_or(reference.target, |known| known.min(reference.target)));
        }
    });
    first
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::schema::{Field, Scalar, Shape, TypeId, schema};

    /// Fields that look like references and are none to an object of the API that the pod gets at,
    /// by the type that has them: own names, names of nodes and drivers, enums.
    const NO_REFERENCES: &[&str] = &[
        // Names of the parts of the pod itself.
        "Volume.name",
        "Container.name",
        "EphemeralContainerCommon.name",
        "EphemeralContainer.targetContainerName",
        "ContainerPort.name",
        "VolumeMount.name",
        "VolumeDevice.name",
        "EnvVar.name",
        "ResourceClaim.name",
        "PodResourceClaim.name",
        "PodSchedulingGate.name",
        "ResourceFieldSelector.containerName",
        "ContainerResizePolicy.resourceName",
        "HTTPHeader.name",
        "Sysctl.name",
        "PodOS.name",
        "PodDNSConfigOption.name",
        "HostAlias.hostnames",
        // What places the pod, or names it.
        "PodSpec.nodeName",
        "PodSpec.schedulerName",
        "PodSpec.hostname",
        "PodAffinityTerm.namespaces",
        "PodDNSConfig.nameservers",
        // Files, images and the beginnings of names.
        "CephFSVolumeSource.secretFile",
        "ImageVolumeSource.reference",
        "EnvFromSource.prefix",
        // Names in systems outside the cluster.
        "AzureFileVolumeSource.shareName",
        "AzureDiskVolumeSource.diskName",
        "FlockerVolumeSource.datasetName",
        "GCEPersistentDiskVolumeSource.pdName",
        "ISCSIVolumeSource.initiatorName",
        "ScaleIOVolumeSource.volumeName",
        "StorageOSVolumeSource.volumeName",
        "StorageOSVolumeSource.volumeNamespace",
        "VsphereVirtualDiskVolumeSource.storagePolicyName",
        "WindowsSecurityContextOptions.gmsaCredentialSpecName",
        "WindowsSecurityContextOptions.gmsaCredentialSpec",
        "WindowsSecurityContextOptions.runAsUserName",
        "ClusterTrustBundleProjection.signerName",
        // Of the claim that a controller makes: the claim is the reference.
        "ObjectMeta.",
        "OwnerReference.",
        "ManagedFieldsEntry.",
        "PersistentVolumeClaimSpec.",
        "TypedLocalObjectReference.",
        "TypedObjectReference.",
    ];

    /// Whether a field's name or type says that it may name an object.
    fn suspicious(owner: &str, field: &Field) -> bool {
        let name = field.name.to_ascii_lowercase();
        let owner = owner.to_ascii_lowercase();
        field.scalar == Scalar::Str
            && (owner.contains("reference")
                || [
                    "name",
                    "ref",
                    "secret",
                    "claim",
                    "class",
                    "account",
                    "config",
                    "endpoint",
                    "template",
                    "bundle",
                    "credential",
                ]
                .iter()
                .any(|word| name.contains(word)))
    }

    /// Calls `each` with every path to a string below a type, the owner of the field and the field.
    fn walk(
        id: TypeId,
        path: &mut Vec<(&'static str, Shape)>,
        above: &mut Vec<TypeId>,
        each: &mut dyn FnMut(&[(&'static str, Shape)], &str, &Field),
    ) {
        if above.contains(&id) {
            return;
        }
        above.push(id);
        for field in schema().fields(id) {
            if let (true, Some(inner)) = (field.inline(), field.message()) {
                walk(inner, path, above, each);
                continue;
            }
            path.push((field.name, field.shape));
            match field.message() {
                Some(inner) => walk(inner, path, above, each),
                None => each(path, schema().of(id).name, field),
            }
            path.pop();
        }
        above.pop();
    }

    /// A pod with nothing but this string.
    fn pod_with(path: &[(&str, Shape)]) -> Value {
        let tree = path.iter().rev().fold(json!("wanted"), |tree, (name, shape)| match shape {
            Shape::Single => json!({*name: tree}),
            Shape::List => json!({*name: [tree]}),
            Shape::Map => json!({*name: {"key": tree}}),
        });
        json!({"metadata": {"name": "pod"}, "spec": tree})
    }

    #[test]
    fn no_field_of_the_schema_is_missed() {
        let spec = schema().qualified("io.k8s.api.core.v1.PodSpec").unwrap();
        let (mut seen, mut missed, mut unknown) = (0, Vec::new(), Vec::new());
        walk(spec, &mut Vec::new(), &mut Vec::new(), &mut |path, owner, field| {
            let label = format!("{owner}.{}", field.name);
            let excepted = NO_REFERENCES.iter().any(|none| match none.ends_with('.') {
                true => label.starts_with(none),
                false => label == *none,
            });
            let pod = pod_with(path);
            let mut visited = false;
            visit(&pod, &mut |reference| visited |= reference.name == "wanted");
            seen += usize::from(visited);
            match (visited, excepted) {
                (true, true) => unknown.push(label),
                (false, false) if suspicious(owner, field) => {
                    missed.push(path.iter().map(|(name, _)| *name).collect::<Vec<_>>().join("."));
                }
                _ => {}
            }
        });
        assert!(missed.is_empty(), "not visited, and not known to be no reference: {missed:#?}");
        assert!(unknown.is_empty(), "visited though known to be no reference: {unknown:?}");
        // Three sorts of containers with four fields each, pull secrets, nine volumes' secrets, ...
        assert!(seen > 25, "{seen}");
    }

    #[test]
    fn exceptions_name_fields_that_exist() {
        for label in NO_REFERENCES {
            let (owner, field) = label.split_once('.').unwrap();
            let id = schema().find("io.k8s.api.core.v1", owner);
            let id = id.unwrap_or_else(|| panic!("no type {owner}"));
            assert!(field.is_empty() || schema().by_json(id, field).is_some(), "no field {label}");
        }
    }

    #[test]
    fn references_are_found_wherever_they_stand() {
        for (spec, target, name) in [
            (json!({"imagePullSecrets": [{"name": "s"}]}), Target::Secret, "s"),
            (
                json!({"initContainers": [{"envFrom": [{"secretRef": {"name": "s"}}]}]}),
                Target::Secret,
                "s",
            ),
            (
                json!({"ephemeralContainers": [{"env": [{"valueFrom": {"configMapKeyRef": {"name": "c"}}}]}]}),
                Target::ConfigMap,
                "c",
            ),
            (
                json!({"volumes": [{"name": "v", "azureFile": {"secretName": "s"}}]}),
                Target::Secret,
                "s",
            ),
            (
                json!({"volumes": [{"name": "v", "scaleIO": {"secretRef": {"name": "s"}}}]}),
                Target::Secret,
                "s",
            ),
            (
                json!({"volumes": [{"name": "v", "csi": {"nodePublishSecretRef": {"name": "s"}}}]}),
                Target::Secret,
                "s",
            ),
            (
                json!({"volumes": [{"name": "v", "projected": {"sources": [{}, {"secret": {"name": "s"}}]}}]}),
                Target::Secret,
                "s",
            ),
            (json!({"volumes": [{"name": "v", "ephemeral": {}}]}), Target::Claim, "pod-v"),
            (
                json!({"serviceAccountName": "a", "volumes": [{"name": "v", "projected": {"sources": [{"serviceAccountToken": {}}]}}]}),
                Target::ServiceAccountToken,
                "a",
            ),
            (json!({"resourceClaims": [{"resourceClaimName": "r"}]}), Target::ResourceClaim, "r"),
        ] {
            let pod = json!({"metadata": {"name": "pod"}, "spec": spec});
            assert!(refers(&pod, target, name), "{pod}");
            assert!(!refers(&pod, target, "other"), "{pod}");
            assert_eq!(names(&pod, target), [name], "{pod}");
        }
        let many = json!({"spec": {"volumes": [{"configMap": {"name": "c"}}, {"secret": {"secretName": "s"}}]}});
        assert_eq!(first(&many, |_| true), Some(Target::Secret));
        assert_eq!(first(&many, |target| target == Target::Claim), None);
    }
}
