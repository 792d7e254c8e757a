//! Complaints about fields, in the words of k8s.io/apimachinery/pkg/util/validation/field.

use serde_json::Value;
use stdx::Arrange;

/// How many complaints are made about one object.
const CAUSES_MAX: usize = 256;
/// How long the message and the field of a complaint may be, in bytes; the rest is cut off.
const TEXT_BYTES_MAX: usize = 16 * 1024;

/// One field's complaint, as it appears in `details.causes`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// `FieldValueInvalid`, `FieldValueRequired`, `FieldValueNotSupported`, ...
    pub reason: &'static str,
    /// The message without the field.
    pub message: String,
    /// `spec.containers[0].name`
    pub field: String,
}

/// Appends one complaint each; a trait on the list, so that rules read as sentences.
pub trait Complain {
    fn complain(&mut self, reason: &'static str, field: &str, message: String);

    /// Whether there are so many complaints that more are not taken. Rules that would show the whole of
    /// something for each part of it stop then.
    fn is_full(&self) -> bool;

    /// `Required value`, with a detail if there is one.
    fn required(&mut self, field: &str, detail: &str) {
        let colon = if detail.is_empty() { "" } else { ": " };
        self.complain("FieldValueRequired", field, format!("Required value{colon}{detail}"));
    }

    fn invalid(&mut self, field: &str, value: &Value, detail: &str) {
        self.complain(
            "FieldValueInvalid",
            field,
            format!("Invalid value: {}: {detail}", go_value(value)),
        );
    }

    /// As `invalid`, for a quantity, which upstream shows as Go holds it.
    fn invalid_quantity(&mut self, field: &str, quantity: &Value, detail: &str) {
        let shown = crate::quantity::Quantity::from_tree(quantity).map(|q| q.go_syntax());
        let shown = shown.unwrap_or_default();
        self.complain("FieldValueInvalid", field, format!("Invalid value: {shown}: {detail}"));
    }

    /// As `invalid`, where the value is too much to show.
    fn invalid_whole(&mut self, field: &str, detail: &str) {
        self.complain("FieldValueInvalid", field, format!("Invalid value: {detail}"));
    }

    /// As `invalid`, for a number or percentage, which upstream shows as Go holds it.
    fn invalid_bound(&mut self, field: &str, bound: &Value, detail: &str) {
        let (kind, number, text) = match bound {
            Value::String(text) => (1, 0, text.as_str()),
            other => (0, other.as_i64().unwrap_or(0), ""),
        };
        let message = format!(
            "Invalid value: intstr.IntOrString{{Type:{kind}, IntVal:{number}, StrVal:{text:?}}}: {detail}"
        );
        self.complain("FieldValueInvalid", field, message);
    }

    /// As `invalid`, for a label selector.
    fn invalid_selector(&mut self, field: &str, selector: &Value, detail: &str) {
        let colon = if detail.is_empty() { "" } else { ": " };
        let message = format!("Invalid value: {}{colon}{detail}", go_selector(selector));
        self.complain("FieldValueInvalid", field, message);
    }

    /// As `invalid`, for labels; absent ones are Go's nil map.
    fn invalid_labels(&mut self, field: &str, labels: &Value, detail: &str) {
        match labels {
            Value::Null => {
                let message = format!("Invalid value: map[string]string(nil): {detail}");
                self.complain("FieldValueInvalid", field, message);
            }
            labels => self.invalid(field, labels, detail),
        }
    }

    fn not_supported(&mut self, field: &str, value: &str, supported: &[&str]) {
        let mut supported = supported.to_vec();
        supported.arrange();
        self.not_supported_in_order(field, value, &supported);
    }

    /// As `not_supported`, for the few lists that upstream does not sort.
    fn not_supported_in_order(&mut self, field: &str, value: &str, supported: &[&str]) {
        let supported: Vec<String> = supported.iter().map(|s| format!("{s:?}")).collect();
        let message =
            format!("Unsupported value: {value:?}: supported values: {}", supported.join(", "));
        self.complain("FieldValueNotSupported", field, message);
    }

    fn duplicate(&mut self, field: &str, value: &Value) {
        self.complain(
            "FieldValueDuplicate",
            field,
            format!("Duplicate value: {}", go_value(value)),
        );
    }

    fn forbidden(&mut self, field: &str, detail: &str) {
        self.complain("FieldValueForbidden", field, format!("Forbidden: {detail}"));
    }

    fn not_found(&mut self, field: &str, value: &str) {
        self.complain("FieldValueNotFound", field, format!("Not found: {value:?}"));
    }

    fn too_long(&mut self, field: &str, bytes_max: usize) {
        let message = format!("Too long: may not be more than {bytes_max} bytes");
        self.complain("FieldValueTooLong", field, message);
    }

    fn too_many(&mut self, field: &str, n_items: usize, items_max: usize) {
        let message = format!("Too many: {n_items}: must have at most {items_max} items");
        self.complain("FieldValueTooMany", field, message);
    }

    /// What a check of `names` says about a string.
    fn check_name(&mut self, field: &str, value: &str, check: fn(&str) -> Result<(), String>) {
        if let Err(why) = check(value) {
            // Upstream says of some names two things.
            for why in why.lines() {
                self.invalid(field, &value.into(), why);
            }
        }
    }
}

impl Complain for Vec<Cause> {
    fn complain(&mut self, reason: &'static str, field: &str, message: String) {
        if !self.is_full() {
            let mut cause = Cause { reason, message, field: field.to_owned() };
            cut(&mut cause);
            self.push(cause);
        }
    }

    fn is_full(&self) -> bool {
        self.len() >= CAUSES_MAX
    }
}

/// Bounds what a complaint shows, however it was made.
pub fn cut(cause: &mut Cause) {
    const MORE: &str = "...";
    for text in [&mut cause.field, &mut cause.message] {
        if text.len() > TEXT_BYTES_MAX + MORE.len() {
            text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
            text.push_str(MORE);
        }
    }
}

pub const IMMUTABLE: &str = "field is immutable";
pub const NON_NEGATIVE: &str = "must be greater than or equal to 0";
pub const PORT_RANGE: &str = "must be between 1 and 65535, inclusive";

/// Go's `%#v` for the values that complaints show: scalars, maps of strings, label selectors; JSON for others.
fn go_value(value: &Value) -> String {
    match value {
        Value::String(text) => format!("{text:?}"),
        Value::Object(map)
            if map.contains_key("matchLabels") || map.contains_key("matchExpressions") =>
        {
            go_selector(value)
        }
        Value::Object(map) if map.values().all(Value::is_string) => {
            let entries: Vec<String> =
                map.iter().map(|(key, value)| format!("{key:?}:{value}")).collect();
            format!("map[string]string{{{}}}", entries.join(", "))
        }
        // Upstream shows what points to nothing as a text.
        Value::Null => "\"null\"".into(),
        Value::Array(items) if items.iter().all(Value::is_i64) => {
            let items: Vec<String> = items.iter().map(Value::to_string).collect();
            format!("[]int32{{{}}}", items.join(", "))
        }
        Value::Array(items) if items.iter().all(Value::is_string) => {
            let items: Vec<String> = items.iter().map(Value::to_string).collect();
            format!("[]string{{{}}}", items.join(", "))
        }
        other => other.to_string(),
    }
}

/// Go's `%#v` of a label selector.
fn go_selector(selector: &Value) -> String {
    let labels = match selector.get("matchLabels") {
        Some(labels) => go_value(labels),
        None => "map[string]string(nil)".into(),
    };
    let requirement = |it: &Value| {
        let text = |field: &str| it.get(field).and_then(Value::as_str).unwrap_or("");
        let values = it.get("values").map_or_else(|| "[]string(nil)".to_owned(), go_value);
        let (key, operator) = (text("key"), text("operator"));
        format!(
            "v1.LabelSelectorRequirement{{Key:{key:?}, Operator:{operator:?}, Values:{values}}}"
        )
    };
    let expressions = match selector.get("matchExpressions").and_then(Value::as_array) {
        Some(items) => {
            format!("{{{}}}", items.iter().map(requirement).collect::<Vec<_>>().join(", "))
        }
        None => "(nil)".into(),
    };
    format!(
        "v1.LabelSelector{{MatchLabels:{labels}, MatchExpressions:[]v1.LabelSelectorRequirement{expressions}}}"
    )
}

/// Go's `%#v` of a value of which nothing is known but its JSON.
pub fn go_any(value: &Value) -> String {
    match value {
        Value::String(text) => format!("{text:?}"),
        Value::Null => "interface {}(nil)".into(),
        Value::Object(map) => {
            let entries: Vec<String> =
                map.iter().map(|(key, value)| format!("{key:?}:{}", go_any(value))).collect();
            format!("map[string]interface {{}}{{{}}}", entries.join(", "))
        }
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(go_any).collect();
            format!("[]interface {{}}{{{}}}", items.join(", "))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complaints_are_few_and_short() {
        let mut causes: Vec<Cause> = Vec::new();
        let long = "\u{e9}".repeat(10_000);
        for nth in 0..10_000 {
            causes.invalid(&format!("spec.list[{nth}].{long}"), &long.as_str().into(), "no");
            if causes.is_full() {
                break;
            }
        }
        (0..10).for_each(|_| causes.required("spec", ""));
        assert_eq!(causes.len(), CAUSES_MAX);
        let most = TEXT_BYTES_MAX + "...".len();
        assert!(causes.iter().all(|it| it.message.len() <= most && it.field.len() <= most));
    }
}
