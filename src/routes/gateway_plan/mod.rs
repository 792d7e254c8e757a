//! From Gateway API's objects (`gateway_objects`, which the model holds) to routes of the table: who is attached to whom, and
//! what is said of it.

mod attach;
mod listener;
mod plan;
mod status;
#[cfg(test)]
mod tests;
