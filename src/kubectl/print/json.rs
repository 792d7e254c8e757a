//! JSON as Go writes it: of trees by the names of fields, of types in the order of their fields.
//!
//! What a server says is printed as a tree. What a command makes by itself, or changes as an object of its type, is
//! printed as upstream's structs are declared: by the fields' tags, but for [`BEFORE`].

use api::schema::{Field, Shape, TypeId, schema};
use api::{Lens, Value};
use stdx::Arrange;

/// Fields that stand before others of their type which have smaller tags.
const BEFORE: &[(&str, &str, &str)] = &[
    ("ConfigMap", "immutable", "data"),
    ("Container", "envFrom", "env"),
    ("Container", "resizePolicy", "volumeMounts"),
    ("Container", "restartPolicy", "volumeMounts"),
    ("Container", "startupProbe", "lifecycle"),
    ("Container", "terminationMessagePolicy", "imagePullPolicy"),
    ("Container", "volumeDevices", "livenessProbe"),
    ("CronJobSpec", "timeZone", "startingDeadlineSeconds"),
    ("DeploymentStatus", "readyReplicas", "availableReplicas"),
    ("HTTPIngressPath", "pathType", "backend"),
    ("IngressBackend", "service", "resource"),
    ("IngressSpec", "ingressClassName", "defaultBackend"),
    ("PodSpec", "automountServiceAccountToken", "nodeName"),
    ("PodSpec", "ephemeralContainers", "restartPolicy"),
    ("PodSpec", "initContainers", "containers"),
    ("PodSpec", "shareProcessNamespace", "securityContext"),
    ("Secret", "immutable", "data"),
    ("ServicePort", "appProtocol", "port"),
    ("ServiceSpec", "clusterIPs", "type"),
    ("ServiceSpec", "ipFamilies", "ipFamilyPolicy"),
    ("TokenRequestSpec", "expirationSeconds", "boundObjectRef"),
];

/// In which order fields stand.
#[derive(Clone, Copy)]
enum Order {
    Name,
    Type(TypeId),
    /// As in this list, on every level.
    Listed(&'static [&'static str]),
}

/// A tree, its fields by name, `indent` spaces a level.
pub(crate) fn json(tree: &Value, indent: usize) -> String {
    write(tree, Some(indent), Order::Name)
}

/// The same with its fields as in a list.
pub(crate) fn listed(tree: &Value, indent: usize, names: &'static [&'static str]) -> String {
    write(tree, Some(indent), Order::Listed(names))
}

/// An object in the order of its type's fields, in lines.
pub(crate) fn typed(object: &Value) -> String {
    write(object, Some(4), type_of(object))
}

/// The same in one line.
pub(crate) fn typed_line(object: &Value) -> String {
    write(object, None, type_of(object))
}

fn type_of(object: &Value) -> Order {
    let (api_version, kind) = (object.str("apiVersion"), object.str("kind"));
    let own = crate::merge3::type_of(api_version, kind).or_else(|| schema().find("", kind));
    own.map_or(Order::Name, Order::Type)
}

fn write(tree: &Value, indent: Option<usize>, order: Order) -> String {
    let mut writer = Writer { out: Vec::new(), indent };
    writer.put(tree, order, 0);
    String::from_utf8_lossy(&writer.out).into_owned()
}

impl Order {
    /// Where a field stands.
    fn rank(self, name: &str) -> (u32, u32) {
        match self {
            Order::Name => (0, 0),
            Order::Type(of) => rank(of, name),
            Order::Listed(names) => {
                let at = names.iter().position(|own| *own == name);
                (at.and_then(|at| u32::try_from(at).ok()).unwrap_or(u32::MAX), 0)
            }
        }
    }

    /// The order of what a field holds.
    fn within(self, name: &str) -> Order {
        match self {
            Order::Type(of) => {
                // What is in a map has its keys' order.
                let field = schema().by_json(of, name).filter(|field| field.shape != Shape::Map);
                field.and_then(Field::message).map_or(Order::Name, Order::Type)
            }
            other => other,
        }
    }
}

/// Where a field stands in its type.
fn rank(of: TypeId, name: &str) -> (u32, u32) {
    let own = schema().of(of);
    match name {
        "kind" if own.kind => return (0, 0),
        "apiVersion" if own.kind => return (0, 1),
        _ => {}
    }
    let before = BEFORE.iter().position(|(kind, field, _)| *kind == own.name && *field == name);
    let (at, turn) = match before {
        // Of several before one field, in their order here.
        Some(idx) => (BEFORE[idx].2, u32::try_from(idx).unwrap_or(0)),
        None => (name, u32::MAX),
    };
    (schema().by_json(of, at).map_or(u32::MAX, |field| field.tag.saturating_add(1)), turn)
}

struct Writer {
    out: Vec<u8>,
    /// Spaces a level; `None` for one line.
    indent: Option<usize>,
}

impl Writer {
    fn line(&mut self, depth: usize) {
        if let Some(indent) = self.indent {
            self.out.push(b'\n');
            self.out.extend(std::iter::repeat_n(b' ', depth * indent));
        }
    }

    fn put(&mut self, tree: &Value, order: Order, depth: usize) {
        match tree {
            Value::Object(map) if !map.is_empty() => {
                let mut entries: Vec<(&String, &Value)> = map.iter().collect();
                if !matches!(order, Order::Name) {
                    entries.arrange_by(|a, b| order.rank(a.0).cmp(&order.rank(b.0)));
                }
                self.out.push(b'{');
                for (idx, (key, value)) in entries.into_iter().enumerate() {
                    if idx > 0 {
                        self.out.push(b',');
                    }
                    self.line(depth + 1);
                    wire::json::put_string(&mut self.out, key);
                    self.out.push(b':');
                    if self.indent.is_some() {
                        self.out.push(b' ');
                    }
                    self.put(value, order.within(key), depth + 1);
                }
                self.line(depth);
                self.out.push(b'}');
            }
            Value::Array(items) if !items.is_empty() => {
                self.out.push(b'[');
                for (idx, item) in items.iter().enumerate() {
                    if idx > 0 {
                        self.out.push(b',');
                    }
                    self.line(depth + 1);
                    self.put(item, order, depth + 1);
                }
                self.line(depth);
                self.out.push(b']');
            }
            Value::String(text) => wire::json::put_string(&mut self.out, text),
            other => self.out.extend_from_slice(other.to_string().as_bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::json as tree;

    #[test]
    fn fields_stand_as_in_their_type() {
        let service = tree!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"labels": {"b": "1", "a": "<2>"}, "name": "s", "creationTimestamp": null},
            "spec": {"ports": [{"appProtocol": "x", "port": 1, "protocol": "TCP", "name": "p"}], "clusterIPs": ["1"],
                     "type": "T", "clusterIP": "1", "selector": {}},
        });
        assert_eq!(
            typed_line(&service),
            "{\"kind\":\"Service\",\"apiVersion\":\"v1\",\"metadata\":{\"name\":\"s\",\"creationTimestamp\":null,\
             \"labels\":{\"a\":\"\\u003c2\\u003e\",\"b\":\"1\"}},\"spec\":{\"ports\":[{\"name\":\"p\",\"protocol\":\"TCP\",\
             \"appProtocol\":\"x\",\"port\":1}],\"selector\":{},\"clusterIP\":\"1\",\"clusterIPs\":[\"1\"],\"type\":\"T\"}}"
        );
        assert_eq!(
            json(&tree!({"b": [1, {}], "a": "x"}), 2),
            "{\n  \"a\": \"x\",\n  \"b\": [\n    1,\n    {}\n  ]\n}"
        );
        // Each of the fields that are moved is there.
        for (kind, field, other) in BEFORE {
            let of = schema().types().find(|of| schema().of(*of).name == *kind).unwrap();
            assert!(schema().by_json(of, field).is_some(), "{kind}.{field}");
            assert!(schema().by_json(of, other).is_some(), "{kind}.{other}");
        }
    }
}
