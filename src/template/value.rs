//! Values as Go has them in a template: kinds of integers, nil beside nothing, shared maps, objects with methods.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use stdx::OrdMap;

/// How deeply a walk over values goes: deeper than YAML or JSON can be read.
pub(crate) const WALK_DEPTH_MAX: usize = 200;

/// What a function takes, a letter a parameter: `s` a string, `i` an int, `b` a bool, `m` a `map[string]interface {}`,
/// `l` a `[]interface {}`, `a` anything. A `*` behind the last one: any number of those.
pub type Signature = &'static str;

/// Go's types of integers that templates meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Int {
    Int,
    Int64,
    Uint8,
    Uint64,
}

/// A Go value. Cloning shares maps and lists.
#[derive(Clone)]
pub enum Value {
    /// No value at all: what a pipeline gives that ends in nil. Fields of it are nothing again.
    Invalid,
    /// A nil that something holds. A field of it is an error.
    Nil,
    Bool(bool),
    Int(i64, Int),
    Float(f64),
    /// A Go string: any bytes.
    Text(Rc<[u8]>),
    /// A `[]byte`.
    Bytes(Rc<[u8]>),
    List(Rc<List>),
    Map(Rc<Map>),
    Object(Rc<dyn Object>),
}

/// A slice. Nothing changes it once it is made.
pub struct List {
    /// `[]interface {}`, `[]string` or `[]int`.
    pub type_name: &'static str,
    pub items: Vec<Value>,
}

/// A map with string keys, in their order.
pub struct Map {
    pub type_name: &'static str,
    pub entries: RefCell<OrdMap<Rc<str>, Value>>,
    is_mutated: Cell<bool>,
}

/// Something that the caller defines, with fields and methods.
pub trait Object {
    /// As `%T` prints it.
    fn type_name(&self) -> &'static str;
    /// Go's kind: `struct`, `map`, `slice`, `ptr`.
    fn kind(&self) -> &'static str {
        "struct"
    }
    fn field(&self, _name: &str) -> Option<Value> {
        None
    }
    /// Calls a method; `None` if there is none of this name.
    fn method(&self, _heap: &Heap, _name: &str, _args: &[Value]) -> Option<Result<Value, String>> {
        None
    }
    /// As `%v` prints it.
    fn show(&self) -> String;
    /// The plain value that JSON would be made of; what is ranged over.
    fn plain(&self) -> Value;
    /// For functions that take what they gave.
    fn as_any(&self) -> &dyn std::any::Any;
}

/// What an execution may use.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Nodes executed and values walked.
    pub steps_max: u64,
    /// All bytes that functions and output made, those given back included.
    pub bytes_max: u64,
    /// Templates, blocks and pipelines inside each other, together.
    pub depth_max: usize,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds { steps_max: 50_000_000, bytes_max: 1 << 30, depth_max: 600 }
    }
}

/// What an execution has left, and the maps that it changed. Those are emptied when it ends, so that a map that a
/// template put into itself is given back: data that the caller keeps must not be changed afterwards by another.
pub struct Heap {
    steps_left: Cell<u64>,
    bytes_left: Cell<u64>,
    pub(crate) depth_max: usize,
    mutated: RefCell<Vec<Weak<Map>>>,
}

impl Heap {
    pub fn new(bounds: Bounds) -> Heap {
        Heap {
            steps_left: Cell::new(bounds.steps_max),
            bytes_left: Cell::new(bounds.bytes_max),
            depth_max: bounds.depth_max,
            mutated: RefCell::default(),
        }
    }

    /// Takes steps.
    ///
    /// # Errors
    /// When there are none left.
    pub fn step(&self, n: u64) -> Result<(), String> {
        match self.steps_left.get().checked_sub(n) {
            Some(left) => {
                self.steps_left.set(left);
                Ok(())
            }
            None => Err("the template takes too many steps".to_owned()),
        }
    }

    /// Takes bytes before they are allocated.
    ///
    /// # Errors
    /// When there are none left.
    pub fn charge(&self, n_bytes: usize) -> Result<(), String> {
        match self.bytes_left.get().checked_sub(n_bytes as u64) {
            Some(left) => {
                self.bytes_left.set(left);
                Ok(())
            }
            None => Err("the template makes too much text".to_owned()),
        }
    }

    /// Puts `value` into a map that the template may see elsewhere.
    pub fn set(&self, map: &Rc<Map>, key: Rc<str>, value: Value) {
        if !map.is_mutated.replace(true) {
            self.mutated.borrow_mut().push(Rc::downgrade(map));
        }
        map.entries.borrow_mut().insert(key, value);
    }
}

impl Drop for Heap {
    fn drop(&mut self) {
        for map in self.mutated.take() {
            if let Some(map) = map.upgrade() {
                let entries = map.entries.take();
                drop(entries);
            }
        }
    }
}

impl Map {
    pub fn new(type_name: &'static str, entries: OrdMap<Rc<str>, Value>) -> Rc<Map> {
        Rc::new(Map { type_name, entries: RefCell::new(entries), is_mutated: Cell::new(false) })
    }

    pub fn get(&self, key: &str) -> Option<Value> {
        self.entries.borrow().get(key).cloned()
    }

    /// What a missing key has in Go.
    pub fn zero(&self) -> Value {
        match self.type_name {
            "map[string]string" => Value::text(""),
            _ => Value::Nil,
        }
    }
}

// Values nest as deeply as a template makes them, so they are taken apart without recursion.
impl Drop for Map {
    fn drop(&mut self) {
        take_apart(self.entries.take().into_values().collect());
    }
}

impl Drop for List {
    fn drop(&mut self) {
        take_apart(std::mem::take(&mut self.items));
    }
}

fn take_apart(mut values: Vec<Value>) {
    while let Some(value) = values.pop() {
        match value {
            Value::List(list) => {
                if let Some(mut list) = Rc::into_inner(list) {
                    values.append(&mut list.items);
                }
            }
            Value::Map(map) => {
                if let Some(map) = Rc::into_inner(map) {
                    values.extend(map.entries.take().into_values());
                }
            }
            _ => {}
        }
    }
}

impl Value {
    pub fn text(text: impl AsRef<[u8]>) -> Value {
        Value::Text(Rc::from(text.as_ref()))
    }

    pub fn int(n: i64) -> Value {
        Value::Int(n, Int::Int)
    }

    pub fn int64(n: i64) -> Value {
        Value::Int(n, Int::Int64)
    }

    /// A `[]interface {}`.
    pub fn list(items: Vec<Value>) -> Value {
        Value::List(Rc::new(List { type_name: "[]interface {}", items }))
    }

    /// A `[]string`.
    pub fn texts<T: AsRef<[u8]>>(items: impl Iterator<Item = T>) -> Value {
        let items = items.map(Value::text).collect();
        Value::List(Rc::new(List { type_name: "[]string", items }))
    }

    /// A `map[string]interface {}`.
    pub fn map(entries: OrdMap<Rc<str>, Value>) -> Value {
        Value::Map(Map::new("map[string]interface {}", entries))
    }

    pub fn object(object: impl Object + 'static) -> Value {
        Value::Object(Rc::new(object))
    }

    /// As `%T` prints it.
    pub fn type_name(&self) -> &'static str {
        match self {
            Value::Invalid | Value::Nil => "<nil>",
            Value::Bool(_) => "bool",
            Value::Int(_, Int::Int) => "int",
            Value::Int(_, Int::Int64) => "int64",
            Value::Int(_, Int::Uint8) => "uint8",
            Value::Int(_, Int::Uint64) => "uint64",
            Value::Float(_) => "float64",
            Value::Text(_) => "string",
            Value::Bytes(_) => "[]uint8",
            Value::List(list) => list.type_name,
            Value::Map(map) => map.type_name,
            Value::Object(object) => object.type_name(),
        }
    }

    /// Go's `reflect.Kind` in words.
    pub fn kind(&self) -> &'static str {
        match self {
            Value::Invalid | Value::Nil => "invalid",
            Value::Bytes(_) | Value::List(_) => "slice",
            Value::Map(_) => "map",
            Value::Object(object) => object.kind(),
            _ => self.type_name(),
        }
    }

    pub fn is_nil(&self) -> bool {
        matches!(self, Value::Nil | Value::Invalid)
    }

    /// Whether `if` takes it for true.
    pub fn truth(&self) -> bool {
        match self {
            Value::Invalid | Value::Nil => false,
            Value::Bool(truth) => *truth,
            Value::Int(n, _) => *n != 0,
            Value::Float(n) => *n != 0.0,
            Value::Text(bytes) | Value::Bytes(bytes) => !bytes.is_empty(),
            Value::List(list) => !list.items.is_empty(),
            Value::Map(map) => !map.entries.borrow().is_empty(),
            Value::Object(object) => match object.kind() {
                "map" | "slice" => object.plain().truth(),
                _ => true,
            },
        }
    }

    /// A tree of JSON as Go's `encoding/json` reads it into an `interface{}`, but that integers stay `int64`.
    pub fn from_json(tree: &serde_json::Value) -> Value {
        use serde_json::Value as Json;
        match tree {
            Json::Null => Value::Nil,
            Json::Bool(truth) => Value::Bool(*truth),
            Json::Number(number) => match number.as_i64() {
                Some(n) => Value::int64(n),
                None => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
            },
            Json::String(text) => Value::text(text),
            Json::Array(items) => Value::list(items.iter().map(Value::from_json).collect()),
            Json::Object(map) => {
                Value::map(map.iter().map(|(k, v)| (Rc::from(&**k), Value::from_json(v))).collect())
            }
        }
    }

    /// The tree that Go's `encoding/json` would write. A whole `float64` becomes an integer, as it is written so.
    ///
    /// # Errors
    /// If the value goes around in a circle, is nested too deeply, or has a number that JSON has not.
    pub fn to_json(&self, heap: &Heap) -> Result<serde_json::Value, String> {
        self.to_json_at(heap, 0)
    }

    fn to_json_at(&self, heap: &Heap, depth: usize) -> Result<serde_json::Value, String> {
        use serde_json::Value as Json;
        if depth > WALK_DEPTH_MAX {
            return Err("json: unsupported value: encountered a cycle or too deep a nesting".into());
        }
        heap.step(1)?;
        Ok(match self {
            Value::Invalid | Value::Nil => Json::Null,
            Value::Bool(truth) => Json::Bool(*truth),
            Value::Int(n, Int::Uint64) => Json::from(n.cast_unsigned()),
            Value::Int(n, _) => Json::from(*n),
            Value::Float(n) => json_float(*n)?,
            Value::Text(bytes) => {
                heap.charge(bytes.len())?;
                Json::String(String::from_utf8_lossy(bytes).into_owned())
            }
            Value::Bytes(bytes) => {
                heap.charge(bytes.len() * 2)?;
                Json::String(base64(bytes))
            }
            Value::List(list) => Json::Array(
                list.items
                    .iter()
                    .map(|item| item.to_json_at(heap, depth + 1))
                    .collect::<Result<_, _>>()?,
            ),
            Value::Map(map) => {
                let mut out = serde_json::Map::new();
                for (key, value) in map.entries.borrow().iter() {
                    heap.charge(64 + key.len())?;
                    out.insert(key.to_string(), value.to_json_at(heap, depth + 1)?);
                }
                Json::Object(out)
            }
            Value::Object(object) => object.plain().to_json_at(heap, depth + 1)?,
        })
    }

    /// Go's `reflect.DeepEqual`.
    ///
    /// # Errors
    /// As [`Value::to_json`], but for numbers.
    pub fn deep_equal(&self, other: &Value, heap: &Heap) -> Result<bool, String> {
        self.deep_equal_at(other, heap, 0)
    }

    fn deep_equal_at(&self, other: &Value, heap: &Heap, depth: usize) -> Result<bool, String> {
        if depth > WALK_DEPTH_MAX {
            return Err("the values are nested too deeply to be compared".into());
        }
        heap.step(1)?;
        Ok(match (self, other) {
            (Value::Invalid | Value::Nil, Value::Invalid | Value::Nil) => true,
            (Value::Bool(a), Value::Bool(b)) => a == b,
            (Value::Int(a, kind), Value::Int(b, other)) => a == b && kind == other,
            (Value::Float(a), Value::Float(b)) => a == b,
            (Value::Text(a), Value::Text(b)) | (Value::Bytes(a), Value::Bytes(b)) => a == b,
            (Value::List(a), Value::List(b)) => {
                if a.type_name != b.type_name || a.items.len() != b.items.len() {
                    return Ok(false);
                }
                for (a, b) in a.items.iter().zip(&b.items) {
                    if !a.deep_equal_at(b, heap, depth + 1)? {
                        return Ok(false);
                    }
                }
                true
            }
            (Value::Map(a), Value::Map(b)) => {
                if Rc::ptr_eq(a, b) {
                    return Ok(true);
                }
                let (a_entries, b_entries) = (a.entries.borrow(), b.entries.borrow());
                if a.type_name != b.type_name || a_entries.len() != b_entries.len() {
                    return Ok(false);
                }
                for ((key, a), (other, b)) in a_entries.iter().zip(b_entries.iter()) {
                    if key != other || !a.deep_equal_at(b, heap, depth + 1)? {
                        return Ok(false);
                    }
                }
                true
            }
            (Value::Object(a), Value::Object(b)) => {
                a.type_name() == b.type_name() && a.show() == b.show()
            }
            _ => false,
        })
    }
}

impl std::fmt::Debug for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.type_name())
    }
}

impl std::fmt::Debug for Heap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Heap").field("steps_left", &self.steps_left.get()).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for List {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.type_name)
    }
}

impl std::fmt::Debug for Map {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.type_name)
    }
}

#[expect(clippy::cast_possible_truncation)] // the guard is the range in which it is exact
fn json_float(n: f64) -> Result<serde_json::Value, String> {
    if n.fract() == 0.0 && n.abs() < 9e18 {
        return Ok((n as i64).into());
    }
    match serde_json::Number::from_f64(n) {
        Some(number) => Ok(number.into()),
        None => Err(format!("json: unsupported value: {n}")),
    }
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let group = chunk.iter().fold(0u32, |sum, byte| sum << 8 | u32::from(*byte))
            << (8 * (3 - chunk.len()));
        for idx in 0..4 {
            let digit = DIGITS[(group >> (18 - 6 * idx)) as usize & 63];
            out.push(if idx > chunk.len() { '=' } else { char::from(digit) });
        }
    }
    out
}
