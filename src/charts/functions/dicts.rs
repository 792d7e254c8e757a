//! Maps, shared and changed in place as in Go, and what a value's type is.

use std::rc::Rc;
use stdx::OrdMap;

use template::{List, Map, Run, Value};

use super::text::{map, shown, text};
use super::{Engine, Entry, Given, Out};

pub(super) const TABLE: &[Entry] = &[
    ("dict", "a*", dict),
    ("get", "ms", |_, _, args| {
        Ok(map(&args[0]).get(&text(&args[1])).unwrap_or_else(|| Value::text("")))
    }),
    ("set", "msa", set),
    ("unset", "ms", |_, _, args| {
        map(&args[0]).entries.borrow_mut().remove(&*text(&args[1]));
        Ok(args[0].clone())
    }),
    ("hasKey", "ms", |_, _, args| {
        Ok(Value::Bool(map(&args[0]).entries.borrow().contains_key(&*text(&args[1]))))
    }),
    ("pluck", "sm*", |_, run, args| {
        let key = text(&args[0]);
        run.heap.charge(args.len() * 24)?;
        Ok(Value::list(args[1..].iter().filter_map(|arg| map(arg).get(&key)).collect()))
    }),
    ("keys", "m*", |_, run, args| {
        let mut keys = Vec::new();
        for arg in args {
            let map = map(arg);
            let entries = map.entries.borrow();
            run.heap.charge(entries.len() * 32)?;
            keys.extend(entries.keys().map(|key| Value::Text(Rc::from(key.clone()))));
        }
        Ok(Value::List(Rc::new(List { type_name: "[]string", items: keys })))
    }),
    ("values", "m", |_, run, args| {
        let map = map(&args[0]);
        let entries = map.entries.borrow();
        run.heap.charge(entries.len() * 24)?;
        Ok(Value::list(entries.values().cloned().collect()))
    }),
    ("pick", "ms*", |_, run, args| chosen(run, args, true)),
    ("omit", "ms*", |_, run, args| chosen(run, args, false)),
    ("merge", "mm*", |_, run, args| merge_all(run, args, false)),
    ("mustMerge", "mm*", |_, run, args| merge_all(run, args, false)),
    ("mergeOverwrite", "mm*", |_, run, args| merge_all(run, args, true)),
    ("mustMergeOverwrite", "mm*", |_, run, args| merge_all(run, args, true)),
    ("deepCopy", "a", |_, run, args| copy(run, &args[0], 0)),
    ("mustDeepCopy", "a", |_, run, args| copy(run, &args[0], 0)),
    ("dig", "a*", dig),
    ("typeOf", "a", |_, _, args| Ok(Value::text(args[0].type_name()))),
    ("typeIs", "sa", |_, _, args| Ok(Value::Bool(text(&args[0]) == args[1].type_name()))),
    ("typeIsLike", "sa", |_, _, args| {
        let (wanted, found) = (text(&args[0]), args[1].type_name());
        Ok(Value::Bool(wanted == found || found.strip_prefix('*') == Some(&*wanted)))
    }),
    ("kindOf", "a", |_, _, args| Ok(Value::text(args[0].kind()))),
    ("kindIs", "sa", |_, _, args| Ok(Value::Bool(text(&args[0]) == args[1].kind()))),
    ("deepEqual", "aa", |_, run, args| Ok(Value::Bool(args[0].deep_equal(&args[1], run.heap)?))),
];

/// Deeper values are not copied or merged.
const DEPTH_MAX: usize = 200;
/// What an entry of a map takes, about.
const ENTRY_BYTES: usize = 96;

fn dict(_: &Engine<'_>, run: &mut Run<'_>, args: Given<'_>) -> Out {
    let mut entries: OrdMap<Rc<str>, Value> = OrdMap::default();
    for pair in args.chunks(2) {
        run.heap.charge(ENTRY_BYTES)?;
        let key = String::from_utf8_lossy(&shown(run.heap, &pair[0])?).into_owned();
        let value = pair.get(1).cloned().unwrap_or_else(|| Value::text(""));
        entries.insert(Rc::from(key), value);
    }
    Ok(Value::map(entries))
}

fn set(_: &Engine<'_>, run: &mut Run<'_>, args: Given<'_>) -> Out {
    let Value::Map(map) = &args[0] else {
        return Err("assignment to entry in nil map".to_owned());
    };
    run.heap.charge(ENTRY_BYTES)?;
    run.heap.set(map, Rc::from(text(&args[1])), args[2].clone());
    Ok(args[0].clone())
}

fn chosen(run: &Run<'_>, args: Given<'_>, picks: bool) -> Out {
    let from = map(&args[0]);
    let names: Vec<_> = args[1..].iter().map(text).collect();
    let mut entries = OrdMap::default();
    for (key, value) in from.entries.borrow().iter() {
        if names.iter().any(|name| **name == **key) == picks {
            run.heap.charge(ENTRY_BYTES)?;
            entries.insert(key.clone(), value.clone());
        }
    }
    Ok(Value::map(entries))
}

fn merge_all(run: &Run<'_>, args: Given<'_>, overwrites: bool) -> Out {
    let into = match &args[0] {
        Value::Map(map) => map.clone(),
        _ => Map::new("map[string]interface {}", OrdMap::default()),
    };
    for from in &args[1..] {
        if let Value::Map(from) = from {
            merge(run, &into, from, overwrites, 0)?;
        }
    }
    Ok(Value::Map(into))
}

/// mergo's merge of maps: what is empty in `into` is filled, and with `overwrites` all that `from` has replaces it.
/// Maps are shared with `from` where `into` had none, so a later change is seen in both, as in Go.
fn merge(
    run: &Run<'_>,
    into: &Rc<Map>,
    from: &Rc<Map>,
    overwrites: bool,
    depth: usize,
) -> Result<(), String> {
    if Rc::ptr_eq(into, from) {
        return Ok(());
    }
    if depth > DEPTH_MAX {
        return Err("the maps are nested too deeply to be merged".to_owned());
    }
    let entries: Vec<(Rc<str>, Value)> =
        from.entries.borrow().iter().map(|(key, value)| (key.clone(), value.clone())).collect();
    run.heap.charge(entries.len() * 32)?;
    for (key, value) in entries {
        run.heap.step(1)?;
        let old = into.get(&key);
        if value.is_nil() {
            if overwrites {
                run.heap.set(into, key, value);
            }
            continue;
        }
        let is_kept = match (&old, &value) {
            (Some(Value::Map(old)), Value::Map(new)) => {
                let was_empty = old.entries.borrow().is_empty();
                merge(run, old, new, overwrites, depth + 1)?;
                !was_empty
            }
            (Some(old), Value::List(_)) if old.truth() && !overwrites => true,
            (Some(old), _) => old.truth() && !overwrites,
            (None, _) => false,
        };
        if !is_kept {
            run.heap.charge(ENTRY_BYTES)?;
            run.heap.set(into, key, value);
        }
    }
    Ok(())
}

fn copy(run: &Run<'_>, value: &Value, depth: usize) -> Out {
    if depth > DEPTH_MAX {
        return Err("the value is nested too deeply to be copied".to_owned());
    }
    run.heap.step(1)?;
    Ok(match value {
        Value::List(list) => {
            run.heap.charge(list.items.len() * 24 + 48)?;
            let items = list.items.iter().map(|item| copy(run, item, depth + 1));
            let items = items.collect::<Result<_, _>>()?;
            Value::List(Rc::new(List { type_name: list.type_name, items }))
        }
        Value::Map(map) => {
            let mut entries = OrdMap::default();
            for (key, value) in map.entries.borrow().iter() {
                run.heap.charge(ENTRY_BYTES)?;
                entries.insert(key.clone(), copy(run, value, depth + 1)?);
            }
            Value::Map(Map::new(map.type_name, entries))
        }
        value => value.clone(),
    })
}

fn dig(_: &Engine<'_>, _: &mut Run<'_>, args: Given<'_>) -> Out {
    let [keys @ .., default, from] = args else {
        return Err("dig needs at least three arguments".to_owned());
    };
    if keys.is_empty() {
        return Err("dig needs at least three arguments".to_owned());
    }
    let mut value = from.clone();
    for key in keys {
        let Value::Text(_) = key else {
            return Err(conversion(key, "string"));
        };
        value = match &value {
            Value::Map(map) => match map.get(&text(key)) {
                Some(value) => value,
                None => return Ok(default.clone()),
            },
            other => return Err(conversion(other, "map[string]interface {}")),
        };
    }
    Ok(value)
}

fn conversion(value: &Value, wanted: &str) -> String {
    let found = match value.is_nil() {
        true => "nil",
        false => value.type_name(),
    };
    format!("interface conversion: interface {{}} is {found}, not {wanted}")
}
