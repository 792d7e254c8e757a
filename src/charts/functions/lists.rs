//! Lists, and what is empty.

use std::rc::Rc;

use template::{List, Run, Value};

use super::text::{elements, int, not_a_list, to_int};
use super::{Engine, Entry, Given, Out};

pub(super) const TABLE: &[Entry] = &[
    ("list", "a*", |_, run, args| made(run, args.to_vec())),
    ("tuple", "a*", |_, run, args| made(run, args.to_vec())),
    ("append", "aa", append),
    ("push", "aa", append),
    ("mustAppend", "aa", append),
    ("mustPush", "aa", append),
    ("prepend", "aa", prepend),
    ("mustPrepend", "aa", prepend),
    ("first", "a", |_, _, args| {
        Ok(need("find first", &args[0])?.items.first().cloned().unwrap_or(Value::Nil))
    }),
    ("mustFirst", "a", |_, _, args| {
        Ok(need("find first", &args[0])?.items.first().cloned().unwrap_or(Value::Nil))
    }),
    ("last", "a", |_, _, args| {
        Ok(need("find last", &args[0])?.items.last().cloned().unwrap_or(Value::Nil))
    }),
    ("mustLast", "a", |_, _, args| {
        Ok(need("find last", &args[0])?.items.last().cloned().unwrap_or(Value::Nil))
    }),
    ("rest", "a", |_, run, args| part(run, "find rest", &args[0], |all| all.get(1..))),
    ("mustRest", "a", |_, run, args| part(run, "find rest", &args[0], |all| all.get(1..))),
    ("initial", "a", |_, run, args| {
        part(run, "find initial", &args[0], |all| Some(all.split_last()?.1))
    }),
    ("mustInitial", "a", |_, run, args| {
        part(run, "find initial", &args[0], |all| Some(all.split_last()?.1))
    }),
    ("reverse", "a", reverse),
    ("mustReverse", "a", reverse),
    ("uniq", "a", uniq),
    ("mustUniq", "a", uniq),
    ("without", "aa*", without),
    ("mustWithout", "aa*", without),
    ("has", "aa", has),
    ("mustHas", "aa", has),
    ("compact", "a", compact),
    ("mustCompact", "a", compact),
    ("slice", "aa*", slice),
    ("mustSlice", "aa*", slice),
    ("concat", "a*", concat),
    ("chunk", "ia", chunk),
    ("mustChunk", "ia", chunk),
    ("default", "aa*", |_, _, args| {
        let given = args.get(1).filter(|given| given.truth());
        Ok(given.unwrap_or(&args[0]).clone())
    }),
    ("empty", "a", |_, _, args| Ok(Value::Bool(!args[0].truth()))),
    ("coalesce", "a*", |_, _, args| {
        Ok(args.iter().find(|arg| arg.truth()).cloned().unwrap_or(Value::Nil))
    }),
    ("all", "a*", |_, _, args| Ok(Value::Bool(args.iter().all(Value::truth)))),
    ("any", "a*", |_, _, args| Ok(Value::Bool(args.iter().any(Value::truth)))),
    ("ternary", "aab", |_, _, args| Ok(args[usize::from(!args[2].truth())].clone())),
];

fn made(run: &Run<'_>, items: Vec<Value>) -> Out {
    run.heap.charge(items.len() * 24 + 48)?;
    Ok(Value::list(items))
}

fn need(verb: &str, value: &Value) -> Result<Rc<List>, String> {
    elements(value).ok_or_else(|| not_a_list(verb, value))
}

fn append(_: &Engine<'_>, run: &mut Run<'_>, args: Given<'_>) -> Out {
    let list = need("push", &args[0])?;
    run.heap.charge(list.items.len() * 24)?;
    let mut items = list.items.clone();
    items.push(args[1].clone());
    made(run, items)
}

fn prepend(_: &Engine<'_>, run: &mut Run<'_>, args: Given<'_>) -> Out {
    let list = need("prepend", &args[0])?;
    let mut items = vec![args[1].clone()];
    items.extend(list.items.iter().cloned());
    made(run, items)
}

/// A part of a list; nil if there is nothing in it.
fn part(run: &Run<'_>, verb: &str, value: &Value, choose: fn(&[Value]) -> Option<&[Value]>) -> Out {
    let list = need(verb, value)?;
    match choose(&list.items) {
        Some(items) => made(run, items.to_vec()),
        None => Ok(Value::Nil),
    }
}

fn reverse(_: &Engine<'_>, run: &mut Run<'_>, args: Given<'_>) -> Out {
    let list = need("find reverse", &args[0])?;
    made(run, list.items.iter().rev().cloned().collect())
}

fn contains(run: &Run<'_>, items: &[Value], wanted: &Value) -> Result<bool, String> {
    for item in items {
        if item.deep_equal(wanted, run.heap)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn uniq(_: &Engine<'_>, run: &mut Run<'_>, args: Given<'_>) -> Out {
    let list = need("find uniq", &args[0])?;
    let mut items: Vec<Value> = Vec::new();
    for item in &list.items {
        if !contains(run, &items, item)? {
            items.push(item.clone());
        }
    }
    made(run, items)
}

fn without(_: &Engine<'_>, run: &mut Run<'_>, args: Given<'_>) -> Out {
    let list = need("find without", &args[0])?;
    let mut items = Vec::new();
    for item in &list.items {
        if !contains(run, &args[1..], item)? {
            items.push(item.clone());
        }
    }
    made(run, items)
}

fn has(_: &Engine<'_>, run: &mut Run<'_>, args: Given<'_>) -> Out {
    if args[1].is_nil() {
        return Ok(Value::Bool(false));
    }
    let list = need("find has", &args[1])?;
    Ok(Value::Bool(contains(run, &list.items, &args[0])?))
}

fn compact(_: &Engine<'_>, run: &mut Run<'_>, args: Given<'_>) -> Out {
    let list = need("compact", &args[0])?;
    made(run, list.items.iter().filter(|item| item.truth()).cloned().collect())
}

fn slice(_: &Engine<'_>, run: &mut Run<'_>, args: Given<'_>) -> Out {
    let list = need("slice", &args[0])?;
    if list.items.is_empty() {
        return Ok(Value::Nil);
    }
    let at = |idx: usize, missing: usize| match args.get(idx) {
        Some(arg) => usize::try_from(to_int(arg)).unwrap_or(usize::MAX),
        None => missing,
    };
    match list.items.get(at(1, 0)..at(2, list.items.len())) {
        Some(items) => made(run, items.to_vec()),
        None => Err("reflect.Value.Slice: slice index out of bounds".to_owned()),
    }
}

fn concat(_: &Engine<'_>, run: &mut Run<'_>, args: Given<'_>) -> Out {
    let mut items = Vec::new();
    for arg in args {
        let list = elements(arg).ok_or_else(|| match arg.is_nil() {
            true => not_a_list("concat", arg),
            false => format!("Cannot concat type {} as list", arg.kind()),
        })?;
        run.heap.charge(list.items.len() * 24)?;
        items.extend(list.items.iter().cloned());
    }
    made(run, items)
}

fn chunk(_: &Engine<'_>, run: &mut Run<'_>, args: Given<'_>) -> Out {
    let list = need("chunk", &args[1])?;
    let size = usize::try_from(int(&args[0])).unwrap_or(0).max(1);
    let chunks = list.items.chunks(size).map(|chunk| made(run, chunk.to_vec()));
    let chunks = chunks.collect::<Result<_, _>>()?;
    made(run, chunks)
}
