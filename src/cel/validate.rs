//! What upstream refuses although its types are right: literals that cannot be read, lists of several types, clauses of `format()`.
//!
//! Source: github.com/google/cel-go/cel/validator.go, ext/formatting.go.

use crate::ast::{Id, Kind, Tree, each_child};
use crate::check::Checked;
use crate::functions::{Op, signature};
use crate::library::apply::conversion;
use crate::library::format::{Piece, clauses, takes};
use crate::syntax::issue::Issues;
use crate::types::{Type, Unifier, value_name};
use crate::value::{Val, fail};

/// Looks at everything below `root`; what is wrong is added to `issues`.
pub(crate) fn validate(tree: &Tree, root: Id, checked: &Checked<'_>, issues: &mut Issues<'_>) {
    Validator { tree, checked, issues }.node(root, false);
}

struct Validator<'v, 's, 'a> {
    tree: &'v Tree,
    checked: &'v Checked<'s>,
    issues: &'v mut Issues<'a>,
}

impl<'s> Validator<'_, 's, '_> {
    fn of(&self, id: Id) -> &Type<'s> {
        &self.checked.types[id as usize]
    }

    fn report(&mut self, id: Id, message: String) {
        self.issues.add(self.tree.get(id).at, message);
    }

    /// Inside of a call of `format()` lists may have elements of several types.
    fn node(&mut self, id: Id, formatted: bool) {
        let mut formatted = formatted;
        let kind = self.tree.kind(id);
        match kind {
            Kind::Apply { op, args, overload } => {
                formatted |= *op == Op::Format;
                self.literal(*op, *overload, args);
                if *op == Op::Format {
                    self.format(id, args);
                }
            }
            Kind::List(items) if !formatted => {
                let parts: Vec<(Id, bool)> =
                    items.iter().map(|item| (item.value, item.optional)).collect();
                self.same(&parts, true);
            }
            Kind::Map(entries) if !formatted => {
                let keys: Vec<(Id, bool)> = entries.iter().map(|one| (one.key, false)).collect();
                let values: Vec<(Id, bool)> =
                    entries.iter().map(|one| (one.value, one.optional)).collect();
                self.same(&keys, false);
                self.same(&values, false);
            }
            _ => {}
        }
        let mut children = Vec::new();
        each_child(kind, &mut |child| children.push(child));
        children.into_iter().for_each(|child| self.node(child, formatted));
    }

    fn literal(&mut self, op: Op, overload: Option<u16>, args: &[Id]) {
        let method = overload.is_some_and(|overload| signature(overload).starts_with('.'));
        let Some(arg) = args.get(usize::from(method)).copied() else { return };
        let Kind::Const(value) = self.tree.kind(arg) else { return };
        let (wrong, name) = match op {
            Op::ToDuration => (conversion(op, std::slice::from_ref(value)), "duration"),
            Op::ToTimestamp => (conversion(op, std::slice::from_ref(value)), "timestamp"),
            Op::Matches => {
                let Some(pattern) = value.as_str() else { return };
                let read = crate::Regex::new(pattern);
                (Some(read.map_or_else(fail, |_| Ok(Val::Null))), "matches")
            }
            _ => return,
        };
        if wrong.is_some_and(|read| read.is_err()) {
            self.report(arg, format!("invalid {name} argument"));
        }
    }

    fn same(&mut self, parts: &[(Id, bool)], once: bool) {
        let mut unifier = Unifier::default();
        let mut first: Option<Type<'s>> = None;
        for (id, optional) in parts {
            let mut found = self.of(*id).clone();
            if *optional {
                found = found.unwrapped().0;
            }
            let Some(wanted) = &first else {
                first = Some(found);
                continue;
            };
            if !unifier.same(wanted, &found) {
                let message = format!(
                    "expected type '{}' but found '{}'",
                    unifier.shown(wanted),
                    unifier.shown(&found)
                );
                self.report(*id, message);
                if once {
                    return;
                }
            }
        }
    }

    /// A constant text with a list of arguments.
    fn format(&mut self, id: Id, args: &[Id]) {
        let [text, list] = args else { return };
        let (Kind::Const(text), Kind::List(items)) = (self.tree.kind(*text), self.tree.kind(*list))
        else {
            return;
        };
        let Some(text) = text.as_str() else { return };
        let (mut nth, mut place) = (0, id);
        let read = clauses(text, &mut |piece| {
            let Piece::Clause(clause, _) = piece else {
                let there = !matches!(piece, Piece::Begins) || nth < items.len();
                return if there { Ok(()) } else { fail(format!("index {nth} out of range")) };
            };
            let arg = items[nth].value;
            nth += 1;
            if let Some(wrong) = self.unfit(clause, arg) {
                place = wrong;
                let given = value_name(self.of(wrong));
                return fail(format!(
                    "error during formatting: {}, was given {given}",
                    takes(clause)
                ));
            }
            Ok(())
        });
        match read {
            Err(why) => self.report(place, why.message.into_owned()),
            Ok(()) if items.len() > nth => self.report(
                id,
                format!(
                    "too many arguments supplied to string.format (expected {nth}, got {})",
                    items.len()
                ),
            ),
            Ok(()) => {}
        }
    }

    /// The part of an argument that a clause does not take.
    fn unfit(&self, clause: char, arg: Id) -> Option<Id> {
        let fits = match (clause, self.of(arg)) {
            (_, Type::Dyn) => true,
            ('s', Type::Named(_) | Type::Object(_) | Type::Optional(_)) => false,
            ('s', _) => {
                let mut children = Vec::new();
                if matches!(self.tree.kind(arg), Kind::List(_) | Kind::Map(_)) {
                    each_child(self.tree.kind(arg), &mut |child| children.push(child));
                }
                return children.into_iter().find_map(|child| self.unfit('s', child));
            }
            ('d' | 'o', Type::Int | Type::Uint)
            | ('b', Type::Int | Type::Uint | Type::Bool)
            | ('f' | 'e', Type::Double | Type::Str)
            | ('x' | 'X', Type::Int | Type::Uint | Type::Str | Type::Bytes) => true,
            _ => false,
        };
        (!fits).then_some(arg)
    }
}
