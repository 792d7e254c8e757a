//! From text to a tree: words, grammar, macros, and what is wrong with them.

mod expand;
pub(crate) mod issue;
mod lex;
pub(crate) mod parse;

pub(crate) use expand::ACCUMULATOR;
