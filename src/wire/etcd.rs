//! The messages of etcd's API, version 3, for whoever asks and for whoever answers.
//!
//! A message is a struct with its fields' numbers (`kv.rs`, `watch.rs`, `lease.rs`, `cluster.rs`); reading and
//! writing are one function each, over the table that a macro makes of it. Keys and values are shared bytes:
//! read once, they go on to the store, or from it to the wire, without another copy.
//!
//! Never panics on any input. What is read has a bound in depth (`DEPTH_MAX`) and in the number of repeated
//! items; its bytes are bounded by the message. Unknown fields are skipped, unknown values of enums are kept.

mod cluster;
mod kv;
mod lease;
pub mod method;
mod watch;

use std::fmt;
use std::sync::Arc;

pub use cluster::*;
pub use kv::*;
pub use lease::*;
pub use watch::*;

use crate::protobuf::{self, Reader, Wire, put_bytes, put_int, put_uint, put_varint};

/// A key or a value.
pub type Bytes = Arc<[u8]>;

/// How deep messages lie in each other: a transaction in a transaction takes two levels.
pub const DEPTH_MAX: u8 = 20;

/// Why bytes are no message of the API, or none that is read here.
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

fn put_all(fields: &[(u32, &dyn Field)], out: &mut Vec<u8>) {
    for (number, field) in fields {
        if !field.is_empty() {
            field.put(*number, out);
        }
    }
}

fn put_embedded(message: &dyn Message, number: u32, out: &mut Vec<u8>) {
    put_varint(out, u64::from(number) << 3 | 2);
    let at = out.len();
    message.put_fields(out);
    // The length goes before what was written.
    let end = out.len();
    put_varint(out, (end - at) as u64);
    let n_head = out.len() - end;
    out[at..].rotate_right(n_head);
}

fn take_fields(message: &mut dyn Message, bytes: &[u8], left: &mut Left) -> Result<(), Error> {
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

        impl $crate::etcd::Message for $name {
            fn put_fields(&self, out: &mut Vec<u8>) {
                $crate::etcd::put_all(&[$(($number, &self.$field)),*], out);
            }
            fn field(&mut self, number: u32) -> Option<&mut dyn $crate::etcd::Field> {
                match number {
                    $($number => Some(&mut self.$field),)*
                    _ => None,
                }
            }
        }

        $crate::etcd::embedded!($name);
    )*};
}
use messages;

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

        impl $crate::etcd::Message for $name {
            fn put_fields(&self, out: &mut Vec<u8>) {
                match self {
                    $name::None => {}
                    $($name::$variant(it) => $crate::etcd::Field::put(it, $number, out),)*
                }
            }
            fn field(&mut self, number: u32) -> Option<&mut dyn $crate::etcd::Field> {
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

        $crate::etcd::embedded!($name);
    };
}
use one_of;

/// Makes a message a field of others.
macro_rules! embedded {
    ($name:ident) => {
        impl $crate::etcd::Field for $name {
            fn is_empty(&self) -> bool {
                false
            }
            fn put(&self, number: u32, out: &mut Vec<u8>) {
                $crate::etcd::put_embedded(self, number, out);
            }
            fn take(
                &mut self,
                wire: $crate::protobuf::Wire<'_>,
                left: &mut $crate::etcd::Left,
            ) -> Result<(), $crate::etcd::Error> {
                $crate::etcd::take_fields(self, wire.bytes()?, left)
            }
        }
    };
}
use embedded;

/// Declares enums, open to values that are not known here.
macro_rules! open_enums {
    ($($(#[$meta:meta])* $name:ident { $($value:ident = $number:literal,)* })*) => {$(
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct $name(pub i32);

        impl $name {
            $(pub const $value: $name = $name($number);)*
        }

        impl $crate::etcd::Field for $name {
            fn is_empty(&self) -> bool {
                self.0 == 0
            }
            fn put(&self, number: u32, out: &mut Vec<u8>) {
                $crate::protobuf::put_int(out, number, i64::from(self.0));
            }
            fn take(
                &mut self,
                wire: $crate::protobuf::Wire<'_>,
                _: &mut $crate::etcd::Left,
            ) -> Result<(), $crate::etcd::Error> {
                // What is too large for an enum loses its upper bits, as in every protobuf library.
                self.0 = wire.int()? as i32;
                Ok(())
            }
        }
    )*};
}
use open_enums;

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
    u32: |it: &u32| *it == 0, |out, number, it: &u32| put_uint(out, number, u64::from(*it)),
        |wire: Wire<'_>| wire.varint().map(|it| it as u32);
    bool: |it: &bool| !it, |out, number, it: &bool| put_uint(out, number, u64::from(*it)),
        |wire: Wire<'_>| wire.varint().map(|it| it != 0);
    Bytes: |it: &Bytes| <[u8]>::is_empty(it), |out, number, it: &Bytes| put_bytes(out, number, it),
        |wire: Wire<'_>| wire.bytes().map(Bytes::from);
    String: |it: &String| str::is_empty(it),
        |out, number, it: &String| put_bytes(out, number, it.as_bytes()),
        |wire: Wire<'_>| wire.str().map(str::to_owned);
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

messages! {
    /// What every answer begins with.
    ResponseHeader {
        1 cluster_id: u64,
        2 member_id: u64,
        3 revision: i64,
        4 raft_term: u64,
    }
}

/// The end of the range of all keys that begin with `prefix`: `"\0"`, all that follow, if nothing is greater.
pub fn prefix_end(prefix: &[u8]) -> Bytes {
    let kept = prefix.iter().rposition(|byte| *byte != 0xff);
    let Some(last) = kept else { return Bytes::from([0]) };
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    end.into()
}

#[cfg(test)]
mod tests;
