//! What a rendering asks of the world: a brain draws no randomness, reads no clock and reaches no cluster.

use serde_json::Value;

/// Who renders lends these.
pub trait World {
    /// Fills `bytes` with randomness that keys may be made of.
    fn random(&self, bytes: &mut [u8]);

    /// Seconds and nanoseconds since 1970, UTC.
    fn now(&self) -> (i64, u32);

    /// An object, all of a kind in a namespace where `name` is empty, or of all namespaces where both are: what
    /// `lookup` gives, `{}` where there is none.
    fn lookup(&self, asked: &Asked) -> Lookup;

    /// A new private key in PEM, PKCS #8: `rsa`, `ecdsa`, `ed25519` or `dsa`.
    ///
    /// # Errors
    /// If this kind of key cannot be made.
    fn private_key(&self, kind: &str) -> Result<String, String>;

    /// A certificate in PEM, and its key.
    ///
    /// # Errors
    /// If it cannot be made.
    fn certificate(&self, request: &Certificate<'_>) -> Result<(String, String), String>;
}

/// What `lookup` was asked for. `name` and `namespace` may be empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    pub api_version: String,
    pub kind: String,
    pub namespace: String,
    pub name: String,
}

/// What is known of it.
#[derive(Clone, Debug)]
pub enum Lookup {
    /// The object, or `{}` if there is none.
    Known(Value),
    /// Rendering goes on as if there were none, and [`crate::Rendered::asked`] says what to fetch before it is done again.
    Unknown,
}

/// A certificate to be made, valid from now on.
#[derive(Debug)]
pub struct Certificate<'a> {
    pub common_name: &'a str,
    pub addresses: Vec<std::net::IpAddr>,
    pub dns_names: Vec<String>,
    pub days: i64,
    pub is_authority: bool,
    /// The private key in PEM; a new RSA key of 2048 bits is what Helm makes without one.
    pub key: Option<&'a str>,
    /// Certificate and key of the authority, in PEM; the certificate signs itself without.
    pub issuer: Option<(&'a str, &'a str)>,
}
