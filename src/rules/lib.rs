//! What a server does with objects before it stores them and when it shows them: defaults, what a client cannot
//! set, validation, warnings, printed columns.
//!
//! The rules of a kind stand in one file (`kinds/`) beside the kind's declaration in `api/kinds`; engines here ask
//! them through [`kinds::of`]. Whoever only reads and writes objects, as brains and clients do, needs `api` alone.
//! Pure and synchronous: no I/O, no clock, no randomness.

pub mod advice;
mod ages;
mod checks;
mod column;
mod conversion;
mod custom;
pub mod defaults;
pub mod gates;
mod jsonpath;
mod keep;
pub mod kinds;
pub mod limits;
pub mod pod;
mod print;
pub mod signing;
pub mod strategy;
pub mod table;
pub mod validate;

pub use column::{Cell, Column};
pub use conversion::to_stored;
