//! Defaulting: fills what a client left out, as upstream's v1 defaults do.

use api::form::{Form, Types};
use api::schema::{Field, Scalar, Shape, TypeId, schema};
use serde_json::{Map, Value};
use wire::quantity::Quantity;

use crate::kinds as rules;

/// Fills defaults into a canonical tree of `form`. Idempotent. Runs after decoding and after each
/// patch, before `strategy` and `validate`.
pub fn apply<'f>(form: impl Into<Form<'f>>, tree: &mut Value) {
    let form = form.into();
    match (form.types(), &mut *tree) {
        (Types::Table(root), Value::Object(map)) => fill(root, map),
        (Types::Structural(schema), tree) => schema.fill(tree),
        _ => {}
    }
    // Hooks know the stored form; other forms of a kind have no defaults of their own.
    if form.is_stored() {
        (rules::of(form.kind).default)(tree);
    }
}

fn fill(id: TypeId, map: &mut Map<String, Value>) {
    for field in schema().fields(id) {
        if let (true, Some(inner)) = (field.inline(), field.message()) {
            fill(inner, map);
            continue;
        }
        if let Some(literal) = field.extra().default
            && is_unset(field, map.get(field.name))
        {
            map.insert(field.name.into(), parse(field, literal));
        }
        if field.scalar == Scalar::Quantity && field.shape == Shape::Map {
            map.get_mut(field.name).into_iter().for_each(round_up);
        }
        let Some(inner) = field.message() else { continue };
        if field.by_value_struct() && map.get(field.name).is_none_or(Value::is_null) {
            map.insert(field.name.into(), Value::Object(Map::new()));
        }
        match (field.shape, map.get_mut(field.name)) {
            (Shape::Single, Some(Value::Object(map))) => fill(inner, map),
            (Shape::List, Some(Value::Array(items))) => {
                items.iter_mut().filter_map(Value::as_object_mut).for_each(|map| fill(inner, map));
            }
            _ => {}
        }
    }
}

/// Amounts have thousandths and nothing finer, as upstream.
fn round_up(amounts: &mut Value) {
    for amount in amounts.as_object_mut().into_iter().flat_map(|map| map.values_mut()) {
        // What is canonical shows by its suffix that it is finer.
        let is_fine = amount.as_str().is_some_and(|text| text.ends_with(['n', 'u']));
        if let (true, Some(quantity)) = (is_fine, Quantity::from_tree(amount)) {
            *amount = quantity.rounded_to_thousandths().to_string().into();
        }
    }
}

/// Absent; for what is no pointer, zero too.
fn is_unset(field: &Field, value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => true,
        Some(Value::String(text)) => text.is_empty() && !field.pointer(),
        Some(Value::Number(number)) => number.as_i64() == Some(0) && !field.pointer(),
        Some(_) => false,
    }
}

fn parse(field: &Field, literal: &str) -> Value {
    match field.scalar {
        Scalar::Str => literal.trim_matches('\'').into(),
        // The meta-tests check that every literal parses.
        _ => serde_json::from_str(literal).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::codec::{FieldValidation, decode_json_strict};
    use api::kinds::{self, KINDS};
    use api::lens::Lens;
    use serde_json::json;

    fn defaulted(kind: &'static api::Kind, tree: &Value) -> Value {
        let text = serde_json::to_vec(tree).unwrap();
        let mut tree = decode_json_strict(kind, &text, FieldValidation::Strict).unwrap().tree;
        apply(kind, &mut tree);
        let once = tree.clone();
        apply(kind, &mut tree);
        assert_eq!(tree, once, "{kind:?}: defaulting twice");
        let mut canonical = tree.clone();
        api::codec::check_fields(kind, &mut canonical, FieldValidation::Strict).unwrap();
        assert_eq!(tree, canonical, "{kind:?}: defaults are canonical");
        tree
    }

    #[test]
    fn literals_parse_and_empty_objects_default_twice_the_same() {
        let schema = schema();
        for id in schema.types() {
            for field in schema.fields(id) {
                if let Some(literal) = field.extra().default {
                    assert!(
                        !parse(field, literal).is_null(),
                        "{} {}",
                        schema.of(id).name,
                        field.name
                    );
                }
            }
        }
        for kind in KINDS {
            defaulted(kind, &json!({"metadata": {"name": "x"}}));
        }
    }

    #[test]
    fn pods() {
        let pod = defaulted(
            &kinds::POD,
            &json!({"metadata": {"name": "p"}, "spec": {"containers": [{
                "name": "c", "image": "nginx", "ports": [{"containerPort": 80}],
                "livenessProbe": {"httpGet": {"port": 80}},
                "resources": {"limits": {"cpu": "1000m"}},
                "env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
            }], "volumes": [{"name": "v"}, {"name": "s", "secret": {"secretName": "x"}}], "serviceAccount": "sa"}}),
        );
        assert_eq!(
            pod.at("spec"),
            &json!({
                "containers": [{
                    "name": "c", "image": "nginx", "ports": [{"containerPort": 80, "protocol": "TCP"}],
                    "livenessProbe": {
                        "httpGet": {"path": "/", "port": 80, "scheme": "HTTP"},
                        "timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3,
                    },
                    "resources": {"limits": {"cpu": "1"}, "requests": {"cpu": "1"}},
                    "env": [{"name": "A", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}}],
                    "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
                    "imagePullPolicy": "Always",
                }],
                "volumes": [{"name": "v", "emptyDir": {}}, {"name": "s", "secret": {"secretName": "x", "defaultMode": 420}}],
                "serviceAccount": "sa", "serviceAccountName": "sa", "restartPolicy": "Always",
                "terminationGracePeriodSeconds": 30, "dnsPolicy": "ClusterFirst", "securityContext": {},
                "schedulerName": "default-scheduler", "enableServiceLinks": true,
            })
        );
    }

    #[test]
    fn workloads_and_services() {
        let deployment =
            defaulted(&kinds::DEPLOYMENT, &json!({"metadata": {"name": "d"}, "spec": {}}));
        assert_eq!(deployment.int("spec.replicas"), Some(1));
        assert_eq!(
            deployment.at("spec.strategy"),
            &json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}})
        );
        assert!(!deployment.has("spec.template.spec.enableServiceLinks"));
        let service = defaulted(
            &kinds::SERVICE,
            &json!({"metadata": {"name": "s"}, "spec": {"type": "NodePort", "ports": [{"port": 80}]}}),
        );
        assert_eq!(
            service.at("spec.ports"),
            &json!([{"port": 80, "protocol": "TCP", "targetPort": 80}])
        );
        assert_eq!(service.str("spec.externalTrafficPolicy"), "Cluster");
        assert_eq!(service.str("spec.internalTrafficPolicy"), "Cluster");
        let job = defaulted(&kinds::JOB, &json!({"metadata": {"name": "j"}, "spec": {}}));
        assert_eq!(
            (
                job.int("spec.completions"),
                job.int("spec.parallelism"),
                job.int("spec.backoffLimit")
            ),
            (Some(1), Some(1), Some(6))
        );
        let cron = defaulted(
            &kinds::CRON_JOB,
            &json!({"metadata": {"name": "j"}, "spec": {"schedule": "* * * * *"}}),
        );
        assert!(!cron.has("spec.jobTemplate.spec.backoffLimit"));
        assert_eq!(cron.str("spec.jobTemplate.spec.template.spec.dnsPolicy"), "ClusterFirst");
        let secret = defaulted(
            &kinds::SECRET,
            &json!({"metadata": {"name": "s"}, "stringData": {"a": "b"}}),
        );
        assert_eq!((secret.str("data.a"), secret.str("type")), ("Yg==", "Opaque"));
        assert!(!secret.has("stringData"));
    }
}
