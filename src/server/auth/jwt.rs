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

/// A token as it was sent: nothing of it is verified.
pub(crate) struct Token<'t> {
    text: &'t [u8],
    signature: Vec<u8>,
    pub(crate) algorithm: String,
    id: String,
    claims: &'t str,
}

impl Token<'_> {
    pub(crate) fn parse(token: &str) -> Option<Token<'_>> {
        if token.len() > TOKEN_MAX_BYTES {
            return None;
        }
        let (text, signature) = token.rsplit_once('.')?;
        let (head, claims) = text.split_once('.')?;
        let signature = decode_url(signature)?;
        let head: Value = serde_json::from_slice(&decode_url(head)?).ok()?;
        // What must be understood is not.
        if head.get("crit").is_some() {
            return None;
        }
        let (algorithm, id) = (head.str("alg").to_owned(), head.str("kid").to_owned());
        Some(Token { text: text.as_bytes(), signature, algorithm, id, claims })
    }

    /// Whether a key signed it that it may name.
    pub(crate) fn is_by(&self, key: &PublicKey) -> bool {
        (self.id.is_empty() || self.id == key.id)
            && key.verifies(&self.algorithm, self.text, &self.signature)
    }

    /// Its claims, if they are an object.
    pub(crate) fn claims(&self) -> Option<Value> {
        let claims = serde_json::from_slice(&decode_url(self.claims)?).ok()?;
        Some(claims).filter(Value::is_object)
    }
}

/// The claims of a service account's token that one of the keys signed. Whether they hold now is the caller's to check.
pub(crate) fn verify(keys: &[PublicKey], token: &str) -> Option<Value> {
    let token = Token::parse(token)?;
    let of_it = |key: &&PublicKey| key.algorithm() == token.algorithm;
    // A key id that is not ours may still be of a key of ours: imported tokens name it otherwise.
    let by_any = |key: &PublicKey| key.verifies(&token.algorithm, token.text, &token.signature);
    let mut own = keys.iter().filter(of_it);
    match own.clone().any(|key| token.is_by(key)) || own.any(by_any) {
        true => token.claims(),
        false => None,
    }
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

    /// Made by another implementation (pyca/cryptography): a set of keys, then tokens with their algorithms.
    const TOKENS: &str = include_str!("test_tokens.txt");

    #[test]
    fn each_algorithm_is_verified_and_not_taken_for_another() {
        let (set, tokens) = TOKENS.split_once('\n').unwrap();
        let set: Value = serde_json::from_str(set).unwrap();
        let keys: Vec<PublicKey> =
            set.list("keys").iter().map(|jwk| PublicKey::from_jwk(jwk).unwrap()).collect();
        let mut known: Vec<&str> = super::super::keys::algorithms().collect();
        known.sort_unstable();
        let mut seen = Vec::new();
        for (algorithm, text) in tokens.lines().map(|line| line.split_once(' ').unwrap()) {
            seen.push(algorithm);
            let token = Token::parse(text).unwrap();
            assert_eq!(token.algorithm, algorithm);
            assert_eq!(token.claims(), Some(json!({"sub": algorithm})));
            let by: Vec<bool> = keys.iter().map(|key| token.is_by(key)).collect();
            assert_eq!(by.iter().filter(|by| **by).count(), 1, "{algorithm}");
            let key = &keys[by.iter().position(|by| *by).unwrap()];
            // The same signature under another name.
            for other in known.iter().filter(|other| **other != algorithm) {
                assert!(!key.verifies(other, token.text, &token.signature), "{algorithm} {other}");
            }
            // Another key's name, and no name.
            let unnamed = Token { id: String::new(), ..Token::parse(text).unwrap() };
            assert!(unnamed.is_by(key));
            let foreign = Token { id: "other".into(), ..Token::parse(text).unwrap() };
            assert!(!foreign.is_by(key));
            let mut signature = token.signature.clone();
            signature[7] ^= 1;
            assert!(!Token { signature, ..Token::parse(text).unwrap() }.is_by(key));
        }
        seen.sort_unstable();
        assert_eq!(seen, known);
    }

    #[test]
    fn keys_that_are_none_are_left_out() {
        let (set, _) = TOKENS.split_once('\n').unwrap();
        let set: Value = serde_json::from_str(set).unwrap();
        let with = |nth: usize, name: &str, value: &str| {
            let mut jwk = set.list("keys")[nth].clone();
            jwk[name] = value.into();
            PublicKey::from_jwk(&jwk).is_some()
        };
        assert!(with(0, "kid", "x") && with(1, "use", ""));
        for (nth, name, value) in [
            (0, "use", "enc"),
            (0, "kty", "oct"),
            (0, "n", ""),
            (0, "n", "AAAA"),
            (0, "n", "!"),
            (0, "e", ""),
            (0, "n", &"A".repeat(2000)),
            (1, "crv", "P-384"),
            (1, "crv", "P-521"),
            (1, "x", "AAAA"),
            (2, "y", ""),
        ] {
            assert!(!with(nth, name, value), "{nth} {name} {value}");
        }
        let crit = encode_url(br#"{"alg":"RS256","crit":["x"]}"#);
        assert!(Token::parse(&format!("{crit}.e30.AAAA")).is_none());
        let list = Token::parse("e30.W10.AAAA").unwrap();
        assert!(list.claims().is_none());
        // As deep as a token can be, and deeper than a reader goes.
        let deep = encode_url("[".repeat(8000).as_bytes());
        assert!(Token::parse(&format!("{deep}.e30.AAAA")).is_none());
        assert!(Token::parse(&format!("e30.{deep}.AAAA")).unwrap().claims().is_none());
        assert!(peek(&format!("e30.{deep}.AAAA")).is_none());
    }
}
