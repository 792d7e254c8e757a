//! Secret: confidential data for pods to read.

use serde_json::Value;

use crate::complain::Complain;
use crate::kind::*;
use crate::lens::{Lens, LensMut};
use crate::print::count;
use crate::status::Cause;

pub static SECRET: Kind = Kind {
    name: "Secret",
    plural: "secrets",
    declared: &Declared {
        version: "v1",
        generation: false,
        fields: &["type"],
        schema: SCHEMA,
        validate,
        columns: COLUMNS,
        default,
        doc: "Confidential data for pods to read.",
        on_update: "UCV",
        ..Declared::BASE
    },
    ..Kind::BASE
};

/// Bootstrap tokens, by which nodes join.
pub const BOOTSTRAP_TOKEN: &str = "bootstrap.kubernetes.io/token";

/// What follows a node's name in the name of the Secret with its password, in kube-system (k3s).
pub const NODE_PASSWORD_SUFFIX: &str = ".node-password.k3s";

/// What a Secret holds under a key, as text; "" if there is no such text.
pub fn text(secret: &Value, key: &str) -> String {
    let bytes = secret.entry("data", key).and_then(wire::base64::decode);
    bytes.and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default()
}

/// What is written as text is stored as bytes.
fn default(tree: &mut Value) {
    let Some(Value::Object(texts)) = tree.remove("stringData") else { return };
    let data = tree.map_mut("data");
    for (key, text) in texts {
        data.insert(key, wire::base64::encode(text.as_str().unwrap_or("").as_bytes()).into());
    }
}

const COLUMNS: &[Column<'static>] = &[
    Column::path("Type", "type"),
    Column::with("Data", |tree, _| count(tree, "data").into()),
    Column::AGE,
];

fn validate(new: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    let n_bytes = super::config_map::data(new, "data", causes);
    if n_bytes > super::config_map::DATA_BYTES_MAX {
        causes.too_long("data", super::config_map::DATA_BYTES_MAX);
    }
    let has = |key: &str| new.at("data").get(key).is_some();
    let need = |key: &str, causes: &mut Vec<Cause>| {
        if !has(key) {
            causes.required(&format!("data[{key}]"), "");
        }
    };
    match new.str("type") {
        "kubernetes.io/service-account-token" => {
            let key = "kubernetes.io/service-account.name";
            if new.entry("metadata.annotations", key).unwrap_or("").is_empty() {
                causes.required(&format!("metadata.annotations[{key}]"), "");
            }
        }
        "kubernetes.io/dockerconfigjson" => docker_config(new, ".dockerconfigjson", causes),
        "kubernetes.io/dockercfg" => docker_config(new, ".dockercfg", causes),
        "kubernetes.io/tls" => {
            need("tls.crt", causes);
            need("tls.key", causes);
        }
        "kubernetes.io/basic-auth" if !has("username") && !has("password") => {
            causes.required("data[username]", "");
            causes.required("data[password]", "");
        }
        "kubernetes.io/ssh-auth" => need("ssh-privatekey", causes),
        _ => {}
    }
    super::config_map::keep_immutable(new, old, &["data"], causes);
}

fn docker_config(new: &Value, key: &str, causes: &mut Vec<Cause>) {
    let path = format!("data[{key}]");
    match new.at("data").get(key).and_then(Value::as_str) {
        None => causes.required(&path, ""),
        Some(text) => {
            let bytes = wire::base64::decode(text).unwrap_or_default();
            if let Err(error) = serde_json::from_slice::<serde_json::Map<String, Value>>(&bytes) {
                causes.invalid(&path, &"<secret contents redacted>".into(), &error.to_string());
            }
        }
    }
}

/// Schema text; see `schema` for its form.
const SCHEMA: &str = "
package io.k8s.api.core.v1
Secret kind
   1 metadata   ObjectMeta
   2 data       {}bytes -- The entries, in base64.
   3 type       str        = Opaque immutable -- What the secret is for, and so which entries it must have.
   4 stringData {}str -- Entries as text; stored in data and never read back.
   5 immutable  bool? -- The entries cannot change any more.
";
