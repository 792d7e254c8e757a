//! The policies of admission that there are, compiled once, and where each is bound.

use std::sync::OnceLock;

use api::policy::{Names, Wanted};
use api::selector::Selector;
use api::{Lens, Value};

use super::hooks::{Condition, Matches};

/// A ValidatingAdmissionPolicy.
pub(crate) struct Policy {
    pub(crate) name: String,
    pub(crate) matches: Matches,
    /// Where it cannot be evaluated, it is as if it had allowed.
    pub(crate) fails_open: bool,
    /// The version and the kind of its parameters.
    pub(crate) params: Option<(String, String)>,
    spec: Value,
    compiled: OnceLock<Expressions>,
}

/// The expressions of a policy.
pub(crate) struct Expressions {
    pub(crate) conditions: Vec<Condition>,
    /// By name; each may use those before it.
    pub(crate) variables: Vec<Condition>,
    pub(crate) validations: Vec<Validation>,
    pub(crate) annotations: Vec<(String, Condition)>,
}

pub(crate) struct Validation {
    pub(crate) condition: Condition,
    /// An expression that makes the message.
    pub(crate) told: Option<Condition>,
    pub(crate) message: String,
    pub(crate) reason: String,
}

/// Where a policy applies, and what follows.
pub(crate) struct Binding {
    pub(crate) name: String,
    pub(crate) policy: String,
    pub(crate) matches: Option<Matches>,
    pub(crate) param: Option<Param>,
    pub(crate) actions: Vec<String>,
}

/// Which objects are parameters.
pub(crate) struct Param {
    /// Empty if they are selected.
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) selector: Selector,
    /// It is refused if there are none.
    pub(crate) must_be: bool,
}

impl Policy {
    pub(super) fn of(tree: &Value) -> Policy {
        let spec = tree.at("spec");
        let kind = spec.at("paramKind");
        let params = (!kind.is_null())
            .then(|| (kind.str("apiVersion").to_owned(), kind.str("kind").to_owned()));
        Policy {
            name: tree.str("metadata.name").to_owned(),
            matches: Matches::of(spec.at("matchConstraints"), "resourceRules"),
            fails_open: spec.str("failurePolicy") == "Ignore",
            params,
            spec: spec.clone(),
            compiled: OnceLock::new(),
        }
    }

    /// Its expressions, compiled when the first attempt matches.
    pub(crate) fn expressions(&self) -> &Expressions {
        self.compiled.get_or_init(|| Expressions::of(&self.spec, self.params.is_some()))
    }
}

impl Expressions {
    fn of(spec: &Value, has_params: bool) -> Expressions {
        let mut names = Names::new(has_params, true);
        let variable = |it: &Value| Condition {
            expression: it.str("name").to_owned(),
            program: names.declare(it.str("name"), it.str("expression")),
        };
        let variables = spec.list("variables").iter().map(variable).collect();
        let compiled = |text: &str, wanted, authorizes| Condition {
            expression: text.to_owned(),
            program: names.compile(text, wanted, authorizes),
        };
        let validation = |it: &Value| {
            let told = it.str("messageExpression");
            Validation {
                condition: compiled(it.str("expression"), Wanted::Bool, true),
                told: (!told.is_empty()).then(|| compiled(told, Wanted::Text, false)),
                message: it.str("message").trim().to_owned(),
                reason: it.str("reason").to_owned(),
            }
        };
        let annotation = |it: &Value| {
            let text = it.str("valueExpression");
            (it.str("key").to_owned(), compiled(text, Wanted::TextOrNull, true))
        };
        let condition = |it: &Value| compiled(it.str("expression").trim(), Wanted::Bool, true);
        Expressions {
            conditions: spec.list("matchConditions").iter().map(condition).collect(),
            variables,
            validations: spec.list("validations").iter().map(validation).collect(),
            annotations: spec.list("auditAnnotations").iter().map(annotation).collect(),
        }
    }
}

impl Binding {
    pub(super) fn of(tree: &Value) -> Binding {
        let (spec, param) = (tree.at("spec"), tree.at("spec.paramRef"));
        let matches = spec.at("matchResources");
        let actions = spec.list("validationActions").iter().filter_map(Value::as_str);
        Binding {
            name: tree.str("metadata.name").to_owned(),
            policy: spec.str("policyName").to_owned(),
            matches: (!matches.is_null()).then(|| Matches::of(matches, "resourceRules")),
            param: (!param.is_null()).then(|| Param {
                name: param.str("name").to_owned(),
                namespace: param.str("namespace").to_owned(),
                selector: Selector::from_label_selector(param.at("selector")),
                must_be: param.str("parameterNotFoundAction") == "Deny",
            }),
            actions: actions.map(str::to_owned).collect(),
        }
    }
}
