//! k3rs: one binary that is a whole Kubernetes node. Commands are dispatched here, by name or by link.
fn main() {
    let _ = (config::Config::load, flags::FLAGS, config::help());
}
mod config;
mod flags;
