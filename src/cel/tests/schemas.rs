//! Types, values and sizes that come from schemas.

use serde_json::{Value, json};

use super::{Nobody, shown};
use crate::{
    CALL_MAX, Identity, Input, Place, Range, Schemas, Shape, Spent, Type, Val, Variable, Wrong,
    compile,
};

/// Structural schemas, each with the places of what is below it.
struct Table(Vec<(Value, Vec<(String, usize)>, Option<usize>)>);

impl Table {
    fn add(&mut self, schema: &Value) -> usize {
        let at = self.0.len();
        self.0.push((schema.clone(), Vec::new(), None));
        for (name, below) in schema["properties"].as_object().into_iter().flatten() {
            let below = self.add(below);
            self.0[at].1.push((name.clone(), below));
        }
        for inner in [&schema["items"], &schema["additionalProperties"]] {
            if inner.is_object() {
                self.0[at].2 = Some(self.add(inner));
            }
        }
        at
    }
}

impl Schemas for Table {
    fn shape(&self, at: usize) -> Shape {
        let schema = &self.0[at].0;
        match (schema["type"].as_str(), schema["format"].as_str()) {
            (Some("object"), _) if schema["additionalProperties"].is_object() => Shape::Map,
            (Some("object"), _) => Shape::Object,
            (Some("array"), _) => Shape::List,
            (Some("integer"), _) => Shape::Int,
            (Some("number"), _) => Shape::Double,
            (Some("boolean"), _) => Shape::Bool,
            (_, Some("byte")) => Shape::Bytes,
            (_, Some("date-time")) => Shape::Time,
            (_, Some("date")) => Shape::Date,
            (_, Some("duration")) => Shape::Duration,
            (Some("string"), _) => Shape::Str,
            _ if schema["x-kubernetes-int-or-string"] == true => Shape::IntOrString,
            _ => Shape::Hidden,
        }
    }

    fn field(&self, at: usize, name: &str) -> Option<usize> {
        self.0[at].1.iter().find(|(known, _)| *known == name).map(|(_, at)| *at)
    }

    fn inner(&self, at: usize) -> Option<usize> {
        self.0[at].2
    }

    fn name(&self, at: usize) -> String {
        format!("selfType{at}")
    }

    fn limit(&self, at: usize) -> Option<u64> {
        let limits = ["maxLength", "maxItems", "maxProperties"];
        limits.iter().find_map(|name| self.0[at].0[name].as_u64())
    }

    fn longest(&self, at: usize) -> Option<u64> {
        let values = self.0[at].0["enum"].as_array()?;
        values.iter().filter_map(Value::as_str).map(|text| text.len() as u64).max()
    }

    fn required(&self, at: usize, see: &mut dyn FnMut(&str, usize)) {
        for name in self.0[at].0["required"].as_array().into_iter().flatten() {
            let name = name.as_str().unwrap();
            see(name, self.field(at, name).unwrap());
        }
    }

    fn identity(&self, at: usize) -> Identity<'_> {
        match self.0[at].0["x-kubernetes-list-type"] == "set" {
            true => Identity::Value,
            false => Identity::Place,
        }
    }
}

fn table() -> Table {
    let mut table = Table(Vec::new());
    table.add(&json!({"type": "object", "properties": {
        "int": {"type": "integer"}, "text": {"type": "string"}, "double": {"type": "number"},
        "list": {"type": "array", "items": {"type": "string"}},
        "map": {"type": "object", "maxProperties": 10, "additionalProperties": {"type": "integer"}},
        "time": {"type": "string", "format": "date-time"},
        "bytes": {"type": "string", "format": "byte"},
        "either": {"x-kubernetes-int-or-string": true},
        "set": {"type": "array", "maxItems": 5, "x-kubernetes-list-type": "set",
            "items": {"type": "string"}},
        "a-b": {"type": "integer"}, "namespace": {"type": "string"},
        "hidden": {"x-kubernetes-preserve-unknown-fields": true},
        "span": {"type": "string", "format": "duration"},
        "short": {"type": "string", "maxLength": 10},
        "inner": {"type": "object", "properties": {"int": {"type": "integer"}}},
        "nested": {"type": "array", "items": {"type": "object", "required": ["name"], "properties": {
            "name": {"type": "string"}, "ports": {"type": "array", "items": {"type": "integer"}},
            "v": {"type": "string", "enum": ["abc", "de"]}}}},
    }}));
    table
}

fn answer(text: &str, value: &Value) -> (String, Range) {
    let table = table();
    let place = Place { of: &table, at: 0 };
    let variables = ["self", "oldSelf"].map(|name| Variable { name, kind: Type::of(place) });
    match compile(text, &variables, Some(place)) {
        Err(Wrong::Text(why) | Wrong::Constant(why)) => {
            let line = why.lines().next().unwrap_or("").trim_start_matches("ERROR: <input>:");
            (line.to_owned(), Range::default())
        }
        Ok(compiled) => {
            let input =
                Input { variables: &[Val::Json(value, Some(place)), Val::Null], host: &Nobody };
            let found = compiled.program.run(&input, &mut Spent::up_to(CALL_MAX));
            let shown =
                found.map_or_else(|why| format!("! {}", why.message), |found| shown(&found));
            (shown, compiled.cost)
        }
    }
}

const COSTS: &[(&str, u64)] = &[
    ("self.int > 1", 3),
    ("self.short == 'x'", 3),
    ("self.short.startsWith('x')", 3),
    ("self.text.contains('x')", 314575),
    ("self.set.all(x, x == 'a')", 28),
    ("self.map.all(k, k == 'a')", 43),
    ("self.map.all(k, self.map[k] > 3)", 83),
    ("self.list.all(x, x == 'a')", 5242878),
    ("self.list.exists(x, x.startsWith('abc'))", 6291453),
    ("self.list.map(x, x + 'a').all(y, y.size() > 2)", 329873306414),
    ("self.nested.all(n, n.ports.all(p, p > 1))", 1902992666941),
    ("self.nested.all(n, n.v == 'abc')", 1451871),
    ("self.nested.all(n, n.name.matches('^a+$'))", 76120955287),
    ("self.nested.filter(n, n.name == 'x').size() < 3", 3871663),
    ("self.nested[0].name == self.text", 314579),
    ("self.text.matches('^a')", 314575),
    ("self.short.matches('^a')", 7),
    ("self.either == 5", 3),
    ("string(self.either) == 'x'", 314576),
    ("self.time < timestamp('2020-01-01T00:00:00Z')", 4),
    ("self.bytes == b'abc'", 3),
    ("self.set.join(',') == 'x'", 1572867),
    ("self.list.join(',').size() > 1", 329853068907),
    ("self.list.isSorted()", 329854432052),
    ("self.set.indexOf('a') == 1", 1572873),
    ("self.short.replace('a', 'bbbb').size() > 1", 12),
    ("self.short.split('a').all(x, x == 'a')", 171),
    ("self.short.find('[a-z]+') == ''", 12),
    ("self.list == self.set", 5),
    ("self == self", 2),
    ("self.set + ['a'] == self.set", 16),
    ("sets.contains(self.set, ['a'])", 18),
    ("quantity(self.short).isInteger()", 7),
    ("isIP(self.short)", 6),
    ("ip(self.short).family() == 4", 8),
    ("cidr(self.short).containsIP(self.short)", 16),
    ("url(self.short).getHost() == 'x'", 8),
    ("format.dns1123Label().validate(self.short).hasValue()", 132),
    ("\"%s\".format([self.short]) == 'x'", 14),
    ("self.short in self.set", 9),
    ("self.short in ['a', 'b']", 14),
    ("'a' in self.map", 3),
    ("has(self.text) && self.text != ''", 3),
    ("self.?text.orValue('x') == 'x'", 4),
    ("self.?text.optMap(t, t == 'x').orValue(false)", 19),
    ("(self.int > 1 ? self.text : self.short) == 'x'", 6),
    ("self.list.exists_one(x, x == self.text)", 329858626354),
    ("self.double > 1.5", 3),
    ("self.nested.exists(n, n.ports.exists(p, p in [80, 443]))", 6470171825087),
    ("[1,2,3].all(x, x > self.int)", 32),
    ("self.short.lowerAscii() == self.short", 12),
    ("self.short.size() + self.text.size() > 3", 8),
    ("duration('1h') < self.span", 4),
    ("self.text.trim().substring(3) == 'x'", 629149),
    ("oldSelf.int < self.int", 5),
    ("oldSelf.list.all(x, x in self.list)", 1099515822078),
    ("type(self.text) == string", 4),
    ("dyn(self.text) == 'x'", 4),
    ("strings.quote(self.short) == 'x'", 7),
    ("bytes(self.short) == b'x'", 7),
];

#[test]
fn fields_have_the_types_of_their_schemas() {
    let value = json!({
        "int": 3, "text": "x", "list": ["a", "b"], "map": {"k": 1}, "time": "2020-01-01T00:00:00Z",
        "bytes": "aGk=", "either": "5%", "set": ["a", "b"], "a-b": 7, "namespace": "ns", "double": 2,
        "hidden": 1, "span": "1h", "short": "s",
    });
    for (text, want) in [
        ("self.int + 1", "4"),
        ("self.text + 1", "1:11: found no matching overload for '_+_' applied to '(string, int)'"),
        ("self.nope", "1:5: undefined field 'nope'"),
        ("self.hidden", "1:5: undefined field 'hidden'"),
        ("has(self.nope)", "1:4: undefined field 'nope'"),
        ("self.a__dash__b", "7"),
        ("self.__namespace__", "\"ns\""),
        ("self.namespace", "\"ns\""),
        (
            "self.list.all(x, x > 1)",
            "1:20: found no matching overload for '_>_' applied to '(string, int)'",
        ),
        ("self.list[0].size()", "1"),
        ("self.map.k + 1", "2"),
        ("self.map['none']", "! no such key: none"),
        ("self.time.getFullYear()", "2020"),
        ("self.bytes == b'hi'", "true"),
        ("self.span.getMinutes()", "60"),
        ("type(self.either) == string", "true"),
        ("type(self.double)", "type double"),
        ("self.set == ['b', 'a']", "true"),
        ("['b', 'a'] == self.set", "false"),
        ("self.list == ['b', 'a']", "false"),
        ("self.set + ['b', 'c']", "[\"a\",\"b\",\"c\"]"),
        ("has(self.inner)", "false"),
        ("self.inner.int", "! no such key: inner"),
        ("self == 1", "1:6: found no matching overload for '_==_' applied to '(selfType0, int)'"),
        (
            "self.map(k, k).exists(k, k == 'a__dash__b')",
            "1:1: expression of type 'selfType0' cannot be range of a comprehension (must be list, map, or dynamic)",
        ),
        ("format.uri().validate(self.text).hasValue()", "false"),
        ("format.uri().validate('')", "some([\"no uri\"])"),
    ] {
        assert_eq!(answer(text, &value).0, want, "{text}");
    }
    let wrong = json!({"int": "x", "time": "yesterday"});
    assert_eq!(answer("self.int", &wrong).0, "! invalid data, expected int, got string");
    assert_eq!(
        answer("self.time == self.time", &wrong).0,
        "! Invalid date-time formatted string yesterday"
    );
}

#[test]
fn sizes_of_schemas_bound_the_cost() {
    // The numbers are those of the stock API server for the same schema.
    let mut wrong = Vec::new();
    for (text, max) in COSTS {
        let cost = answer(text, &json!({})).1;
        if cost.max != *max {
            wrong.push(format!("{text}: {max}, not {}", cost.max));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn policies_ask_the_authorizer() {
    let variables = [Variable { name: "authorizer", kind: Type::authorizer() }];
    for (text, want) in [
        (
            "authorizer.group('apps').resource('deployments').namespace('n').check('get').allowed()",
            "true",
        ),
        ("authorizer.group('').resource('pods').check('list').allowed()", "false"),
        ("authorizer.path('/healthz').check('get').allowed()", "true"),
        ("authorizer.path(' ').check('get').allowed()", "! path must not be empty"),
        (
            "authorizer.group('').resource('').check('get').allowed()",
            "! resource must not be empty",
        ),
        (
            "authorizer.serviceAccount('n', 'A').path('/x').check('get').allowed()",
            "! Invalid service account name",
        ),
        (
            "authorizer.serviceAccount('n', 'a').path('/x').check('get').reason().contains('\"n\", \"a\"')",
            "true",
        ),
        ("authorizer.group('').resource('pods').labelSelector('a=b').check('get').error()", "\"\""),
        (
            "authorizer.check('get')",
            "1:17: found no matching overload for 'check' applied to 'kubernetes.authorization.Authorizer.(string)'",
        ),
    ] {
        let found = match compile(text, &variables, None) {
            Err(Wrong::Text(why) | Wrong::Constant(why)) => {
                why.lines().next().unwrap_or("").trim_start_matches("ERROR: <input>:").to_owned()
            }
            Ok(compiled) => {
                let values = [Val::authorizer(Default::default())];
                let input = Input { variables: &values, host: &Nobody };
                let found = compiled.program.run(&input, &mut Spent::up_to(CALL_MAX));
                found.map_or_else(|why| format!("! {}", why.message), |found| shown(&found))
            }
        };
        assert_eq!(found, want, "{text}");
    }
}
