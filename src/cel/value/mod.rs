//! Values of expressions. Objects and lists of JSON are held by reference; a schema says what their parts mean.

pub(crate) mod amount;
pub(crate) mod auth;
pub(crate) mod go;
pub(crate) mod keys;
pub(crate) mod net;
pub(crate) mod spend;
pub(crate) mod time;

use std::borrow::Cow;
use std::cmp::Ordering;
use std::net::IpAddr;
use std::sync::Arc;

use serde_json::Value;

pub(crate) use amount::Amount;
pub(crate) use auth::Auth;
pub(crate) use net::Url;
pub(crate) use spend::Spent;
use time::Stamp;

use crate::schema::{Place, Shape};

#[derive(Debug, Clone)]
pub enum Val<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    /// Text of the input.
    Str(&'a str),
    /// Text that was made.
    Text(Arc<str>),
    Bytes(Arc<[u8]>),
    Time(Stamp),
    /// Nanoseconds.
    Duration(i64),
    /// An object or a list of the input.
    Json(&'a Value, Option<Place<'a>>),
    List(Arc<Vec<Val<'a>>>),
    /// Keys are bools, numbers or texts, each once.
    Map(Arc<Vec<(Val<'a>, Val<'a>)>>),
    Optional(Option<Arc<Val<'a>>>),
    Type(&'static str),
    Ip(IpAddr),
    Cidr(IpAddr, u8),
    Url(Arc<Url>),
    Quantity(Arc<Amount>),
    /// A named format, by its place in `functions::FORMATS`.
    Format(u8),
    Auth(Arc<Auth>),
    /// Of a variable that has no value: why. Only an expression that comes to it fails.
    Missing(Arc<str>),
}

/// Why there is no value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fail {
    pub message: Cow<'static, str>,
    /// It would have cost too much: nothing of the expression is evaluated any more.
    pub cancelled: bool,
}

pub type Out<T> = Result<T, Box<Fail>>;

/// An error in the expression's own terms.
pub(crate) fn fail<T>(message: impl Into<Cow<'static, str>>) -> Out<T> {
    Err(Box::new(Fail { message: message.into(), cancelled: false }))
}

pub(crate) const NO_OVERLOAD: &str = "no such overload";

impl<'a> Val<'a> {
    pub(crate) fn text(text: &str) -> Val<'static> {
        Val::Text(text.into())
    }

    pub(crate) fn list(values: Vec<Val<'a>>) -> Val<'a> {
        Val::List(Arc::new(values))
    }

    /// An optional value.
    pub fn optional(value: Option<Val<'a>>) -> Val<'a> {
        Val::Optional(value.map(Arc::new))
    }

    pub(crate) fn some(value: Val<'a>) -> Val<'a> {
        Val::Optional(Some(Arc::new(value)))
    }

    /// A question to the authorizer that says so far what `query` says: whom it is about.
    pub fn authorizer(query: crate::Query) -> Val<'static> {
        Val::Auth(Arc::new(Auth::Authorizer(query)))
    }

    /// A question about a resource, which an expression may go on with.
    pub fn resource_check(query: crate::Query) -> Val<'static> {
        Val::Auth(Arc::new(Auth::Resource(query)))
    }

    /// The text that this is.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Val::Str(text) => Some(text),
            Val::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The text that this is, or the texts of the list; of null none.
    pub fn texts(&self) -> Option<Vec<String>> {
        if let Some(text) = self.as_str() {
            return Some(vec![text.to_owned()]);
        }
        match self {
            Val::Null => Some(Vec::new()),
            list if list.is_list() => {
                let n_items = usize::try_from(list.size()?).ok()?;
                let text = |nth: usize| list.nth(nth)?.ok()?.as_str().map(str::to_owned);
                (0..n_items).map(text).collect()
            }
            _ => None,
        }
    }

    /// What JSON means where nothing is declared.
    pub fn json(value: &'a Value) -> Val<'a> {
        match value {
            Value::Null => Val::Null,
            Value::Bool(is) => Val::Bool(*is),
            Value::String(text) => Val::Str(text),
            Value::Number(number) => match (number.as_i64(), number.as_u64()) {
                (Some(int), _) => Val::Int(int),
                (None, Some(uint)) => Val::Double(uint as f64),
                _ => Val::Double(number.as_f64().unwrap_or(f64::NAN)),
            },
            Value::Array(_) | Value::Object(_) => Val::Json(value, None),
        }
    }

    /// What JSON means at a place of a schema.
    ///
    /// # Errors
    ///
    /// If it is not of the schema's type.
    pub fn typed(value: &'a Value, place: Place<'a>) -> Out<Val<'a>> {
        let wrong =
            |wanted: &str| fail(format!("invalid data, expected {wanted}, got {}", go_type(value)));
        Ok(match (place.shape(), value) {
            // Of what may be null, the schema was asked elsewhere.
            (_, Value::Null) => Val::Null,
            (Shape::Dyn | Shape::Hidden | Shape::IntOrString, _) => Val::json(value),
            (Shape::Bool, Value::Bool(is)) => Val::Bool(*is),
            (Shape::Bool, _) => return wrong("bool"),
            (Shape::Int, Value::Number(number)) => match number.as_i64() {
                Some(int) => Val::Int(int),
                None => return wrong("int"),
            },
            (Shape::Int, _) => return wrong("int"),
            (Shape::Double, Value::Number(number)) => {
                Val::Double(number.as_f64().unwrap_or(f64::NAN))
            }
            (Shape::Double, _) => return wrong("float"),
            (Shape::List, Value::Array(_)) | (Shape::Map | Shape::Object, Value::Object(_)) => {
                Val::Json(value, Some(place))
            }
            (Shape::List, _) => {
                return fail(
                    "invalid data, expected an array for the provided schema with type=array",
                );
            }
            (Shape::Map | Shape::Object, _) => {
                return fail(
                    "invalid data, expected a map for the provided schema with type=object",
                );
            }
            (shape, Value::String(text)) => return formatted(shape, text),
            _ => return wrong("string"),
        })
    }

    fn part(value: &'a Value, place: Option<Place<'a>>) -> Out<Val<'a>> {
        match place {
            Some(place) => Val::typed(value, place),
            None => Ok(Val::json(value)),
        }
    }

    /// The name of its type.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Val::Null => "null_type",
            Val::Bool(_) => "bool",
            Val::Int(_) => "int",
            Val::Uint(_) => "uint",
            Val::Double(_) => "double",
            Val::Str(_) | Val::Text(_) => "string",
            Val::Bytes(_) => "bytes",
            Val::Time(_) => "google.protobuf.Timestamp",
            Val::Duration(_) => "google.protobuf.Duration",
            Val::Json(Value::Array(_), _) | Val::List(_) => "list",
            Val::Json(_, Some(place)) if place.shape() == Shape::Object => "object",
            Val::Json(..) | Val::Map(_) => "map",
            Val::Optional(_) => "optional_type",
            Val::Type(_) => "type",
            Val::Ip(_) => "net.IP",
            Val::Cidr(..) => "net.CIDR",
            Val::Url(_) => "kubernetes.URL",
            Val::Quantity(_) => "kubernetes.Quantity",
            Val::Format(_) => "kubernetes.NamedFormat",
            Val::Auth(auth) => auth.kind(),
            Val::Missing(_) => "error",
        }
    }

    pub(crate) fn is_list(&self) -> bool {
        self.kind() == "list"
    }

    pub(crate) fn is_map(&self) -> bool {
        matches!(self, Val::Map(_) | Val::Json(Value::Object(_), _))
    }

    /// `size()`; what has none says nothing.
    pub(crate) fn size(&self) -> Option<u64> {
        Some(match self {
            Val::Str(_) | Val::Text(_) => self.as_str()?.chars().count() as u64,
            Val::Bytes(bytes) => bytes.len() as u64,
            Val::List(list) => list.len() as u64,
            Val::Map(map) => map.len() as u64,
            Val::Json(Value::Array(list), _) => list.len() as u64,
            Val::Json(Value::Object(map), _) => map.len() as u64,
            Val::Ip(IpAddr::V4(_)) => 4,
            Val::Ip(IpAddr::V6(_)) => 16,
            Val::Cidr(_, bits) => u64::from(*bits).div_ceil(8),
            _ => return None,
        })
    }

    /// An element of a list by its place.
    pub(crate) fn nth(&self, nth: usize) -> Option<Out<Val<'a>>> {
        match self {
            Val::List(list) => list.get(nth).cloned().map(Ok),
            Val::Json(Value::Array(list), place) => {
                list.get(nth).map(|value| Val::part(value, place.and_then(Place::inner)))
            }
            _ => None,
        }
    }

    /// The keys of a map or an object.
    pub(crate) fn keys(&self) -> Vec<Val<'a>> {
        match self {
            Val::Map(map) => map.iter().map(|(key, _)| key.clone()).collect(),
            Val::Json(Value::Object(map), Some(place)) if place.shape() == Shape::Object => {
                map.keys().map(|name| Val::text(&crate::schema::escaped(name))).collect()
            }
            Val::Json(Value::Object(map), _) => map.keys().map(|name| Val::Str(name)).collect(),
            _ => Vec::new(),
        }
    }

    /// The value of a map or an object under a text.
    pub(crate) fn get(&self, key: &str) -> Option<Out<Val<'a>>> {
        match self {
            Val::Json(Value::Object(map), Some(place)) if place.shape() == Shape::Object => {
                let inner = place.field(key)?;
                map.get(&*crate::schema::unescaped(key)).map(|value| Val::typed(value, inner))
            }
            Val::Json(Value::Object(map), place) => {
                map.get(key).map(|value| Val::part(value, place.and_then(Place::inner)))
            }
            Val::Map(map) => {
                let found = map.iter().find(|(known, _)| known.as_str() == Some(key));
                found.map(|(_, value)| Ok(value.clone()))
            }
            _ => None,
        }
    }

    /// The value of a map under a key of any type; a number finds its equals of other types.
    pub(crate) fn find(&self, key: &Val<'_>, spent: &mut Spent) -> Out<Option<Val<'a>>> {
        if let Some(text) = key.as_str() {
            return self.get(text).transpose();
        }
        let Val::Map(map) = self else { return Ok(None) };
        spent.work(map.len())?;
        let found = map.iter().find(|(known, _)| scalar_equal(known, key));
        Ok(found.map(|(_, value)| value.clone()))
    }

    pub(crate) fn is_zero(&self) -> bool {
        match self {
            Val::Null => true,
            Val::Bool(is) => !is,
            Val::Int(int) => *int == 0,
            Val::Uint(uint) => *uint == 0,
            Val::Double(double) => *double == 0.0,
            Val::Duration(nanos) => *nanos == 0,
            Val::Time(stamp) => *stamp == time::ZERO,
            Val::Optional(inner) => inner.is_none(),
            Val::Type(_) => false,
            other => other.size() == Some(0) && !matches!(other, Val::Ip(_) | Val::Cidr(..)),
        }
    }
}

/// What Go calls the type of JSON.
fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

fn formatted(shape: Shape, text: &str) -> Out<Val<'_>> {
    let read = match shape {
        Shape::Duration => stdx::duration::parse(text).map(Val::Duration),
        Shape::Time => time::stamp(text).map(Val::Time),
        Shape::Date => time::stamp(&format!("{text}T00:00:00Z")).map(Val::Time),
        Shape::Bytes => wire::base64::decode(text).map(|bytes| Val::Bytes(bytes.into())),
        _ => Some(Val::Str(text)),
    };
    match (read, shape) {
        (Some(read), _) => Ok(read),
        (None, Shape::Duration) => fail(format!("Invalid duration {text}")),
        (None, Shape::Bytes) => fail(format!("Invalid byte formatted string {text}")),
        (None, _) => fail(format!("Invalid date-time formatted string {text}")),
    }
}

/// Whether two scalars are equal; numbers across their types.
pub(crate) fn scalar_equal(one: &Val<'_>, other: &Val<'_>) -> bool {
    match (one, other) {
        (Val::Int(one), Val::Int(other)) => one == other,
        (Val::Uint(one), Val::Uint(other)) => one == other,
        (
            Val::Int(_) | Val::Uint(_) | Val::Double(_),
            Val::Int(_) | Val::Uint(_) | Val::Double(_),
        ) => numbers(one, other) == Some(Ordering::Equal),
        (Val::Bool(one), Val::Bool(other)) => one == other,
        (Val::Null, Val::Null) => true,
        (Val::Bytes(one), Val::Bytes(other)) => one == other,
        (Val::Time(one), Val::Time(other)) => one == other,
        (Val::Duration(one), Val::Duration(other)) => one == other,
        (Val::Type(one), Val::Type(other)) => one == other,
        _ => match (one.as_str(), other.as_str()) {
            (Some(one), Some(other)) => one == other,
            _ => false,
        },
    }
}

/// The order of two numbers; none with one that is not a number.
pub(crate) fn numbers(one: &Val<'_>, other: &Val<'_>) -> Option<Ordering> {
    match (one, other) {
        (Val::Double(one), Val::Double(other)) => one.partial_cmp(other),
        (Val::Double(double), integer) => against(*double, integer),
        (integer, Val::Double(double)) => against(*double, integer).map(Ordering::reverse),
        _ => Some(wide(one)?.cmp(&wide(other)?)),
    }
}

fn wide(of: &Val<'_>) -> Option<i128> {
    match of {
        Val::Int(int) => Some(i128::from(*int)),
        Val::Uint(uint) => Some(i128::from(*uint)),
        _ => None,
    }
}

/// Upstream compares in doubles within the range of the integer's type.
fn against(double: f64, integer: &Val<'_>) -> Option<Ordering> {
    if double.is_nan() {
        return None;
    }
    let (least, most, value) = match integer {
        Val::Int(int) => (i64::MIN as f64, i64::MAX as f64, *int as f64),
        Val::Uint(uint) => (0.0, u64::MAX as f64, *uint as f64),
        _ => return None,
    };
    if double < least {
        return Some(Ordering::Less);
    }
    if double > most {
        return Some(Ordering::Greater);
    }
    double.partial_cmp(&value)
}
