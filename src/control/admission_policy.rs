//! ValidatingAdmissionPolicy: its status says what is wrong with the types in its expressions.
//!
//! Source: k8s.io/kubernetes/pkg/controller/validatingadmissionpolicystatus

use api::kinds::VALIDATING_ADMISSION_POLICY;
use api::{Actions, Controller, Key, Lens, Next, Value, View, Wakes, Watch, json, policy_types};

pub(crate) struct Types;

impl Controller for Types {
    const NAME: &'static str = "validatingadmissionpolicy-status-controller";
    const WATCHES: &'static [Watch] = &[Watch::new(&VALIDATING_ADMISSION_POLICY, Wakes::Itself)];

    fn reconcile(view: &View<'_>, key: &Key, actions: &mut Actions) -> Next {
        let Some(policy) = view.at(key) else { return Next::Done };
        let tree = policy.tree();
        let generation = tree.int("metadata.generation").unwrap_or(0);
        if generation <= tree.int("status.observedGeneration").unwrap_or(0) {
            return Next::Done;
        }
        let warnings = policy_types::warnings(&view.kinds(), &tree);
        let warning = |(field, told)| json!({"fieldRef": field, "warning": told});
        // Null takes away what an earlier generation was told.
        let warnings = match warnings.is_empty() {
            true => Value::Null,
            false => warnings.into_iter().map(warning).collect(),
        };
        actions.patch_status(
            &policy,
            json!({"status": {"observedGeneration": generation,
                "typeChecking": {"expressionWarnings": warnings}}}),
        );
        Next::Done
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::reconcile;

    #[test]
    fn each_generation_is_checked_once() {
        let policy = |text: &str, observed: i64| {
            json!({"apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingAdmissionPolicy", "metadata": {"name": "p", "generation": 2, "uid": "u"},
            "spec": {"matchConstraints": {"resourceRules": [{"operations": ["*"], "apiGroups": ["apps"],
                "apiVersions": ["v1"], "resources": ["deployments"]}]}, "validations": [{"expression": text}]},
            "status": {"observedGeneration": observed}})
        };
        let said = |text: &str, observed| {
            reconcile::<Types>([policy(text, observed)], (&VALIDATING_ADMISSION_POLICY, "", "p"), 0)
        };
        assert_eq!(said("object.spec.replicas > '1'", 2), "");
        let told = said("object.spec.replicas > '1'", 1);
        assert!(
            told.contains("found no matching overload for '_>_' applied to '(int, string)'"),
            "{told}"
        );
        let told = said("object.spec.replicas > 1", 1);
        assert!(told.contains(r#""typeChecking":{"expressionWarnings":null}"#), "{told}");
    }
}
