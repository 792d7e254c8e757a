//! The cryptography of TLS.

use std::sync::{Arc, OnceLock};

use rustls::crypto::CryptoProvider;

/// The cryptography behind every configuration, made once.
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| Arc::new(rustls::crypto::ring::default_provider())))
}
