//! The API model: kinds as data, objects as bytes, and engines that read both.
//!
//! A kind is declared once (`kinds/`, one file a kind). Engines iterate the table: schema, codecs, patches,
//! selectors. What only a server does with a kind is above: `rules`, `apply`, `discovery`.
//! Pure and synchronous: no I/O, no clock, no randomness.
//!
//! From below: words of everybody (`lens`, `names`, `time`, `selector`, `complain`); `kind` and the table of `kinds`;
//! `schema`, made from the texts of that table; `message`, bytes and trees by the schema; `object`; `status`; kinds that are
//! defined at run time (`structural`, `custom`, `definition`); `form`, which knows both sorts of kinds, and `catalog`
//! with all that are served; and what takes forms: `codec`, `patch`, `controller`. Each knows only what is before it.

pub mod address;
pub mod balance;
pub mod catalog;
pub mod certificate;
pub mod codec;
pub mod complain;
pub mod controller;
pub mod csi;
pub mod custom;
pub mod definition;
pub mod field;
pub mod flow_control;
pub mod form;
pub mod groups;
pub mod hash;
mod json_index;
pub mod kind;
pub mod kinds;
pub mod labels;
pub mod lens;
pub mod message;
pub mod names;
pub mod object;
pub mod patch;
pub mod path;
pub mod pod;
pub mod policy;
pub mod policy_types;
pub mod query;
pub mod quota;
pub mod schema;
pub mod selector;
pub mod status;
pub mod structural;
pub mod time;
pub(crate) mod types;
pub use wire::zones;

pub use catalog::Kinds;
pub use controller::{
    Action, Actions, Controller, Expect, Key, Next, OnFailure, Registered, Tally, View, Wakes,
    Watch,
};
pub use definition::Definition;
pub use form::{Form, Resource};
pub use kind::{Kind, Scope, Sub};
pub use lens::{Lens, LensMut};
pub use object::Object;
pub use serde_json::{Map, Value, json};
pub use status::Status;
pub use structural::violations;
pub use wire::quantity::{self, Quantity};
