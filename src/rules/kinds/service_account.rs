//! ServiceAccount: an identity for what runs in pods.

use api::kinds::SERVICE_ACCOUNT;
use api::lens::{Lens, LensMut};
use serde_json::{Value, json};

use super::Rules;
use crate::column::Column;

pub(super) static RULES: Rules =
    Rules { kind: &SERVICE_ACCOUNT, columns: COLUMNS, prepare, on_update: "UCV", ..Rules::BASE };

/// Of the secrets only the names are kept.
fn prepare(new: &mut Value, _: Option<&Value>) {
    if let Some(Value::Array(secrets)) = new.at_mut("secrets") {
        for secret in secrets {
            *secret = match secret.str("name") {
                "" => json!({}),
                name => json!({"name": name}),
            };
        }
    }
}

const COLUMNS: &[Column<'static>] =
    &[Column::with("Secrets", |tree, _| tree.list("secrets").len().into()), Column::AGE];
