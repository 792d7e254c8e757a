//! What is computed once: constants of constants. It costs nothing when the expression is evaluated, as upstream.

use crate::ast::{Entry, Id, Kind, Tree, each_child};
use crate::functions::Op;
use crate::library::apply::{conversion, no_overload};
use crate::syntax::ACCUMULATOR;
use crate::value::keys::put;
use crate::value::{Out, Val};

/// Replaces what is constant below `id`.
///
/// # Errors
///
/// If a constant cannot be converted.
pub(crate) fn plan(tree: &mut Tree, id: Id) -> Out<()> {
    let mut children = Vec::new();
    each_child(tree.kind(id), &mut |child| children.push(child));
    for child in children {
        plan(tree, child)?;
    }
    let made = match tree.kind(id) {
        Kind::Apply { op, args, .. } => match (op, args.first().map(|arg| tree.kind(*arg))) {
            (Op::Matches | Op::Find | Op::FindAll, _) => {
                if let Some(Kind::Const(pattern)) = args.get(1).map(|arg| tree.kind(*arg))
                    && let Err(why) = crate::Regex::new(pattern.as_str().unwrap_or(""))
                {
                    return crate::value::fail(why);
                }
                None
            }
            (Op::Index | Op::OptIndex, _) => {
                if let Kind::Const(key) = tree.kind(args[1])
                    && !crate::value::keys::is_key(key)
                {
                    return crate::value::keys::not_a_key(key);
                }
                None
            }
            (Op::TypeOf, Some(Kind::Const(value))) => Some(Val::Type(value.kind())),
            (op, Some(Kind::Const(value))) if args.len() == 1 && is_conversion(*op) => {
                let args = std::slice::from_ref(value);
                Some(conversion(*op, args).unwrap_or_else(|| no_overload(*op, args))?)
            }
            _ => None,
        },
        Kind::List(items) => {
            let values: Option<Vec<Val<'static>>> =
                items.iter().map(|item| constant(tree, item.value)).collect();
            values.map(Val::list)
        }
        Kind::Map(entries) => constant_map(tree, entries),
        Kind::Fold(fold) if *fold.accu == *ACCUMULATOR => {
            let (step, slot) = (fold.step, fold.slot);
            collects(tree, step, slot);
            None
        }
        _ => None,
    };
    if let Some(value) = made {
        tree.nodes[id as usize].kind = Kind::Const(value);
    }
    Ok(())
}

fn constant(tree: &Tree, id: Id) -> Option<Val<'static>> {
    match tree.kind(id) {
        Kind::Const(value) => Some(value.clone()),
        _ => None,
    }
}

fn constant_map(tree: &Tree, entries: &[Entry]) -> Option<Val<'static>> {
    let mut values = Vec::with_capacity(entries.len());
    for entry in entries {
        put(&mut values, constant(tree, entry.key)?, constant(tree, entry.value)?);
    }
    Some(Val::Map(std::sync::Arc::new(values)))
}

fn is_conversion(op: Op) -> bool {
    matches!(
        op,
        Op::ToBool
            | Op::ToBytes
            | Op::ToDouble
            | Op::ToDuration
            | Op::ToDyn
            | Op::ToInt
            | Op::ToString
            | Op::ToTimestamp
            | Op::ToUint
    )
}

/// Marks the addition by which a macro collects, so that the list is not copied each time.
fn collects(tree: &mut Tree, step: Id, slot: u16) {
    let sum = match tree.kind(step) {
        Kind::Apply { op: Op::Conditional, args, .. } => args[1],
        _ => step,
    };
    let Kind::Apply { op: Op::Add, args, .. } = tree.kind(sum) else { return };
    let accu = matches!(tree.kind(args[0]), Kind::Local(found) if *found == slot);
    let one = matches!(tree.kind(args[1]), Kind::List(_) | Kind::Const(Val::List(_)));
    if let Kind::Apply { op, .. } = &mut tree.nodes[sum as usize].kind
        && accu
        && one
    {
        *op = Op::Append;
    }
}
