//! A value that does not fit its field, told in the words of Go's JSON decoder.

use std::fmt;

use serde_json::{Number, Value};

use crate::schema::{Field, Scalar, Shape, Type, schema};

/// Where a tree does not fit the schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// `string`, `number 1.5`, `object`, or empty if `said` says it all.
    found: String,
    wanted: String,
    said: String,
    /// The type that directly holds the field.
    holder: &'static str,
    path: Vec<String>,
}

/// The type of a value, as Go's JSON decoder names it.
pub fn json_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// How Go's complaint about base64 begins.
const ILLEGAL_BASE64: &str = "illegal base64 data at input byte";

/// Go's place of what is no base64: groups of four, of which only the last may be padded, in a whole.
fn first_illegal_base64(text: &[u8]) -> usize {
    let is_break = |byte: &u8| matches!(byte, b'\r' | b'\n');
    let mut digits = text.iter().enumerate().filter(|(_, byte)| !is_break(byte)).peekable();
    let mut in_group = 0;
    while let Some((at, byte)) = digits.next() {
        match byte {
            b'=' if in_group < 2 => return at,
            b'=' => {
                if in_group == 2 {
                    match digits.next() {
                        Some((_, b'=')) => {}
                        Some((at, _)) => return at,
                        None => return text.len(),
                    }
                }
                return digits.next().map_or(text.len(), |(at, _)| at);
            }
            byte if byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/') => {
                in_group = (in_group + 1) % 4;
            }
            _ => return at,
        }
    }
    text.len() - in_group
}

impl Mismatch {
    pub(crate) fn new(found: &Value, field: &Field) -> Mismatch {
        Mismatch { found: json_type(found).into(), wanted: go_type(field), ..Mismatch::said("") }
    }

    pub(crate) fn number(found: &Number, field: &Field) -> Mismatch {
        Mismatch { found: format!("number {found}"), wanted: go_type(field), ..Mismatch::said("") }
    }

    pub(crate) fn of_root(found: &Value, name: &str) -> Mismatch {
        let found = json_type(found);
        Mismatch::said(format!("json: cannot unmarshal {found} into Go value of type {name}"))
    }

    /// `fraction` is what the layout has of one: `.000000` for times in microseconds.
    pub(crate) fn time(text: &str, fraction: &str) -> Mismatch {
        Mismatch::said(format!(
            "parsing time \"{text}\" as \"2006-01-02T15:04:05{fraction}Z07:00\": cannot parse \"{text}\" as \"2006\""
        ))
    }

    /// Where Go's decoder stops.
    pub(crate) fn base64(text: &str) -> Mismatch {
        let at = first_illegal_base64(text.as_bytes());
        Mismatch::said(format!("{ILLEGAL_BASE64} {at}"))
    }

    pub(crate) fn unknown_kind(api_version: &str, kind: &str) -> Mismatch {
        Mismatch::said(format!("no kind \"{kind}\" is registered for version \"{api_version}\""))
    }

    pub(crate) fn said(what: impl Into<String>) -> Mismatch {
        let empty = String::new;
        Mismatch {
            found: empty(),
            wanted: empty(),
            said: what.into(),
            holder: "",
            path: Vec::new(),
        }
    }

    /// Adds the field that holds the value, from the inside out.
    pub(crate) fn within(mut self, step: &str) -> Mismatch {
        if let (true, Some(alias)) = (self.path.is_empty(), super::aliases::of(self.holder, step))
            && let Some(list_or_map) = self.wanted.strip_suffix("string")
        {
            self.wanted = format!("{list_or_map}{alias}");
        }
        self.path.push(step.to_owned());
        self
    }

    /// Go's paths have no indexes.
    pub(crate) fn at_index(self, _idx: usize) -> Mismatch {
        self
    }

    /// The struct that embeds the one with the field: Go tells that one.
    pub(crate) fn embedded_in(mut self, name: &'static str) -> Mismatch {
        if self.path.len() == 1 {
            self.holder = name;
        }
        self
    }

    /// As the decoder tells it, not the converter: it lets times and durations read themselves, which ask for a text.
    #[must_use]
    pub fn decoded(mut self) -> Mismatch {
        if matches!(self.wanted.as_str(), "v1.Time" | "v1.MicroTime" | "v1.Duration") {
            self.wanted = "string".into();
        }
        self
    }

    pub(crate) fn in_struct(mut self, name: &'static str) -> Mismatch {
        if self.holder.is_empty() {
            self.holder = name;
        }
        self
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.found.is_empty() {
            return f.write_str(&self.said);
        }
        let path: Vec<&str> = self.path.iter().rev().map(String::as_str).collect();
        write!(
            f,
            "json: cannot unmarshal {} into Go struct field {}.{} of type {}",
            self.found,
            self.holder,
            path.join("."),
            self.wanted
        )
    }
}

impl std::error::Error for Mismatch {}

fn go_type(field: &Field) -> String {
    let scalar = match field.scalar {
        Scalar::Str => "string".to_owned(),
        Scalar::Bool => "bool".into(),
        Scalar::I32 | Scalar::IntOrString => "int32".into(),
        Scalar::I64 => "int64".into(),
        Scalar::F64 => "float64".into(),
        Scalar::Bytes => "[]uint8".into(),
        Scalar::Time => "v1.Time".into(),
        Scalar::MicroTime => "v1.MicroTime".into(),
        Scalar::Duration => "v1.Duration".into(),
        Scalar::Quantity => "resource.Quantity".into(),
        Scalar::Raw => "runtime.RawExtension".into(),
        Scalar::Fields => "v1.FieldsV1".into(),
        Scalar::Strs => "[]string".into(),
        Scalar::Message(id) => {
            let Type { package, name, .. } = schema().of(id);
            format!("{}.{name}", package.rsplit('.').next().unwrap_or(""))
        }
    };
    match field.shape {
        Shape::Single => scalar,
        Shape::List => format!("[]{scalar}"),
        Shape::Map if field.scalar == Scalar::Quantity => "v1.ResourceList".into(),
        Shape::Map => format!("map[string]{scalar}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_wrong_where_go_says() {
        for (text, at) in [
            ("1Gi", 0),
            ("a%", 1),
            ("10.0.0.0/8", 2),
            ("=", 0),
            ("YQ=a", 3),
            ("YQ=", 3),
            ("YQ==YQ==", 4),
            ("YWFhYQ", 4),
            ("YW\nFhY", 5),
        ] {
            assert_eq!(first_illegal_base64(text.as_bytes()), at, "{text}");
            assert_eq!(wire::base64::decode(text), None, "{text}");
        }
    }

    #[test]
    fn the_type_of_a_field_is_named_as_go_names_it() {
        use crate::codec::{FieldValidation, decode_json_strict};
        use crate::kinds::{
            EVENT, HORIZONTAL_POD_AUTOSCALER, PERSISTENT_VOLUME_CLAIM, POD,
            VALIDATING_ADMISSION_POLICY,
        };
        for (kind, body, why) in [
            (
                &POD,
                r#"{"spec": {"dnsPolicy": 7}}"#,
                "number into Go struct field PodSpec.spec.dnsPolicy of type v1.DNSPolicy",
            ),
            (
                &POD,
                r#"{"spec": {"overhead": []}}"#,
                "array into Go struct field PodSpec.spec.overhead of type v1.ResourceList",
            ),
            (
                &POD,
                r#"{"spec": {"hostname": 7}}"#,
                "number into Go struct field PodSpec.spec.hostname of type string",
            ),
            (
                &POD,
                r#"{"metadata": {"uid": 7}}"#,
                "number into Go struct field ObjectMeta.metadata.uid of type types.UID",
            ),
            (
                &PERSISTENT_VOLUME_CLAIM,
                r#"{"spec": {"accessModes": {}}}"#,
                "object into Go struct field PersistentVolumeClaimSpec.spec.accessModes of type []v1.PersistentVolumeAccessMode",
            ),
            (
                &HORIZONTAL_POD_AUTOSCALER,
                r#"{"spec": {"metrics": [{"type": 7}]}}"#,
                "number into Go struct field MetricSpec.spec.metrics.type of type v2.MetricSourceType",
            ),
            (
                &EVENT,
                r#"{"lastTimestamp": 5}"#,
                "number into Go struct field Event.lastTimestamp of type string",
            ),
            (
                &VALIDATING_ADMISSION_POLICY,
                r#"{"spec": {"matchConstraints": {"resourceRules": [{"operations": "x"}]}}}"#,
                "string into Go struct field NamedRuleWithOperations.spec.matchConstraints.resourceRules.operations of type []v1.OperationType",
            ),
            (
                &VALIDATING_ADMISSION_POLICY,
                r#"{"spec": {"matchConstraints": {"resourceRules": [{"apiGroups": [7]}]}}}"#,
                "number into Go struct field NamedRuleWithOperations.spec.matchConstraints.resourceRules.apiGroups of type string",
            ),
            (
                &HORIZONTAL_POD_AUTOSCALER,
                r#"{"spec": []}"#,
                "array into Go struct field HorizontalPodAutoscaler.spec of type v2.HorizontalPodAutoscalerSpec",
            ),
        ] {
            let refused =
                decode_json_strict(kind, body.as_bytes(), FieldValidation::Strict).unwrap_err();
            let wanted = format!("json: cannot unmarshal {why}");
            assert!(refused.message().ends_with(&wanted), "{}", refused.message());
        }
    }
}
