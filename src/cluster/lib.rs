//! What makes processes one cluster: the layout on disk, certificates, tokens, bootstrap data.
//!
//! File names, formats and lifetimes are k3s's, so that a data directory can move between the two.

pub mod bootstrap;
pub mod certificates;
mod encryption_peers;
pub mod join;
pub mod kubeconfig;
mod node_password;
pub mod paths;
pub mod pki;
pub mod role;
pub mod rotation;
pub mod secrets_encryption;
pub mod settings;
pub mod signer;
pub mod supervisor;
pub mod token;
mod x509;

pub use node_password::claim_own;
pub use paths::Paths;
pub use pki::Pki;
pub use x509::Certificate;
