//! Evaluation: values by reference, errors as values where upstream has them so, every step paid.
//!
//! Source: github.com/google/cel-go/interpreter; its costs are in `price`.

use crate::ast::{Entry, Fold, Id, Item, Kind, Tree};
use crate::functions::Op;
use crate::value::auth::Host;
use crate::value::keys::{is_key, not_a_key, put, same_key};
use crate::value::spend::ELEMENT;
use crate::value::spend::Spent;
use crate::value::{NO_OVERLOAD, Out, Val, fail};

/// What an expression is evaluated with.
pub struct Input<'i, 'a> {
    /// The values of the declared variables, in the order of their declarations.
    pub variables: &'i [Val<'a>],
    /// What is asked about formats and permissions.
    pub host: &'i dyn Host,
}

impl std::fmt::Debug for Input<'_, '_> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.variables.fmt(out)
    }
}

/// A variable of a comprehension.
enum Local<'a> {
    /// Computed when it is first asked for.
    Pending(Id),
    Known(Out<Val<'a>>),
}

pub(crate) struct Evaluator<'e, 'a> {
    pub(crate) tree: &'a Tree,
    pub(crate) input: &'e Input<'e, 'a>,
    pub(crate) spent: &'e mut Spent,
    locals: Vec<Local<'a>>,
}

/// The value of the tree below `root`.
pub(crate) fn evaluate<'a>(
    tree: &'a Tree,
    root: Id,
    input: &Input<'_, 'a>,
    spent: &mut Spent,
) -> Out<Val<'a>> {
    Evaluator { tree, input, spent, locals: Vec::new() }.node(root)
}

impl<'a> Evaluator<'_, 'a> {
    pub(crate) fn node(&mut self, id: Id) -> Out<Val<'a>> {
        match self.tree.kind(id) {
            Kind::Const(value) => Ok(value.clone()),
            Kind::Var(_) | Kind::Local(_) | Kind::Select { .. } => self.attribute(id),
            Kind::Apply { op, overload, args } => match op {
                Op::Index | Op::OptIndex | Op::OptSelect => self.attribute(id),
                Op::Conditional => self.resolve(id),
                Op::And | Op::Or => self.logic(*op == Op::Or, args),
                Op::NotFalse => self.not_false(args[0]),
                Op::OptionalOr | Op::OrValue => self.or(*op == Op::OrValue, args),
                Op::Append => self.collect(*overload, args),
                _ => self.apply(*op, *overload, args),
            },
            Kind::List(items) => self.list(items),
            Kind::Map(entries) => self.map(entries),
            Kind::Fold(fold) => self.fold(fold),
            Kind::Object(..) | Kind::Call { .. } | Kind::Ident(_) | Kind::Broken => {
                fail("expression was not checked")
            }
        }
    }

    /// An attribute with what looking it up costs as a whole.
    fn attribute(&mut self, id: Id) -> Out<Val<'a>> {
        let found = self.resolve(id);
        let tested = matches!(self.tree.kind(id), Kind::Select { test: true, .. });
        match (self.begins_with_choice(id), tested) {
            (false, false) => self.spent.pay(1)?,
            (true, true) => self.spent.cost = self.spent.cost.saturating_sub(1),
            _ => {}
        }
        found
    }

    /// Whether what is selected from is the outcome of a condition, which is free.
    fn begins_with_choice(&self, mut id: Id) -> bool {
        loop {
            match self.tree.kind(id) {
                Kind::Select { of, .. } => id = *of,
                Kind::Apply { op: Op::Index | Op::OptIndex | Op::OptSelect, args, .. } => {
                    id = args[0];
                }
                Kind::Apply { op: Op::Conditional, .. } => return true,
                _ => return false,
            }
        }
    }

    /// A value as part of an attribute: only its qualifiers are paid here.
    fn resolve(&mut self, id: Id) -> Out<Val<'a>> {
        match self.tree.kind(id) {
            Kind::Var(nth) => match self.input.variables.get(usize::from(*nth)) {
                Some(Val::Missing(why)) => fail(why.to_string()),
                Some(value) => Ok(value.clone()),
                None => fail("no such attribute(s)"),
            },
            Kind::Local(slot) => self.local(usize::from(*slot)),
            Kind::Select { of, field, test } => {
                let of = self.resolve(*of)?;
                let optional = matches!(of, Val::Optional(_));
                let found = self.select(of, field, *test);
                let absent = matches!(found, Ok(Val::Optional(None) | Val::Bool(false)));
                if !(optional && absent) {
                    self.spent.pay(1)?;
                }
                found
            }
            Kind::Apply { op: Op::Conditional, args, .. } => match self.node(args[0])? {
                Val::Bool(true) => self.resolve(args[1]),
                Val::Bool(false) => self.resolve(args[2]),
                _ => fail(NO_OVERLOAD),
            },
            Kind::Apply { op: op @ (Op::Index | Op::OptIndex | Op::OptSelect), args, .. } => {
                let of = self.resolve(args[0])?;
                self.indexed(of, args[1], *op != Op::Index)
            }
            _ => self.node(id),
        }
    }

    fn local(&mut self, slot: usize) -> Out<Val<'a>> {
        let found = match self.locals.get(slot) {
            Some(Local::Known(known)) => return known.clone(),
            Some(Local::Pending(init)) => *init,
            None => return fail("no such attribute(s)"),
        };
        let value = self.node(found);
        self.locals[slot] = Local::Known(value.clone());
        value
    }

    fn select(&mut self, of: Val<'a>, field: &str, test: bool) -> Out<Val<'a>> {
        if let Val::Optional(inner) = of {
            // What is selected from nothing is nothing.
            let Some(inner) = inner else {
                return Ok(if test { Val::Bool(false) } else { Val::Optional(None) });
            };
            let found = self.present(&inner, &Val::Text(field.into()))?;
            return Ok(match test {
                true => Val::Bool(found.is_some()),
                false => Val::Optional(found.map(std::sync::Arc::new)),
            });
        }
        let found = of.get(field).transpose()?;
        match found {
            None if test && of.is_list() => index_error(&Val::text(field)),
            found if test => Ok(Val::Bool(found.is_some())),
            Some(found) => Ok(found),
            None if of.is_list() => index_error(&Val::text(field)),
            None => fail(format!("no such key: {field}")),
        }
    }

    fn indexed(&mut self, of: Val<'a>, index: Id, optional: bool) -> Out<Val<'a>> {
        if matches!(of, Val::Optional(None)) {
            return Ok(of);
        }
        let key = self.resolve(index);
        let (of, optional) = match of {
            Val::Optional(Some(inner)) => ((*inner).clone(), true),
            other => (other, optional),
        };
        let found = match key {
            Ok(key) if !is_key(&key) => not_a_key(&key),
            Ok(key) if optional => {
                let found = self.present(&of, &key);
                found.map(|found| Val::Optional(found.map(std::sync::Arc::new)))
            }
            Ok(key) => self.index(&of, &key),
            Err(failed) => Err(failed),
        };
        if !(optional && matches!(found, Ok(Val::Optional(None)))) {
            self.spent.pay(1)?;
        }
        found
    }

    fn index(&mut self, of: &Val<'a>, key: &Val<'a>) -> Out<Val<'a>> {
        if let Some(found) = self.present(of, key)? {
            return Ok(found);
        }
        let shown = crate::value::go::go_shown(key);
        if of.is_list() {
            return fail(format!("index out of bounds: {shown}"));
        }
        fail(format!("no such key: {shown}"))
    }

    /// What is under `key`, if there is something.
    fn present(&mut self, of: &Val<'a>, key: &Val<'_>) -> Out<Option<Val<'a>>> {
        if !of.is_list() {
            return of.find(key, self.spent);
        }
        let place = match key {
            Val::Int(int) => *int,
            Val::Uint(uint) => i64::try_from(*uint).unwrap_or(i64::MAX),
            Val::Double(double) if double.fract() == 0.0 && double.abs() < 9e18 => *double as i64,
            other => return index_error(other),
        };
        let place = usize::try_from(place).unwrap_or(usize::MAX);
        of.nth(place).transpose()
    }

    fn logic(&mut self, any: bool, args: &[Id]) -> Out<Val<'a>> {
        let mut failed = None;
        for arg in args {
            match self.node(*arg) {
                Ok(Val::Bool(is)) if is == any => return Ok(Val::Bool(any)),
                Ok(Val::Bool(_)) => {}
                Ok(_) => failed = failed.or(Some(fail(NO_OVERLOAD))),
                Err(why) if why.cancelled => return Err(why),
                Err(why) => failed = failed.or(Some(Err(why))),
            }
        }
        failed.unwrap_or(Ok(Val::Bool(!any)))
    }

    fn not_false(&mut self, arg: Id) -> Out<Val<'a>> {
        let found = match self.node(arg) {
            Err(why) if why.cancelled => return Err(why),
            Ok(Val::Bool(is)) => is,
            _ => true,
        };
        self.spent.pay(1)?;
        Ok(Val::Bool(found))
    }

    fn or(&mut self, value: bool, args: &[Id]) -> Out<Val<'a>> {
        match self.node(args[0])? {
            Val::Optional(None) => self.node(args[1]),
            Val::Optional(Some(inner)) if value => Ok((*inner).clone()),
            other => Ok(other),
        }
    }

    /// What a comprehension collected and one more: the list is added to where it is.
    fn collect(&mut self, overload: Option<u16>, args: &[Id]) -> Out<Val<'a>> {
        let Kind::Local(slot) = self.tree.kind(args[0]) else {
            return self.apply(Op::Add, overload, args);
        };
        let slot = usize::from(*slot);
        let one = self.local(slot);
        self.spent.pay(1)?;
        match (one, self.node(args[1])) {
            (_, Err(why)) if why.cancelled => Err(why),
            (Ok(Val::List(one)), Ok(more @ Val::List(_))) => {
                drop(one);
                self.append(slot, &more)
            }
            (one, more) => {
                let (one, more) = (one?, more?);
                let sum = crate::library::apply::add(&one, &more, self.spent)?;
                self.spent.pay(1)?;
                Ok(sum)
            }
        }
    }

    fn append(&mut self, slot: usize, more: &Val<'a>) -> Out<Val<'a>> {
        let taken = std::mem::replace(&mut self.locals[slot], Local::Known(Ok(Val::Null)));
        let Local::Known(Ok(Val::List(mut list))) = taken else { return fail(NO_OVERLOAD) };
        let shared = std::sync::Arc::get_mut(&mut list).is_none();
        let added = more.size().unwrap_or(0) as usize;
        let copied = if shared { list.len() + added } else { added };
        self.spent.bytes(copied.saturating_mul(ELEMENT))?;
        let own = std::sync::Arc::make_mut(&mut list);
        for nth in 0..added {
            own.extend(more.nth(nth).transpose()?);
        }
        self.spent.pay(1)?;
        Ok(Val::List(list))
    }

    fn apply(&mut self, op: Op, overload: Option<u16>, args: &[Id]) -> Out<Val<'a>> {
        if op == Op::In
            && let Kind::Const(Val::List(list)) = self.tree.kind(args[1])
            && crate::library::price::is_set(overload, list)
        {
            return self.member(args[0], list);
        }
        let mut values: [Val<'a>; 4] = [Val::Null, Val::Null, Val::Null, Val::Null];
        let mut failed = None;
        for (value, arg) in values.iter_mut().zip(args) {
            match self.node(*arg) {
                Ok(found) => *value = found,
                Err(why) if why.cancelled => return Err(why),
                Err(why) => failed = failed.or(Some(why)),
            }
            if failed.is_some() && args.len() != 2 {
                break;
            }
        }
        let values = &values[..args.len().min(4)];
        if let Some(failed) = failed {
            // Upstream counts the call, which was not made.
            if args.len() <= 2 {
                self.spent.pay(crate::library::price::of_call(op, overload, values, None))?;
            }
            return Err(failed);
        }
        let result =
            crate::library::apply::apply(op, overload, values, self.input.host, self.spent);
        let price = crate::library::price::of_call(op, overload, values, result.as_ref().ok());
        self.spent.pay(price)?;
        result
    }

    /// Membership in a list of constants is free.
    fn member(&mut self, arg: Id, list: &[Val<'static>]) -> Out<Val<'a>> {
        if list.is_empty() {
            return Ok(Val::Bool(false));
        }
        let value = self.node(arg)?;
        self.spent.work(list.len())?;
        Ok(Val::Bool(list.iter().any(|known| crate::value::scalar_equal(known, &value))))
    }

    fn list(&mut self, items: &[Item]) -> Out<Val<'a>> {
        self.spent.bytes(items.len() * ELEMENT)?;
        let mut values = Vec::with_capacity(items.len());
        for item in items {
            let value = self.node(item.value)?;
            match (item.optional, value) {
                (true, Val::Optional(inner)) => values.extend(inner.map(|inner| (*inner).clone())),
                (true, other) => {
                    let shown = crate::value::go::go_shown(&other);
                    return fail(format!(
                        "cannot initialize optional list element from non-optional value {shown}"
                    ));
                }
                (false, value) => values.push(value),
            }
        }
        self.spent.pay(10)?;
        Ok(Val::list(values))
    }

    fn map(&mut self, entries: &[Entry]) -> Out<Val<'a>> {
        self.spent.bytes(entries.len() * 2 * ELEMENT)?;
        let mut values: Vec<(Val<'a>, Val<'a>)> = Vec::with_capacity(entries.len());
        for entry in entries {
            let key = self.node(entry.key)?;
            let mut value = self.node(entry.value)?;
            self.spent.work(values.len())?;
            if entry.optional {
                let Val::Optional(inner) = value else {
                    let (key, value) =
                        (crate::value::go::go_shown(&key), crate::value::go::go_shown(&value));
                    return fail(format!(
                        "cannot initialize optional entry '{key}' from non-optional value {value}"
                    ));
                };
                let Some(inner) = inner else {
                    values.retain(|(known, _)| !same_key(known, &key));
                    continue;
                };
                value = (*inner).clone();
            }
            put(&mut values, key, value);
        }
        self.spent.pay(30)?;
        Ok(Val::Map(std::sync::Arc::new(values)))
    }

    fn fold(&mut self, fold: &'a Fold) -> Out<Val<'a>> {
        let range = self.node(fold.range)?;
        let count = match range.size() {
            Some(count) if range.is_list() || range.is_map() => count as usize,
            _ => {
                let shown = crate::value::go::go_kind(&range);
                return fail(format!("got '{shown}', expected iterable type"));
            }
        };
        let keys = self.keys(&range)?;
        let slot = usize::from(fold.slot);
        self.locals.truncate(slot);
        self.locals.push(Local::Pending(fold.init));
        self.locals.push(Local::Known(Ok(Val::Null)));
        for nth in 0..count {
            let value = match &keys {
                Some(keys) => keys.get(nth).cloned().map_or(Ok(Val::Null), Ok),
                None => range.nth(nth).unwrap_or(Ok(Val::Null)),
            };
            self.locals.truncate(slot + 2);
            self.locals[slot + 1] = Local::Known(value);
            match self.node(fold.condition) {
                Err(why) if why.cancelled => return Err(why),
                Ok(Val::Bool(false)) => break,
                _ => {}
            }
            self.spent.work(1)?;
            let next = self.node(fold.step);
            if let Err(why) = &next
                && why.cancelled
            {
                return next;
            }
            self.locals.truncate(slot + 2);
            self.locals[slot] = Local::Known(next);
        }
        let result = self.node(fold.result);
        self.locals.truncate(slot);
        result
    }

    /// The keys of a map, which is what a comprehension goes through.
    fn keys(&mut self, of: &Val<'a>) -> Out<Option<Vec<Val<'a>>>> {
        if of.is_list() {
            return Ok(None);
        }
        self.spent.bytes(of.size().unwrap_or(0) as usize * ELEMENT)?;
        Ok(Some(of.keys()))
    }
}

fn index_error<T>(key: &Val<'_>) -> Out<T> {
    match key {
        Val::Double(_) => {
            fail(format!("unsupported index value {}", crate::value::go::go_shown(key)))
        }
        _ => fail(format!("unsupported index type '{}' in list", key.kind())),
    }
}
