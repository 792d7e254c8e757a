//! Secret: confidential data for pods to read.

use api::complain::Complain;
use api::kinds::SECRET;
use api::lens::{Lens, LensMut};
use api::status::Cause;
use serde_json::Value;

use super::Rules;
use crate::column::Column;
use crate::print::count;

pub(super) static RULES: Rules =
    Rules { kind: &SECRET, validate, columns: COLUMNS, default, on_update: "UCV", ..Rules::BASE };

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
