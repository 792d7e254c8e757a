//! What is hostile ends soon, small, and with an error.

use std::time::Instant;

use serde_json::json;

use super::value_of;
use crate::{Type, Val};

fn fails(text: &str, why: &str) {
    let value = json!({"l": (0..2000).collect::<Vec<u32>>(), "s": "x".repeat(100_000)});
    let begun = Instant::now();
    let shown = &text[..text.len().min(100)];
    match value_of(text, Type::Dyn, Val::json(&value)) {
        Ok(found) => panic!("{shown}: {}", &found[..found.len().min(200)]),
        Err(found) => assert!(found.contains(why), "{shown}: {found}"),
    }
    // A debug build on a busy machine; what grows with no bound takes for ever.
    assert!(begun.elapsed().as_secs() < 60, "{shown}: {:?}", begun.elapsed());
}

#[test]
fn what_nests_too_deep_is_refused() {
    for (open, inner, close) in
        [("(", "1", ")"), ("[", "", "]"), ("{1:", "1", "}"), ("f(", "1", ")")]
    {
        let text = format!("{}{inner}{}", open.repeat(5000), close.repeat(5000));
        fails(&text, "expression recursion limit exceeded: 250");
    }
    fails(&format!("1{}", "+1".repeat(5000)), "max recursion depth exceeded");
    fails(&format!("self{}", ".a".repeat(5000)), "max recursion depth exceeded");
    fails(&format!("self{}", "[0]".repeat(5000)), "max recursion depth exceeded");
    fails(&format!("{}true", "true?true:".repeat(5000)), "expression recursion limit");
    fails(&"(".repeat(99_000), "expression recursion limit");
    fails(&"-".repeat(99_000), "mismatched input");
    fails(
        &"a".repeat(100_001),
        "expression code point size exceeds limit: size: 100001, limit 100000",
    );
    fails(&"'".repeat(99_999), "Syntax error");
    assert_eq!(
        value_of(&format!("{}true", "!".repeat(90_001)), Type::Dyn, Val::Null),
        Ok("false".into())
    );
}

#[test]
fn wide_is_no_problem() {
    let wide = format!("{}true", "self.s == 'y' || ".repeat(3000));
    assert_eq!(value_of(&wide, Type::Dyn, Val::json(&json!({"s": "x"}))), Ok("true".into()));
    let list = format!("size([{}])", "1,".repeat(30_000));
    assert_eq!(value_of(&list, Type::Dyn, Val::Null), Ok("30000".into()));
}

#[test]
fn macros_that_double_what_they_are_given_are_refused() {
    let doubled = format!("optional.of(1){}", ".optMap(x, x)".repeat(40));
    fails(&doubled, "");
    // Types that double: a few letters describe a type of 2^60 parts.
    let typed = format!("[1]{}", ".map(a, {a: a})".repeat(60));
    fails(&typed, "too complex");
}

#[test]
fn evaluations_that_cost_too_much_are_cancelled() {
    let cancelled = "operation cancelled: actual cost limit exceeded";
    fails("self.l.all(a, self.l.all(b, self.l.all(c, a + b + c > -1)))", cancelled);
    fails("self.l.map(a, self.l.map(b, self.l))", cancelled);
    let doubled = format!("[self.l]{}.size() > 0", ".map(a, a + a)".repeat(60));
    fails(&doubled, cancelled);
    let doubled = format!("[self.s]{}.size() > 0", ".map(a, a + a)".repeat(60));
    fails(&doubled, cancelled);
    fails("self.s.replace('', self.s).size() > 0", cancelled);
    fails("self.l.all(a, self.s.matches('(x+x+)+y') || true)", cancelled);
    // An error that a logical operator would swallow is none of these.
    fails("self.l.all(a, self.l.all(b, self.l.all(c, a + b + c > -1))) || true", cancelled);
}

#[test]
fn regular_expressions_are_bounded() {
    fails("'x'.matches('((((a{100}){100}){100}){100})')", "invalid matches argument");
    let deep = format!("'x'.matches('{}')", "(".repeat(50_000));
    fails(&deep, "invalid matches argument");
    assert_eq!(
        value_of("self.matches('(a*)*b')", Type::Str, Val::Str(&"a".repeat(3000))),
        Ok("false".into())
    );
    // What it costs to compile and to match is paid, whatever comes of it.
    let cancelled = "operation cancelled: actual cost limit exceeded";
    let text = "a".repeat(200_000);
    let large = "('(' + self + ')').size() > 0 && self.matches('(a{90}){90}b')";
    assert_eq!(value_of(large, Type::Str, Val::Str(&text)), Err(cancelled.into()));
    let all = "self.findAll('a.*b|a').size() > 0";
    assert_eq!(value_of(all, Type::Str, Val::Str(&text)), Err(cancelled.into()));
    let numbers: Vec<String> = (0..300).map(|nth| nth.to_string()).collect();
    let many = format!(
        "[{}].all(n, self.matches('(x{{90}}){{90}}' + string(n)) || true)",
        numbers.join(",")
    );
    assert_eq!(value_of(&many, Type::Str, Val::Str("a")), Err(cancelled.into()));
}

#[test]
fn what_is_wrong_is_shown_in_few_lines() {
    let text = format!("[{}1]", "x, ".repeat(2000));
    let crate::Wrong::Text(shown) = crate::compile(&text, &[], None).unwrap_err() else { panic!() };
    assert!(shown.len() < 128 * 1024 && shown.contains("more errors"), "{}", shown.len());
}
