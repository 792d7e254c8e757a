//! Rules of labels and annotations, wherever they stand.
//!
//! Source: k8s.io/apimachinery/pkg/api/validation/objectmeta.go

use serde_json::Value;

use crate::complain::{Cause, Complain};
use crate::lens::Lens;
use crate::names;

/// All annotations of an object together, as upstream.
const ANNOTATIONS_BYTES_MAX: usize = 256 * 1024;

/// A map of labels at `path`.
pub fn labels(map: &Value, path: &str, causes: &mut Vec<Cause>) {
    for (key, value) in map.pairs("") {
        causes.check_name(path, key, names::qualified);
        causes.check_name(path, value, names::label_value);
    }
}

/// A map of annotations at `path`.
pub fn annotations(map: &Value, path: &str, causes: &mut Vec<Cause>) {
    let mut n_bytes = 0;
    for (key, value) in map.pairs("") {
        let why = names::qualified(&key.to_ascii_lowercase()).err().unwrap_or_default();
        for why in why.lines() {
            causes.invalid(path, &key.into(), why);
        }
        n_bytes += key.len() + value.len();
    }
    if n_bytes > ANNOTATIONS_BYTES_MAX {
        causes.too_long(path, ANNOTATIONS_BYTES_MAX);
    }
}
