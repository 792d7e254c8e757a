//! Definitions as a CustomResourceDefinition has them.

use serde_json::Value;

use super::{Conversion, Definition, Printed, ScalePaths, Version};
use crate::custom::{Schema, is_true, key_of, outline, schema_places};
use crate::kind::{Kind, Scope};
use crate::lens::Lens;
use crate::object::Object;

impl Definition {
    /// What a CustomResourceDefinition defines; `None` while its names are not accepted.
    ///
    /// # Errors
    /// If its kind cannot be served.
    pub fn stored(object: &Object) -> Result<Option<Definition>, String> {
        let tree = outline(object);
        if !is_true(&tree, "NamesAccepted") && !is_true(&tree, "Established") {
            return Ok(None);
        }
        let names = tree.at("status.acceptedNames");
        let scope = match tree.str("spec.scope") {
            "Namespaced" => Scope::Namespaced,
            _ => Scope::Cluster,
        };
        let group = tree.str("spec.group");
        let kind = Kind::intern(group, names.str("kind"), names.str("plural"), scope)?;
        let schemas = schema_places(object);
        let uid = tree.str("metadata.uid");
        let generation = tree.int("metadata.generation").unwrap_or(0);
        let keeps_all = tree.flag("spec.preserveUnknownFields");
        let versions = tree.list("spec.versions").iter().enumerate().map(|(idx, version)| {
            let place = schemas.get(idx).cloned().flatten().filter(|_| !keeps_all);
            let schema = match place {
                None => Schema::none(),
                Some(range) => Schema::stored(object, range, (uid, generation, idx)),
            };
            version_of(&tree, version, schema)
        });
        let boxed = |texts: &[Value]| -> Vec<Box<str>> {
            texts.iter().filter_map(Value::as_str).map(Box::from).collect()
        };
        let terminating = is_true(&tree, "Terminating");
        let conversion = conversion_of(tree.at("spec.conversion"));
        Ok(Some(Definition {
            kind,
            singular: names.str("singular").into(),
            list_kind: names.str("listKind").into(),
            short: boxed(names.list("shortNames")),
            categories: boxed(names.list("categories")),
            versions: versions.collect(),
            conversion,
            waiting: !is_true(&tree, "NamesAccepted"),
            terminating,
            stamp: format!("{uid}/{generation}/{:x}", key_of(names.to_string())).into(),
        }))
    }
}

fn conversion_of(tree: &Value) -> Option<Box<Conversion>> {
    if tree.str("strategy") != "Webhook" {
        return None;
    }
    let known = |version: &str| ["v1", "v1beta1"].into_iter().find(|own| *own == version);
    let versions = tree.list("webhook.conversionReviewVersions").iter();
    let client = tree.at("webhook.clientConfig").to_string();
    let review = versions.filter_map(Value::as_str).find_map(known);
    Some(Box::new(Conversion { client: client.into(), review }))
}

fn version_of(tree: &Value, version: &Value, schema: Schema) -> Version {
    let path = |text: &str| -> Box<str> { text.strip_prefix('.').unwrap_or(text).into() };
    let columns = version.list("additionalPrinterColumns").iter().map(|column| Printed {
        name: column.str("name").into(),
        kind: column.str("type").into(),
        format: column.str("format").into(),
        priority: column.int("priority").and_then(|it| i32::try_from(it).ok()).unwrap_or(0),
        description: column.str("description").into(),
        path: column.str("jsonPath").into(),
    });
    let scale = version.at("subresources.scale");
    let selectable = version.list("selectableFields").iter();
    let name = version.str("name");
    let warning = version.flag("deprecated").then(|| match version.str("deprecationWarning") {
        "" => {
            let (group, kind) = (tree.str("spec.group"), tree.str("spec.names.kind"));
            format!("{group}/{name} {kind} is deprecated").into()
        }
        warning => warning.into(),
    });
    Version {
        name: name.into(),
        served: version.flag("served"),
        stored: version.flag("storage"),
        schema,
        columns: columns.collect(),
        status: version.has("subresources.status"),
        scale: scale.is_object().then(|| ScalePaths {
            spec: path(scale.str("specReplicasPath")),
            status: path(scale.str("statusReplicasPath")),
            selector: path(scale.str("labelSelectorPath")),
        }),
        selectable: selectable.map(|field| path(field.str("jsonPath"))).collect(),
        warning,
    }
}
