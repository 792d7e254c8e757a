//! Go's text/template: templates are read once and executed over trees of values, with functions that the caller gives.
//!
//! What a template says is not trusted: nesting, steps, and what is allocated are bounded ([`Bounds`]). Values are shared
//! and maps can be changed by functions, as in Go, so they are counted references; [`Heap`] ends the circles that a
//! template makes of them. Knows neither Helm nor Kubernetes.

mod builtins;
mod exec;
mod format;
mod lex;
mod node;
mod parse;
#[cfg(test)]
mod tests;
mod value;

pub use exec::{Functions, MissingKey, Run};
pub use format::{float, quote, show, sprint};
pub use parse::{Names, Set};
pub use value::{Bounds, Heap, Int, List, Map, Object, Signature, Value};
