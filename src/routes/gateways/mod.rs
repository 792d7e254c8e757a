//! From Gateway API's objects to routes of the table: who is attached to whom, and what is said of it.

mod attach;
mod listener;
mod plan;
mod status;
#[cfg(test)]
mod tests;
