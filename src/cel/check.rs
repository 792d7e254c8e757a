//! The type of every part of an expression, and what each name and call means. What does not fit is reported.
//!
//! Source: github.com/google/cel-go/checker.

use crate::ast::{Entry, Fold, Id, Item, Kind, Tree};
use crate::functions::{Function, Op, function, types};
use crate::syntax::issue::Issues;
use crate::types::{Type, Unifier, value_name};
use crate::value::Val;

/// A declared variable.
#[derive(Debug, Clone)]
pub struct Variable<'s> {
    pub name: &'s str,
    pub kind: Type<'s>,
}

/// What was found about an expression.
pub(crate) struct Checked<'s> {
    pub(crate) types: Vec<Type<'s>>,
    /// Which overloads a call may be; usually one.
    pub(crate) overloads: Vec<Vec<u16>>,
}

/// Checks `tree` from `root`, and resolves its names and calls.
pub(crate) fn check<'s>(
    tree: &mut Tree,
    root: Id,
    variables: &[Variable<'s>],
    issues: &mut Issues<'_>,
) -> Checked<'s> {
    let count = tree.nodes.len();
    let mut checker = Checker {
        tree,
        issues,
        variables,
        unifier: Unifier::default(),
        types: vec![Type::Error; count],
        overloads: vec![Vec::new(); count],
        scopes: Vec::new(),
        slots: 0,
    };
    checker.node(root);
    if checker.unifier.is_over() {
        // What was found before is not right.
        checker.issues.clear();
        checker.issues.add(u32::MAX, "expression is too complex to be checked".into());
    }
    let Checker { mut unifier, types, overloads, .. } = checker;
    let types = types.iter().map(|found| unifier.filled(found, true)).collect();
    Checked { types, overloads }
}

struct Checker<'c, 's, 'a> {
    tree: &'c mut Tree,
    issues: &'c mut Issues<'a>,
    variables: &'c [Variable<'s>],
    unifier: Unifier<'s>,
    types: Vec<Type<'s>>,
    overloads: Vec<Vec<u16>>,
    /// Variables of the comprehensions that surround a node: name, type, slot.
    scopes: Vec<(Box<str>, Type<'s>, u16)>,
    slots: u16,
}

impl<'s> Checker<'_, 's, '_> {
    fn report(&mut self, id: Id, message: String) {
        let at = self.tree.get(id).at;
        self.issues.add(at, message);
    }

    fn set(&mut self, id: Id, to: Type<'s>) {
        self.types[id as usize] = to;
    }

    fn of(&self, id: Id) -> Type<'s> {
        self.types[id as usize].clone()
    }

    fn shown(&mut self, of: &Type<'s>) -> String {
        self.unifier.shown(of)
    }

    fn mismatch(&mut self, id: Id, expected: &Type<'s>, found: &Type<'s>) {
        let message = format!(
            "expected type '{}' but found '{}'",
            self.unifier.shown(expected),
            self.unifier.shown(found)
        );
        self.report(id, message);
    }

    fn undeclared(&mut self, id: Id, name: &str) {
        self.report(id, format!("undeclared reference to '{name}' (in container '')"));
        self.set(id, Type::Error);
    }

    fn node(&mut self, id: Id) {
        match self.tree.kind(id).clone() {
            Kind::Const(value) => {
                let found = match value {
                    Val::Null => Type::Null,
                    Val::Bool(_) => Type::Bool,
                    Val::Int(_) => Type::Int,
                    Val::Uint(_) => Type::Uint,
                    Val::Double(_) => Type::Double,
                    Val::Bytes(_) => Type::Bytes,
                    _ => Type::Str,
                };
                self.set(id, found);
            }
            Kind::Ident(name) => {
                if !self.identifier(id, &name) {
                    self.undeclared(id, &name);
                }
            }
            Kind::Select { of, field, test } => self.select(id, of, &field, test),
            Kind::Call { name, method, args } => self.call(id, &name, method, &args),
            Kind::List(items) => self.list(id, &items),
            Kind::Map(entries) => self.map(id, &entries),
            Kind::Object(name, entries) => self.object(id, &name, &entries),
            Kind::Fold(fold) => self.fold(id, &fold),
            Kind::Var(_) | Kind::Local(_) | Kind::Apply { .. } | Kind::Broken => {}
        }
    }

    /// Resolves a name to a variable or a type; false if it is neither.
    fn identifier(&mut self, id: Id, name: &str) -> bool {
        let name = name.strip_prefix('.').unwrap_or(name);
        let local = self.scopes.iter().rev().find(|(local, ..)| **local == *name);
        let (kind, found) = if let Some((_, found, slot)) = local {
            (Kind::Local(*slot), found.clone())
        } else if let Some(at) = self.variables.iter().rposition(|known| known.name == name) {
            (Kind::Var(at as u16), self.variables[at].kind.clone())
        } else if let Some(found) = Type::called(name) {
            let value = Val::Type(value_name(&found));
            (Kind::Const(value), Type::Type(Some(std::rc::Rc::new(self.fresh(found)))))
        } else {
            return false;
        };
        self.tree.nodes[id as usize].kind = kind;
        self.set(id, found);
        true
    }

    /// A named type with parameters of its own.
    fn fresh(&mut self, found: Type<'static>) -> Type<'s> {
        match found {
            Type::List(_) => Type::list(Type::Param(self.unifier.fresh())),
            Type::Optional(_) => Type::optional(Type::Param(self.unifier.fresh())),
            Type::Map(_) => {
                let key = Type::Param(self.unifier.fresh());
                Type::map(key, Type::Param(self.unifier.fresh()))
            }
            other => other,
        }
    }

    fn select(&mut self, id: Id, of: Id, field: &str, test: bool) {
        if !test
            && let Some(name) = self.tree.qualified(id)
            && name.contains('.')
            && self.identifier(id, &name)
        {
            return;
        }
        if test && self.has_variable(of, field) {
            self.tree.nodes[id as usize].kind = Kind::Const(Val::Bool(true));
            return self.set(id, Type::Bool);
        }
        let found = self.field(id, of, field, false);
        let found = if test { Type::Bool } else { self.unifier.filled(&found, false) };
        self.set(id, found);
    }

    /// Whether `of.field` is a declared variable, and `of` one whose fields are.
    fn has_variable(&self, of: Id, field: &str) -> bool {
        let Kind::Ident(owner) = self.tree.kind(of) else { return false };
        let called = |name: &str| self.variables.iter().find(|known| known.name == name);
        called(owner).is_some_and(|owner| matches!(owner.kind, Type::Object(_)))
            && called(&format!("{owner}.{field}")).is_some()
    }

    fn field(&mut self, id: Id, of: Id, field: &str, optional: bool) -> Type<'s> {
        self.node(of);
        let target = self.of(of);
        let target = self.unifier.filled(&target, false);
        let (target, was_optional) = target.unwrapped();
        let found = match &target {
            Type::Map(map) => map.1.clone(),
            Type::Object(place) => match place.field(field) {
                Some(place) => Type::of(place),
                None => {
                    self.report(id, format!("undefined field '{field}'"));
                    Type::Error
                }
            },
            Type::Named(name) if !name.starts_with("net.") => {
                self.report(id, format!("unexpected failed resolution of '{name}'"));
                Type::Error
            }
            Type::Param(_) => {
                self.unifier.assignable(&[Type::Dyn], std::slice::from_ref(&target));
                Type::Dyn
            }
            Type::Dyn | Type::Error => Type::Dyn,
            other => {
                let shown = self.shown(other);
                self.report(id, format!("type '{shown}' does not support field selection"));
                Type::Dyn
            }
        };
        if was_optional || optional { Type::optional(found) } else { found }
    }

    fn call(&mut self, id: Id, name: &str, method: bool, args: &[Id]) {
        if name == "_?._" {
            let Kind::Const(Val::Text(field)) = self.tree.kind(args[1]).clone() else { return };
            let found = self.field(id, args[0], &field, true);
            let found = self.unifier.filled(&found, false);
            self.set(id, found);
            let overload = function(name).map_or(0, |known| known.overloads().next().unwrap().0);
            self.overloads[id as usize] = vec![overload];
            self.apply(id, Op::OptSelect, args);
            return;
        }
        let given = if method { &args[1..] } else { args };
        given.iter().for_each(|arg| self.node(*arg));
        if method {
            // `a.b.c()` is a function of that whole name or a method of `a.b`.
            let qualified = self.tree.qualified(args[0]).map(|target| format!("{target}.{name}"));
            let known = qualified.as_deref().and_then(function);
            if let (Some(known), Some(name)) = (known, qualified) {
                return self.resolve(id, &name, &known, false, given);
            }
            self.node(args[0]);
        }
        match function(name) {
            Some(known) => self.resolve(id, name, &known, method, args),
            None => self.undeclared(id, name),
        }
    }

    fn apply(&mut self, id: Id, op: Op, args: &[Id]) {
        let overload = match self.overloads[id as usize][..] {
            [only] => Some(only),
            _ => None,
        };
        self.tree.nodes[id as usize].kind = Kind::Apply { op, overload, args: args.into() };
    }

    fn resolve(&mut self, id: Id, name: &str, known: &Function, method: bool, args: &[Id]) {
        let given: Vec<Type<'s>> = args.iter().map(|arg| self.of(*arg)).collect();
        let mut result: Option<Type<'s>> = None;
        for (number, signature) in known.overloads() {
            if signature.starts_with('.') != method {
                continue;
            }
            let first = if signature.contains('A') { self.unifier.fresh() } else { 0 };
            if signature.contains('B') {
                self.unifier.fresh();
            }
            let (wanted, answer) = types(signature, first);
            if matches!(known.op, Op::And | Op::Or) {
                return self.logic(id, known.op, number, args);
            }
            if !self.unifier.assignable(&given, &wanted) {
                continue;
            }
            self.overloads[id as usize].push(number);
            let answer = self.unifier.filled(&answer, false);
            result = Some(match result {
                None => answer,
                Some(so_far) if so_far.is_dyn() || self.unifier.same(&so_far, &answer) => so_far,
                Some(_) => Type::Dyn,
            });
        }
        match result {
            Some(result) => self.set(id, result),
            None => {
                let shown = self.given(&given, method);
                let name = name.strip_prefix('.').unwrap_or(name);
                self.report(
                    id,
                    format!("found no matching overload for '{name}' applied to '{shown}'"),
                );
                self.set(id, Type::Error);
            }
        }
        let named = matches!(known.op, Op::FormatConstant);
        if named {
            let format = name.trim_start_matches('.').trim_start_matches("format.");
            let at = crate::functions::FORMATS.iter().position(|(known, _)| *known == format);
            self.overloads[id as usize] = vec![u16::MAX - at.unwrap_or(0) as u16];
        }
        self.apply(id, known.op, args);
    }

    fn logic(&mut self, id: Id, op: Op, number: u16, args: &[Id]) {
        let mut fits = true;
        for arg in args {
            let found = self.of(*arg);
            if !self.unifier.assignable(std::slice::from_ref(&found), &[Type::Bool]) {
                self.mismatch(*arg, &Type::Bool, &found);
                fits = false;
            }
        }
        self.set(id, if fits { Type::Bool } else { Type::Error });
        self.overloads[id as usize].push(number);
        self.apply(id, op, args);
    }

    /// The types of arguments as messages show them.
    fn given(&mut self, given: &[Type<'s>], method: bool) -> String {
        let shown: Vec<String> = given
            .iter()
            .map(|one| {
                let filled = self.unifier.filled(one, true);
                self.unifier.shown(&filled)
            })
            .collect();
        match shown.split_first() {
            Some((target, rest)) if method => format!("{target}.({})", rest.join(", ")),
            _ => format!("({})", shown.join(", ")),
        }
    }

    /// What an optional element holds; its being something else is reported.
    fn optional_value(&mut self, id: Id, optional: bool) -> Type<'s> {
        let found = self.of(id);
        if !optional {
            return found;
        }
        let (inner, was) = found.unwrapped();
        if !was && !inner.is_dyn() {
            self.mismatch(id, &Type::optional(inner.clone()), &inner);
        }
        inner
    }

    fn join(&mut self, so_far: Option<Type<'s>>, next: Type<'s>) -> Type<'s> {
        let Some(so_far) = so_far else { return next };
        let (one, other) = (std::slice::from_ref(&so_far), std::slice::from_ref(&next));
        if self.unifier.assignable(one, other) {
            return self.unifier.general(&so_far, &next);
        }
        // That they are of several types is found later, for it is no error everywhere.
        Type::Dyn
    }

    fn list(&mut self, id: Id, items: &[Item]) {
        let mut of = None;
        for item in items {
            self.node(item.value);
            let next = self.optional_value(item.value, item.optional);
            of = Some(self.join(of, next));
        }
        let of = of.unwrap_or_else(|| Type::Param(self.unifier.fresh()));
        self.set(id, Type::list(of));
    }

    fn map(&mut self, id: Id, entries: &[Entry]) {
        let (mut keys, mut values) = (None, None);
        for entry in entries {
            self.node(entry.key);
            let key = self.of(entry.key);
            keys = Some(self.join(keys, key));
            self.node(entry.value);
            let value = self.optional_value(entry.value, entry.optional);
            values = Some(self.join(values, value));
        }
        let keys = keys.unwrap_or_else(|| Type::Param(self.unifier.fresh()));
        let values = values.unwrap_or_else(|| Type::Param(self.unifier.fresh()));
        self.set(id, Type::map(keys, values));
    }

    /// No type of Kubernetes can be made by its name.
    fn object(&mut self, id: Id, name: &str, entries: &[Entry]) {
        let plain = name.strip_prefix('.').unwrap_or(name);
        if !self.identifier(id, plain) {
            return self.undeclared(id, name);
        }
        match self.of(id) {
            Type::Type(Some(_)) => {
                self.report(id, format!("'{plain}' is not a message type"));
            }
            other => {
                let shown = self.shown(&other);
                self.report(id, format!("'{shown}' is not a type"));
            }
        }
        self.set(id, Type::Error);
        for entry in entries {
            self.node(entry.value);
            self.report(entry.key, format!("unexpected failed resolution of '{plain}'"));
        }
    }

    fn fold(&mut self, id: Id, fold: &Fold) {
        self.node(fold.range);
        self.node(fold.init);
        let range = self.of(fold.range);
        let range = self.unifier.filled(&range, false);
        let accu = self.of(fold.init);
        let slot = self.slots;
        self.slots += 2;
        self.scopes.push((fold.accu.clone(), accu.clone(), slot));
        let var = match &range {
            Type::List(of) => (**of).clone(),
            Type::Map(of) => of.0.clone(),
            Type::Dyn | Type::Error | Type::Param(_) => {
                self.unifier.assignable(&[Type::Dyn], std::slice::from_ref(&range));
                Type::Dyn
            }
            other => {
                let shown = self.shown(other);
                let message = format!(
                    "expression of type '{shown}' cannot be range of a comprehension (must be list, map, or dynamic)"
                );
                self.report(fold.range, message);
                Type::Error
            }
        };
        self.scopes.push((fold.var.clone(), var, slot + 1));
        self.node(fold.condition);
        self.must_be(fold.condition, &Type::Bool);
        self.node(fold.step);
        self.must_be(fold.step, &accu);
        self.scopes.pop();
        self.node(fold.result);
        self.scopes.pop();
        self.slots -= 2;
        if let Kind::Fold(fold) = &mut self.tree.nodes[id as usize].kind {
            fold.slot = slot;
        }
        let found = self.of(fold.result);
        let found = self.unifier.filled(&found, false);
        self.set(id, found);
    }

    fn must_be(&mut self, id: Id, wanted: &Type<'s>) {
        let found = self.of(id);
        let (one, other) = (std::slice::from_ref(wanted), std::slice::from_ref(&found));
        if !self.unifier.assignable(one, other) {
            self.mismatch(id, wanted, &found);
        }
    }
}
