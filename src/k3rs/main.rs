//! The k3rs binary.
fn main() {}
