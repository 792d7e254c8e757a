//! The language against the answers of cel-go, schemas, bounds, and random expressions.

mod bounds;
mod cases;
mod fuzz;
mod schemas;

use serde_json::Value;

use crate::{
    CALL_MAX, Decision, Host, Input, Out, Query, Spent, Type, Val, Variable, Wrong, compile,
};

/// Knows no format and allows what is asked about the verb `get`.
pub(crate) struct Nobody;

impl Host for Nobody {
    fn violations(&self, format: &str, text: &str) -> Vec<String> {
        if text.is_empty() { vec![format!("no {format}")] } else { Vec::new() }
    }

    fn authorize(&self, query: &Query) -> Option<Decision> {
        let reason = format!("{query:?}");
        Some(Decision { allowed: query.verb == "get", reason, error: None })
    }
}

/// The value of `text` with `self` as it is given and declared, as text.
pub(crate) fn value_of(text: &str, kind: Type<'_>, value: Val<'_>) -> Result<String, String> {
    let variables = [Variable { name: "self", kind }];
    let compiled = compile(text, &variables, None).map_err(|wrong| match wrong {
        Wrong::Text(why) | Wrong::Constant(why) => why,
    })?;
    let input = Input { variables: &[value], host: &Nobody };
    let found = compiled.program.run(&input, &mut Spent::up_to(CALL_MAX));
    found.map(|found| shown(&found)).map_err(|why| why.message.into_owned())
}

/// A value as these tests show it: exact, with its type.
pub(crate) fn shown(of: &Val<'_>) -> String {
    let all = |parts: Vec<String>| parts.join(",");
    match of {
        Val::Null => "null".into(),
        Val::Bool(is) => is.to_string(),
        Val::Int(int) => int.to_string(),
        Val::Uint(uint) => format!("{uint}u"),
        Val::Double(double) => format!("d{:x}", double.to_bits()),
        Val::Bytes(bytes) => {
            let hex: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("b{}", hex.concat())
        }
        Val::Time(_) | Val::Duration(_) => {
            format!("{}:{}", of.kind(), crate::value::go::go_shown(of))
        }
        Val::Type(name) => format!("type {name}"),
        Val::Optional(None) => "none".into(),
        Val::Optional(Some(inner)) => format!("some({})", shown(inner)),
        Val::Ip(address) => format!("net.IP:{address}"),
        Val::Cidr(address, bits) => format!("net.CIDR:{address}/{bits}"),
        list if list.is_list() => {
            let count = list.size().unwrap_or(0) as usize;
            let element = |nth: usize| {
                list.nth(nth).map(|element: Out<Val<'_>>| match element {
                    Ok(element) => shown(&element),
                    Err(why) => why.message.into_owned(),
                })
            };
            format!("[{}]", all((0..count).filter_map(element).collect()))
        }
        Val::Map(map) => {
            let mut pairs: Vec<String> =
                map.iter().map(|(key, value)| format!("{}:{}", shown(key), shown(value))).collect();
            pairs.sort();
            format!("{{{}}}", all(pairs))
        }
        map if map.is_map() => {
            let pair = |key: Val<'_>| {
                let value = map.get(key.as_str()?)?.ok()?;
                Some(format!("{}:{}", shown(&key), shown(&value)))
            };
            let mut pairs: Vec<String> = map.keys().into_iter().filter_map(pair).collect();
            pairs.sort();
            format!("{{{}}}", all(pairs))
        }
        other => match other.as_str() {
            Some(text) => Value::String(text.into()).to_string(),
            None => other.kind().into(),
        },
    }
}
