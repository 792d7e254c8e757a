//! Talking to the API: the requests everyone makes, informer views, and the driver of controllers.
//!
//! `Api` is the one door. Inside the server process `server` implements it as function calls
//! (through admission and authorization, without HTTP); elsewhere `Client::remote` does over HTTPS.
//! Knows no kind in particular and decides nothing.

pub mod access;
pub mod driver;
pub mod elect;
pub mod events;
mod figures;
pub mod follow;
mod hook;
mod https;
#[cfg(test)]
mod https_tests;
pub mod informer;
mod kinds;
pub mod options;
mod raw;
mod request;
mod watch;

pub use access::{Access, Source};
pub use driver::{Driver, Outside, Roster, Settings, Told};
pub use elect::{Election, resign};
pub use figures::write_requests;
pub use hook::Hook;
pub use informer::{Informers, Interest};
pub use kinds::Registry;
pub use raw::Raw;
pub use request::{
    Answer, Api, Body, Client, DeleteOptions, List, ListOptions, PatchType, Request, Verb,
    WatchEvent, WatchStream,
};
