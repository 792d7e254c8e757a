//! Expressions about requests: what conditions and policies of admission may say of an attempt.
//!
//! Source: k8s.io/apiserver/pkg/admission/plugin/cel (v1.32).

use cel::{Place, Program, Schemas, Shape, Type, Variable, Wrong};

/// The places of the variables among the declared ones.
pub const OBJECT: usize = 0;
pub const OLD_OBJECT: usize = 1;
pub const REQUEST: usize = 2;
pub const NAMESPACE_OBJECT: usize = 3;
pub const AUTHORIZER: usize = 4;
pub const REQUEST_RESOURCE: usize = 5;
/// How many variables are declared.
pub const VARIABLES: usize = 6;

/// Schemas by place: name, shape, fields, what is inside of a list or map.
type Row = (&'static str, Shape, &'static [(&'static str, usize)], usize);

const NONE: &[(&str, usize)] = &[];
const REQUEST_ROW: usize = 0;
const NAMESPACE_ROW: usize = 1;
const TEXT: usize = 2;

/// What expressions know of a request and of a namespace.
const ROWS: &[Row] = &[
    (
        "kubernetes.AdmissionRequest",
        Shape::Object,
        &[
            ("kind", 7),
            ("resource", 8),
            ("subResource", TEXT),
            ("requestKind", 7),
            ("requestResource", 8),
            ("requestSubResource", TEXT),
            ("name", TEXT),
            ("namespace", TEXT),
            ("operation", TEXT),
            ("userInfo", 9),
            ("dryRun", 3),
            ("options", 4),
        ],
        0,
    ),
    ("kubernetes.Namespace", Shape::Object, &[("metadata", 12), ("spec", 13), ("status", 14)], 0),
    ("string", Shape::Str, NONE, 0),
    ("bool", Shape::Bool, NONE, 0),
    ("dyn", Shape::Dyn, NONE, 0),
    ("int", Shape::Int, NONE, 0),
    ("timestamp", Shape::Time, NONE, 0),
    (
        "kubernetes.GroupVersionKind",
        Shape::Object,
        &[("group", TEXT), ("version", TEXT), ("kind", TEXT)],
        0,
    ),
    (
        "kubernetes.GroupVersionResource",
        Shape::Object,
        &[("group", TEXT), ("version", TEXT), ("resource", TEXT)],
        0,
    ),
    (
        "kubernetes.UserInfo",
        Shape::Object,
        &[("username", TEXT), ("uid", TEXT), ("groups", 10), ("extra", 11)],
        0,
    ),
    ("list", Shape::List, NONE, TEXT),
    ("map", Shape::Map, NONE, 10),
    (
        "kubernetes.NamespaceMetadata",
        Shape::Object,
        &[
            ("name", TEXT),
            ("generateName", TEXT),
            ("namespace", TEXT),
            ("labels", 15),
            ("annotations", 15),
            ("UID", TEXT),
            ("creationTimestamp", 6),
            ("deletionGracePeriodSeconds", 5),
            ("deletionTimestamp", 6),
            ("generation", 5),
            ("resourceVersion", TEXT),
            ("finalizers", 10),
        ],
        0,
    ),
    ("kubernetes.NamespaceSpec", Shape::Object, &[("finalizers", 10)], 0),
    ("kubernetes.NamespaceStatus", Shape::Object, &[("conditions", 16), ("phase", TEXT)], 0),
    ("map", Shape::Map, NONE, TEXT),
    ("list", Shape::List, NONE, 17),
    (
        "kubernetes.NamespaceCondition",
        Shape::Object,
        &[
            ("status", TEXT),
            ("type", TEXT),
            ("lastTransitionTime", 6),
            ("message", TEXT),
            ("reason", TEXT),
        ],
        0,
    ),
];

struct Rows;

impl Schemas for Rows {
    fn shape(&self, at: usize) -> Shape {
        ROWS.get(at).map_or(Shape::Dyn, |(_, shape, ..)| *shape)
    }

    fn field(&self, at: usize, name: &str) -> Option<usize> {
        let (_, _, fields, _) = ROWS.get(at)?;
        fields.iter().find(|(known, _)| *known == name).map(|(_, at)| *at)
    }

    fn inner(&self, at: usize) -> Option<usize> {
        let (_, shape, _, inner) = ROWS.get(at)?;
        matches!(shape, Shape::List | Shape::Map).then_some(*inner)
    }

    fn name(&self, at: usize) -> String {
        ROWS.get(at).map_or("dyn", |(name, ..)| *name).into()
    }
}

/// The schema of `request`.
pub fn request_schema() -> Place<'static> {
    Place { of: &Rows, at: REQUEST_ROW }
}

/// The schema of `namespaceObject`.
pub fn namespace_schema() -> Place<'static> {
    Place { of: &Rows, at: NAMESPACE_ROW }
}

/// Compiles a condition about a request.
///
/// # Errors
///
/// What is wrong with it, in upstream's words.
pub fn condition(text: &str) -> Result<Program, String> {
    let variables = [
        Variable { name: "object", kind: Type::Dyn },
        Variable { name: "oldObject", kind: Type::Dyn },
        Variable { name: "request", kind: Type::of(request_schema()) },
        Variable { name: "namespaceObject", kind: Type::of(namespace_schema()) },
        Variable { name: "authorizer", kind: Type::authorizer() },
        Variable { name: "authorizer.requestResource", kind: Type::resource_check() },
    ];
    let compiled = cel::compile(text, &variables, None).map_err(|wrong| match wrong {
        Wrong::Text(why) => format!("compilation failed: {why}"),
        Wrong::Constant(why) => format!("program instantiation failed: {why}"),
    })?;
    match compiled.output {
        Type::Bool => Ok(compiled.program),
        other => Err(format!("must evaluate to bool but got {}", other.shown())),
    }
}

#[cfg(test)]
mod tests {
    use super::condition;

    #[test]
    fn conditions_know_what_a_request_has() {
        for (text, want) in [
            ("request.operation == 'CREATE' && object.metadata.name != ''", ""),
            ("'x' in request.userInfo.groups && request.userInfo.extra['k'][0] == 'v'", ""),
            ("namespaceObject.metadata.labels['a'] == 'b'", ""),
            ("authorizer.group('').resource('pods').check('get').allowed()", ""),
            ("authorizer.requestResource.check('x').allowed()", ""),
            ("oldObject == null", ""),
            ("params == null", "undeclared reference to 'params' (in container '')"),
            ("variables.x == 1", "undeclared reference to 'variables' (in container '')"),
            ("request.nope == ''", "undefined field 'nope'"),
            ("request.name", "must evaluate to bool but got string"),
            ("request", "must evaluate to bool but got kubernetes.AdmissionRequest"),
            ("object.x", "must evaluate to bool but got dyn"),
        ] {
            let why = condition(text).err().unwrap_or_default();
            assert!(why.contains(want) && why.is_empty() == want.is_empty(), "{text}: {why}");
        }
    }
}
