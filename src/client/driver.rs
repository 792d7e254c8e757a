//! The driver of controllers.
#[derive(Debug)]
pub struct Driver;
