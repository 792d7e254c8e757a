//! Who a pod of a set is: its ordinal, name, labels and volumes.

use api::{Lens, LensMut, Value, json};

use super::{REVISION_LABEL, Run, claims};
use crate::support::pods::{self, Pod};
use crate::support::revisions::Revision;

const POD_NAME: &str = "statefulset.kubernetes.io/pod-name";
const POD_INDEX: &str = "apps.kubernetes.io/pod-index";

/// The ordinal in `<set>-<ordinal>`.
pub(super) fn ordinal(set: &str, pod: &str) -> Option<i64> {
    let digits = pod.strip_prefix(set)?.strip_prefix('-')?;
    let plain = digits == "0" || !digits.starts_with('0');
    (plain && digits.bytes().all(|b| b.is_ascii_digit())).then(|| digits.parse().ok())?
}

impl Run<'_> {
    pub(super) fn new_pod(&self, ordinal: i64, name: &str, revision: &Revision) -> Value {
        let mut pod = pods::from_template(&revision.template, self.object);
        pod.set("metadata.name", name);
        pod.set("metadata.generateName", format!("{}-", self.object.name()));
        let labels = pod.map_mut("metadata.labels");
        labels.insert(REVISION_LABEL.into(), revision.name.clone().into());
        labels.insert(POD_NAME.into(), name.into());
        labels.insert(POD_INDEX.into(), ordinal.to_string().into());
        pod.set("spec.hostname", name);
        pod.set("spec.subdomain", self.tree.str("spec.serviceName"));
        let volumes = self.volumes(&pod, name);
        if !volumes.is_empty() {
            pod.set("spec.volumes", volumes);
        }
        pod
    }

    /// The pod's volumes, with those of the claim templates in place of any of the same name.
    fn volumes(&self, pod: &Value, name: &str) -> Vec<Value> {
        let templates = self.tree.list("spec.volumeClaimTemplates");
        let mut volumes: Vec<Value> = templates
            .iter()
            .map(|template| {
                let template = template.str("metadata.name");
                let claim = claims::name(template, name);
                json!({"name": template, "persistentVolumeClaim": {"claimName": claim}})
            })
            .collect();
        let others = pod.list("spec.volumes").iter();
        let others =
            others.filter(|v| templates.iter().all(|t| t.str("metadata.name") != v.str("name")));
        volumes.extend(others.cloned());
        volumes
    }

    /// What a pod lacks of its identity (it was adopted, or its labels were changed).
    pub(super) fn identity_patch(&self, pod: &Pod, ordinal: i64) -> Option<Value> {
        let index = ordinal.to_string();
        let mut labels = json!({});
        for (key, value) in [(POD_NAME, pod.name()), (POD_INDEX, &*index)] {
            if pod.object.label(key) != Some(value) {
                labels.map_mut("").insert(key.into(), value.into());
            }
        }
        let missing = labels.as_object().is_some_and(|map| !map.is_empty());
        missing.then(|| json!({"metadata": {"labels": labels}}))
    }
}

#[cfg(test)]
mod tests {
    use super::ordinal;

    #[test]
    fn ordinals() {
        for (pod, want) in [
            ("db-0", Some(0)),
            ("db-12", Some(12)),
            ("db-", None),
            ("db-01", None),
            ("db-x", None),
            ("dbx-1", None),
            ("db-1-2", None),
            ("db--1", None),
        ] {
            assert_eq!(ordinal("db", pod), want, "{pod}");
        }
    }
}
