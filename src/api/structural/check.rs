//! What is wrong with a value under a structural schema, in upstream's words.
//!
//! Source: k8s.io/kube-openapi/pkg/validation/validate, apiextensions-apiserver/pkg/apiserver/validation.

use stdx::{OrdMap, OrdSet};

use serde_json::{Map, Number, Value};

use super::{At, Limits, ListType, Logic, Node, Structural, Type, property};
use crate::complain::{Cause, Complain, go_any};

/// How many complaints are made about one object.
const CAUSES_MAX: usize = 64;

/// What the checks of one object may cost: steps through its schema, and bytes of expressions times
/// bytes of the texts that they are matched with.
const COST_MAX: u64 = 32 << 20;

/// The checks of one object, or of a part of one.
pub(super) struct Checker<'a> {
    schema: &'a Structural,
    /// What stands before the path of a field that is told: upstream knows the status, and defaults,
    /// apart from the object that they are in.
    prefix: &'a str,
    path: String,
    causes: Vec<Cause>,
    cost: u64,
}

impl Structural {
    /// Checks a whole object. What is wrong in a part that is as it was before is let pass.
    pub fn check(&self, new: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
        causes.extend(self.at(0, "", new, old));
        let mut lists = Vec::new();
        self.lists(0, new, &mut String::new(), &mut lists);
        let mut before = Vec::new();
        if let (Some(old), false) = (old, lists.is_empty()) {
            self.lists(0, old, &mut String::new(), &mut before);
        }
        if before.is_empty() {
            causes.extend(lists);
        }
        self.embedded(new, causes);
    }

    /// Checks what comes through the `status` subresource.
    pub fn check_status(&self, new: &Value, old: &Value, causes: &mut Vec<Cause>) {
        let at = self.node(0).and_then(|root| property(root, "status"));
        if let (Some(at), Some(status)) = (at, new.get("status")) {
            causes.extend(self.at(at, "status", status, None));
        }
        let mut lists = [Vec::new(), Vec::new()];
        for (tree, found) in [new, old].into_iter().zip(&mut lists) {
            self.lists(0, tree, &mut String::new(), found);
        }
        let [lists, before] = lists;
        if before.is_empty() {
            causes.extend(lists);
        }
    }

    /// What is wrong with a value at a node; told under `prefix`.
    pub fn at(&self, at: At, prefix: &str, new: &Value, old: Option<&Value>) -> Vec<Cause> {
        let (path, causes) = (String::new(), Vec::new());
        let mut checker = Checker { schema: self, prefix, path, causes, cost: 0 };
        checker.value(at, new, old);
        if checker.cost > COST_MAX {
            let detail =
                "it costs too much to check: its schema is too wide for so large an object";
            checker.causes.truncate(CAUSES_MAX);
            checker.causes.invalid_whole("<nil>", detail);
        }
        checker.causes
    }

    /// Lists of type set and map whose items are not told apart.
    fn lists(&self, at: At, value: &Value, path: &mut String, causes: &mut Vec<Cause>) {
        let Some(node) = self.node(at) else { return };
        let len = path.len();
        match value {
            Value::Object(map) => {
                for (key, value) in map.iter().filter(|(_, it)| it.is_object() || it.is_array()) {
                    let Some(below) = self.below(node, key) else { continue };
                    enter(path, key);
                    self.lists(below, value, path, causes);
                    path.truncate(len);
                }
            }
            Value::Array(items) => {
                doubles(&node.list, items, path, causes);
                let Some(below) = node.items else { return };
                for (idx, item) in items.iter().enumerate() {
                    path.push_str(&format!("[{idx}]"));
                    self.lists(below, item, path, causes);
                    path.truncate(len);
                }
            }
            _ => {}
        }
    }
}

/// Each item that is there a second time.
fn doubles(list: &ListType, items: &[Value], path: &str, causes: &mut Vec<Cause>) {
    let identity = |item: &Value| match list {
        ListType::Atomic => Value::Null,
        ListType::Set => item.clone(),
        ListType::Map(keys) => {
            let part = |key: &str| Some((key.to_owned(), item.get(key)?.clone()));
            Value::Object(keys.iter().filter_map(|key| part(key)).collect::<Map<_, _>>())
        }
    };
    if *list == ListType::Atomic || causes.len() >= CAUSES_MAX {
        return;
    }
    let is_map = matches!(list, ListType::Map(_));
    if let Some((idx, item)) =
        items.iter().enumerate().find(|(_, item)| is_map && !item.is_object() && !item.is_null())
    {
        let detail = "must be an object for an array of list-type map";
        causes.invalid(&format!("{path}[{idx}]"), item, detail);
        return;
    }
    let (mut seen, mut told) = (OrdSet::new(), OrdSet::new());
    for (idx, item) in items.iter().enumerate() {
        let identity = identity(item);
        let text = identity.to_string();
        if !seen.insert(text.clone()) && told.insert(text) && causes.len() < CAUSES_MAX {
            let message = format!("Duplicate value: {}", go_any(&identity));
            causes.complain("FieldValueDuplicate", &format!("{path}[{idx}]"), message);
        }
    }
}

pub(super) fn enter(path: &mut String, key: &str) {
    if !path.is_empty() {
        path.push('.');
    }
    path.push_str(key);
}

impl Checker<'_> {
    /// Where this is, as a field of the answer.
    fn field(&self) -> String {
        match (self.prefix, self.path.as_str()) {
            ("", "") => "<nil>".into(),
            (prefix, "") => prefix.into(),
            ("", path) => path.into(),
            (prefix, path) => format!("{prefix}.{path}"),
        }
    }

    fn invalid(&mut self, value: &Value, detail: &str) {
        let message = format!("Invalid value: {}: {} {detail}", go_any(value), self.named());
        self.tell("FieldValueInvalid", message);
    }

    fn tell(&mut self, reason: &'static str, message: String) {
        let field = self.field();
        self.causes.complain(reason, &field, message);
    }

    /// The name of the value in messages.
    fn named(&self) -> String {
        format!("{} in body", self.path)
    }

    fn is_over(&self) -> bool {
        self.causes.len() >= CAUSES_MAX || self.cost > COST_MAX
    }

    /// Checks a value at a node. What was so before, and was in its place, passes.
    fn value(&mut self, at: At, value: &Value, old: Option<&Value>) -> u32 {
        let told = self.causes.len();
        let n_matched = self.all(at, value, old);
        if self.causes.len() > told && old == Some(value) {
            self.causes.truncate(told);
        }
        n_matched
    }

    /// Every check of a node; answers how many of them there were, by which the best of several
    /// alternatives is chosen.
    fn all(&mut self, at: At, value: &Value, old: Option<&Value>) -> u32 {
        self.cost += 1;
        let Some(node) = self.schema.node(at) else { return 1 };
        if self.is_over() {
            return 1;
        }
        let mut n_matched = 2;
        if node.kind != Type::Any && !(value.is_null() && node.nullable) {
            n_matched += 1;
            match node.kind.fits(value) {
                true => n_matched += 1,
                false => self.ill_typed(node.kind, value),
            }
        }
        if let Some(limits) = &node.limits {
            self.values(limits, value);
        }
        if value.is_null() {
            return n_matched;
        }
        if let Some(logic) = &node.logic {
            n_matched += self.logic(logic, value, old);
        }
        match value {
            Value::Object(map) => n_matched += 1 + self.object(node, map, old),
            Value::Array(items) => n_matched += 1 + self.items(node, items, old),
            Value::String(text) => {
                n_matched += 1;
                node.limits.as_ref().into_iter().for_each(|it| self.text(it, text, value));
            }
            Value::Number(number) => {
                n_matched += 1;
                node.limits.as_ref().into_iter().for_each(|it| self.number(it, number, value));
            }
            _ => {}
        }
        n_matched
    }

    fn ill_typed(&mut self, wanted: Type, value: &Value) {
        let found = type_name(value);
        let named = self.named();
        let message = format!(
            "Invalid value: {found:?}: {named} must be of type {}: {found:?}",
            wanted.name()
        );
        self.tell("FieldValueTypeInvalid", message);
    }

    fn values(&mut self, limits: &Limits, value: &Value) {
        let allowed = &limits.values;
        self.cost += allowed.len() as u64;
        let same = |allowed: &Value| match (allowed, value) {
            (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
            (Value::Null, _) => false,
            (allowed, value) => allowed == value,
        };
        if allowed.is_empty() || allowed.iter().any(same) {
            return;
        }
        let shown = match value {
            Value::Null => "\"null\"".into(),
            value => go_any(value),
        };
        let allowed: Vec<String> = allowed
            .iter()
            .map(|allowed| match allowed {
                Value::String(text) => format!("{text:?}"),
                other => format!("{:?}", other.to_string()),
            })
            .collect();
        let message =
            format!("Unsupported value: {shown}: supported values: {}", allowed.join(", "));
        self.tell("FieldValueNotSupported", message);
    }

    fn object(&mut self, node: &Node, map: &Map<String, Value>, old: Option<&Value>) -> u32 {
        if let Some(limits) = &node.limits {
            let (few, many) = limits.entries.broken(map.len());
            if let Some(min) = few {
                let detail = format!("should have at least {min} properties");
                self.invalid(&map.len().into(), &detail);
            }
            self.too_many(map.len(), many);
        }
        let at_root = self.path.is_empty();
        let len = self.path.len();
        let before = old.filter(|_| !node.atomic).and_then(Value::as_object);
        let mut n_matched = 0;
        for (key, value) in map {
            let below = property(node, key);
            if below.is_none() && node.closed {
                let message = format!(
                    "Invalid value: {key:?}: {}.{key} in body is a forbidden property",
                    self.path
                );
                self.tell("FieldValueInvalid", message);
                continue;
            }
            let Some(below) = below.or(node.additional) else { continue };
            let is_type = at_root && matches!(key.as_str(), "kind" | "apiVersion");
            let before = before.and_then(|old| old.get(key)).filter(|_| !is_type);
            enter(&mut self.path, key);
            n_matched += self.value(below, value, before);
            self.path.truncate(len);
        }
        for name in node.required.iter().filter(|name| !map.contains_key(&***name)) {
            enter(&mut self.path, name);
            self.tell("FieldValueRequired", "Required value".into());
            self.path.truncate(len);
        }
        n_matched
    }

    fn items(&mut self, node: &Node, items: &[Value], old: Option<&Value>) -> u32 {
        let mut n_matched = 0;
        if let Some(below) = node.items {
            let len = self.path.len();
            let before = old.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
            let index = Correlated::of(&node.list, before);
            for (idx, item) in items.iter().enumerate() {
                self.path.push_str(&format!("[{idx}]"));
                n_matched += self.value(below, item, index.find(item));
                self.path.truncate(len);
                if self.is_over() {
                    break;
                }
            }
        }
        if let Some(limits) = &node.limits {
            let (few, many) = limits.items.broken(items.len());
            if let Some(min) = few {
                self.invalid(&items.len().into(), &format!("should have at least {min} items"));
            }
            self.too_many(items.len(), many);
            let mut seen = OrdSet::new();
            if limits.unique && !items.iter().all(|item| seen.insert(item.to_string())) {
                self.invalid(&"".into(), "shouldn't contain duplicates");
            }
        }
        n_matched
    }

    fn too_many(&mut self, n: usize, most: Option<i64>) {
        if let Some(max) = most {
            let message = format!("Too many: {n}: must have at most {max} items");
            self.tell("FieldValueTooMany", message);
        }
    }

    fn text(&mut self, limits: &Limits, text: &str, value: &Value) {
        // Upstream tells the first of these.
        let (short, long) = limits.length.broken(text.chars().count());
        if let Some(max) = long {
            self.tell("FieldValueTooLong", format!("Too long: may not be more than {max} bytes"));
        } else if let Some(min) = short {
            self.invalid(value, &format!("should be at least {min} chars long"));
        } else if let Some(pattern) = &limits.pattern
            && !pattern.matches(text, &mut self.cost, COST_MAX)
        {
            self.invalid(value, &format!("should match '{}'", pattern.text()));
        }
        if let Some(format) = limits.format.as_ref().filter(|format| !format.fits(text)) {
            let message = format!(
                "Invalid value: {text:?}: {} must be of type {}: {text:?}",
                self.named(),
                format.name()
            );
            self.tell("FieldValueTypeInvalid", message);
        }
    }

    fn number(&mut self, limits: &Limits, number: &Number, value: &Value) {
        let Some(float) = number.as_f64() else { return };
        // Whole numbers are compared with the whole part of a bound.
        let whole = !number.is_f64();
        let bound = |bound: Option<f64>| bound.map(|it| if whole { it.trunc() } else { it });
        let mut told = Vec::new();
        if let Some(max) = bound(limits.maximum) {
            match limits.exclusive_maximum {
                true if float >= max => told.push(format!("less than {}", shown(max))),
                false if float > max => told.push(format!("less than or equal to {}", shown(max))),
                _ => {}
            }
        }
        if let Some(min) = bound(limits.minimum) {
            match limits.exclusive_minimum {
                true if float <= min => told.push(format!("greater than {}", shown(min))),
                false if float < min => {
                    told.push(format!("greater than or equal to {}", shown(min)));
                }
                _ => {}
            }
        }
        let factor = bound(limits.multiple_of);
        if let Some(factor) = factor.filter(|factor| *factor <= 0.0) {
            let message = format!(
                "Invalid value: {factor}: factor MultipleOf declared for {} must be positive: {factor}",
                self.path
            );
            self.tell("FieldValueInvalid", message);
        }
        if let Some(factor) = factor.filter(|factor| *factor > 0.0) {
            let times = if factor < 1.0 { 1.0 / factor * float } else { float / factor };
            if (times - times.round()).abs() > 1e-9 * times.abs().max(1.0) {
                told.push(format!("a multiple of {}", shown(factor)));
            }
        }
        for what in told {
            self.invalid(value, &format!("should be {what}"));
        }
    }

    /// `anyOf`, `oneOf`, `allOf` and `not`: of alternatives that all fail, the one that came closest is told.
    fn logic(&mut self, logic: &Logic, value: &Value, old: Option<&Value>) -> u32 {
        let mut n_matched = 1;
        let path = self.path.clone();
        let whole = |causes: &mut Vec<Cause>, what: String| {
            let message = format!("Invalid value: \"\": {path:?} must {what}");
            causes.complain("FieldValueInvalid", "<nil>", message);
        };
        for (alternatives, any) in [(&logic.any, true), (&logic.one, false)] {
            if alternatives.is_empty() {
                continue;
            }
            let (mut n_valid, mut best): (usize, Option<(u32, Vec<Cause>)>) = (0, None);
            for at in alternatives {
                let told = self.causes.len();
                let score = self.all(*at, value, old);
                let failures = self.causes.split_off(told);
                match failures.is_empty() {
                    true => n_valid += 1,
                    false if best.as_ref().is_none_or(|(most, _)| score > *most) => {
                        best = Some((score, failures));
                    }
                    false => {}
                }
                if any && n_valid > 0 {
                    break;
                }
            }
            let what = match (any, n_valid) {
                (true, 0) => "validate at least one schema (anyOf)".into(),
                (true, _) | (false, 1) => continue,
                (false, 0) => "validate one and only one schema (oneOf). Found none valid".into(),
                (false, n) => format!(
                    "validate one and only one schema (oneOf). Found {n} valid alternatives"
                ),
            };
            whole(&mut self.causes, what);
            self.causes.extend(best.filter(|_| n_valid == 0).into_iter().flat_map(|(_, it)| it));
        }
        let mut n_valid = 0;
        for at in &logic.all {
            let told = self.causes.len();
            n_matched += self.all(*at, value, old);
            n_valid += usize::from(self.causes.len() == told);
        }
        if n_valid != logic.all.len() {
            let none = if n_valid == 0 { ". None validated" } else { "" };
            whole(&mut self.causes, format!("validate all the schemas (allOf){none}"));
        }
        if let Some(not) = logic.not {
            let told = self.causes.len();
            self.all(not, value, old);
            if self.causes.len() == told {
                whole(&mut self.causes, "not validate the schema (not)".into());
            } else {
                self.causes.truncate(told);
            }
        }
        n_matched
    }
}

/// The items of a list as it was, found by their keys.
pub(super) enum Correlated<'a> {
    Nothing,
    ByKeys(&'a [Box<str>], OrdMap<String, &'a Value>),
}

impl<'a> Correlated<'a> {
    /// Of items with the same keys the first counts.
    pub(super) fn of(list: &'a ListType, items: &'a [Value]) -> Correlated<'a> {
        match list {
            ListType::Map(keys) if !items.is_empty() => {
                let mut first = OrdMap::new();
                for item in items {
                    first.entry(identity(keys, item)).or_insert(item);
                }
                Correlated::ByKeys(keys, first)
            }
            _ => Correlated::Nothing,
        }
    }

    pub(super) fn find(&self, item: &Value) -> Option<&'a Value> {
        match self {
            Correlated::Nothing => None,
            Correlated::ByKeys(keys, items) => items.get(&identity(keys, item)).copied(),
        }
    }
}

fn identity(keys: &[Box<str>], item: &Value) -> String {
    let parts: Vec<String> =
        keys.iter().map(|key| item.get(&**key).map(Value::to_string).unwrap_or_default()).collect();
    parts.join("\n")
}

impl Type {
    fn fits(self, value: &Value) -> bool {
        let whole = || value.as_f64().is_some_and(|number| number.fract() == 0.0);
        match self {
            Type::Any => true,
            Type::Object => value.is_object(),
            Type::Array => value.is_array(),
            Type::String => value.is_string(),
            Type::Integer => whole(),
            Type::Number => value.is_number(),
            Type::Boolean => value.is_boolean(),
            Type::IntOrString => value.is_string() || whole(),
        }
    }
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// A number as Go shows it.
fn shown(number: f64) -> String {
    match number.abs() {
        huge if huge >= 1e21 => format!("{number:e}").replace('e', "e+"),
        _ => number.to_string(),
    }
}
