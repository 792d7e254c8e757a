//! Random expressions and random bytes: none of them ends in a panic, and what was read is read again.

use serde_json::{Value, json};
use stdx::prng::Prng;

use super::Nobody;
use crate::{Input, Spent, Type, Val, Variable, compile};

const WORDS: &[&str] = &[
    "1",
    "0",
    "-3",
    "2u",
    "1.5",
    "'a'",
    "'\\u00e4'",
    "b'x'",
    "true",
    "null",
    "[]",
    "{}",
    "self",
    "self.a",
    "self.l",
    "x",
    "__result__",
    "+",
    "-",
    "*",
    "/",
    "%",
    "==",
    "!=",
    "<",
    ">=",
    "in",
    "&&",
    "||",
    "!",
    "?",
    ":",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    ",",
    ".",
    ".?",
    "[?",
    "has(",
    ".map(x, ",
    ".all(x, ",
    ".exists_one(x, ",
    ".filter(x, ",
    ".optMap(x, ",
    "size(",
    "string(",
    "int(",
    "double(",
    "uint(",
    "type(",
    "dyn(",
    "duration('1h')",
    "timestamp(0)",
    "bytes(",
    ".size()",
    ".value()",
    ".orValue(",
    "optional.of(",
    "optional.none()",
    ".split(",
    ".join(",
    ".format([",
    "'%s %d %.3f %x'",
    ".indexOf(",
    ".substring(",
    ".replace('', ",
    ".charAt(",
    ".sum()",
    ".max()",
    ".isSorted()",
    "ip('::1')",
    "cidr('10.0.0.0/8')",
    ".masked()",
    ".containsIP(",
    "quantity('1Ki')",
    ".add(",
    ".asInteger()",
    "url('https://a:1/b?c')",
    ".getQuery()",
    "sets.contains(",
    ".matches(",
    ".find('[a-z]*')",
    "format.uri()",
    ".validate(",
    "9223372036854775807",
    "1e300",
    "'''",
    "\"",
    "r'",
    "// ",
    "\n",
    "ä",
    "\u{1f600}",
];

/// An expression that is often whole.
fn tree(random: &mut Prng, depth: u32, out: &mut String) {
    if depth == 0 {
        return out.push_str(WORDS[random.below(17) as usize]);
    }
    let shapes: [&[&str]; 16] = [
        &["(", " + ", ")"],
        &["(", " == ", ")"],
        &["(", " ? ", " : ", ")"],
        &["", "[", "]"],
        &["[", ", ", "]"],
        &["{", ": ", "}"],
        &["", ".map(x, ", ")"],
        &["", ".filter(x, ", ")"],
        &["", ".all(x, ", ")"],
        &["size(", ")"],
        &["string(", ")"],
        &["(", " && ", ")"],
        &["", ".split(", ")"],
        &["'%s'.format([", "])"],
        &["", ".optMap(x, ", ")"],
        &["(", " in ", ")"],
    ];
    let shape = shapes[random.below(16) as usize];
    for (nth, part) in shape.iter().enumerate() {
        out.push_str(part);
        if nth + 1 < shape.len() {
            tree(random, depth - 1, out);
        }
    }
}

fn text(random: &mut Prng) -> String {
    match random.below(4) {
        0 => {
            let mut bytes = vec![0; random.below(60) as usize];
            random.fill(&mut bytes);
            String::from_utf8_lossy(&bytes).into_owned()
        }
        1 => (0..random.below(14))
            .map(|_| WORDS[random.below(WORDS.len() as u64) as usize])
            .collect(),
        _ => {
            let (mut out, depth) = (String::new(), 1 + random.below(4) as u32);
            tree(random, depth, &mut out);
            out
        }
    }
}

/// One expression, compiled and evaluated within a small budget.
fn one(text: &str, value: &Value) -> bool {
    let variables = [Variable { name: "self", kind: Type::Dyn }];
    let Ok(compiled) = compile(text, &variables, None) else { return false };
    let mut spent = Spent::up_to(20_000);
    let input = Input { variables: &[Val::json(value)], host: &Nobody };
    let found = compiled.program.run(&input, &mut spent);
    assert!(compiled.cost.min <= compiled.cost.max, "{text}");
    if let Ok(found) = &found {
        super::shown(found);
    }
    true
}

#[test]
fn nothing_that_is_written_ends_in_a_panic() {
    // Seconds of fuzzing, for a longer run.
    let seconds: u64 =
        std::env::var("CEL_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    let begun = std::time::Instant::now();
    let value =
        json!({"a": {"b": 1, "c": "x"}, "l": [1, 2.5, "x", null, true, {"k": [1]}], "s": "text"});
    let (mut seed, mut compiled) = (0, 0);
    while seed < 4000 || begun.elapsed().as_secs() < seconds {
        let text = text(&mut Prng::new(seed));
        let worked = std::panic::catch_unwind(|| one(&text, &value));
        compiled += u32::from(worked.unwrap_or_else(|_| panic!("seed {seed}: {text:?}")));
        seed += 1;
    }
    assert!(compiled > 200, "hardly anything compiles: {compiled} of {seed}");
}
