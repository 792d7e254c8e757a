//! Functions of quantities.

use std::cmp::Ordering;
use std::sync::Arc;

use wire::quantity::Quantity;

use crate::functions::Op;
use crate::value::Amount;
use crate::value::amount::fits;
use crate::value::{Out, Val, fail};

fn made(amount: Amount) -> Out<Val<'static>> {
    Ok(Val::Quantity(Arc::new(amount)))
}

pub(crate) fn apply<'a>(op: Op, args: &[Val<'a>]) -> Option<Out<Val<'a>>> {
    Some(match (op, args) {
        (Op::Quantity, [text]) => match Amount::read(text.as_str()?) {
            Ok(amount) => made(amount),
            Err(why) => fail(why.to_string()),
        },
        (Op::IsQuantity, [text]) => Ok(Val::Bool(text.as_str()?.parse::<Quantity>().is_ok())),
        (op, [Val::Quantity(amount)]) => match op {
            Op::QuantitySign => Ok(Val::Int(match amount.of.cmp(&Quantity::ZERO) {
                Ordering::Less => -1,
                Ordering::Equal => 0,
                Ordering::Greater => 1,
            })),
            Op::QuantityFloat => Ok(Val::Double(amount.of.as_f64())),
            Op::QuantityIsInt => Ok(Val::Bool(amount.whole && fits(amount.of))),
            Op::QuantityInt if amount.whole && fits(amount.of) => Ok(Val::Int(amount.of.units())),
            Op::QuantityInt => fail("cannot convert value to integer"),
            _ => return None,
        },
        (op, [Val::Quantity(one), Val::Quantity(other)]) => {
            let order = one.of.cmp(&other.of);
            match op {
                Op::QuantityIsGreater => Ok(Val::Bool(order == Ordering::Greater)),
                Op::QuantityIsLess => Ok(Val::Bool(order == Ordering::Less)),
                Op::QuantityCompare => Ok(Val::Int(order as i64)),
                Op::QuantityAdd => made(one.with(**other, one.of + other.of)),
                Op::QuantitySub => made(one.with(**other, one.of - other.of)),
                _ => return None,
            }
        }
        (Op::QuantityAdd, [Val::Quantity(one), Val::Int(units)]) => {
            let other = Amount::units(*units);
            made(one.with(other, one.of + other.of))
        }
        (Op::QuantitySub, [Val::Quantity(one), Val::Int(units)]) => {
            let other = Amount::units(*units);
            made(one.with(other, one.of - other.of))
        }
        _ => return None,
    })
}
