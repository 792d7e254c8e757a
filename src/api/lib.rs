//! The API model: kinds as data, objects as bytes, and engines that read both.
//!
//! A kind is declared once (`kinds/`, one file a kind). Engines iterate the table: schema,
//! defaults, validation, codecs, patches, server-side apply, selectors, tables, OpenAPI.
//! Pure and synchronous: no I/O, no clock, no randomness.

pub mod controller;
pub mod kind;
pub mod kinds;
pub mod lens;
pub mod object;
pub mod selector;
pub mod status;
pub mod time;

pub use controller::{Action, Actions, Controller, Key, Next, Registered, View, Watch};
pub use kind::{Kind, Scope, Sub};
pub use lens::{Lens, LensMut};
pub use object::Object;
pub use serde_json::{Map, Value, json};
pub use status::Status;
