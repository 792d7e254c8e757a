//! Cluster tokens: `K10<sha256 of the CA bundle>::<user>:<password>`, or the short form, the password alone.

use stdx::{Error, Result};

const PREFIX: &str = "K10";

/// A parsed token.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// Lower-case hex SHA-256 of the CA bundle, "" in the short form.
    pub ca_hash: String,
    /// "server", "node", or "" in the short form and in bootstrap tokens.
    pub user: String,
    /// A bootstrap token as a whole.
    pub password: String,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Token({})", self.user)
    }
}

impl Token {
    /// # Errors
    /// If a `K10` token has a hash of the wrong length or no credentials.
    pub fn parse(text: &str) -> Result<Token> {
        let text = text.trim();
        let Some(rest) = text.strip_prefix(PREFIX) else {
            return match text.split_once(':') {
                Some((user, password)) if !user.is_empty() && !password.is_empty() => Ok(Token {
                    ca_hash: String::new(),
                    user: user.into(),
                    password: password.into(),
                }),
                Some(_) => Err(Error::new("parse token: neither user nor password may be empty")),
                None if text.is_empty() => Err(Error::new("parse token: it is empty")),
                None => {
                    Ok(Token { ca_hash: String::new(), user: String::new(), password: text.into() })
                }
            };
        };
        let (hash, credentials) = rest
            .split_once("::")
            .ok_or_else(|| Error::new("parse token: no \"::\" after the CA hash"))?;
        if hash.len() != 64 || !hash.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(Error::new("parse token: the CA hash is not 64 hex digits"));
        }
        let ca_hash = hash.to_ascii_lowercase();
        if is_bootstrap(credentials) {
            return Ok(Token { ca_hash, user: String::new(), password: credentials.into() });
        }
        match credentials.split_once(':') {
            Some((user, password)) if !password.is_empty() => {
                Ok(Token { ca_hash, user: user.into(), password: password.into() })
            }
            _ => Err(Error::new("parse token: no user and password after the CA hash")),
        }
    }

    /// The full form for a CA bundle.
    pub fn format(ca_pem: &str, user: &str, password: &str) -> String {
        format!("{PREFIX}{}::{user}:{password}", ca_hash(ca_pem))
    }

    /// `Authorization` of who joins with it: as k3s's agents, who are `node` whatever token they have.
    pub fn authorization(&self) -> String {
        match is_bootstrap(&self.password) {
            true => format!("Bearer {}", self.password),
            false => {
                let credentials = format!("node:{}", self.password);
                format!("Basic {}", wire::base64::encode(credentials.as_bytes()))
            }
        }
    }
}

/// Whether a text has the form of a bootstrap token: an id of 6 and a secret of 16 characters.
pub(crate) fn is_bootstrap(text: &str) -> bool {
    let fits = |part: &str, length| {
        part.len() == length && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
    };
    text.split_once('.').is_some_and(|(id, secret)| fits(id, 6) && fits(secret, 16))
}

/// What a token says of a CA: the hash of the PEM text or, of a bundle, as k3s has it, of the root that the first certificate
/// leads to, which stays when the CA is rotated.
pub fn ca_hash(pem: &str) -> String {
    let sections = wire::pem::sections(pem.as_bytes());
    let certificates: Vec<&[u8]> =
        sections.iter().filter(|s| s.label == "CERTIFICATE").map(|s| &*s.content).collect();
    match crate::x509::root(&certificates) {
        Some(root) if certificates.len() > 1 => hash(root),
        _ => hash(pem.as_bytes()),
    }
}

/// Lower-case hex SHA-256.
pub fn hash(bytes: &[u8]) -> String {
    wire::hex::encode(ring::digest::digest(&ring::digest::SHA256, bytes).as_ref())
}

/// `n_bytes` random bytes in hex, as k3s makes passwords.
pub fn random_hex(n_bytes: usize) -> String {
    let mut bytes = vec![0; n_bytes];
    rt::random(&mut bytes);
    wire::hex::encode(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let full = Token::format("ca", "server", "secret");
        let token = Token::parse(&full).unwrap();
        assert_eq!(
            (token.user.as_str(), token.password.as_str(), token.ca_hash.len()),
            ("server", "secret", 64)
        );
        assert_eq!(Token::parse("secret\n").unwrap().password, "secret");
        assert_eq!(Token::parse("server:secret").unwrap().user, "server");
        let bootstrap = "abc123.0123456789abcdef";
        let text = format!("K10{}::{bootstrap}", "a".repeat(64));
        for text in [&text, bootstrap] {
            let token = Token::parse(text).unwrap();
            assert_eq!(token.authorization(), format!("Bearer {bootstrap}"), "{text}");
        }
        let joined = Token::parse(&full).unwrap().authorization();
        assert_eq!(joined, format!("Basic {}", wire::base64::encode(b"node:secret")));
        for bad in ["", "K10abc::server:x", &full[..70], "K10", ":x", "server:"] {
            assert!(Token::parse(bad).is_err(), "{bad}");
        }
    }
}
