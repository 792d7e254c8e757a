//! Messages of Protocol Buffers as structs: each field with its number, reading and writing over one table.
//!
//! Reading and writing are one function each, over the table that a macro makes of a message; whoever declares
//! messages (`etcd`, `cri`) has nothing but tables.
//!
//! Never panics on any input. What is read has a bound in depth (`DEPTH_MAX`) and in the number of repeated
//! items; its bytes are bounded by the message. Unknown fields are skipped, unknown values of enums are kept.

use std::fmt;
use std::sync::Arc;

use stdx::{OrdMap, Sensitive};

use crate::protobuf::{self, Reader, Wire, put_bytes, put_int, put_uint, put_varint};

/// A key, a value, a chunk of output.
pub type Bytes = Arc<[u8]>;

/// How deep messages may lie in each other.
pub const DEPTH_MAX: u8 = 20;

/// Why bytes are no message, or none that is read here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Error {
    Malformed(protobuf::Error),
    TooDeep,
    TooManyItems,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Malformed(error) => error.fmt(f),
            Error::TooDeep => f.write_str("the message is nested too deep"),
            Error::TooManyItems => f.write_str("the message has too many items"),
        }
    }
}

impl std::error::Error for Error {}

impl From<protobuf::Error> for Error {
    fn from(error: protobuf::Error) -> Error {
        Error::Malformed(error)
    }
}

/// A message: what is sent alone.
pub trait Message {
    /// Appends the fields that are not empty.
    fn put_fields(&self, out: &mut Vec<u8>);

    /// Where the field of this number goes.
    fn field(&mut self, number: u32) -> Option<&mut dyn Field>;

    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.put_fields(&mut out);
        out
    }

    /// Reads a message in which there are at most `items_max` repeated items, at whatever depth.
    ///
    /// # Errors
    /// If it is malformed, or beyond the bounds.
    fn decode(bytes: &[u8], items_max: usize) -> Result<Self, Error>
    where
        Self: Default,
    {
        let mut message = Self::default();
        take_fields(&mut message, bytes, &mut Left { depth: DEPTH_MAX, items: items_max })?;
        Ok(message)
    }
}

/// The value of a field.
pub trait Field {
    /// Whether a message is the same without it.
    fn is_empty(&self) -> bool;
    /// Appends it, empty or not.
    fn put(&self, number: u32, out: &mut Vec<u8>);
    /// Takes what the wire has, once more for each repeated item.
    fn take(&mut self, wire: Wire<'_>, left: &mut Left) -> Result<(), Error>;
}

/// What may still come.
#[derive(Debug)]
pub struct Left {
    depth: u8,
    items: usize,
}

pub(crate) fn put_all(fields: &[(u32, &dyn Field)], out: &mut Vec<u8>) {
    for (number, field) in fields {
        if !field.is_empty() {
            field.put(*number, out);
        }
    }
}

pub(crate) fn put_embedded(message: &dyn Message, number: u32, out: &mut Vec<u8>) {
    put_varint(out, u64::from(number) << 3 | 2);
    let at = out.len();
    message.put_fields(out);
    // The length goes before what was written.
    let end = out.len();
    put_varint(out, (end - at) as u64);
    let n_head = out.len() - end;
    out[at..].rotate_right(n_head);
}

pub(crate) fn take_fields(
    message: &mut dyn Message,
    bytes: &[u8],
    left: &mut Left,
) -> Result<(), Error> {
    left.depth = left.depth.checked_sub(1).ok_or(Error::TooDeep)?;
    let mut reader = Reader::new(bytes);
    while let Some((number, wire)) = reader.next()? {
        if let Some(field) = message.field(number) {
            field.take(wire, left)?;
        }
    }
    left.depth += 1;
    Ok(())
}

/// Declares messages: each field with its number. Embedded messages are always written, `Option`s of them if
/// they are there.
macro_rules! messages {
    ($($(#[$meta:meta])* $name:ident {
        $($(#[$field_meta:meta])* $number:literal $field:ident: $type:ty,)*
    })*) => {$(
        $(#[$meta])*
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct $name { $($(#[$field_meta])* pub $field: $type,)* }

        impl $crate::message::Message for $name {
            fn put_fields(&self, out: &mut Vec<u8>) {
                $crate::message::put_all(&[$(($number, &self.$field)),*], out);
            }
            fn field(&mut self, number: u32) -> Option<&mut dyn $crate::message::Field> {
                match number {
                    $($number => Some(&mut self.$field),)*
                    _ => None,
                }
            }
        }

        $crate::message::embedded!($name);
    )*};
}
pub(crate) use messages;

/// Declares messages that are one of several things.
macro_rules! one_of {
    ($(#[$meta:meta])* $name:ident { $($number:literal $variant:ident($type:ty),)* }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub enum $name {
            /// Nothing that is known here.
            #[default]
            None,
            $($variant($type),)*
        }

        impl $crate::message::Message for $name {
            fn put_fields(&self, out: &mut Vec<u8>) {
                match self {
                    $name::None => {}
                    $($name::$variant(it) => $crate::message::Field::put(it, $number, out),)*
                }
            }
            fn field(&mut self, number: u32) -> Option<&mut dyn $crate::message::Field> {
                // The last one counts; the same one again adds to itself.
                match number {
                    $($number if !matches!(self, $name::$variant(_)) => {
                        *self = $name::$variant(Default::default());
                    })*
                    _ => {}
                }
                match self {
                    $($name::$variant(it) if number == $number => Some(it),)*
                    _ => None,
                }
            }
        }

        $crate::message::embedded!($name);
    };
}
pub(crate) use one_of;

/// Makes a message a field of others.
macro_rules! embedded {
    ($name:ident) => {
        impl $crate::message::Field for $name {
            fn is_empty(&self) -> bool {
                false
            }
            fn put(&self, number: u32, out: &mut Vec<u8>) {
                $crate::message::put_embedded(self, number, out);
            }
            fn take(
                &mut self,
                wire: $crate::protobuf::Wire<'_>,
                left: &mut $crate::message::Left,
            ) -> Result<(), $crate::message::Error> {
                $crate::message::take_fields(self, wire.bytes()?, left)
            }
        }
    };
}
pub(crate) use embedded;

/// Declares enums, open to values that are not known here.
macro_rules! open_enums {
    ($($(#[$meta:meta])* $name:ident { $($value:ident = $number:literal,)* })*) => {$(
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct $name(pub i32);

        impl $name {
            $(pub const $value: $name = $name($number);)*
        }

        impl $crate::message::Field for $name {
            fn is_empty(&self) -> bool {
                self.0 == 0
            }
            fn put(&self, number: u32, out: &mut Vec<u8>) {
                $crate::protobuf::put_int(out, number, i64::from(self.0));
            }
            fn take(
                &mut self,
                wire: $crate::protobuf::Wire<'_>,
                _: &mut $crate::message::Left,
            ) -> Result<(), $crate::message::Error> {
                // What is too large for an enum loses its upper bits, as in every protobuf library.
                self.0 = wire.int()? as i32;
                Ok(())
            }
        }
    )*};
}
pub(crate) use open_enums;

/// A field of a plain type: whether it is empty, how it is put, how it is taken.
macro_rules! plain {
    ($($type:ty: $is_empty:expr, $put:expr, $take:expr;)*) => {$(
        impl Field for $type {
            fn is_empty(&self) -> bool {
                ($is_empty)(self)
            }
            fn put(&self, number: u32, out: &mut Vec<u8>) {
                ($put)(out, number, self);
            }
            fn take(&mut self, wire: Wire<'_>, _: &mut Left) -> Result<(), Error> {
                *self = ($take)(wire)?;
                Ok(())
            }
        }
    )*};
}

plain! {
    i64: |it: &i64| *it == 0, |out, number, it: &i64| put_int(out, number, *it), Wire::int;
    u64: |it: &u64| *it == 0, |out, number, it: &u64| put_uint(out, number, *it), Wire::varint;
    i32: |it: &i32| *it == 0, |out, number, it: &i32| put_int(out, number, i64::from(*it)),
        // As in every protobuf library: what is too large loses its upper bits.
        |wire: Wire<'_>| wire.int().map(|it| it as i32);
    u32: |it: &u32| *it == 0, |out, number, it: &u32| put_uint(out, number, u64::from(*it)),
        |wire: Wire<'_>| wire.varint().map(|it| it as u32);
    bool: |it: &bool| !it, |out, number, it: &bool| put_uint(out, number, u64::from(*it)),
        |wire: Wire<'_>| wire.varint().map(|it| it != 0);
    Bytes: |it: &Bytes| <[u8]>::is_empty(it), |out, number, it: &Bytes| put_bytes(out, number, it),
        |wire: Wire<'_>| wire.bytes().map(Bytes::from);
    String: |it: &String| str::is_empty(it),
        |out, number, it: &String| put_bytes(out, number, it.as_bytes()),
        |wire: Wire<'_>| wire.str().map(str::to_owned);
    Sensitive: |it: &Sensitive| it.reveal().is_empty(),
        |out, number, it: &Sensitive| put_bytes(out, number, it.reveal().as_bytes()),
        |wire: Wire<'_>| wire.str().map(Sensitive::from);
}

impl<T: Field + Default> Field for Vec<T> {
    fn is_empty(&self) -> bool {
        <[T]>::is_empty(self)
    }
    fn put(&self, number: u32, out: &mut Vec<u8>) {
        self.iter().for_each(|item| item.put(number, out));
    }
    fn take(&mut self, wire: Wire<'_>, left: &mut Left) -> Result<(), Error> {
        left.items = left.items.checked_sub(1).ok_or(Error::TooManyItems)?;
        let mut item = T::default();
        item.take(wire, left)?;
        self.push(item);
        Ok(())
    }
}

impl<T: Field + Default> Field for Option<T> {
    fn is_empty(&self) -> bool {
        self.is_none()
    }
    fn put(&self, number: u32, out: &mut Vec<u8>) {
        self.iter().for_each(|it| it.put(number, out));
    }
    fn take(&mut self, wire: Wire<'_>, left: &mut Left) -> Result<(), Error> {
        self.get_or_insert_default().take(wire, left)
    }
}

/// `repeated int64`, which is packed: all in one field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Packed(pub Vec<i64>);

impl Field for Packed {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    fn put(&self, number: u32, out: &mut Vec<u8>) {
        let mut packed = Vec::new();
        self.0.iter().for_each(|it| put_varint(&mut packed, it.cast_unsigned()));
        put_bytes(out, number, &packed);
    }
    fn take(&mut self, wire: Wire<'_>, left: &mut Left) -> Result<(), Error> {
        let mut take = |value: u64| {
            left.items = left.items.checked_sub(1).ok_or(Error::TooManyItems)?;
            self.0.push(value.cast_signed());
            Ok(())
        };
        match wire {
            Wire::Varint(value) => take(value),
            wire => {
                let mut reader = Reader::new(wire.bytes()?);
                while reader.left() > 0 {
                    take(reader.varint()?)?;
                }
                Ok(())
            }
        }
    }
}

/// `map<string, string>`: a repeated message of a key and a value.
impl Field for OrdMap<String, String> {
    fn is_empty(&self) -> bool {
        OrdMap::is_empty(self)
    }
    fn put(&self, number: u32, out: &mut Vec<u8>) {
        for (key, value) in self {
            let mut entry = Vec::with_capacity(key.len() + value.len() + 8);
            put_bytes(&mut entry, 1, key.as_bytes());
            put_bytes(&mut entry, 2, value.as_bytes());
            put_bytes(out, number, &entry);
        }
    }
    fn take(&mut self, wire: Wire<'_>, left: &mut Left) -> Result<(), Error> {
        left.items = left.items.checked_sub(1).ok_or(Error::TooManyItems)?;
        let mut reader = Reader::new(wire.bytes()?);
        let (mut key, mut value) = (String::new(), String::new());
        while let Some((number, wire)) = reader.next()? {
            match number {
                1 => wire.str()?.clone_into(&mut key),
                2 => wire.str()?.clone_into(&mut value),
                _ => {}
            }
        }
        self.insert(key, value);
        Ok(())
    }
}

#[cfg(test)]
#[allow(unreachable_pub)] // the macro makes what others use
mod tests {
    use super::*;

    messages! {
        Sample {
            1 numbers: Packed,
            2 words: OrdMap<String, String>,
            3 secret: Sensitive,
            4 small: i32,
        }
    }

    #[test]
    fn packed_numbers_and_maps_round_trip_and_are_bounded() {
        let sample = Sample {
            numbers: Packed(vec![1, -1, 1 << 40]),
            words: OrdMap::from([("a".into(), "b".into()), (String::new(), "c".into())]),
            secret: "hush".into(),
            small: -7,
        };
        let bytes = sample.encode();
        assert_eq!(Sample::decode(&bytes, 5), Ok(sample.clone()));
        assert_eq!(Sample::decode(&bytes, 4), Err(Error::TooManyItems));
        // Not packed: each number in a field of its own.
        assert_eq!(Sample::decode(&[8, 5, 8, 6], 9).unwrap().numbers, Packed(vec![5, 6]));
        assert_eq!(
            Sample::decode(&[10, 1, 0x80], 9),
            Err(Error::Malformed(protobuf::Error::Truncated))
        );
        assert!(!format!("{sample:?}").contains("hush"));
    }
}
