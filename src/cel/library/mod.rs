//! The functions of the language: what each does with values, and what that costs.

mod amounts;
pub(crate) mod apply;
mod apply_net;
mod equality;
pub(crate) mod format;
pub(crate) mod price;
pub(crate) mod regex;
pub(crate) mod text;
