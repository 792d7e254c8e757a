//! Types of expressions, how messages call them, and what may be used as what.
//!
//! Source: github.com/google/cel-go/checker/types.go.

use std::rc::Rc;

use crate::schema::{Place, Shape};

/// How much a check may do: types are shared, so a small text can describe a large one.
const STEPS_MAX: u32 = 4_000_000;
/// How deep lists and maps of a variable's type are known.
const PLAIN_DEPTH_MAX: usize = 16;

/// What a value may be, as far as it is known before it is computed.
#[derive(Debug, Clone)]
pub enum Type<'s> {
    Dyn,
    /// Of what was wrong and is reported.
    Error,
    Null,
    Bool,
    Int,
    Uint,
    Double,
    Str,
    Bytes,
    Time,
    Duration,
    List(Rc<Type<'s>>),
    Map(Rc<(Type<'s>, Type<'s>)>),
    Optional(Rc<Type<'s>>),
    /// The type of a type.
    Type(Option<Rc<Type<'s>>>),
    /// Not known yet.
    Param(u32),
    /// A value that only functions look into.
    Named(&'static str),
    Object(Place<'s>),
}

/// Names of types that only functions look into, by the letter that signatures have for them.
pub(crate) const NAMED: [(u8, &str); 9] = [
    (b'q', "kubernetes.Quantity"),
    (b'r', "kubernetes.URL"),
    (b'p', "net.IP"),
    (b'c', "net.CIDR"),
    (b'f', "kubernetes.NamedFormat"),
    (b'z', "kubernetes.authorization.Authorizer"),
    (b'P', "kubernetes.authorization.PathCheck"),
    (b'G', "kubernetes.authorization.GroupCheck"),
    (b'R', "kubernetes.authorization.ResourceCheck"),
];
pub(crate) const DECISION: &str = "kubernetes.authorization.Decision";

impl<'s> Type<'s> {
    /// The type that a schema describes.
    pub fn of(place: Place<'s>) -> Type<'s> {
        match place.shape() {
            Shape::Bool => Type::Bool,
            Shape::Int => Type::Int,
            Shape::Double => Type::Double,
            Shape::Str => Type::Str,
            Shape::Bytes => Type::Bytes,
            Shape::Time | Shape::Date => Type::Time,
            Shape::Duration => Type::Duration,
            Shape::List => Type::list(place.inner().map_or(Type::Dyn, Type::of)),
            Shape::Map => Type::map(Type::Str, place.inner().map_or(Type::Dyn, Type::of)),
            Shape::Object => Type::Object(place),
            Shape::Dyn | Shape::IntOrString | Shape::Hidden => Type::Dyn,
        }
    }

    /// The type's name in messages.
    pub fn shown(&self) -> String {
        Unifier::default().shown(self)
    }

    /// The type of a variable that stands for an expression of this type, as upstream declares those: what
    /// schemas or functions look into is anything.
    pub fn plain(&self) -> Type<'static> {
        self.plain_within(PLAIN_DEPTH_MAX)
    }

    fn plain_within(&self, depth: usize) -> Type<'static> {
        match self {
            Type::Null => Type::Null,
            Type::Bool => Type::Bool,
            Type::Int => Type::Int,
            Type::Uint => Type::Uint,
            Type::Double => Type::Double,
            Type::Str => Type::Str,
            Type::Bytes => Type::Bytes,
            Type::Time => Type::Time,
            Type::Duration => Type::Duration,
            Type::List(of) if depth > 0 => Type::list(of.plain_within(depth - 1)),
            Type::Map(of) if depth > 0 => {
                // Keys are scalars; two sides that nest would double with each variable.
                Type::map(of.0.plain_within(0), of.1.plain_within(depth - 1))
            }
            _ => Type::Dyn,
        }
    }

    /// The type of `Val::authorizer`.
    pub fn authorizer() -> Type<'s> {
        Type::Named("kubernetes.authorization.Authorizer")
    }

    /// The type of `Val::resource_check`.
    pub fn resource_check() -> Type<'s> {
        Type::Named("kubernetes.authorization.ResourceCheck")
    }

    pub(crate) fn list(of: Type<'s>) -> Type<'s> {
        Type::List(Rc::new(of))
    }

    pub(crate) fn map(key: Type<'s>, value: Type<'s>) -> Type<'s> {
        Type::Map(Rc::new((key, value)))
    }

    /// An optional of a type.
    pub fn optional(of: Type<'s>) -> Type<'s> {
        Type::Optional(Rc::new(of))
    }

    /// What an optional type may hold, else itself, and whether it was one.
    pub(crate) fn unwrapped(&self) -> (Type<'s>, bool) {
        match self {
            Type::Optional(inner) => ((**inner).clone(), true),
            other => (other.clone(), false),
        }
    }

    pub(crate) fn is_dyn(&self) -> bool {
        matches!(self, Type::Dyn)
    }

    /// The type that an identifier names.
    pub(crate) fn called(name: &str) -> Option<Type<'static>> {
        Some(match name {
            "bool" => Type::Bool,
            "bytes" => Type::Bytes,
            "double" => Type::Double,
            "google.protobuf.Duration" => Type::Duration,
            "google.protobuf.Timestamp" => Type::Time,
            "int" => Type::Int,
            "list" => Type::list(Type::Param(0)),
            "map" => Type::map(Type::Param(0), Type::Param(1)),
            "null_type" => Type::Null,
            "string" => Type::Str,
            "type" => Type::Type(None),
            "uint" => Type::Uint,
            "optional_type" => Type::optional(Type::Param(0)),
            "net.IP" => Type::Named("net.IP"),
            "net.CIDR" => Type::Named("net.CIDR"),
            _ => return None,
        })
    }
}

/// What types that were unknown turned out to be.
#[derive(Debug, Default)]
pub(crate) struct Unifier<'s> {
    known: Vec<Option<Type<'s>>>,
    /// What was known before, to take back what did not fit.
    undo: Vec<(u32, Option<Type<'s>>)>,
    steps: u32,
}

impl<'s> Unifier<'s> {
    pub(crate) fn fresh(&mut self) -> u32 {
        self.known.push(None);
        self.known.len() as u32 - 1
    }

    /// Whether a check took more steps than allowed; then answers are not right any more.
    pub(crate) fn is_over(&self) -> bool {
        self.steps > STEPS_MAX
    }

    fn step(&mut self) -> bool {
        self.steps = self.steps.saturating_add(1);
        self.steps <= STEPS_MAX
    }

    fn find(&self, param: u32) -> Option<&Type<'s>> {
        self.known.get(param as usize)?.as_ref()
    }

    fn set(&mut self, param: u32, to: Type<'s>) {
        let Some(known) = self.known.get_mut(param as usize) else { return };
        self.undo.push((param, known.replace(to)));
    }

    /// Whether each of `given` may be used as its like of `wanted`; if not, nothing was learnt.
    pub(crate) fn assignable(&mut self, given: &[Type<'s>], wanted: &[Type<'s>]) -> bool {
        let before = self.undo.len();
        let fits = given.len() == wanted.len()
            && given.iter().zip(wanted).all(|(given, wanted)| self.fits(given, wanted));
        if !fits {
            for (param, old) in self.undo.drain(before..).rev() {
                self.known[param as usize] = old;
            }
        }
        self.undo.truncate(before);
        fits
    }

    fn fits(&mut self, one: &Type<'s>, other: &Type<'s>) -> bool {
        if !self.step() {
            return false;
        }
        if let Type::Param(param) = other {
            let (valid, known) = self.substitutes(one, *param);
            if valid || known {
                return valid;
            }
        }
        if let Type::Param(param) = one {
            return self.substitutes(other, *param).0;
        }
        match (one, other) {
            (Type::Dyn | Type::Error, _) | (_, Type::Dyn | Type::Error) => true,
            (Type::Null, other) | (other, Type::Null) => nullable(other),
            (Type::Type(_), Type::Type(_)) => true,
            (Type::List(one), Type::List(other)) | (Type::Optional(one), Type::Optional(other)) => {
                self.fits(one, other)
            }
            (Type::Map(one), Type::Map(other)) => {
                self.fits(&one.0, &other.0) && self.fits(&one.1, &other.1)
            }
            _ => same_simple(one, other),
        }
    }

    /// Whether `with` may stand for a parameter, and whether that was known to be something.
    fn substitutes(&mut self, with: &Type<'s>, param: u32) -> (bool, bool) {
        if matches!(with, Type::Param(same) if *same == param) {
            return (true, true);
        }
        if let Some(known) = self.find(param).cloned() {
            if self.same(with, &known) {
                return (true, true);
            }
            if !self.fits(with, &known) {
                return (false, true);
            }
            let general = if self.less_specific(with, &known) { with.clone() } else { known };
            if !self.occurs(param, &general) {
                self.set(param, general);
            }
            return (true, true);
        }
        if self.occurs(param, with) {
            return (false, false);
        }
        self.set(param, with.clone());
        (true, false)
    }

    fn occurs(&mut self, param: u32, within: &Type<'s>) -> bool {
        if !self.step() {
            return true;
        }
        match within {
            Type::Param(other) if *other == param => true,
            Type::Param(other) => match self.find(*other).cloned() {
                Some(known) => self.occurs(param, &known),
                None => false,
            },
            Type::List(inner) | Type::Optional(inner) | Type::Type(Some(inner)) => {
                self.occurs(param, inner)
            }
            Type::Map(inner) => self.occurs(param, &inner.0) || self.occurs(param, &inner.1),
            _ => false,
        }
    }

    /// Whether two types are one.
    pub(crate) fn same(&mut self, one: &Type<'s>, other: &Type<'s>) -> bool {
        if !self.step() {
            return false;
        }
        match (one, other) {
            (Type::Dyn, Type::Dyn) | (Type::Error, Type::Error) | (Type::Null, Type::Null) => true,
            (Type::Param(one), Type::Param(other)) => one == other,
            (Type::List(one), Type::List(other)) | (Type::Optional(one), Type::Optional(other)) => {
                self.same(one, other)
            }
            (Type::Map(one), Type::Map(other)) => {
                self.same(&one.0, &other.0) && self.same(&one.1, &other.1)
            }
            (Type::Type(one), Type::Type(other)) => match (one, other) {
                (Some(one), Some(other)) => self.same(one, other),
                (one, other) => one.is_none() && other.is_none(),
            },
            _ => same_simple(one, other),
        }
    }

    /// The more general of two types that fit.
    pub(crate) fn general(&mut self, one: &Type<'s>, other: &Type<'s>) -> Type<'s> {
        if self.less_specific(one, other) { one.clone() } else { other.clone() }
    }

    fn less_specific(&mut self, one: &Type<'s>, other: &Type<'s>) -> bool {
        if !self.step() {
            return false;
        }
        match (one, other) {
            (Type::Dyn | Type::Param(_), _) => true,
            (_, Type::Dyn | Type::Param(_)) => false,
            (Type::List(one), Type::List(other)) | (Type::Optional(one), Type::Optional(other)) => {
                self.less_specific(one, other)
            }
            (Type::Map(one), Type::Map(other)) => {
                self.less_specific(&one.0, &other.0) && self.less_specific(&one.1, &other.1)
            }
            (Type::Type(_), Type::Type(_)) => true,
            _ => self.same(one, other),
        }
    }

    /// The type with everything filled in that is known; the rest is `dyn` if `to_dyn`.
    pub(crate) fn filled(&mut self, of: &Type<'s>, to_dyn: bool) -> Type<'s> {
        if !self.step() {
            return Type::Dyn;
        }
        match of {
            Type::Param(param) => match self.find(*param).cloned() {
                Some(known) => self.filled(&known, to_dyn),
                None if to_dyn => Type::Dyn,
                None => of.clone(),
            },
            Type::List(inner) => Type::list(self.filled(inner, to_dyn)),
            Type::Optional(inner) => Type::optional(self.filled(inner, to_dyn)),
            Type::Map(inner) => {
                Type::map(self.filled(&inner.0, to_dyn), self.filled(&inner.1, to_dyn))
            }
            Type::Type(Some(inner)) => Type::Type(Some(Rc::new(self.filled(inner, to_dyn)))),
            other => other.clone(),
        }
    }

    /// The type's name in messages.
    pub(crate) fn shown(&mut self, of: &Type<'s>) -> String {
        let mut out = String::new();
        self.show(of, &mut out);
        out
    }

    fn show(&mut self, of: &Type<'s>, out: &mut String) {
        // A name that nobody can read is not written whole.
        if !self.step() || out.len() > NAME_MAX {
            return;
        }
        let inner = |unifier: &mut Self, name: &str, inner: &Type<'s>, out: &mut String| {
            out.push_str(name);
            out.push('(');
            unifier.show(inner, out);
            out.push(')');
        };
        match of {
            Type::List(of) => inner(self, "list", of, out),
            Type::Optional(of) => inner(self, "optional_type", of, out),
            Type::Type(Some(of)) => inner(self, "type", of, out),
            Type::Map(of) => {
                out.push_str("map(");
                self.show(&of.0, out);
                out.push_str(", ");
                self.show(&of.1, out);
                out.push(')');
            }
            Type::Param(param) => out.push_str(&format!("_var{param}")),
            Type::Object(place) => out.push_str(&place.of.name(place.at)),
            other => out.push_str(simple_name(other)),
        }
    }
}

/// How long a type's name in a message may be, in bytes.
const NAME_MAX: usize = 16_384;

fn nullable(of: &Type<'_>) -> bool {
    matches!(
        of,
        Type::Null
            | Type::Optional(_)
            | Type::Named(_)
            | Type::Object(_)
            | Type::Time
            | Type::Duration
    )
}

fn same_simple(one: &Type<'_>, other: &Type<'_>) -> bool {
    match (one, other) {
        (Type::Object(one), Type::Object(other)) => one.is(*other),
        (Type::Named(one), Type::Named(other)) => one == other,
        (Type::List(_) | Type::Map(_) | Type::Optional(_) | Type::Type(_) | Type::Param(_), _) => {
            false
        }
        _ => std::mem::discriminant(one) == std::mem::discriminant(other),
    }
}

fn simple_name(of: &Type<'_>) -> &'static str {
    match of {
        Type::Dyn => "dyn",
        Type::Error => "!error!",
        Type::Null => "null",
        Type::Bool => "bool",
        Type::Int => "int",
        Type::Uint => "uint",
        Type::Double => "double",
        Type::Str => "string",
        Type::Bytes => "bytes",
        Type::Time => "timestamp",
        Type::Duration => "duration",
        Type::Named(name) => name,
        _ => "type",
    }
}

/// The name of a type as a value: what `type()` answers.
pub(crate) fn value_name(of: &Type<'_>) -> &'static str {
    match of {
        Type::Null => "null_type",
        Type::Time => "google.protobuf.Timestamp",
        Type::Duration => "google.protobuf.Duration",
        Type::List(_) => "list",
        Type::Map(_) => "map",
        Type::Optional(_) => "optional_type",
        other => simple_name(other),
    }
}
