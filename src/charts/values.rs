//! Values: what a chart says, what users say over it, and the grammar of `--set`.

use serde_json::{Map, Number, Value};
use stdx::{Error, Result};

use crate::chart::Chart;

/// Helm's bounds of `--set`: the largest index, and names inside each other.
const INDEX_MAX: usize = 65_536;
const NESTING_MAX: usize = 30;
/// Depth of values: what YAML and JSON can be read from.
const DEPTH_MAX: usize = 128;

/// Lays the values of a file over others, as several `-f` do: maps are merged, all else is replaced. Numbers become
/// floats, as which Helm reads them from YAML, while [`set_value`] makes integers: templates can tell them apart.
/// [`plain_numbers`] undoes it for records.
pub fn merge_values(base: &mut Value, mut over: Value) {
    floats(&mut over);
    merge(base, over);
}

fn merge(base: &mut Value, over: Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                match base.get_mut(&key) {
                    Some(old @ Value::Object(_)) if value.is_object() => merge(old, value),
                    _ => {
                        base.insert(key, value);
                    }
                }
            }
        }
        (_, Value::Null) => {}
        (base, over) => *base = over,
    }
}

/// Every number a float.
pub(crate) fn floats(tree: &mut Value) {
    match tree {
        Value::Number(number) => {
            if let Some(float) = number.as_f64().and_then(Number::from_f64) {
                *number = float;
            }
        }
        Value::Array(items) => items.iter_mut().for_each(floats),
        Value::Object(map) => map.values_mut().for_each(floats),
        _ => {}
    }
}

/// Whole floats as integers, as Go writes JSON.
pub fn plain_numbers(tree: &mut Value) {
    match tree {
        Value::Number(number) => {
            if number.is_f64()
                && let Some(float) = number.as_f64()
                && float.fract() == 0.0
                && float.abs() < 9e18
            {
                #[expect(clippy::cast_possible_truncation)] // it is in the range, and whole
                let whole = float as i64;
                *number = whole.into();
            }
        }
        Value::Array(items) => items.iter_mut().for_each(plain_numbers),
        Value::Object(map) => map.values_mut().for_each(plain_numbers),
        _ => {}
    }
}

/// What is at `a.b.c`.
pub(crate) fn lookup<'a>(values: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(values, |value, part| value.get(part))
}

/// Fills the user's values with the chart's and those of the charts inside. A null of the user's deletes, unless
/// nulls are kept.
///
/// # Errors
/// If a chart inside is given something that is no map.
pub(crate) fn coalesce(chart: &Chart, values: &mut Value, keeps_nulls: bool) -> Result<()> {
    let Value::Object(values) = values else {
        return Err(Error::new("values are not a map"));
    };
    own_values(chart, values, keeps_nulls);
    for child in &chart.dependencies {
        let globals = values.get("global").cloned();
        let below =
            values.entry(child.name().to_owned()).or_insert_with(|| Value::Object(Map::new()));
        let Value::Object(map) = &mut *below else {
            return Err(Error::new(format!("type mismatch on {}: %!t(...)", child.name())));
        };
        hand_down(map, globals.as_ref());
        coalesce(child, below, keeps_nulls)?;
    }
    Ok(())
}

fn own_values(chart: &Chart, values: &mut Map<String, Value>, keeps_nulls: bool) {
    let Value::Object(own) = &chart.values else { return };
    for (key, value) in own {
        match values.get_mut(key) {
            None => {
                let mut value = value.clone();
                floats(&mut value);
                values.insert(key.clone(), value);
            }
            Some(Value::Null) if !keeps_nulls => {
                values.remove(key);
            }
            Some(over @ Value::Object(_)) if value.is_object() => {
                let is_child = chart.dependencies.iter().any(|child| child.name() == key);
                let mut value = value.clone();
                floats(&mut value);
                coalesce_tables(over, &value, keeps_nulls || is_child);
            }
            Some(_) => {}
        }
    }
}

/// `global` of the parent, over the child's own.
fn hand_down(child: &mut Map<String, Value>, globals: Option<&Value>) {
    let empty = Map::new();
    let globals = match globals {
        None => &empty,
        Some(Value::Object(globals)) => globals,
        Some(_) => return,
    };
    let own = child.entry("global").or_insert_with(|| Value::Object(Map::new()));
    let Value::Object(own) = own else { return };
    for (key, value) in globals {
        match (own.get(key), value) {
            (Some(older @ Value::Object(_)), Value::Object(_)) => {
                let mut merged = value.clone();
                coalesce_tables(&mut merged, older, true);
                own.insert(key.clone(), merged);
            }
            // A map and something else: each keeps its own.
            (Some(Value::Object(_)), _) | (Some(_), Value::Object(_)) => {}
            _ => {
                own.insert(key.clone(), value.clone());
            }
        }
    }
}

/// Fills `over` with what `below` has and it has not.
pub(crate) fn coalesce_tables(over: &mut Value, below: &Value, keeps_nulls: bool) {
    let (Value::Object(over), Value::Object(below)) = (over, below) else { return };
    for (key, value) in below {
        match over.get_mut(key) {
            Some(Value::Null) if !keeps_nulls => {
                over.remove(key);
            }
            None => {
                over.insert(key.clone(), value.clone());
            }
            Some(inner @ Value::Object(_)) if value.is_object() => {
                coalesce_tables(inner, value, keeps_nulls);
            }
            Some(_) => {}
        }
    }
}

/// Applies `a.b[0].c=v,x={1,2}`; with `as_string`, values are texts whatever they look like.
///
/// # Errors
/// What is wrong with the expression, in Helm's words.
pub fn set_value(values: &mut Value, expression: &str, as_string: bool) -> Result<()> {
    if !values.is_object() {
        *values = Value::Object(Map::new());
    }
    let Value::Object(map) = values else { return Err(Error::new("values are not a map")) };
    let mut parser = Setter { chars: expression.chars().peekable(), as_string };
    while parser.chars.peek().is_some() {
        parser
            .key(map, 0)
            .map_err(|what| Error::new(format!("failed parsing --set data: {what}")))?;
    }
    Ok(())
}

struct Setter<'a> {
    chars: std::iter::Peekable<std::str::Chars<'a>>,
    as_string: bool,
}

impl Setter<'_> {
    /// What is before one of `stops`, and that one; `None` at the end of the text.
    fn until(&mut self, stops: &str) -> (String, Option<char>) {
        let mut out = String::new();
        while let Some(c) = self.chars.next() {
            if stops.contains(c) {
                return (out, Some(c));
            }
            match c {
                '\\' => match self.chars.next() {
                    Some(next) => out.push(next),
                    None => break,
                },
                c => out.push(c),
            }
        }
        (out, None)
    }

    fn key(&mut self, map: &mut Map<String, Value>, depth: usize) -> Result<(), String> {
        if depth > NESTING_MAX {
            return Err(format!(
                "value name nested level is greater than maximum supported nested level of {NESTING_MAX}"
            ));
        }
        let (key, stop) = self.until("=[,.");
        let mut set = |key: String, value: Value| {
            if !key.is_empty() {
                map.insert(key, value);
            }
        };
        match stop {
            None if key.is_empty() => Ok(()),
            None => Err(format!("key {key:?} has no value")),
            Some('=') => {
                let value = self.value()?;
                set(key, value);
                Ok(())
            }
            Some(',') => Err(format!("key {key:?} has no value (cannot end with ,)")),
            Some('[') => {
                let index = self.index()?;
                let mut list = match map.remove(&key) {
                    None => Vec::new(),
                    Some(Value::Array(list)) => list,
                    Some(_) => {
                        return Err(format!(
                            "unable to parse key: interface conversion: {key:?} is not a list"
                        ));
                    }
                };
                self.item(&mut list, index, depth)?;
                if !key.is_empty() {
                    map.insert(key, list.into());
                }
                Ok(())
            }
            Some(_) => {
                let mut inner = match map.remove(&key) {
                    None | Some(Value::Null) => Map::new(),
                    Some(Value::Object(inner)) => inner,
                    Some(_) => {
                        return Err(format!(
                            "unable to parse key: interface conversion: {key:?} is not a map"
                        ));
                    }
                };
                self.key(&mut inner, depth + 1)?;
                if inner.is_empty() {
                    return Err(format!("key map {key:?} has no value"));
                }
                if !key.is_empty() {
                    map.insert(key, inner.into());
                }
                Ok(())
            }
        }
    }

    fn index(&mut self) -> Result<usize, String> {
        let (text, _) = self.until("]");
        let index: i64 =
            text.parse().map_err(|_| format!("error parsing index: {text:?}: invalid syntax"))?;
        match usize::try_from(index) {
            Err(_) => Err(format!("negative {index} index not allowed")),
            Ok(index) if index > INDEX_MAX => Err(format!(
                "index of {index} is greater than maximum supported index of {INDEX_MAX}"
            )),
            Ok(index) => Ok(index),
        }
    }

    fn item(&mut self, list: &mut Vec<Value>, index: usize, depth: usize) -> Result<(), String> {
        if depth > NESTING_MAX {
            return Err(format!(
                "value name nested level is greater than maximum supported nested level of {NESTING_MAX}"
            ));
        }
        let (text, stop) = self.until("[.=");
        if !text.is_empty() {
            return Err(format!("unexpected data at end of array index: {text:?}"));
        }
        let old = list.get_mut(index).map(Value::take);
        let value = match stop {
            None => return Err("array index has no value".to_owned()),
            Some('=') => self.value()?,
            Some('[') => {
                let next = self.index()?;
                let mut inner = match old {
                    Some(Value::Array(inner)) => inner,
                    _ => Vec::new(),
                };
                self.item(&mut inner, next, depth + 1)?;
                inner.into()
            }
            Some(_) => {
                let mut inner = match old {
                    Some(Value::Object(inner)) => inner,
                    _ => Map::new(),
                };
                self.key(&mut inner, depth + 1)?;
                inner.into()
            }
        };
        if list.len() <= index {
            list.resize(index + 1, Value::Null);
        }
        list[index] = value;
        Ok(())
    }

    fn value(&mut self) -> Result<Value, String> {
        if self.chars.peek() != Some(&'{') {
            let (text, _) = self.until(",");
            return Ok(self.typed(text));
        }
        self.chars.next();
        let mut items = Vec::new();
        loop {
            let (text, stop) = self.until(",}");
            items.push(self.typed(text));
            match stop {
                Some(',') => {}
                Some(_) => break,
                None => return Err("list must terminate with '}'".to_owned()),
            }
        }
        if self.chars.peek() == Some(&',') {
            self.chars.next();
        }
        Ok(items.into())
    }

    fn typed(&self, text: String) -> Value {
        if self.as_string {
            return text.into();
        }
        match text.to_ascii_lowercase().as_str() {
            "true" => return true.into(),
            "false" => return false.into(),
            "null" => return Value::Null,
            "0" => return 0.into(),
            _ => {}
        }
        match text.parse::<i64>() {
            Ok(n) if !text.starts_with('0') => n.into(),
            _ => text.into(),
        }
    }
}

/// Whether values nest no deeper than what is walked by recursion.
pub(crate) fn is_shallow(tree: &Value) -> bool {
    let mut stack = vec![(tree, 0usize)];
    while let Some((tree, depth)) = stack.pop() {
        if depth > DEPTH_MAX {
            return false;
        }
        match tree {
            Value::Array(items) => stack.extend(items.iter().map(|item| (item, depth + 1))),
            Value::Object(map) => stack.extend(map.values().map(|item| (item, depth + 1))),
            _ => {}
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn set(expression: &str) -> Result<Value> {
        let mut values = json!({"old": {"a": 1}, "list": ["x", "y"]});
        set_value(&mut values, expression, false)?;
        let map = values.as_object_mut().unwrap();
        if map["old"] == json!({"a": 1}) {
            map.remove("old");
        }
        if map["list"] == json!(["x", "y"]) {
            map.remove("list");
        }
        Ok(values)
    }

    #[test]
    fn the_grammar_of_set() {
        for (expression, expected) in [
            (
                "a=1,b=true,c=x,d=null,e=0,f=01,g=1.5",
                json!({"a":1,"b":true,"c":"x","d":null,"e":0,"f":"01","g":"1.5"}),
            ),
            ("a.b.c=x", json!({"a":{"b":{"c":"x"}}})),
            ("a={1,b,},c=", json!({"a":[1,"b",""],"c":""})),
            ("a\\.b=x\\,y", json!({"a.b":"x,y"})),
            ("list[1]=z", json!({"list":["x","z"]})),
            ("n[2].k=v,n[0]=a", json!({"n":["a",null,{"k":"v"}]})),
            ("m[0][1]=v", json!({"m":[[null,"v"]]})),
            ("old.b=2", json!({"old":{"a":1,"b":2}})),
            ("old.a=null", json!({"old":{"a":null}})),
        ] {
            assert_eq!(set(expression).unwrap(), expected, "{expression}");
        }
        for bad in ["a", "a,b=1", "a[-1]=1", "a[99999]=1", "a={1", "a[0", "a[0]x=1", "old[0]=1"] {
            assert!(set(bad).is_err(), "{bad}");
        }
        assert!(set(&format!("{}=1", ["a"; 40].join("."))).is_err());
        assert!(set(&format!("a{}=1", "[0]".repeat(1000))).is_err());
        let mut values = Value::Null;
        set_value(&mut values, "a=1,b=null", true).unwrap();
        assert_eq!(values, json!({"a":"1","b":"null"}));
    }

    #[test]
    fn files_lie_over_each_other() {
        let mut values = json!({"a":{"b":1,"c":[1]},"d":1});
        merge_values(&mut values, json!({"a":{"c":[2],"e":null},"d":{"x":1000000}}));
        assert_eq!(values, json!({"a":{"b":1,"c":[2.0],"e":null},"d":{"x":1_000_000.0}}));
        plain_numbers(&mut values);
        assert_eq!(values["d"]["x"].to_string(), "1000000");
    }
}
