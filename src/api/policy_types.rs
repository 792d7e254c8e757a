//! The types in a policy's expressions, checked against the schemas of what it is about.
//!
//! Source: k8s.io/apiserver/pkg/admission/plugin/policy/validating/typechecking.go (v1.32).

use cel::{Place, Schemas, Shape, Type};
use serde_json::Value;
use stdx::{Arrange, OrdMap};

use crate::catalog::Kinds;
use crate::form::{Resource, Types};
use crate::lens::Lens;
use crate::policy::Names;
use crate::schema::{Field, Scalar, Shape as Outer, TypeId, schema};
use crate::structural::{META, TEXT, View};

/// How many kinds a policy's expressions are checked against.
const KINDS_MAX: usize = 10;
/// How many combinations of a rule's words are looked for.
const LOOKUPS_MAX: usize = 10_000;
/// How long all warnings about a policy may be together, in bytes.
const WARNINGS_MAX: usize = 128 * 1024;

/// Places of the table come after those of a structural schema; an element of a field has one of its own.
const TABLE: usize = 1 << 28;
const ELEMENTS: usize = 1 << 29;

/// What is known of the objects of a kind.
struct Known<'a> {
    /// Of kinds that are defined at run time; their metadata is the table's.
    view: Option<View<'a>>,
}

/// What a single value is.
fn single(field: &Field) -> Shape {
    match field.scalar {
        Scalar::Str | Scalar::Duration => Shape::Str,
        Scalar::Bool => Shape::Bool,
        Scalar::I32 | Scalar::I64 => Shape::Int,
        Scalar::F64 => Shape::Double,
        Scalar::Bytes => Shape::Bytes,
        Scalar::Time | Scalar::MicroTime => Shape::Time,
        Scalar::IntOrString => Shape::IntOrString,
        Scalar::Raw | Scalar::Fields => Shape::Object,
        Scalar::Strs => Shape::List,
        // Upstream's schema of it has no one type.
        Scalar::Quantity => Shape::Hidden,
        Scalar::Message(id) if schema().of(id).union => Shape::Hidden,
        Scalar::Message(_) => Shape::Object,
    }
}

/// What is at a place of the table, and whether it is an element of it.
fn at_table(at: usize) -> Option<(Result<TypeId, &'static Field>, bool)> {
    let is_element = at >= ELEMENTS;
    let place = at.checked_sub(if is_element { ELEMENTS } else { TABLE })?;
    let found = schema().at_place(place)?;
    Some((found, is_element))
}

fn table_type(id: TypeId) -> usize {
    TABLE + schema().place_of_type(id)
}

impl Schemas for Known<'_> {
    fn shape(&self, at: usize) -> Shape {
        match (at, &self.view) {
            (TEXT, _) => Shape::Str,
            (..TABLE, Some(view)) => view.shape(at),
            _ => match at_table(at) {
                Some((Err(field), false)) if field.shape == Outer::List => Shape::List,
                Some((Err(field), false)) if field.shape == Outer::Map => Shape::Map,
                Some((Err(field), _)) => single(field),
                Some((Ok(_), _)) => Shape::Object,
                None => Shape::Hidden,
            },
        }
    }

    fn field(&self, at: usize, name: &str) -> Option<usize> {
        if let (..TABLE, Some(view)) = (at, &self.view) {
            return match view.field(at, name)? {
                META => Some(table_type(schema().object_meta)),
                below => Some(below),
            };
        }
        let id = match at_table(at)?.0 {
            Ok(id) => id,
            Err(field) => field.message()?,
        };
        if schema().of(id).kind && matches!(name, "apiVersion" | "kind") {
            return Some(TEXT);
        }
        let field = schema().by_json(id, name)?;
        Some(TABLE + schema().place_of_field(field))
    }

    fn inner(&self, at: usize) -> Option<usize> {
        if let (..TABLE, Some(view)) = (at, &self.view) {
            return view.inner(at);
        }
        match at_table(at)? {
            (Err(field), false) if field.shape != Outer::Single => Some(at - TABLE + ELEMENTS),
            (Err(field), _) if field.scalar == Scalar::Strs => Some(TEXT),
            _ => None,
        }
    }

    fn name(&self, at: usize) -> String {
        let id = match at_table(at) {
            Some((Ok(id), _)) if at >= TABLE => Some(id),
            Some((Err(field), _)) if at >= TABLE => field.message(),
            _ => None,
        };
        id.map_or("object", |id| schema().of(id).name).into()
    }
}

impl<'a> Known<'a> {
    /// What is known of a kind, and the place of its objects.
    fn of(resource: &'a Resource) -> Option<(Known<'a>, usize)> {
        match resource.form().types() {
            Types::Table(id) => Some((Known { view: None }, table_type(id))),
            Types::Structural(schema) => Some((Known { view: Some(View::of(schema)) }, 0)),
            Types::Unknown => None,
        }
    }
}

/// The kinds that a policy names without wildcards, by group, version and kind.
fn kinds_of(kinds: &Kinds, spec: &Value) -> OrdMap<(String, String, String), Resource> {
    let (mut found, mut n_looked) = (OrdMap::new(), 0);
    for rule in spec.list("matchConstraints.resourceRules") {
        let words = |field: &str| -> Vec<&str> {
            let mut words: Vec<&str> = rule.list(field).iter().filter_map(Value::as_str).collect();
            words.arrange();
            words
        };
        let (groups, versions) = (words("apiGroups"), words("apiVersions"));
        let mut plurals = words("resources");
        plurals.retain(|plural| !plural.contains(['*', '/']));
        if groups.iter().chain(&versions).any(|word| word.contains('*')) {
            continue;
        }
        for group in &groups {
            for version in &versions {
                for plural in &plurals {
                    n_looked += 1;
                    if found.len() >= KINDS_MAX || n_looked > LOOKUPS_MAX {
                        return found;
                    }
                    let Some(resource) = kinds.find(group, version, plural) else { continue };
                    let name = resource.kind.name.to_owned();
                    let key = ((*group).to_owned(), (*version).to_owned(), name);
                    found.insert(key, resource.clone());
                }
            }
        }
    }
    found
}

/// What is wrong with the types in the expressions of a policy: where, and what.
pub fn warnings(kinds: &Kinds, policy: &Value) -> Vec<(String, String)> {
    let spec = policy.at("spec");
    let mut texts: Vec<(String, &str, Vec<String>)> = Vec::new();
    for (idx, validation) in spec.list("validations").iter().enumerate() {
        for field in ["expression", "messageExpression"] {
            let text = validation.str(field);
            if !text.is_empty() {
                texts.push((format!("spec.validations[{idx}].{field}"), text, Vec::new()));
            }
        }
    }
    let (version, kind) = (spec.str("paramKind.apiVersion"), spec.str("paramKind.kind"));
    let is_it = |it: &&Resource| it.kind.name == kind && it.form().api_version() == version;
    let params = kinds.resources().iter().find(is_it).cloned();
    let params = params.as_ref().and_then(Known::of);
    let mut left = WARNINGS_MAX;
    for ((group, version, kind), resource) in kinds_of(kinds, spec) {
        let Some((known, at)) = Known::of(&resource) else { continue };
        let params = params.as_ref().map(|(of, at)| Type::of(Place { of, at: *at }));
        let mut names = Names::typed(Type::of(Place { of: &known, at }), params);
        for variable in spec.list("variables") {
            // What is wrong with it is not told, as upstream.
            let _ = names.declare(variable.str("name"), variable.str("expression"));
        }
        for (_, text, found) in &mut texts {
            let Some(issues) = names.issues(text) else { continue };
            let told = format!("{group}/{version}, Kind={kind}: {issues}\n");
            let Some(rest) = left.checked_sub(told.len()) else { continue };
            left = rest;
            found.push(told);
        }
    }
    texts.retain(|(.., found)| !found.is_empty());
    texts.into_iter().map(|(path, _, found)| (path, found.join("\n"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn said(resource: &str, more: Value) -> Vec<(String, String)> {
        let (group, plural) = resource.split_once('/').unwrap();
        let mut spec = json!({"matchConstraints": {"resourceRules": [
            {"apiGroups": [group], "apiVersions": ["v1"], "resources": [plural]}]}});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        warnings(&Kinds::built_in(), &json!({"spec": spec}))
    }

    #[test]
    fn what_is_looked_for_is_bounded() {
        let many: Vec<String> = (0..2000).map(|n| format!("g{n}")).collect();
        let rule = json!({"apiGroups": many, "apiVersions": many, "resources": many});
        let spec = json!({"matchConstraints": {"resourceRules": [rule, rule]}});
        assert!(kinds_of(&Kinds::built_in(), &spec).is_empty());
        let named = |plural: &str| json!({"apiGroups": ["apps"], "apiVersions": ["v1"], "resources": [plural]});
        let rules = [
            named("deployments"),
            json!({"apiGroups": [""], "apiVersions": ["v1"],
            "resources": ["pods", "services", "secrets", "configmaps", "nodes", "endpoints", "events", "namespaces", "limitranges", "serviceaccounts", "podtemplates"]}),
        ];
        let spec = json!({"matchConstraints": {"resourceRules": rules}});
        assert_eq!(kinds_of(&Kinds::built_in(), &spec).len(), KINDS_MAX);
    }

    /// What the schema of a kind that is defined at run time says, embedded objects and all.
    #[test]
    fn places_of_custom_kinds() {
        let schema = json!({"type": "object", "properties": {
        "spec": {"type": "object", "properties": {
            "n": {"type": "integer"},
            "template": {"type": "object", "x-kubernetes-embedded-resource": true, "properties": {"x": {"type": "string"}}},
            "any": {"type": "object", "additionalProperties": true},
            "map": {"type": "object", "additionalProperties": {"type": "integer"}},
        }}}});
        let schema = crate::structural::Structural::read(&schema).unwrap();
        let known = Known { view: Some(View::of(&schema)) };
        let at = |path: &str| {
            path.split('.').try_fold(0, |at, name| known.field(at, name)).map(|at| known.shape(at))
        };
        for (path, wanted) in [
            ("spec.n", Some(Shape::Int)),
            ("kind", Some(Shape::Str)),
            ("metadata.labels", Some(Shape::Map)),
            ("spec.template.kind", Some(Shape::Str)),
            ("spec.template.metadata.name", Some(Shape::Str)),
            ("spec.template.x", Some(Shape::Str)),
            ("spec.map", Some(Shape::Map)),
            ("spec.any", Some(Shape::Object)),
            ("spec.nope", None),
        ] {
            assert_eq!(at(path), wanted, "{path}");
        }
        assert_eq!((known.name(0), known.inner(TEXT)), ("object".into(), None));
    }

    /// The words are those of a stock kube-controller-manager.
    #[test]
    fn types_are_those_of_what_is_matched() {
        let one = |text: &str| json!({"validations": [{"expression": text}]});
        for (resource, text, wanted) in [
            ("apps/deployments", "object.spec.replicas > 1 && oldObject.metadata.name != ''", ""),
            (
                "apps/deployments",
                "object.spec.replicas > '1'",
                "apps/v1, Kind=Deployment: ERROR: <input>:1:22: found no matching overload for '_>_' applied to '(int, string)'",
            ),
            (
                "apps/deployments",
                "object.spec.template.spec.containers.all(c, c.image.contains('x'))",
                "",
            ),
            (
                "apps/deployments",
                "object.spec.template.spec.containers.all(c, c.nope)",
                "undefined field 'nope'",
            ),
            ("apps/deployments", "object.metadata.labels['a'] == 1", "applied to '(string, int)'"),
            (
                "apps/deployments",
                "object.kind == 'Deployment' && object.metadata.creationTimestamp < timestamp('2024-01-01T00:00:00Z')",
                "",
            ),
            (
                "apps/deployments",
                "object.spec.strategy.rollingUpdate.maxSurge == 1 || object.spec.strategy.rollingUpdate.maxSurge == '1'",
                "",
            ),
            (
                "/pods",
                "object.spec.containers.all(c, c.resources.limits['cpu'] == '1')",
                "undefined field 'limits'",
            ),
            ("/secrets", "object.data['a'] == b'x'", ""),
            ("/secrets", "object.data['a'] == 'x'", "applied to '(bytes, string)'"),
            ("apps/nothing", "object.nope", ""),
            ("*/deployments", "object.nope", ""),
            ("apps/*", "object.nope", ""),
            ("apps/deployments", "variables.n > 'x'", "undefined field 'n'"),
            ("apps/deployments", "params.x", "undeclared reference to 'params'"),
        ] {
            let said = said(resource, one(text));
            let told = said.first().map_or("", |(_, told)| told);
            assert!(
                told.contains(wanted) && told.is_empty() == wanted.is_empty(),
                "{text}: {told}"
            );
        }
        let composed = said(
            "apps/deployments",
            json!({
            "variables": [{"name": "n", "expression": "object.spec.replicas"}],
            "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
            "validations": [{"expression": "params.data.x == 1"}, {"expression": "variables.n > 1",
                "messageExpression": "'wants ' + variables.n"}]}),
        );
        let fields: Vec<&str> = composed.iter().map(|(field, _)| field.as_str()).collect();
        assert_eq!(
            fields,
            ["spec.validations[0].expression", "spec.validations[1].messageExpression"]
        );
        assert!(composed[0].1.contains("applied to '(string, int)'"), "{}", composed[0].1);
    }
}
