//! Cells that several kinds print the same way, as kube-apiserver's printers do.

use api::lens::Lens;
use serde_json::Value;
use stdx::time::Wall;

use crate::ages::since;
use crate::column::Column;

/// The containers, images and selector of a workload's template, for `-o wide`.
pub(crate) const CONTAINERS: Column<'static> =
    Column::with("Containers", template_containers).wide();
pub(crate) const IMAGES: Column<'static> = Column::with("Images", template_images).wide();
pub(crate) const SELECTOR: Column<'static> =
    Column::with("Selector", |tree, _| label_selector(tree.at("spec.selector")).into()).wide();

fn template_containers(tree: &Value, _: Wall) -> Value {
    joined(tree.list("spec.template.spec.containers"), "name")
}

fn template_images(tree: &Value, _: Wall) -> Value {
    joined(tree.list("spec.template.spec.containers"), "image")
}

pub(crate) fn joined(items: &[Value], field: &str) -> Value {
    items.iter().map(|item| item.str(field)).collect::<Vec<_>>().join(",").into()
}

/// `text`, or `<none>`.
pub(crate) fn or_none(text: &str) -> Value {
    if text.is_empty() { "<none>".into() } else { text.into() }
}

/// `a=b,c=d`, or `<none>`.
pub(crate) fn labels(map: &Value) -> String {
    let pairs: Vec<String> = map.pairs("").map(|(key, value)| format!("{key}={value}")).collect();
    if pairs.is_empty() { "<none>".into() } else { pairs.join(",") }
}

/// A `LabelSelector` in query syntax, or `<none>`.
pub(crate) fn label_selector(selector: &Value) -> String {
    let mut parts: Vec<String> =
        selector.pairs("matchLabels").map(|(key, value)| format!("{key}={value}")).collect();
    for expression in selector.list("matchExpressions") {
        let values: Vec<&str> =
            expression.list("values").iter().filter_map(Value::as_str).collect();
        let (key, values) = (expression.str("key"), values.join(","));
        parts.push(match expression.str("operator") {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "DoesNotExist" => format!("!{key}"),
            _ => key.to_owned(),
        });
    }
    if parts.is_empty() { "<none>".into() } else { parts.join(",") }
}

/// `RWO,ROX,RWX,RWOP`
pub(crate) fn access_modes(modes: &[Value]) -> String {
    let short = [
        ("ReadWriteOnce", "RWO"),
        ("ReadOnlyMany", "ROX"),
        ("ReadWriteMany", "RWX"),
        ("ReadWriteOncePod", "RWOP"),
    ];
    let present = short.iter().filter(|(long, _)| modes.iter().any(|mode| mode == long));
    present.map(|(_, short)| *short).collect::<Vec<_>>().join(",")
}

/// Up to three of `items`, then how many more.
pub(crate) fn first_three(items: &[String], empty: &str) -> String {
    const SHOWN_MAX: usize = 3;
    if items.is_empty() {
        return empty.to_owned();
    }
    let shown = items.iter().take(SHOWN_MAX).cloned().collect::<Vec<_>>().join(",");
    match items.len().saturating_sub(SHOWN_MAX) {
        0 => shown,
        more => format!("{shown} + {more} more..."),
    }
}

/// The number of entries of the map at `path`.
pub(crate) fn count(tree: &Value, path: &str) -> usize {
    tree.at(path).as_object().map_or(0, serde_json::Map::len)
}

/// What a volume or a claim is in: its phase, until it is to go.
pub(crate) fn volume_phase(tree: &Value) -> Value {
    if tree.has("metadata.deletionTimestamp") {
        "Terminating".into()
    } else {
        tree.at("status.phase").clone()
    }
}

pub(crate) fn or_unset(text: &str) -> Value {
    if text.is_empty() { "<unset>".into() } else { text.into() }
}

/// A storage class by field or by the old annotation.
pub(crate) fn storage_class(tree: &Value) -> &str {
    tree.entry("metadata.annotations", "volume.beta.kubernetes.io/storage-class")
        .unwrap_or_else(|| tree.str("spec.storageClassName"))
}

/// Time since the timestamp at `path`, or `missing`.
pub(crate) fn since_or(tree: &Value, path: &str, now: Wall, missing: &str) -> String {
    match tree.str(path) {
        "" => missing.to_owned(),
        timestamp => since(timestamp, now),
    }
}
