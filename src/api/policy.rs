//! Expressions about requests: what conditions and policies of admission may say of an attempt.
//!
//! Source: k8s.io/apiserver/pkg/admission/plugin/cel (v1.32).

use cel::{Compiled, Place, Program, Schemas, Shape, Type, Variable, Wrong};

/// The places of the variables among the declared ones.
pub const OBJECT: usize = 0;
pub const OLD_OBJECT: usize = 1;
pub const REQUEST: usize = 2;
pub const NAMESPACE_OBJECT: usize = 3;
pub const AUTHORIZER: usize = 4;
pub const REQUEST_RESOURCE: usize = 5;
pub const PARAMS: usize = 6;
/// Those of a policy follow.
pub const VARIABLES: usize = 8;

/// How deep the expressions of a policy's variables and of what uses them may be together: values of values
/// are walked by recursion.
const DEPTH_MAX: usize = 1000;
/// How many variables a policy may have.
const VARIABLES_MAX: usize = 1000;

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
    // Its fields are declared one by one.
    ("kubernetes.variables", Shape::Object, NONE, 0),
    (
        "kubernetes.SubjectAccessReviewSpec",
        Shape::Object,
        &[
            ("resourceAttributes", 20),
            ("nonResourceAttributes", 21),
            ("user", TEXT),
            ("groups", 10),
            ("extra", 11),
            ("uid", TEXT),
        ],
        0,
    ),
    (
        "kubernetes.ResourceAttributes",
        Shape::Object,
        &[
            ("namespace", TEXT),
            ("verb", TEXT),
            ("group", TEXT),
            ("version", TEXT),
            ("resource", TEXT),
            ("subresource", TEXT),
            ("name", TEXT),
            ("fieldSelector", 22),
            ("labelSelector", 23),
        ],
        0,
    ),
    ("kubernetes.NonResourceAttributes", Shape::Object, &[("path", TEXT), ("verb", TEXT)], 0),
    ("kubernetes.FieldSelectorAttributes", Shape::Object, SELECTOR, 0),
    ("kubernetes.LabelSelectorAttributes", Shape::Object, SELECTOR, 0),
    ("list", Shape::List, NONE, 25),
    (
        "kubernetes.SelectorRequirement",
        Shape::Object,
        &[("key", TEXT), ("operator", TEXT), ("values", 10)],
        0,
    ),
    ("map", Shape::Map, NONE, 4),
];
const SELECTOR: &[(&str, usize)] = &[("rawSelector", TEXT), ("requirements", 24)];
const VARIABLES_ROW: usize = 18;

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

/// What an expression must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    Bool,
    Text,
    TextOrNull,
    Anything,
}

impl Wanted {
    fn check(self, found: &Type<'_>) -> Result<(), String> {
        let (fits, wanted) = match self {
            Wanted::Bool => (matches!(found, Type::Bool), "bool"),
            Wanted::Text => (matches!(found, Type::Str), "string"),
            Wanted::TextOrNull => {
                (matches!(found, Type::Str | Type::Null), "one of [string null_type]")
            }
            Wanted::Anything => (true, ""),
        };
        if fits {
            return Ok(());
        }
        Err(format!("must evaluate to {wanted} but got {}", found.shown()))
    }
}

/// What the expressions of a policy may name.
#[derive(Debug)]
pub struct Names<'s> {
    object: Type<'s>,
    params: Option<Type<'s>>,
    composes: bool,
    /// Full names, types, and how deep each is together with what it uses.
    variables: Vec<(String, Type<'static>, usize)>,
}

impl<'s> Names<'s> {
    /// Of objects and params nothing is known; without `composes` there are no variables.
    pub fn new(has_params: bool, composes: bool) -> Names<'s> {
        let params = has_params.then_some(Type::Dyn);
        Names { object: Type::Dyn, params, composes, variables: Vec::new() }
    }

    /// For a check of types: the types of what is matched and of params, and any variables.
    pub fn typed(object: Type<'s>, params: Option<Type<'s>>) -> Names<'s> {
        Names { object, params, composes: true, variables: Vec::new() }
    }

    /// Compiles an expression.
    ///
    /// # Errors
    ///
    /// What is wrong with it, in upstream's words.
    pub fn compile(&self, text: &str, wanted: Wanted, authorizes: bool) -> Result<Program, String> {
        let compiled = self.compiled(text, authorizes).map_err(told)?;
        wanted.check(&compiled.output)?;
        Ok(compiled.program)
    }

    /// What is wrong with the names and types of an expression, if anything is.
    pub fn issues(&self, text: &str) -> Option<String> {
        match self.compiled(text, true) {
            Err(Wrong::Text(why)) => Some(why),
            _ => None,
        }
    }

    /// Compiles a variable; what is compiled after it may name it.
    ///
    /// # Errors
    ///
    /// What is wrong with it. It is declared nevertheless, so that nothing else is wrong with what uses it.
    pub fn declare(&mut self, name: &str, text: &str) -> Result<Program, String> {
        if self.variables.len() >= VARIABLES_MAX {
            return Err(format!("must not have more than {VARIABLES_MAX} variables"));
        }
        let compiled = self.compiled(text, true);
        let (output, depth, program) = match compiled {
            Ok(compiled) => {
                let depth = self.depth(&compiled.program);
                (compiled.output.plain(), depth, Ok(compiled.program))
            }
            Err(wrong) => (Type::Dyn, 0, Err(told(wrong))),
        };
        self.variables.push((format!("variables.{name}"), output, depth));
        program
    }

    fn depth(&self, program: &Program) -> usize {
        let used = program.used().filter_map(|nth| nth.checked_sub(VARIABLES));
        let below = used.filter_map(|nth| self.variables.get(nth)).map(|(.., depth)| *depth).max();
        program.depth() + below.unwrap_or(0)
    }

    fn compiled(&self, text: &str, authorizes: bool) -> Result<Compiled<'_>, Wrong> {
        // A place that is not declared has a name that no expression can say.
        fn declared<'t>(name: &'t str, kind: Option<Type<'t>>) -> Variable<'t> {
            let name = if kind.is_some() { name } else { " " };
            Variable { name, kind: kind.unwrap_or(Type::Dyn) }
        }
        let mut variables = vec![
            declared("object", Some(self.object.clone())),
            declared("oldObject", Some(self.object.clone())),
            declared("request", Some(Type::of(request_schema()))),
            declared("namespaceObject", Some(Type::of(namespace_schema()))),
            declared("authorizer", authorizes.then(Type::authorizer)),
            declared("authorizer.requestResource", authorizes.then(Type::resource_check)),
            declared("params", self.params.clone()),
            declared(
                "variables",
                self.composes.then(|| Type::of(Place { of: &Rows, at: VARIABLES_ROW })),
            ),
        ];
        let own = self.variables.iter();
        variables.extend(own.map(|(name, kind, _)| Variable { name, kind: kind.clone() }));
        let compiled = cel::compile(text, &variables, None)?;
        if self.depth(&compiled.program) > DEPTH_MAX {
            return Err(Wrong::Text("variables build too deeply on each other".into()));
        }
        Ok(compiled)
    }
}

fn told(wrong: Wrong) -> String {
    match wrong {
        Wrong::Text(why) => format!("compilation failed: {why}"),
        Wrong::Constant(why) => format!("program instantiation failed: {why}"),
    }
}

/// What the conditions and mappings of authentication and authorization are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum About {
    /// `request`, what somebody wants to do: the spec of a SubjectAccessReview.
    Access,
    /// `claims` of a token.
    Claims,
    /// `user`, who somebody is.
    User,
}

impl About {
    /// The schema of its variable.
    pub fn schema(self) -> Place<'static> {
        let at = match self {
            About::Access => 19,
            About::Claims => 26,
            About::User => 9,
        };
        Place { of: &Rows, at }
    }

    /// Compiles an expression, which may name nothing else. Its variable is the first.
    ///
    /// # Errors
    ///
    /// What is wrong with it, in upstream's words.
    pub fn compile(self, text: &str, wanted: Wanted) -> Result<Program, String> {
        let name = match self {
            About::Access => "request",
            About::Claims => "claims",
            About::User => "user",
        };
        let variable = Variable { name, kind: Type::of(self.schema()) };
        let compiled = cel::compile(text, &[variable], None).map_err(told)?;
        wanted.check(&compiled.output)?;
        Ok(compiled.program)
    }
}

/// Compiles a condition about a request.
///
/// # Errors
///
/// What is wrong with it, in upstream's words.
pub fn condition(text: &str) -> Result<Program, String> {
    Names::new(false, false).compile(text, Wanted::Bool, true)
}

#[cfg(test)]
mod tests {
    use super::{About, Names, Wanted, condition};

    #[test]
    fn policies_know_their_params_and_variables() {
        let mut names = Names::new(true, true);
        names.declare("n", "object.spec.replicas").unwrap();
        names.declare("odd", "variables.n % 2 == 1").unwrap();
        names.declare("list", "[variables.odd]").unwrap();
        names.declare("bad", "nope").unwrap_err();
        for (text, wanted, want) in [
            ("variables.odd && variables.list[0] && params.x > 1", Wanted::Bool, ""),
            (
                "variables.odd + 1",
                Wanted::Anything,
                "no matching overload for '_+_' applied to '(bool, int)'",
            ),
            ("variables.later", Wanted::Anything, "undefined field 'later'"),
            ("variables.bad == 1 && has(variables.n)", Wanted::Bool, ""),
            ("has(variables.later)", Wanted::Bool, "undefined field 'later'"),
            ("variables.n", Wanted::Bool, "must evaluate to bool but got dyn"),
            ("1", Wanted::TextOrNull, "must evaluate to one of [string null_type] but got int"),
            ("1", Wanted::Text, "must evaluate to string but got int"),
            ("null", Wanted::TextOrNull, ""),
        ] {
            let why = names.compile(text, wanted, true).err().unwrap_or_default();
            assert!(why.contains(want) && why.is_empty() == want.is_empty(), "{text}: {why}");
        }
        let plain = Names::new(false, false);
        for (text, authorizes, want) in [
            ("authorizer.path('/x').check('get').allowed()", true, ""),
            (
                "authorizer.path('/x').check('get').allowed()",
                false,
                "undeclared reference to 'authorizer'",
            ),
            ("params == null", true, "undeclared reference to 'params'"),
            ("variables.x == 1", true, "undeclared reference to 'variables'"),
        ] {
            let why = plain.compile(text, Wanted::Bool, authorizes).err().unwrap_or_default();
            assert!(why.contains(want) && why.is_empty() == want.is_empty(), "{text}: {why}");
        }
    }

    #[test]
    fn who_somebody_is_and_what_is_wanted_have_types() {
        for (about, text, want) in [
            (
                About::Access,
                "request.user == 'a' && 'g' in request.groups && request.uid == ''",
                "",
            ),
            (
                About::Access,
                "has(request.resourceAttributes) && request.resourceAttributes.labelSelector.requirements.exists(r, 'x' in r.values)",
                "",
            ),
            (About::Access, "request.resourceAttributes.nope == ''", "undefined field 'nope'"),
            (
                About::Access,
                "request.nonResourceAttributes.path",
                "must evaluate to bool but got string",
            ),
            (About::Access, "user.username == ''", "undeclared reference to 'user'"),
            (
                About::Claims,
                "claims.sub == 'a' && claims.?email_verified.orValue(true) == true",
                "",
            ),
            (About::Claims, "claims.a.b.c == 1", ""),
            (About::User, "!user.username.startsWith('system:') && user.extra['k'][0] != ''", ""),
            (About::User, "user.name == ''", "undefined field 'name'"),
        ] {
            let why = about.compile(text, Wanted::Bool).err().unwrap_or_default();
            assert!(why.contains(want) && why.is_empty() == want.is_empty(), "{text}: {why}");
        }
    }

    #[test]
    fn variables_do_not_build_towers() {
        let mut names = Names::new(false, true);
        names.declare("v0", "1").unwrap();
        let nested = |inner: String| format!("{}{inner}{}", "[".repeat(100), "]".repeat(100));
        let found = (1..20).find_map(|n| {
            names.declare(&format!("v{n}"), &nested(format!("variables.v{}", n - 1))).err()
        });
        assert!(found.is_some_and(|why| why.contains("too deeply")));
        // Both sides of a map that nests: each would hold twice what the one before does.
        let mut names = Names::new(false, true);
        names.declare("v0", "{1: 1}").unwrap();
        for n in 1..300 {
            let before = format!("variables.v{}", n - 1);
            if names.declare(&format!("v{n}"), &format!("{{{before}: {before}}}")).is_err() {
                break;
            }
        }
    }

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
