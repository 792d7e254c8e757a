//! Fifteen hundred expressions: value or error, cost, estimate and what does not compile are cel-go's.

use serde_json::{Value, json};

use super::{Nobody, shown};
use crate::{CALL_MAX, Input, Spent, Type, Val, Variable, Wrong, compile};

const CASES: &str = include_str!("cases.txt");

fn input() -> Value {
    json!({
        "o": {"a": {"b": "c"}, "l": ["a1", "a2"], "n": 3},
        "l": [1, 2, 3], "s": "hello", "i": 5, "d": 2.5, "b": true, "n": null,
    })
}

/// The answer to one expression, in the form of the table.
fn answer(text: &str, input: &Value, bare: bool) -> Value {
    let mut object = input.clone();
    if bare {
        object["o"].as_object_mut().unwrap().remove("n");
    }
    let object = object.as_object().unwrap();
    let variables: Vec<Variable<'_>> =
        object.keys().map(|name| Variable { name, kind: Type::Dyn }).collect();
    let values: Vec<Val<'_>> = object.values().map(Val::json).collect();
    let compiled = match compile(text, &variables, None) {
        Err(Wrong::Text(why)) => return json!({ "c": why }),
        Err(Wrong::Constant(why)) => return json!({ "p": why }),
        Ok(compiled) => compiled,
    };
    let mut spent = Spent::up_to(CALL_MAX);
    let input = Input { variables: &values, host: &Nobody };
    let mut answer = match compiled.program.run(&input, &mut spent) {
        Ok(value) => json!({ "o": shown(&value), "k": spent.cost }),
        Err(why) => json!({ "e": why.message }),
    };
    answer["m"] = json!([compiled.cost.min, compiled.cost.max]);
    answer
}

#[test]
fn expressions_are_what_they_are_upstream() {
    let input = input();
    let mut wrong = Vec::new();
    let mut count = 0;
    // The first table was asked about an object without `n`.
    let mut bare = true;
    for line in CASES.lines() {
        if line.starts_with('#') {
            bare &= !line.contains("random");
            continue;
        }
        let mut case: Value = serde_json::from_str(line).unwrap();
        let text = case.as_object_mut().unwrap().remove("x").unwrap();
        let text = text.as_str().unwrap();
        let ours = answer(text, &input, bare);
        count += 1;
        if ours != case {
            wrong.push(format!("{text}\n  theirs {case}\n  ours   {ours}"));
        }
    }
    assert!(count > 1400, "the table was not read");
    assert!(wrong.is_empty(), "{} differ\n{}", wrong.len(), wrong.join("\n"));
}
