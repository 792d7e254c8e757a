//! Rules of a schema when its kind is defined: what is wrong with them, and what they cost at worst.
//!
//! Source: k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation (v1.32).

use cel::{Place, Type as CelType};
use serde_json::Value;
use stdx::Arrange;

use super::rules::{Rule, View, compile};
use super::{At, ListType, Node, Structural, Type};
use crate::complain::{Cause, Complain, go_any};
use crate::lens::Lens;

/// What one expression may cost, times how often it may be evaluated about one object.
const EXPRESSION_MAX: u64 = 10_000_000;
/// What all rules of a schema may cost together.
const SCHEMA_MAX: u64 = 100_000_000;
/// How many of the most expensive rules are told.
const EXPENSIVE_MAX: usize = 4;
/// The largest request, in bytes: how often something may be there that nothing bounds.
const REQUEST_MAX: u64 = 3 * 1024 * 1024;

/// What holds of a node because of where it is.
#[derive(Clone)]
struct Scope {
    path: String,
    /// How often it may be there, if every list and map around it has a bound.
    count: Option<u64>,
    /// The outermost list around it whose items do not correspond to those before.
    loose: Option<String>,
}

struct Check<'c> {
    schema: &'c Structural,
    total: u64,
    expensive: Vec<(u64, String)>,
    causes: &'c mut Vec<Cause>,
}

impl Structural {
    /// Complains of rules, whose form is well, of what they say and cost. `path` is the schema's.
    pub fn check_rules(&self, path: &str, causes: &mut Vec<Cause>) {
        let mut check = Check { schema: self, total: 0, expensive: Vec::new(), causes };
        check.node(0, &Scope { path: path.into(), count: Some(1), loose: None });
        if check.total > SCHEMA_MAX {
            for (_, path) in &check.expensive {
                let detail = "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema";
                check.causes.forbidden(path, detail);
            }
            let what =
                "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema";
            check.causes.forbidden(path, &exceeds(what, check.total, SCHEMA_MAX));
        }
    }
}

/// Each schema below a node, with its path.
fn each_below(node: &Node, path: &str, see: &mut dyn FnMut(At, String)) {
    if let Some(below) = node.additional {
        see(below, format!("{path}.additionalProperties"));
    }
    for (name, below) in &node.properties {
        see(*below, format!("{path}.properties[{name}]"));
    }
    if let Some(below) = node.items {
        see(below, format!("{path}.items"));
    }
}

impl Check<'_> {
    fn node(&mut self, at: At, scope: &Scope) {
        let Some(node) = self.schema.node(at) else { return };
        let limits = node.limits.as_deref();
        let most = match node.kind {
            Type::Object if node.additional.is_some() => limits.and_then(|it| it.entries.max),
            Type::Array => limits.and_then(|it| it.items.max),
            _ => Some(1),
        };
        let most = most.map(|most| u64::try_from(most).unwrap_or(0));
        let count = match (scope.count, most) {
            (Some(count), Some(most)) => Some(count.saturating_mul(most)),
            _ => None,
        };
        let corresponds = matches!(node.list, ListType::Map(_));
        let mut below = Vec::new();
        each_below(node, &scope.path, &mut |at, path| below.push((at, path)));
        for (at, path) in below {
            let mut loose = scope.loose.clone();
            if node.items == Some(at) && !corresponds {
                loose = loose.or_else(|| Some(scope.path.clone()));
            }
            self.node(at, &Scope { path, count, loose });
        }
        let Some(rules) = &node.rules else { return };
        let view = View { schema: self.schema, root: (at == 0).then_some(0) };
        let place = Place { of: &view, at: at as usize };
        let seen = !matches!(CelType::of(place), CelType::Dyn) || node.kind == Type::IntOrString;
        if !seen {
            let place = format!("{}.x-kubernetes-validations", scope.path);
            let detail = "Internal error: internal error: failed to construct type information for x-kubernetes-validations rules: unable to convert structural schema to CEL declarations";
            return self.causes.complain("InternalError", &place, detail.into());
        }
        let unbounded = REQUEST_MAX / (place.least_size() + 1);
        let compiled = compile(&view, at, rules);
        let written = rules.as_array().map_or(&[][..], Vec::as_slice);
        for (idx, (rule, written)) in compiled.iter().zip(written).enumerate() {
            let path = format!("{}.x-kubernetes-validations[{idx}]", scope.path);
            let field = written.str("fieldPath");
            if !field.is_empty() && self.schema.field_path(at, field).is_none() {
                let detail = "fieldPath must be a valid path";
                self.causes.invalid(&format!("{path}.fieldPath"), &field.into(), detail);
            }
            self.rule(rule, written, &path, scope, unbounded);
        }
    }

    fn rule(&mut self, rule: &Rule, written: &Value, path: &str, scope: &Scope, unbounded: u64) {
        let cost = rule.cost.saturating_mul(scope.count.unwrap_or(unbounded));
        let place = format!("{path}.rule");
        self.pay("estimated rule cost", cost, &place);
        if let Some(why) = &rule.error {
            self.invalid(&place, written, why);
        }
        let place = format!("{path}.messageExpression");
        if let Some(why) = &rule.message_error {
            self.invalid(&place, written, why);
        } else if rule.message.is_some() {
            self.pay("estimated messageExpression cost", rule.message_cost, &place);
        }
        if rule.uses_old {
            if let Some(loose) = &scope.loose {
                let detail = format!(
                    "oldSelf cannot be used on the uncorrelatable portion of the schema within {loose}"
                );
                self.causes.invalid(&format!("{path}.rule"), written.at("rule"), &detail);
            }
        } else if written.has("optionalOldSelf") {
            let detail = "may not be set if oldSelf is not used in rule";
            let place = format!("{path}.optionalOldSelf");
            self.causes.invalid(&place, written.at("optionalOldSelf"), detail);
        }
    }

    fn pay(&mut self, what: &str, cost: u64, path: &str) {
        if cost > EXPRESSION_MAX {
            self.causes.forbidden(path, &exceeds(what, cost, EXPRESSION_MAX));
        }
        self.total = self.total.saturating_add(cost);
        if cost >= SCHEMA_MAX / 100 {
            self.expensive.push((cost, path.into()));
            self.expensive.arrange_by(|(one, _), (other, _)| other.cmp(one));
            self.expensive.truncate(EXPENSIVE_MAX);
        }
    }

    /// Upstream shows the rule as Go holds it.
    fn invalid(&mut self, path: &str, rule: &Value, why: &str) {
        let text = |name: &str| go_any(&rule.str(name).into());
        let pointer = |name: &str, kind: &str| match rule.has(name) {
            true => format!("({kind})({})", go_any(rule.at(name))),
            false => format!("({kind})(nil)"),
        };
        let message = format!(
            "Invalid value: apiextensions.ValidationRule{{Rule:{}, Message:{}, MessageExpression:{}, Reason:{}, FieldPath:{}, OptionalOldSelf:{}}}: {why}",
            text("rule"),
            text("message"),
            text("messageExpression"),
            pointer("reason", "*apiextensions.FieldValueErrorReason"),
            text("fieldPath"),
            pointer("optionalOldSelf", "*bool"),
        );
        self.causes.complain("FieldValueInvalid", path, message);
    }
}

/// How much something is above its limit, in upstream's words.
fn exceeds(what: &str, cost: u64, limit: u64) -> String {
    let factor = cost as f64 / limit as f64;
    let factor = if factor > 100.0 {
        "more than 100x".into()
    } else if factor < 1.5 {
        format!("{factor:.6}x")
    } else {
        format!("{factor:.1}x")
    };
    format!(
        "{what} exceeds budget by factor of {factor} (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)"
    )
}
