//! Schemas: every type's fields as one compact table, parsed once from the texts beside the kinds.
//!
//! The text, one line a field:
//! ```text
//! package io.k8s.api.apps.v1
//! DeploymentSpec [atomic] [kind] [union]         -- a sentence for `kubectl explain`
//!   1 replicas   i32?            = 1 min 0       -- a sentence
//!   2 selector*  LabelSelector?  immutable
//!   4 strategy   DeploymentStrategy  retain
//! ```
//! The number is the protobuf tag. After the name: `*` required, `!` optional but always written
//! (no `omitempty` in Go), `~` required for clients, though the server lets the empty value pass.
//! The type: a scalar (`str bool i32 i64 f64 bytes time microtime duration quantity intorstr raw
//! fields strs`) or a type's name; `[]` before it makes a list, `{}` a map from strings; `?` after it
//! a pointer, whose presence counts (without it, zero is absent, and a struct is always there).
//! Then: `= literal` default, `min N`, `max N`, `in A|B` allowed values in the order in which complaints tell
//! them (`+` in them is a space, `''` the empty one; `of A|B`
//! are not published, and after `~` the empty value is none of them; `enum A|B` are only published), `immutable`, `set`,
//! `map(keys)` (list types of server-side apply; lists are atomic otherwise), `atomic` (maps and
//! structs), `merge`, `merge(key)`, `retain`, `merge+retain(key)`, `replace(...)` (strategic merge),
//! `granular`, `listed` (what upstream publishes of few fields: a map type, a list type of what is no list),
//! `typed` (embedded objects that carry apiVersion and kind). `inline` as a name embeds a type.

use std::sync::OnceLock;

use serde_json::Value;
use stdx::Arrange;

use crate::kind::{Kind, Served};
use crate::kinds::KINDS;

/// What a value is, whatever its shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scalar {
    Str,
    Bool,
    I32,
    I64,
    F64,
    Bytes,
    Time,
    MicroTime,
    Duration,
    Quantity,
    IntOrString,
    /// Any JSON (`runtime.RawExtension`).
    Raw,
    /// `FieldsV1`.
    Fields,
    /// A list of strings that protobuf wraps in a message (`ExtraValue`, `Verbs`).
    Strs,
    Message(TypeId),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    Single,
    List,
    /// From strings.
    Map,
}

/// A type's place in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TypeId(u16);

#[derive(Debug, Clone, Copy)]
pub struct Type {
    pub package: &'static str,
    pub name: &'static str,
    pub doc: &'static str,
    first: u16,
    count: u16,
    /// Server-side apply owns it as a whole.
    pub atomic: bool,
    /// A root: carries apiVersion and kind.
    pub kind: bool,
    /// JSON shows the one of its fields that is set, without a name: a boolean, an object or a list.
    pub union: bool,
}

#[derive(Debug, Clone, Copy)]
pub struct Field {
    pub name: &'static str,
    pub doc: &'static str,
    pub tag: u32,
    pub scalar: Scalar,
    pub shape: Shape,
    pub flags: u16,
    pub extra: u16,
}

const REQUIRED: u16 = 1;
const ALWAYS: u16 = 1 << 1;
const LOOSE: u16 = 1 << 2;
const POINTER: u16 = 1 << 3;
const INLINE: u16 = 1 << 4;
const IMMUTABLE: u16 = 1 << 5;
const SET: u16 = 1 << 6;
const ATOMIC: u16 = 1 << 7;
const MERGE: u16 = 1 << 8;
const RETAIN: u16 = 1 << 9;
const TYPED: u16 = 1 << 10;
/// The values are checked, the empty one too, but not in OpenAPI (`of`).
const UNPUBLISHED: u16 = 1 << 11;
/// The values are in OpenAPI, and a rule of the kind checks them (`enum`).
const UNCHECKED: u16 = 1 << 12;
const GRANULAR: u16 = 1 << 13;
const REPLACE: u16 = 1 << 14;
const LISTED: u16 = 1 << 15;

/// What few fields have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Extra {
    /// A JSON literal, or a bare word that is a string; `''` is the empty string.
    pub default: Option<&'static str>,
    pub min: Option<i64>,
    pub max: Option<i64>,
    /// `A|B|C`, empty for any; read by `values` and `Field::allows`.
    values: &'static str,
    /// `name` or `port,protocol`: the keys of an associative list.
    pub map_keys: &'static str,
    /// The key that strategic merge matches elements by.
    pub merge_key: &'static str,
}

impl Extra {
    /// The allowed values; none for any.
    pub fn values(&self) -> Vec<String> {
        let values = self.values.split('|').filter(|value| !value.is_empty());
        values.map(|value| value.replace("''", "").replace('+', " ")).collect()
    }
}

static NO_EXTRA: Extra =
    Extra { default: None, min: None, max: None, values: "", map_keys: "", merge_key: "" };

impl Field {
    pub fn required(&self) -> bool {
        self.flags & REQUIRED != 0
    }

    /// In OpenAPI's `required` list.
    pub fn required_of_clients(&self) -> bool {
        self.flags & (REQUIRED | LOOSE) != 0
    }

    /// Written to JSON even when empty.
    pub fn always(&self) -> bool {
        self.flags & ALWAYS != 0 || self.by_value_struct()
    }

    pub fn pointer(&self) -> bool {
        self.flags & POINTER != 0
    }

    pub fn inline(&self) -> bool {
        self.flags & INLINE != 0
    }

    pub fn immutable(&self) -> bool {
        self.flags & IMMUTABLE != 0
    }

    pub fn set(&self) -> bool {
        self.flags & SET != 0
    }

    pub fn atomic(&self) -> bool {
        self.flags & ATOMIC != 0
    }

    pub fn merge(&self) -> bool {
        self.flags & MERGE != 0
    }

    /// Strategic patches bring it whole.
    pub fn replaces(&self) -> bool {
        self.flags & REPLACE != 0
    }

    pub fn retain_keys(&self) -> bool {
        self.flags & RETAIN != 0
    }

    /// Owned by parts, though its type is owned as one.
    pub fn granular(&self) -> bool {
        self.flags & GRANULAR != 0
    }

    /// What OpenAPI alone says of few fields: `x-kubernetes-` and the name, and the value.
    pub fn published_extension(&self) -> Option<(&'static str, &'static str)> {
        match () {
            () if self.flags & GRANULAR != 0 => Some(("x-kubernetes-map-type", "granular")),
            () if self.flags & REPLACE != 0 => Some(("x-kubernetes-patch-strategy", "replace")),
            () if self.flags & LISTED != 0 => Some(("x-kubernetes-list-type", "atomic")),
            () => None,
        }
    }

    pub fn typed(&self) -> bool {
        self.flags & TYPED != 0
    }

    /// A Go struct by value: always there, in JSON and in protobuf.
    pub fn by_value_struct(&self) -> bool {
        use Scalar::*;
        self.shape == Shape::Single
            && !self.pointer()
            && !self.inline()
            && matches!(
                self.scalar,
                Message(_) | Time | MicroTime | Quantity | IntOrString | Duration
            )
    }

    /// The values that OpenAPI shows; none for any.
    pub fn published_values(&self) -> Vec<String> {
        match self.flags & UNPUBLISHED {
            0 => self.extra().values(),
            _ => Vec::new(),
        }
    }

    /// Whether the schema lets this text pass.
    pub fn allows(&self, text: &str) -> bool {
        let values = self.extra().values;
        let is =
            |value: &str| value == text || value.contains('+') && value.replace('+', " ") == text;
        values.is_empty() || self.flags & UNCHECKED != 0 || values.split('|').any(is)
    }

    /// Whether the empty text is checked against the values like any other.
    pub fn checks_empty(&self) -> bool {
        self.flags & (UNPUBLISHED | LOOSE) == UNPUBLISHED | LOOSE
    }

    pub fn extra(&self) -> &'static Extra {
        match self.extra {
            0 => &NO_EXTRA,
            idx => &schema().extras[usize::from(idx) - 1],
        }
    }

    pub fn message(&self) -> Option<TypeId> {
        match self.scalar {
            Scalar::Message(id) => Some(id),
            _ => None,
        }
    }
}

/// Every type and field. About a hundred KiB, built on first use and kept.
#[derive(Debug)]
pub struct Schema {
    types: Vec<Type>,
    fields: Vec<Field>,
    extras: Vec<Extra>,
    /// Type indexes by (name, package).
    by_name: Vec<u16>,
    roots: Vec<(&'static Kind, TypeId)>,
    pub object_meta: TypeId,
}

/// The table of all built-in types.
pub fn schema() -> &'static Schema {
    static SCHEMA: OnceLock<Schema> = OnceLock::new();
    // The texts are compiled in and read by this module's tests: they parse.
    SCHEMA.get_or_init(|| Schema::build().unwrap_or_else(|why| panic!("schema text: {why}")))
}

impl Schema {
    pub fn of(&self, id: TypeId) -> &Type {
        &self.types[usize::from(id.0)]
    }

    /// A type's own fields, by tag; inlined types are one field here.
    pub fn fields(&self, id: TypeId) -> &[Field] {
        let ty = self.of(id);
        &self.fields[usize::from(ty.first)..usize::from(ty.first) + usize::from(ty.count)]
    }

    pub(crate) fn by_tag(&self, id: TypeId, tag: u32) -> Option<&Field> {
        self.fields(id).iter().find(|field| field.tag == tag)
    }

    /// Whether a path as a [`crate::Lens`] takes it leads from a type to a field. List indexes are numbers; a map's
    /// key may be anything, and so may what is below a field that holds any JSON.
    pub fn leads(&self, from: TypeId, path: &str) -> bool {
        let mut at = Some(from);
        let mut parts = path.split('.');
        while let Some(part) = parts.next() {
            let Some(field) = at.and_then(|id| self.by_json(id, part)) else { return false };
            if matches!(field.scalar, Scalar::Raw) {
                return true;
            }
            at = field.message();
            let fits = match field.shape {
                Shape::Single => true,
                Shape::List => parts.next().is_none_or(|idx| idx.parse::<usize>().is_ok()),
                Shape::Map => {
                    parts.next();
                    true
                }
            };
            if !fits {
                return false;
            }
        }
        true
    }

    /// The field of this JSON name, also from inlined types.
    pub fn by_json(&self, id: TypeId, name: &str) -> Option<&Field> {
        let own = self.fields(id).iter().find(|field| field.name == name && !field.inline());
        own.or_else(|| {
            let inlined = self.fields(id).iter().filter(|field| field.inline());
            inlined.filter_map(Field::message).find_map(|inner| self.by_json(inner, name))
        })
    }

    /// All fields as JSON shows them: inlined types flattened, by tag.
    pub fn flat_fields(&self, id: TypeId) -> Vec<&Field> {
        let mut flat = Vec::new();
        for field in self.fields(id) {
            match field.message() {
                Some(inner) if field.inline() => flat.extend(self.flat_fields(inner)),
                _ => flat.push(field),
            }
        }
        flat
    }

    /// The type of this name: in `package` first, else in meta, core, or wherever it is.
    pub fn find(&self, package: &str, name: &str) -> Option<TypeId> {
        let start = self.by_name.partition_point(|idx| self.types[usize::from(*idx)].name < name);
        let named = self.by_name[start..]
            .iter()
            .take_while(|idx| self.types[usize::from(**idx)].name == name)
            .map(|idx| TypeId(*idx));
        let rank = |id: &TypeId| match self.of(*id).package {
            own if own == package => 0,
            "io.k8s.apimachinery.pkg.apis.meta.v1" => 1,
            "io.k8s.api.core.v1" => 2,
            _ => 3,
        };
        named.min_by_key(rank)
    }

    /// The type of a qualified name: `io.k8s.api.events.v1.Event`.
    pub fn qualified(&self, name: &str) -> Option<TypeId> {
        let (package, name) = name.rsplit_once('.')?;
        self.find(package, name).filter(|id| self.of(*id).package == package)
    }

    /// The meta type of this name (`Status`, `DeleteOptions`).
    pub fn meta(&self, name: &str) -> Option<TypeId> {
        const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";
        self.find(META, name).filter(|id| self.of(*id).package == META)
    }

    /// The root type of a kind in code, in a version that is not the stored one if there is such.
    ///
    /// # Panics
    /// If the kind is not in `KINDS` or a served root names no type; the meta-tests cover every form.
    pub(crate) fn root_of(&self, kind: &Kind, served: Option<&Served>) -> TypeId {
        let found = match served.map(|served| served.root) {
            Some(root) if !root.is_empty() => self.qualified(root),
            _ => self.roots.iter().find(|(other, _)| *other == kind).map(|(_, id)| *id),
        };
        found.unwrap_or_else(|| panic!("{kind:?} has no schema"))
    }

    /// The root type of what is stored of a kind; `None` of one that is defined at run time.
    pub fn stored(&self, kind: &Kind) -> Option<TypeId> {
        kind.is_built_in().then(|| self.root_of(kind, None))
    }

    /// The field of a union that a JSON value is the value of.
    pub fn alternative(&self, union: TypeId, value: &Value) -> Option<&Field> {
        self.fields(union).iter().find(|field| match value {
            Value::Bool(_) => field.scalar == Scalar::Bool,
            Value::Object(_) => field.shape == Shape::Single && field.message().is_some(),
            Value::Array(_) => field.shape == Shape::List,
            _ => false,
        })
    }

    /// The number of a type among all types and fields.
    pub(crate) fn place_of_type(&self, id: TypeId) -> usize {
        usize::from(id.0)
    }

    /// The number of a field of this table; they come after those of types.
    pub(crate) fn place_of_field(&self, field: &Field) -> usize {
        let start = std::ptr::from_ref(field).addr() - self.fields.as_ptr().addr();
        self.types.len() + start / size_of::<Field>()
    }

    /// What is at a place.
    pub(crate) fn at_place(&self, place: usize) -> Option<Result<TypeId, &Field>> {
        match place.checked_sub(self.types.len()) {
            None => u16::try_from(place).ok().map(|idx| Ok(TypeId(idx))),
            Some(idx) => self.fields.get(idx).map(Err),
        }
    }

    pub fn types(&self) -> impl Iterator<Item = TypeId> + '_ {
        // The count fits: building checked it.
        (0..self.types.len()).filter_map(|idx| u16::try_from(idx).ok().map(TypeId))
    }

    /// The bytes that the table holds on the heap.
    pub fn heap_bytes(&self) -> usize {
        self.types.capacity() * size_of::<Type>()
            + self.fields.capacity() * size_of::<Field>()
            + self.extras.capacity() * size_of::<Extra>()
            + self.by_name.capacity() * size_of::<u16>()
            + self.roots.capacity() * size_of::<(&Kind, TypeId)>()
    }

    fn build() -> Result<Schema, String> {
        let mut texts: Vec<&'static str> = crate::types::TEXTS.to_vec();
        texts.extend(KINDS.iter().map(|kind| kind.declared.schema));
        let mut schema = Schema {
            types: Vec::with_capacity(480),
            fields: Vec::with_capacity(1850),
            extras: Vec::with_capacity(320),
            by_name: Vec::new(),
            roots: Vec::with_capacity(KINDS.len()),
            object_meta: TypeId(0),
        };
        for text in &texts {
            schema.read_heads(text)?;
        }
        let mut by_name: Vec<u16> = schema.types().map(|id| id.0).collect();
        by_name.arrange_by_key(|idx| {
            let ty = &schema.types[usize::from(*idx)];
            (ty.name, ty.package)
        });
        schema.by_name = by_name;
        let mut next_type = 0;
        for text in &texts {
            schema.read_fields(text, &mut next_type)?;
        }
        for kind in KINDS {
            let package = package_of(kind)?;
            let id =
                schema.find(package, kind.name).ok_or_else(|| format!("no type {}", kind.name))?;
            schema.roots.push((kind, id));
        }
        schema.object_meta = schema.meta("ObjectMeta").ok_or("no ObjectMeta")?;
        Ok(schema)
    }

    /// First pass: names, so that fields can refer to types further down.
    fn read_heads(&mut self, text: &'static str) -> Result<(), String> {
        let mut package = "";
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with(' ')) {
            if let Some(name) = line.strip_prefix("package ") {
                package = name;
                continue;
            }
            let (head, doc) = split_doc(line);
            let mut words = head.split_whitespace();
            let name = words.next().ok_or("a type without a name")?;
            let (atomic, kind, union) = (false, false, false);
            let mut ty = Type { package, name, doc, first: 0, count: 0, atomic, kind, union };
            for word in words {
                match word {
                    "atomic" => ty.atomic = true,
                    "kind" => ty.kind = true,
                    "union" => ty.union = true,
                    other => return Err(format!("{name}: what is '{other}'?")),
                }
            }
            self.types.push(ty);
        }
        u16::try_from(self.types.len()).map(drop).map_err(|_| "too many types".into())
    }

    fn read_fields(&mut self, text: &'static str, next_type: &mut usize) -> Result<(), String> {
        let index = |len: usize| u16::try_from(len).map_err(|_| "too many fields".to_owned());
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with("package ")) {
            if !line.starts_with(' ') {
                self.types[*next_type].first = index(self.fields.len())?;
                *next_type += 1;
                continue;
            }
            let current = next_type.checked_sub(1).ok_or("a field before any type")?;
            let package = self.types[current].package;
            let field = self
                .read_field(package, line)
                .map_err(|why| format!("{}: {}: {why}", self.types[current].name, line.trim()))?;
            self.fields.push(field);
            self.types[current].count += 1;
        }
        Ok(())
    }

    fn read_field(&mut self, package: &str, line: &'static str) -> Result<Field, String> {
        let (head, doc) = split_doc(line);
        let mut words = head.split_whitespace();
        let mut word = || words.next();
        let tag = word().and_then(|tag| tag.parse().ok()).ok_or("no tag")?;
        let name = word().ok_or("no name")?;
        let mut flags = 0;
        let name = match name.strip_suffix(['*', '!', '~']) {
            None => name,
            Some(bare) => {
                flags |= ALWAYS;
                flags |= if name.ends_with('*') { REQUIRED } else { 0 };
                flags |= if name.ends_with('~') { LOOSE } else { 0 };
                bare
            }
        };
        flags |= if name == "inline" { INLINE } else { 0 };
        let ty = word().ok_or("no type")?;
        let (ty, shape) = match (ty.strip_prefix("[]"), ty.strip_prefix("{}")) {
            (Some(ty), _) => (ty, Shape::List),
            (_, Some(ty)) => (ty, Shape::Map),
            _ => (ty, Shape::Single),
        };
        let ty = match ty.strip_suffix('?') {
            Some(ty) => {
                flags |= POINTER;
                ty
            }
            None => ty,
        };
        let scalar = match scalar(ty) {
            Some(scalar) => scalar,
            None => {
                let found =
                    if ty.contains('.') { self.qualified(ty) } else { self.find(package, ty) };
                Scalar::Message(found.ok_or_else(|| format!("no type '{ty}'"))?)
            }
        };
        let mut extra = Extra::default();
        while let Some(option) = word() {
            let (option, argument) = match option.split_once('(') {
                Some((option, rest)) => (option, rest.strip_suffix(')').ok_or("no ')'")?),
                None => (option, ""),
            };
            let mut value = || word().ok_or_else(|| format!("'{option}' needs a value"));
            let number = |text: &str| text.parse::<i64>().map_err(|_| format!("no number: {text}"));
            match option {
                "=" => extra.default = Some(value()?),
                "min" => extra.min = Some(number(value()?)?),
                "max" => extra.max = Some(number(value()?)?),
                "in" => extra.values = value()?,
                "of" => {
                    extra.values = value()?;
                    flags |= UNPUBLISHED;
                }
                "enum" => {
                    extra.values = value()?;
                    flags |= UNCHECKED;
                }
                "map" => extra.map_keys = argument,
                "merge" | "merge+retain" => {
                    extra.merge_key = argument;
                    flags |= MERGE | if option == "merge" { 0 } else { RETAIN };
                }
                "retain" => flags |= RETAIN,
                "replace" => flags |= REPLACE,
                "granular" => flags |= GRANULAR,
                "listed" => flags |= LISTED,
                "immutable" => flags |= IMMUTABLE,
                "set" => flags |= SET,
                "atomic" => flags |= ATOMIC,
                "typed" => flags |= TYPED,
                other => return Err(format!("what is '{other}'?")),
            }
        }
        let extra = match extra != Extra::default() {
            true => {
                self.extras.push(extra);
                u16::try_from(self.extras.len()).map_err(|_| "too many options")?
            }
            false => 0,
        };
        Ok(Field { name, doc, tag, scalar, shape, flags, extra })
    }
}

fn split_doc(line: &'static str) -> (&'static str, &'static str) {
    line.split_once(" -- ").map_or((line, ""), |(head, doc)| (head, doc.trim()))
}

/// The package whose types the kind's own text declares its root in.
fn package_of(kind: &Kind) -> Result<&'static str, String> {
    let mut package = "";
    for line in kind.declared.schema.lines() {
        match line.strip_prefix("package ") {
            Some(name) => package = name,
            None if line.split(' ').next() == Some(kind.name) => return Ok(package),
            None => {}
        }
    }
    Err(format!("{} declares no type of its name", kind.name))
}

fn scalar(word: &str) -> Option<Scalar> {
    Some(match word {
        "str" => Scalar::Str,
        "bool" => Scalar::Bool,
        "i32" => Scalar::I32,
        "i64" => Scalar::I64,
        "f64" => Scalar::F64,
        "bytes" => Scalar::Bytes,
        "time" => Scalar::Time,
        "microtime" => Scalar::MicroTime,
        "duration" => Scalar::Duration,
        "quantity" => Scalar::Quantity,
        "intorstr" => Scalar::IntOrString,
        "raw" => Scalar::Raw,
        "fields" => Scalar::Fields,
        "strs" => Scalar::Strs,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_parse_and_the_table_is_small() {
        let schema = Schema::build().unwrap_or_else(|why| panic!("{why}"));
        assert!(schema.heap_bytes() < 300 * 1024);
        assert!(
            schema.types.len() <= 490 && schema.fields.len() <= 1870 && schema.extras.len() <= 320
        );
    }

    #[test]
    fn names_and_tags_are_unique_and_ordered() {
        let schema = schema();
        for id in schema.types() {
            let fields = schema.fields(id);
            assert!(fields.is_sorted_by(|a, b| a.tag < b.tag), "{}", schema.of(id).name);
            let mut names: Vec<_> = schema.flat_fields(id).iter().map(|f| f.name).collect();
            names.sort_unstable();
            assert!(names.is_sorted_by(|a, b| a < b), "{}: {names:?}", schema.of(id).name);
        }
        for kind in KINDS {
            for form in kind.forms() {
                assert!(schema.of(schema.root(form)).kind, "{form:?}");
            }
        }
    }
}
