//! Templates and what Go makes of them.

use std::rc::Rc;

use crate::{Bounds, Functions, Heap, MissingKey, Names, Run, Set, Signature, Value};

struct Some_;

impl Names for Some_ {
    fn find(&self, name: &str) -> Option<(u16, Signature)> {
        match name {
            "twice" => Some((0, "s")),
            "include" => Some((1, "sa")),
            "loop" => Some((2, "ma")),
            _ => None,
        }
    }
}

impl Functions for Some_ {
    fn call(&self, run: &mut Run<'_>, function: u16, args: &[Value]) -> Result<Value, String> {
        match (function, args) {
            (0, [Value::Text(text)]) => Ok(Value::text([&**text, &**text].concat())),
            (1, [Value::Text(name), data]) => {
                let name = String::from_utf8_lossy(name).into_owned();
                Ok(Value::text(run.execute(&name, data)?))
            }
            (2, [Value::Map(map), value]) => {
                run.heap.set(map, Rc::from("self"), value.clone());
                Ok(args[0].clone())
            }
            _ => Err("bad".to_owned()),
        }
    }
}

fn render_with(text: &str, data: &str, missing: MissingKey) -> Result<String, String> {
    let tree: serde_json::Value = serde_json::from_str(data).unwrap();
    let mut set = Set::new();
    set.parse("t", text, &Some_)?;
    let heap = Heap::new(Bounds { steps_max: 200_000, bytes_max: 1 << 20, depth_max: 300 });
    let data = Value::from_json(&tree);
    let out = Run::new(Rc::new(set), &Some_, missing, &heap).execute("t", &data)?;
    Ok(String::from_utf8(out).unwrap())
}

fn check(text: &str, data: &str, expected: &str) {
    match render_with(text, data, MissingKey::Zero) {
        Ok(out) => assert_eq!(out, expected, "{text}"),
        Err(error) => panic!("{text}: {error}"),
    }
}

fn fails(text: &str, data: &str, expected: &str) {
    assert_eq!(render_with(text, data, MissingKey::Zero).unwrap_err(), expected, "{text}");
}

#[test]
fn actions_and_trimming() {
    check("a {{ 1 }} b", "{}", "a 1 b");
    check("a  {{- 1 -}}  b", "{}", "a1b");
    check("a {{-3}} b", "{}", "a -3 b");
    check("a {{/* no */}} b{{- /* x */ -}} c", "{}", "a  bc");
    check("{{ .a.b }}{{ .x }}", r#"{"a":{"b":"c"}}"#, "c<no value>");
    check("{{ \"q\\t\\x41\\u00e4\" }}{{ `r\\w` }}{{ 'a' }}", "{}", "q\tAär\\w97");
    check(
        "{{ 0x10 }} {{ 010 }} {{ 1_000 }} {{ 1.5e1 }} {{ 1e6 }} {{ 0b11 }}",
        "{}",
        "16 8 1000 15 1e+06 3",
    );
    check("{{ true | not }}", "{}", "false");
}

#[test]
fn control_flow_and_scopes() {
    check("{{ if .a }}x{{ else if .b }}y{{ else }}z{{ end }}", r#"{"b":1}"#, "y");
    check("{{ with .a }}{{ . }}{{ else with .b }}b{{ . }}{{ else }}n{{ end }}", r#"{"b":1}"#, "b1");
    check(
        "{{ range $i, $e := .l }}{{ $i }}={{ $e }},{{ else }}none{{ end }}",
        r#"{"l":["a","b"]}"#,
        "0=a,1=b,",
    );
    check("{{ range $k, $v := . }}{{ $k }}{{ $v }}{{ end }}", r#"{"b":1,"a":2}"#, "a2b1");
    check("{{ range 3 }}{{ . }}{{ end }}", "{}", "012");
    check(
        "{{ range .l }}{{ if eq . 2 }}{{ continue }}{{ end }}{{ if eq . 4 }}{{ break }}{{ end }}{{ . }}{{ end }}",
        r#"{"l":[1,2,3,4,5]}"#,
        "13",
    );
    check("{{ $x := 1 }}{{ if true }}{{ $x = 2 }}{{ $x := 3 }}{{ end }}{{ $x }}", "{}", "2");
    check("{{ range $x := .l }}{{ $.n }}{{ $x }}{{ end }}", r#"{"l":[1,2],"n":"n"}"#, "n1n2");
    check(
        "{{ define \"d\" }}[{{ . }}{{ $ }}]{{ end }}{{ template \"d\" .a }}{{ block \"e\" 5 }}{{ . }}{{ end }}",
        r#"{"a":7}"#,
        "[77]5",
    );
    check("{{ include \"d\" 4 | twice }}{{ define \"d\" }}{{ . }}{{ end }}", "{}", "44");
}

#[test]
fn comparisons_and_builtins() {
    check(
        "{{ eq 1 2 1 }} {{ ne \"a\" \"b\" }} {{ lt 1 2 }} {{ ge 1.5 1.5 }}",
        "{}",
        "true true true true",
    );
    check(
        "{{ and 1 0 2 }} {{ or 0 \"\" \"x\" }} {{ and .a .a.b }}",
        r#"{"a":null}"#,
        "0 x <no value>",
    );
    check(
        "{{ len .l }} {{ index .l 1 }} {{ index .m \"a\" \"b\" }} {{ slice \"hello\" 1 3 }}",
        r#"{"l":[1,2],"m":{"a":{"b":9}}}"#,
        "2 2 9 el",
    );
    check(
        "{{ print 1 2 \"a\" \"b\" 3 }} {{ html \"<a>\" }} {{ urlquery \"a b&\" }} {{ js \"'x'\" }}",
        "{}",
        "1 2ab3 &lt;a&gt; a+b%26 \\'x\\'",
    );
    fails(
        "{{ eq 1 1.0 }}",
        "{}",
        "template: t:1:3: executing \"t\" at <eq 1 1.0>: error calling eq: incompatible types for comparison: int and float64",
    );
    fails(
        "{{ index .l 5 }}",
        r#"{"l":[]}"#,
        "template: t:1:3: executing \"t\" at <index .l 5>: error calling index: index out of range: 5",
    );
}

#[test]
fn printf_says_what_does_not_fit() {
    check(
        "{{ printf \"%s|%d|%q|%v|%5.2f|%-4d|%04d|%x|%t|%%\" \"a\" 2 \"b\\n\" .l 3.14159 7 7 255 true }}",
        r#"{"l":[1,"x",null]}"#,
        "a|2|\"b\\n\"|[1 x <nil>]| 3.14|7   |0007|ff|true|%",
    );
    check("{{ printf \"%d %s %d\" \"a\" 5 }}", "{}", "%!d(string=a) %!s(int=5) %!d(MISSING)");
    check(
        "{{ printf \"%s\" nil }}{{ printf \"a\" 1 \"b\" }}",
        "{}",
        "%!s(<nil>)a%!(EXTRA int=1, string=b)",
    );
    check(
        "{{ printf \"%[2]d %[1]d\" 1 2 }} {{ printf \"%*d\" 4 1 }} {{ printf \"%.0f\" 2.5 }}",
        "{}",
        "2 1    1 2",
    );
    check(
        "{{ .m }}{{ printf \"%T %T\" .l .m }}",
        r#"{"m":{"a":{"b":1}},"l":[]}"#,
        "map[a:map[b:1]][]interface {} map[string]interface {}",
    );
}

#[test]
fn nil_and_missing_differ() {
    fails(
        "{{ .a.b }}",
        "{}",
        "template: t:1:5: executing \"t\" at <.a.b>: nil pointer evaluating interface {}.b",
    );
    check("{{ (.a).b }}", "{}", "<no value>");
    fails(
        "{{ .a.b }}",
        r#"{"a":1.5}"#,
        "template: t:1:5: executing \"t\" at <.a.b>: can't evaluate field b in type float64",
    );
    fails(
        "{{ twice .a }}",
        r#"{"a":1.5}"#,
        "template: t:1:9: executing \"t\" at <.a>: wrong type for value; expected string; got float64",
    );
    fails(
        "{{ twice }}",
        "{}",
        "template: t:1:3: executing \"t\" at <twice>: wrong number of args for twice: want 1 got 0",
    );
    assert_eq!(render_with("{{ .a.b }}", "{}", MissingKey::Default).unwrap(), "<no value>");
    assert!(
        render_with("{{ .a }}", "{}", MissingKey::Error)
            .unwrap_err()
            .contains("map has no entry for key \"a\"")
    );
}

#[test]
fn what_is_wrong_with_a_text() {
    fails("x\n{{ foo }}", "{}", "template: t:2: function \"foo\" not defined");
    fails("{{ if 1 }}", "{}", "template: t:1: unexpected EOF");
    fails("{{ end }}", "{}", "template: t:1: unexpected {{end}}");
    fails("{{ $x }}", "{}", "template: t:1: undefined variable \"$x\"");
    fails("{{ }}", "{}", "template: t:1: missing value for command");
    fails("{{ 1 | 2 }}", "{}", "template: t:1: non executable command in pipeline stage 2");
    fails("{{ (1 }}", "{}", "template: t:1: unclosed left paren");
    fails("{{ break }}", "{}", "template: t:1: {{break}} outside {{range}}");
    fails("{{ \"a }}", "{}", "template: t:1: unterminated quoted string");
}

#[test]
fn a_hostile_template_is_bounded() {
    let refused = |text: &str| render_with(text, "{}", MissingKey::Zero).unwrap_err();
    assert!(refused("{{ range 1000000 }}{{ end }}").contains("too many steps"));
    assert!(
        refused("{{ range 100000 }}aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa{{ end }}")
            .contains("too much text")
    );
    assert!(
        refused("{{ printf \"%999999d\" 1 }}{{ printf \"%999999d\" 1 }}").contains("too much text")
    );
    assert!(
        refused("{{ define \"d\" }}{{ template \"d\" }}{{ end }}{{ template \"d\" }}")
            .contains("maximum template depth")
    );
    assert!(
        refused("{{ define \"d\" }}{{ include \"d\" . }}{{ end }}{{ template \"d\" . }}")
            .contains("maximum template depth")
    );
    assert!(
        refused(&format!("{{{{ {}1{} }}}}", "(".repeat(1000), ")".repeat(1000)))
            .contains("depth exceeded")
    );
    assert!(refused(&"{{ if 1 }}".repeat(1000)).contains("depth exceeded"));
    // A map in itself is shown until the bound, and given back.
    assert!(refused("{{ $_ := loop . . }}{{ . }}").contains("nested too deeply"));
    // A deep value is dropped without recursion.
    let deep = (0..1_000_000).fold(Value::Nil, |inner, _| Value::list(vec![inner]));
    drop(deep);
}
