//! `x-kubernetes-validations`: rules of a schema in CEL, compiled when they are first used and kept with it.
//!
//! Source: k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel.

use cel::{
    Fail, Identity, Input, Place, Program, Schemas, Shape, Spent, Type as CelType, Val, Variable,
    Wrong,
};
use serde_json::Value;
use stdx::Arrange;

use super::check::Correlated;
use super::formats::Format;
use super::{At, ListType, NOTHING, Node, Structural, Type, property};
use crate::complain::{Cause, Complain};
use crate::lens::Lens;

/// How many complaints rules make about one object.
const CAUSES_MAX: usize = 64;
/// How long a message that an expression makes may be, in bytes.
const MESSAGE_MAX: usize = 5 * 1024;

/// Places beside the schema's own: what every whole object has.
pub const TEXT: usize = usize::MAX;
pub const META: usize = usize::MAX - 1;

/// A schema as expressions see it.
#[derive(Debug)]
pub struct View<'a> {
    pub(super) schema: &'a Structural,
    /// The place that is a whole object although its node does not say so.
    pub(super) root: Option<At>,
}

impl<'a> View<'a> {
    /// Of whole objects; their place is 0.
    pub fn of(schema: &'a Structural) -> View<'a> {
        View { schema, root: Some(0) }
    }

    fn node(&self, at: usize) -> Option<&'a Node> {
        self.schema.node(At::try_from(at).ok()?)
    }

    fn is_whole(&self, at: usize, node: &Node) -> bool {
        node.embedded || self.root.is_some_and(|root| root as usize == at)
    }
}

impl Schemas for View<'_> {
    fn shape(&self, at: usize) -> Shape {
        let Some(node) = self.node(at) else {
            return if at == META { Shape::Object } else { Shape::Str };
        };
        let format = node.limits.as_ref().and_then(|limits| limits.format.as_ref());
        match node.kind {
            Type::IntOrString => Shape::IntOrString,
            // `additionalProperties: true` says nothing of what there is.
            Type::Object if node.additional.is_some_and(|below| below != NOTHING) => Shape::Map,
            Type::Object => Shape::Object,
            Type::Array if node.items.is_some() => Shape::List,
            Type::Array | Type::Any => Shape::Hidden,
            Type::Integer => Shape::Int,
            Type::Number => Shape::Double,
            Type::Boolean => Shape::Bool,
            Type::String => match format.map(Format::name) {
                Some("byte") => Shape::Bytes,
                Some("date") => Shape::Date,
                Some("date-time") => Shape::Time,
                Some("duration") => Shape::Duration,
                _ => Shape::Str,
            },
        }
    }

    fn field(&self, at: usize, name: &str) -> Option<usize> {
        let Some(node) = self.node(at) else {
            return (at == META && matches!(name, "name" | "generateName")).then_some(TEXT);
        };
        if self.is_whole(at, node) {
            match name {
                "apiVersion" | "kind" => return Some(TEXT),
                "metadata" => return Some(META),
                _ => {}
            }
        }
        property(node, name).map(|below| below as usize)
    }

    fn inner(&self, at: usize) -> Option<usize> {
        let node = self.node(at)?;
        node.items.or(node.additional).map(|below| below as usize)
    }

    fn name(&self, _: usize) -> String {
        "object".into()
    }

    fn limit(&self, at: usize) -> Option<u64> {
        let node = self.node(at)?;
        let limits = node.limits.as_ref()?;
        let max = match node.kind {
            Type::Array => limits.items.max,
            Type::Object => limits.entries.max,
            _ => limits.length.max,
        };
        max.map(|max| u64::try_from(max).unwrap_or(0))
    }

    fn longest(&self, at: usize) -> Option<u64> {
        let values = &self.node(at)?.limits.as_ref()?.values;
        values.iter().filter_map(Value::as_str).map(|text| text.len() as u64).max()
    }

    fn required(&self, at: usize, see: &mut dyn FnMut(&str, usize)) {
        let Some(node) = self.node(at) else { return };
        for name in &node.required {
            let below = property(node, name).filter(|below| {
                self.schema.node(*below).is_some_and(|below| below.default.is_none())
            });
            if let Some(below) = below {
                see(name, below as usize);
            }
        }
    }

    fn identity(&self, at: usize) -> Identity<'_> {
        match self.node(at).map(|node| &node.list) {
            Some(ListType::Set) => Identity::Value,
            Some(ListType::Map(keys)) => Identity::Keys(keys),
            _ => Identity::Place,
        }
    }
}

/// A rule that was compiled.
#[derive(Debug)]
pub(super) struct Rule {
    /// Nothing if the rule is empty.
    pub(super) program: Option<Program>,
    pub(super) error: Option<String>,
    pub(super) uses_old: bool,
    pub(super) cost: u64,
    pub(super) message: Option<Program>,
    pub(super) message_error: Option<String>,
    pub(super) message_cost: u64,
}

/// The rules of every node that has some, by place.
#[derive(Debug, Default)]
pub(super) struct Rules {
    nodes: Vec<(At, Vec<Rule>)>,
    /// Places below which there are rules, in order.
    ways: Vec<At>,
}

impl Rules {
    /// About how much memory they take.
    pub(super) fn heap_bytes(&self) -> usize {
        let programs = self.nodes.iter().flat_map(|(_, rules)| rules).map(|rule| {
            let programs = [&rule.program, &rule.message].into_iter().flatten();
            size_of::<Rule>() + programs.map(Program::heap_bytes).sum::<usize>()
        });
        programs.sum()
    }
}

/// Compiles an expression about `self` and `oldSelf`.
fn compiled<'v>(
    text: &str,
    place: Place<'v>,
    optional: bool,
    wanted: &str,
) -> Result<(Program, u64), String> {
    let of = CelType::of(place);
    let old = if optional { CelType::optional(of.clone()) } else { of.clone() };
    let variables = [Variable { name: "self", kind: of }, Variable { name: "oldSelf", kind: old }];
    let compiled = cel::compile(text, &variables, Some(place)).map_err(|wrong| match wrong {
        Wrong::Text(why) => format!("compilation failed: {why}"),
        Wrong::Constant(why) if wanted == "bool" => format!("program instantiation failed: {why}"),
        Wrong::Constant(why) => format!("instantiation failed: {why}"),
    })?;
    let fits = match wanted {
        "bool" => matches!(compiled.output, CelType::Bool),
        _ => matches!(compiled.output, CelType::Str),
    };
    match (fits, wanted) {
        (true, _) => Ok((compiled.program, compiled.cost.max)),
        (false, "bool") => Err("cel expression must evaluate to a bool".into()),
        (false, _) => Err("must evaluate to a string".into()),
    }
}

/// The rules of a node: one for each that is written.
pub(super) fn compile(view: &View<'_>, at: At, rules: &Value) -> Vec<Rule> {
    let place = Place { of: view, at: at as usize };
    let one = |rule: &Value| {
        let mut out = Rule {
            program: None,
            error: None,
            uses_old: false,
            cost: 0,
            message: None,
            message_error: None,
            message_cost: 0,
        };
        let text = rule.str("rule");
        if text.trim().is_empty() {
            return out;
        }
        match compiled(text, place, rule.flag("optionalOldSelf"), "bool") {
            Err(why) => {
                out.error = Some(why);
                return out;
            }
            Ok((program, cost)) => {
                out.uses_old = program.uses(1);
                (out.program, out.cost) = (Some(program), cost);
            }
        }
        let text = rule.str("messageExpression");
        if !text.is_empty() {
            match compiled(text, place, rule.flag("optionalOldSelf"), "string") {
                Err(why) => out.message_error = Some(format!("messageExpression {why}")),
                Ok((program, cost)) => (out.message, out.message_cost) = (Some(program), cost),
            }
        }
        out
    };
    rules.as_array().into_iter().flatten().map(one).collect()
}

impl Structural {
    /// Its rules, compiled when they are first asked for.
    fn rules(&self) -> &Rules {
        self.compiled.get_or_init(|| {
            let mut rules = Rules::default();
            self.collect(0, &mut rules);
            rules.ways.arrange();
            rules.nodes.arrange_by_key(|(at, _)| *at);
            rules
        })
    }

    /// Whether there are rules at a node or below it.
    fn collect(&self, at: At, into: &mut Rules) -> bool {
        let Some(node) = self.node(at) else { return false };
        let mut found = false;
        if let Some(rules) = &node.rules {
            let view = View { schema: self, root: (at == 0).then_some(0) };
            into.nodes.push((at, compile(&view, at, rules)));
            found = true;
        }
        for (_, below) in &node.properties {
            found |= self.collect(*below, into);
        }
        for below in [node.items, node.additional].into_iter().flatten() {
            found |= self.collect(below, into);
        }
        if found {
            into.ways.push(at);
        }
        found
    }

    /// The normal form of a path from a node to a field that there may be: `.a['b']` is `.a.b`, and the key
    /// of a map stands in brackets.
    pub(super) fn field_path(&self, mut at: At, path: &str) -> Option<String> {
        let (mut out, mut rest) = (String::new(), path);
        while !rest.is_empty() {
            let (name, after) = match rest.strip_prefix("['") {
                Some(quoted) => quoted.split_once("']")?,
                None => {
                    let name = rest.strip_prefix('.')?;
                    name.split_at(name.find(['.', '[']).unwrap_or(name.len()))
                }
            };
            let node = self.node(at)?;
            let name = name.replace("\\'", "'").replace("\\\\", "\\");
            (at, rest) = match (property(node, &name), node.additional) {
                (Some(below), _) => {
                    out.push('.');
                    out.push_str(&name);
                    (below, after)
                }
                (None, Some(below)) if node.properties.is_empty() => {
                    out.push_str(&format!("[{name}]"));
                    (below, after)
                }
                _ => return None,
            };
        }
        Some(out)
    }

    /// Evaluates every rule about a whole object. Rules about the change from `old` are evaluated where
    /// something before corresponds; what breaks a rule but is as it was passes if `ratchet` is set.
    pub fn obey(&self, new: &Value, old: Option<&Value>, ratchet: bool, causes: &mut Vec<Cause>) {
        if self.nodes.iter().all(|node| node.rules.is_none()) {
            return;
        }
        let blocks = |cause: &Cause| {
            matches!(
                cause.reason,
                "FieldValueNotSupported"
                    | "FieldValueRequired"
                    | "FieldValueTooLong"
                    | "FieldValueTooMany"
                    | "FieldValueTypeInvalid"
            )
        };
        if causes.iter().any(blocks) {
            let why = "some validation rules were not checked because the object was invalid; correct the existing errors to complete validation";
            return causes.complain(
                "FieldValueInvalid",
                "<nil>",
                format!("Invalid value: \"null\": {why}"),
            );
        }
        let view = View { schema: self, root: Some(0) };
        let mut walk = Walk {
            view: &view,
            rules: self.rules(),
            path: String::new(),
            budget: cel::OBJECT_MAX,
            stopped: false,
            causes,
            told: 0,
        };
        let before =
            Before { value: old, same: old == Some(new), ratchet: ratchet && old.is_some() };
        walk.value(0, new, before);
    }
}

/// What corresponds to a value in the object before.
#[derive(Clone, Copy)]
struct Before<'v> {
    value: Option<&'v Value>,
    /// It is the same as now, or is in something that is.
    same: bool,
    ratchet: bool,
}

impl<'v> Before<'v> {
    fn below(self, value: Option<&'v Value>, now: &Value) -> Before<'v> {
        let same = match value {
            Some(value) => self.same || value == now,
            None => self.same,
        };
        Before { value, same, ratchet: self.ratchet }
    }
}

struct Walk<'w, 's> {
    view: &'w View<'s>,
    rules: &'s Rules,
    path: String,
    budget: u64,
    /// The budget is spent.
    stopped: bool,
    causes: &'w mut Vec<Cause>,
    told: usize,
}

impl<'s> Walk<'_, 's> {
    fn value(&mut self, at: At, value: &Value, before: Before<'_>) {
        if self.stopped || value.is_null() || self.rules.ways.binary_search(&at).is_err() {
            return;
        }
        let rules = self.rules;
        if let Ok(found) = rules.nodes.binary_search_by_key(&at, |(at, _)| *at) {
            self.node(at, &rules.nodes[found].1, value, before);
        }
        let schema = self.view.schema;
        let Some(node) = schema.node(at) else { return };
        let len = self.path.len();
        match value {
            Value::Object(map) => {
                let old = before.value.and_then(Value::as_object);
                for (key, value) in map {
                    let property = property(node, key);
                    let Some(below) = property.or(node.additional) else { continue };
                    if self.stopped {
                        return;
                    }
                    match property {
                        Some(_) => super::check::enter(&mut self.path, key),
                        None => self.path.push_str(&format!("[{key}]")),
                    }
                    let old = old.and_then(|old| old.get(key));
                    self.value(below, value, before.below(old, value));
                    self.path.truncate(len);
                }
            }
            Value::Array(items) => self.items(node, items, before),
            _ => {}
        }
    }

    fn items(&mut self, node: &Node, items: &[Value], before: Before<'_>) {
        let Some(below) = node.items else { return };
        let len = self.path.len();
        let old = before.value.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let index = Correlated::of(&node.list, old);
        for (idx, item) in items.iter().enumerate() {
            if self.stopped {
                return;
            }
            let old = index.find(item);
            self.path.push_str(&format!("[{idx}]"));
            self.value(below, item, before.below(old, item));
            self.path.truncate(len);
        }
    }

    fn node(&mut self, at: At, rules: &[Rule], value: &Value, before: Before<'_>) {
        let Some(node) = self.view.schema.node(at) else { return };
        let place = Place { of: self.view, at: at as usize };
        let written = node.rules.as_ref().and_then(|rules| rules.as_array());
        let written = written.map_or(&[][..], Vec::as_slice);
        let typed = Val::typed(value, place);
        let old = before.value.filter(|old| !old.is_null()).map(|old| Val::typed(old, place));
        for (rule, written) in rules.iter().zip(written) {
            if self.stopped {
                return;
            }
            if let Some(error) = &rule.error {
                self.invalid(node, format!("rule compile error: {error}"));
                continue;
            }
            let Some(program) = &rule.program else { continue };
            let optional = written.flag("optionalOldSelf");
            if rule.uses_old && before.value.is_none() && !optional {
                continue;
            }
            let (now, old) = match (typed.clone(), old.clone().transpose()) {
                (Ok(now), Ok(old)) => (now, old),
                (Err(why), _) | (_, Err(why)) => {
                    let detail = format!("{} evaluating rule: {}", why.message, shown(written));
                    self.invalid(node, detail);
                    continue;
                }
            };
            let old = if optional { Val::optional(old) } else { old.unwrap_or(Val::Null) };
            let variables = [now, old];
            let input = Input { variables: &variables, host: &super::host::Formats };
            self.rule(at, rule, program, written, &input, before);
        }
    }

    /// Evaluates within what is left of the budget; nothing if that was spent.
    fn run(&mut self, program: &Program, input: &Input<'_, '_>) -> Option<Result<Ran, Box<Fail>>> {
        let mut spent = Spent::up_to(cel::CALL_MAX);
        let found = match program.run(input, &mut spent) {
            Ok(Val::Bool(is)) => Ok(Ran::Bool(is)),
            Ok(value) => Ok(Ran::Text(value.as_str().unwrap_or("").to_owned())),
            Err(why) => Err(why),
        };
        self.budget = self.budget.checked_sub(spent.cost)?;
        Some(found)
    }

    fn rule(
        &mut self,
        at: At,
        rule: &Rule,
        program: &Program,
        written: &Value,
        input: &Input<'_, '_>,
        before: Before<'_>,
    ) {
        let Some(node) = self.view.schema.node(at) else { return };
        let broken = match self.run(program, input) {
            Some(Ok(Ran::Bool(true))) => return,
            Some(Ok(_)) => None,
            Some(Err(why)) => Some(why),
            None => {
                self.stopped = true;
                let detail = "validation failed due to running out of cost budget, no further validation rules will be run";
                return self.invalid(node, detail.into());
            }
        };
        if let Some(why) = broken {
            let rule = shown(written);
            let text = &why.message;
            let detail = if why.cancelled {
                self.stopped = true;
                format!(
                    "'{text}': no further validation rules will be run due to call cost exceeds limit for rule: {rule}"
                )
            } else if text.starts_with("no such overload") {
                format!(
                    "'{text}': call arguments did not match a supported operator, function or macro signature for rule: {rule}"
                )
            } else {
                format!("{text} evaluating rule: {rule}")
            };
            return self.invalid(node, detail);
        }
        if !rule.uses_old && before.ratchet && before.same {
            return;
        }
        let len = self.path.len();
        let message = self.message(node, rule, written, input);
        let field = self.view.schema.field_path(at, written.str("fieldPath"));
        self.path.push_str(&field.unwrap_or_default());
        if len == 0 && self.path.starts_with('.') {
            self.path.remove(0);
        }
        if let Some(message) = message {
            self.tell(node, written.str("reason"), message);
        }
        self.path.truncate(len);
    }

    /// What a broken rule says; nothing if that was told as an error of its own.
    fn message(
        &mut self,
        node: &Node,
        rule: &Rule,
        written: &Value,
        input: &Input<'_, '_>,
    ) -> Option<String> {
        let fixed = written.str("message").trim();
        let fixed = match fixed {
            "" => format!("failed rule: {}", shown(written)),
            fixed => fixed.to_owned(),
        };
        let Some(program) = &rule.message else { return Some(fixed) };
        let text = written.str("messageExpression");
        match self.run(program, input) {
            Some(Ok(Ran::Text(made))) => {
                let made = made.trim();
                let good = !made.is_empty() && made.len() <= MESSAGE_MAX && !made.contains('\n');
                Some(if good { made.to_owned() } else { fixed })
            }
            Some(Err(why)) if why.cancelled => {
                self.stopped = true;
                self.invalid(node, format!("no further validation rules will be run due to call cost exceeds limit for messageExpression: {text:?}"));
                None
            }
            Some(_) => Some(fixed),
            None => {
                self.stopped = true;
                let detail = "messageExpression evaluation failed due to running out of cost budget, no further validation rules will be run";
                self.invalid(node, detail.into());
                None
            }
        }
    }

    fn invalid(&mut self, node: &Node, detail: String) {
        self.tell(node, "", detail);
    }

    fn tell(&mut self, node: &Node, reason: &str, detail: String) {
        self.told += 1;
        if self.told > CAUSES_MAX {
            self.stopped = true;
            return;
        }
        let path = if self.path.is_empty() { "<nil>" } else { self.path.as_str() };
        let kind = node.kind.name();
        let (reason, message) = match reason {
            "FieldValueForbidden" => ("FieldValueForbidden", format!("Forbidden: {detail}")),
            "FieldValueRequired" => ("FieldValueRequired", format!("Required value: {detail}")),
            "FieldValueDuplicate" => ("FieldValueDuplicate", format!("Duplicate value: {kind:?}")),
            _ => ("FieldValueInvalid", format!("Invalid value: {kind:?}: {detail}")),
        };
        self.causes.complain(reason, path, message);
    }
}

/// What an expression came to.
enum Ran {
    Bool(bool),
    Text(String),
}

/// How messages call a rule.
fn shown(rule: &Value) -> &str {
    match rule.str("message") {
        "" => rule.str("rule").trim(),
        message => message.trim(),
    }
}
