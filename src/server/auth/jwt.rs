//! JSON Web Tokens, compact form: signing, and verifying against a set of keys.

use api::{Lens, Value, json};
use wire::base64::{decode_url, encode_url};

use super::keys::{PublicKey, Signer};

/// Longer tokens are not ours.
const TOKEN_MAX_BYTES: usize = 16 * 1024;

/// # Errors
/// If signing fails.
pub(crate) fn sign(signer: &Signer, claims: &Value) -> stdx::Result<String> {
    let head = json!({"alg": signer.public().algorithm(), "kid": signer.public().id});
    let text = format!(
        "{}.{}",
        encode_url(head.to_string().as_bytes()),
        encode_url(claims.to_string().as_bytes())
    );
    let signature = signer.sign(text.as_bytes())?;
    Ok(format!("{text}.{}", encode_url(&signature)))
}

/// The claims of a token that one of the keys signed. Whether they hold now is the caller's to check.
pub(crate) fn verify(keys: &[PublicKey], token: &str) -> Option<Value> {
    if token.len() > TOKEN_MAX_BYTES {
        return None;
    }
    let (text, signature) = token.rsplit_once('.')?;
    let (head, claims) = text.split_once('.')?;
    let signature = decode_url(signature)?;
    let head: Value = serde_json::from_slice(&decode_url(head)?).ok()?;
    let (algorithm, id) = (head.str("alg"), head.str("kid"));
    let fits = |key: &&PublicKey| key.algorithm() == algorithm && (id.is_empty() || key.id == id);
    // A key id that is not ours may still be of a key of ours: imported tokens name it otherwise.
    let named = keys.iter().filter(fits);
    let others = keys.iter().filter(|key| key.algorithm() == algorithm && !fits(key));
    let mut candidates = named.chain(others);
    candidates.find(|key| key.verifies(text.as_bytes(), &signature))?;
    serde_json::from_slice(&decode_url(claims)?).ok()
}

/// The claims of a token, unverified: to see who is said to have issued it.
pub(crate) fn peek(token: &str) -> Option<Value> {
    if token.len() > TOKEN_MAX_BYTES {
        return None;
    }
    let mut parts = token.split('.');
    let (_, claims) = (parts.next()?, parts.next()?);
    serde_json::from_slice(&decode_url(claims)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_signed_is_believed() {
        let signer = Signer::from_pem(&super::super::keys::tests::new_key()).unwrap();
        let other = Signer::from_pem(&super::super::keys::tests::new_key()).unwrap();
        let claims = json!({"sub": "a"});
        let token = sign(&signer, &claims).unwrap();
        let keys = [other.public().clone(), signer.public().clone()];
        assert_eq!(verify(&keys, &token), Some(claims.clone()));
        assert_eq!(verify(&keys[..1], &token), None);
        assert_eq!(peek(&token), Some(claims));
        let none = format!("{}.{}.", encode_url(br#"{"alg":"none"}"#), encode_url(b"{}"));
        for bad in ["", "a.b.c", "..", &none, &token[..token.len() - 2], &"x".repeat(1 << 20)] {
            assert_eq!(verify(&keys, bad), None);
        }
    }
}
