//! What a patch made of an object, as upstream quotes it where it is none of its kind: the maps that the patch library
//! looked into are sorted, all others are in the order of Go's structs.

use std::borrow::Cow;

use serde_json::{Map, Value};
use wire::json::put_string;

use crate::form::Form;
use crate::schema::{Field, Shape, TypeId, schema};

/// How much of the object is shown, in bytes.
const SHOWN_BYTES_MAX: usize = 64 * 1024;

/// Where Go's structs are not in the order of their protobuf tags: `7>2` says that field 7 comes right after field 2, `4>0` that field 4 is the first.
const MOVED: &str = "\
CertificateSigningRequestCondition 6>1
CertificateSigningRequestSpec 7>1 8>7 5>8
ClusterTrustBundleProjection 5>3
ConfigMap 4>1
Container 19>6 23>8 24>23 21>9 22>11 20>13
CronJobSpec 8>1
CustomResourceDefinitionVersion 7>3 8>7
DeploymentCondition 6>2 7>6
DeploymentStatus 7>3
EndpointAddress 2>4
EndpointSlice 4>1
EphemeralContainerCommon 19>6 23>8 24>23 21>9 22>11 20>13
HPAScalingRules 3>0
HTTPIngressPath 3>1
ISCSIPersistentVolumeSource 11>8
ISCSIVolumeSource 11>8
IngressBackend 4>0
IngressSpec 4>0
JobSpec 11>3 16>11 7>16 12>7 13>12
JobStatus 11>6 10>7
MetricSpec 7>4
MetricStatus 7>4
MutatingWebhook 9>4 11>5
NodeSpec 7>1 2>6
OwnerReference 5>0
PersistentVolumeClaimSpec 4>1
PodSecurityContext 8>1 6>2 12>4
PodSpec 20>1 34>2 21>9 27>13
PodStatus 11>4 16>5 12>6 10>7
ReplicaSetSpec 4>1
ReplicaSetStatus 3>5
ReplicationControllerSpec 4>1
ReplicationControllerStatus 3>5
Secret 5>1 4>2
SecurityContext 10>3 8>4
ServicePort 6>2
ServiceSpec 18>3 19>14
ValidatingWebhook 9>4 10>5
VolumeMount 7>2
VolumeSource 26>23
WebhookClientConfig 3>0
";

/// The JSON text of `tree`, which `patch` (a list of operations where `operations` says so, a merge patch otherwise) made
/// of an object of `form`; the rest of a long one is cut off. Sorted it is with no patch at all. What the patch brought is in the order of its keys.
pub fn shown(form: Form<'_>, tree: &Value, patch: &Value, operations: bool) -> String {
    let trail = if operations { Cow::Owned(trail(patch)) } else { Cow::Borrowed(patch) };
    let mut out = Vec::new();
    let root = form.table().filter(|_| !form.kind.declared.json);
    value(&mut out, tree, root.map(Of::Type), Some(&trail));
    cut(String::from_utf8(out).unwrap_or_default())
}

/// As much of a text as is shown.
pub fn cut(mut text: String) -> String {
    if text.len() > SHOWN_BYTES_MAX {
        text.truncate(text.floor_char_boundary(SHOWN_BYTES_MAX));
        text.push_str("...");
    }
    text
}

/// The places that operations look into, as maps of maps; what they put somewhere is null.
fn trail(patch: &Value) -> Value {
    let mut root = Value::Object(Map::new());
    for operation in patch.as_array().into_iter().flatten() {
        for name in ["path", "from"] {
            let path = operation.get(name).and_then(Value::as_str).unwrap_or("");
            let puts = name == "path" && operation["op"] != "remove";
            let mut tokens: Vec<&str> = path.split('/').skip(1).take(super::DEPTH_MAX).collect();
            let Some(last) = tokens.pop() else { continue };
            let mut at = root.as_object_mut();
            for raw in tokens {
                let below =
                    at.map(|map| map.entry(super::token(raw)).or_insert_with(|| Map::new().into()));
                at = below.and_then(Value::as_object_mut);
            }
            if let (Some(map), true) = (at, puts) {
                map.insert(super::token(last), Value::Null);
            }
        }
    }
    root
}

/// What is known of a value.
#[derive(Clone, Copy)]
enum Of<'a> {
    Type(TypeId),
    Field(&'a Field),
}

/// The type of a value that is no list and no map.
fn type_of(of: Of<'_>) -> Option<TypeId> {
    match of {
        Of::Type(id) => Some(id),
        Of::Field(field) => field.message().filter(|_| field.shape == Shape::Single),
    }
}

/// What is known of the items of a list, and of the values of a map.
fn item_of(of: Of<'_>) -> Of<'_> {
    match of {
        Of::Field(field) => field.message().map_or(of, Of::Type),
        of => of,
    }
}

/// Appends a value. Without a trail nothing looked into it. Trees nest as deep as patches let them (`DEPTH_MAX`), so this
/// does not recurse far.
fn value(out: &mut Vec<u8>, it: &Value, of: Option<Of<'_>>, trail: Option<&Value>) {
    let union = of.and_then(type_of).filter(|id| schema().of(*id).union);
    let of = match union {
        Some(id) => schema().alternative(id, it).map(Of::Field),
        None => of,
    };
    let below = |key: &str| match trail {
        Some(Value::Object(trail)) => trail.get(key),
        trail => trail,
    };
    match it {
        Value::String(text) => put_string(out, text),
        Value::Array(items) => {
            out.push(b'[');
            for (idx, item) in items.iter().enumerate() {
                if !next(out, b'[') {
                    return;
                }
                value(out, item, of.map(item_of), below(&idx.to_string()));
            }
            out.push(b']');
        }
        Value::Object(map) => {
            out.push(b'{');
            let id = of.and_then(type_of);
            let mut entry = |key: &str, it: &Value, of: Option<Of<'_>>| {
                if next(out, b'{') {
                    put_string(out, key);
                    out.push(b':');
                    value(out, it, of, below(key));
                }
            };
            if let (Some(id), None) = (id, trail) {
                for key in ["kind", "apiVersion"] {
                    if let (Some(it), None) = (map.get(key), schema().by_json(id, key)) {
                        entry(key, it, None);
                    }
                }
                for field in in_go_order(id) {
                    if let Some(it) = map.get(field.name) {
                        entry(field.name, it, Some(Of::Field(field)));
                    }
                }
            } else {
                for (key, it) in map {
                    let field = match id {
                        Some(id) => schema().by_json(id, key).map(Of::Field),
                        None => of.map(item_of),
                    };
                    entry(key, it, field);
                }
            }
            out.push(b'}');
        }
        other => out.extend_from_slice(other.to_string().as_bytes()),
    }
}

/// Makes ready for one more part, which comes after a comma if it is not the first; false if there is enough.
fn next(out: &mut Vec<u8>, opening: u8) -> bool {
    if out.last() != Some(&opening) {
        out.push(b',');
    }
    out.len() <= SHOWN_BYTES_MAX
}

/// The fields of a type in the order of Go's struct, inlined ones among them.
fn in_go_order(id: TypeId) -> Vec<&'static Field> {
    let mut fields: Vec<&Field> = schema().fields(id).iter().collect();
    let name = schema().of(id).name;
    let moved = MOVED.lines().filter_map(|line| line.split_once(' ')).find(|(of, _)| *of == name);
    for pair in moved.map_or("", |(_, pairs)| pairs).split(' ') {
        let Some((from, after)) = pair.split_once('>') else { continue };
        let place = |fields: &[&Field], tag: &str| {
            fields.iter().position(|field| tag.parse() == Ok(field.tag))
        };
        let Some(from) = place(&fields, from) else { continue };
        let field = fields.remove(from);
        fields.insert(place(&fields, after).map_or(0, |idx| idx + 1), field);
    }
    let inlined = |field: &'static Field| match field.message() {
        Some(inner) if field.inline() => in_go_order(inner),
        _ => vec![field],
    };
    fields.into_iter().flat_map(inlined).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::{CUSTOM_RESOURCE_DEFINITION, DEPLOYMENT, POD};
    use serde_json::json;

    #[test]
    fn an_object_is_shown_as_the_patch_library_leaves_it() {
        let deployment = json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "d", "namespace": "n", "labels": {"b": "<", "a": "1"}},
            "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "a"}}, "template": {
                "metadata": {"creationTimestamp": null, "labels": {"app": "a"}},
                "spec": {"containers": [{"name": "c", "image": "i:1", "resources": {}, "imagePullPolicy": "Always", "livenessProbe": {"exec": {}},
                    "resizePolicy": [], "securityContext": {"runAsUser": 1, "runAsGroup": 2, "runAsNonRoot": true}}],
                    "initContainers": [{"image": "i", "name": "c"}], "volumes": [{"name": "v", "emptyDir": {}}]}}},
            "status": {},
        });
        const BEGIN: &str = r#"{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"d","namespace":"n","labels":{"a":"1","b":"\u003c"}},"spec":{"#;
        const POD_SPEC: &str = r#"{"volumes":[{"name":"v","emptyDir":{}}],"initContainers":[{"name":"c","image":"i"}],"containers":[{"name":"c","image":"i:1","resources":{},"resizePolicy":[],"livenessProbe":{"exec":{}},"imagePullPolicy":"Always","securityContext":{"runAsUser":1,"runAsGroup":2,"runAsNonRoot":true}}]}"#;
        for (patch, spec) in [
            (
                json!({"spec": {"replicas": "x"}}),
                format!(r#""replicas":"x","selector":{{"matchLabels":{{"app":"a"}}}},"template":{{"metadata":{{"creationTimestamp":null,"labels":{{"app":"a"}}}},"spec":{POD_SPEC}}}"#),
            ),
            (
                json!({"spec": {"template": {"spec": {"containers": [{"image": 7, "args": [{}], "name": "c"}]}}}}),
                r#""replicas":1,"selector":{"matchLabels":{"app":"a"}},"template":{"metadata":{"creationTimestamp":null,"labels":{"app":"a"}},"spec":{"containers":[{"args":[{}],"image":7,"name":"c"}],"initContainers":[{"name":"c","image":"i"}],"volumes":[{"name":"v","emptyDir":{}}]}}"#.into(),
            ),
            (
                json!([{"op": "replace", "path": "/spec/template/spec/containers/0/name", "value": 7}]),
                r#""replicas":1,"selector":{"matchLabels":{"app":"a"}},"template":{"metadata":{"creationTimestamp":null,"labels":{"app":"a"}},"spec":{"containers":[{"image":"i:1","imagePullPolicy":"Always","livenessProbe":{"exec":{}},"name":7,"resizePolicy":[],"resources":{},"securityContext":{"runAsUser":1,"runAsGroup":2,"runAsNonRoot":true}}],"initContainers":[{"name":"c","image":"i"}],"volumes":[{"name":"v","emptyDir":{}}]}}"#.into(),
            ),
            (
                json!([{"op": "remove", "path": "/spec/selector"}, {"op": "add", "path": "/spec/replicas", "value": []}]),
                format!(r#""replicas":[],"template":{{"metadata":{{"creationTimestamp":null,"labels":{{"app":"a"}}}},"spec":{POD_SPEC}}}"#),
            ),
        ] {
            let mut tree = deployment.clone();
            let operations = patch.is_array();
            match operations {
                true => crate::patch::json(&mut tree, &patch).unwrap(),
                false => crate::patch::merge(&mut tree, &patch),
            }
            let said = shown(Form::from(&DEPLOYMENT), &tree, &patch, operations);
            assert_eq!(said, format!(r#"{BEGIN}{spec}}},"status":{{}}}}"#), "{patch}");
        }
    }

    #[test]
    fn unions_and_what_is_long() {
        let definition = json!({"spec": {"versions": [{"schema": {"openAPIV3Schema": {"type": "object", "properties": {
            "list": {"type": "array", "items": {"type": "string", "format": "a"}, "additionalProperties": false}}}}, "name": "v1"}]}, "metadata": "x"});
        assert_eq!(
            shown(
                Form::from(&CUSTOM_RESOURCE_DEFINITION),
                &definition,
                &json!({"metadata": "x"}),
                false
            ),
            r#"{"metadata":"x","spec":{"versions":[{"name":"v1","schema":{"openAPIV3Schema":{"type":"object","properties":{"list":{"type":"array","items":{"type":"string","format":"a"},"additionalProperties":false}}}}}]}}"#
        );
        let long = json!({"metadata": {"labels": vec!["\u{e9}".repeat(300); 1000]}});
        let said = shown(Form::from(&POD), &long, &json!({}), false);
        assert!(said.ends_with("...") && said.len() <= SHOWN_BYTES_MAX + 3, "{}", said.len());
    }

    #[test]
    fn every_field_that_is_moved_is_one() {
        for line in MOVED.lines() {
            let (name, pairs) = line.split_once(' ').unwrap();
            let types: Vec<TypeId> =
                schema().types().filter(|id| schema().of(*id).name == name).collect();
            assert!(!types.is_empty(), "{name}");
            for id in types {
                for tag in pairs.split([' ', '>']).filter(|tag| *tag != "0") {
                    assert!(schema().by_tag(id, tag.parse().unwrap()).is_some(), "{name} {tag}");
                }
                let mut tags: Vec<u32> = in_go_order(id).iter().map(|field| field.tag).collect();
                assert!(!tags.is_sorted(), "{name}");
                tags.sort_unstable();
                assert!(tags.is_sorted());
            }
        }
    }
}
