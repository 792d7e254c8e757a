//! Keys of service account tokens: ECDSA P-256 for new ones, RSA for imported ones.

use api::{Value, json};
use ring::digest;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaKeyPair, UnparsedPublicKey,
};
use stdx::{Context, Error, Result};
use wire::base64::encode_url;

use super::der;

/// A key that signs.
pub(crate) struct Signer {
    key: Private,
    public: PublicKey,
}

enum Private {
    Ecdsa(Box<EcdsaKeyPair>),
    Rsa(Box<RsaKeyPair>),
}

/// A key that verifies.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct PublicKey {
    algorithm: Algorithm,
    /// The curve point, or the PKCS#1 RSAPublicKey.
    bytes: Vec<u8>,
    /// As upstream makes it: the hash of the SubjectPublicKeyInfo.
    pub(crate) id: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Algorithm {
    Es256,
    Rs256,
}

impl Signer {
    /// Reads a private key: PKCS#8, PKCS#1 (RSA) or SEC 1 (ECDSA).
    ///
    /// # Errors
    /// If it is none of these, or of another curve.
    pub(crate) fn from_pem(pem: &[u8]) -> Result<Signer> {
        let random = SystemRandom::new();
        let sections = der::pem(pem);
        let (label, bytes) = sections
            .iter()
            .find(|(label, _)| label.ends_with("PRIVATE KEY"))
            .context(|| "read the service account key: no private key in PEM form")?;
        let refused = |error: ring::error::KeyRejected| {
            Error::new(format!("read the service account key: {error}"))
        };
        let ecdsa = |key: EcdsaKeyPair| {
            let public = PublicKey::new(Algorithm::Es256, key.public_key().as_ref().to_vec());
            Signer { key: Private::Ecdsa(Box::new(key)), public }
        };
        let rsa = |key: RsaKeyPair| {
            let public = PublicKey::new(Algorithm::Rs256, key.public_key().as_ref().to_vec());
            Signer { key: Private::Rsa(Box::new(key)), public }
        };
        match label.as_str() {
            "RSA PRIVATE KEY" => Ok(rsa(RsaKeyPair::from_der(bytes).map_err(refused)?)),
            "EC PRIVATE KEY" => {
                let (secret, point) =
                    sec1(bytes).context(|| "read the service account key: malformed SEC 1 key")?;
                let key = EcdsaKeyPair::from_private_key_and_public_key(
                    &ECDSA_P256_SHA256_FIXED_SIGNING,
                    secret,
                    point,
                    &random,
                );
                Ok(ecdsa(key.map_err(refused)?))
            }
            _ => match EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, bytes, &random) {
                Ok(key) => Ok(ecdsa(key)),
                Err(_) => Ok(rsa(RsaKeyPair::from_pkcs8(bytes).map_err(refused)?)),
            },
        }
    }

    pub(crate) fn public(&self) -> &PublicKey {
        &self.public
    }

    /// # Errors
    /// If the system has no randomness.
    pub(crate) fn sign(&self, text: &[u8]) -> Result<Vec<u8>> {
        let random = SystemRandom::new();
        let failed = |_| Error::new("sign a service account token");
        match &self.key {
            Private::Ecdsa(key) => Ok(key.sign(&random, text).map_err(failed)?.as_ref().to_vec()),
            Private::Rsa(key) => {
                let mut signature = vec![0; key.public().modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &random, text, &mut signature).map_err(failed)?;
                Ok(signature)
            }
        }
    }
}

impl PublicKey {
    fn new(algorithm: Algorithm, bytes: Vec<u8>) -> PublicKey {
        let prefix = match algorithm {
            Algorithm::Es256 => der::EC_P256,
            Algorithm::Rs256 => der::RSA,
        };
        let mut bits = vec![0];
        bits.extend_from_slice(&bytes);
        let mut content = prefix.to_vec();
        content.extend(der::write(der::BIT_STRING, &bits));
        let info = der::write(der::SEQUENCE, &content);
        let id = encode_url(digest::digest(&digest::SHA256, &info).as_ref());
        PublicKey { algorithm, bytes, id }
    }

    /// Every key of a PEM file; private keys count with their public half.
    pub(crate) fn all_from_pem(pem: &[u8]) -> Vec<PublicKey> {
        let mut keys = Vec::new();
        for (label, bytes) in der::pem(pem) {
            match label.as_str() {
                "PUBLIC KEY" => keys.extend(PublicKey::from_info(&bytes)),
                "RSA PUBLIC KEY" => keys.push(PublicKey::new(Algorithm::Rs256, bytes)),
                _ => {}
            }
        }
        if keys.is_empty() {
            keys.extend(Signer::from_pem(pem).ok().map(|signer| signer.public));
        }
        keys
    }

    /// A SubjectPublicKeyInfo.
    fn from_info(info: &[u8]) -> Option<PublicKey> {
        let (content, _) = der::read(der::SEQUENCE, info)?;
        let (algorithm, rest) =
            match (content.strip_prefix(der::EC_P256), content.strip_prefix(der::RSA)) {
                (Some(rest), _) => (Algorithm::Es256, rest),
                (_, Some(rest)) => (Algorithm::Rs256, rest),
                _ => return None,
            };
        let (bits, _) = der::read(der::BIT_STRING, rest)?;
        Some(PublicKey::new(algorithm, bits.get(1..)?.to_vec()))
    }

    /// The name in a token's head.
    pub(crate) fn algorithm(&self) -> &'static str {
        match self.algorithm {
            Algorithm::Es256 => "ES256",
            Algorithm::Rs256 => "RS256",
        }
    }

    pub(crate) fn verifies(&self, text: &[u8], signature: &[u8]) -> bool {
        match self.algorithm {
            Algorithm::Es256 => UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &self.bytes)
                .verify(text, signature)
                .is_ok(),
            Algorithm::Rs256 => UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &self.bytes)
                .verify(text, signature)
                .is_ok(),
        }
    }

    /// The key as JSON Web Key.
    pub(crate) fn to_jwk(&self) -> Value {
        let mut jwk = json!({"use": "sig", "kid": self.id, "alg": self.algorithm()});
        match self.algorithm {
            Algorithm::Es256 => {
                // An uncompressed point: 4, then both coordinates.
                let (x, y) = self.bytes.get(1..).unwrap_or_default().split_at(self.bytes.len() / 2);
                jwk["kty"] = "EC".into();
                jwk["crv"] = "P-256".into();
                jwk["x"] = encode_url(x).into();
                jwk["y"] = encode_url(y).into();
            }
            Algorithm::Rs256 => {
                let numbers = der::read(der::SEQUENCE, &self.bytes).and_then(|(content, _)| {
                    let (n, rest) = der::read(der::INTEGER, content)?;
                    let (e, _) = der::read(der::INTEGER, rest)?;
                    Some((n, e))
                });
                let (n, e) = numbers.unwrap_or_default();
                let trim = |n: &[u8]| encode_url(n.strip_prefix(&[0]).unwrap_or(n));
                jwk["kty"] = "RSA".into();
                jwk["n"] = trim(n).into();
                jwk["e"] = trim(e).into();
            }
        }
        jwk
    }
}

impl std::fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PublicKey({})", self.id)
    }
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Signer({})", self.public.id)
    }
}

/// Scalar and point of an ECPrivateKey (RFC 5915).
fn sec1(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (content, _) = der::read(der::SEQUENCE, bytes)?;
    let (_, rest) = der::read(der::INTEGER, content)?;
    let (secret, mut rest) = der::read(der::OCTET_STRING, rest)?;
    if let Some((_, after)) = der::read(0xa0, rest) {
        rest = after;
    }
    let (wrapped, _) = der::read(0xa1, rest)?;
    let (bits, _) = der::read(der::BIT_STRING, wrapped)?;
    Some((secret, bits.get(1..)?))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A fresh P-256 key in PEM form.
    pub(crate) fn new_key() -> Vec<u8> {
        let key =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new());
        let text = wire::base64::encode(key.unwrap().as_ref());
        format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n").into_bytes()
    }

    const RSA: &str = include_str!("test_rsa.pem");
    const SEC1: &str = include_str!("test_sec1.pem");
    const PUBLIC: &str = include_str!("test_sec1.pub.pem");

    #[test]
    fn each_kind_of_key_signs_and_verifies() {
        for pem in [new_key(), RSA.into(), SEC1.into()] {
            let signer = Signer::from_pem(&pem).unwrap();
            let signature = signer.sign(b"text").unwrap();
            assert!(signer.public().verifies(b"text", &signature));
            assert!(!signer.public().verifies(b"texu", &signature));
            assert_eq!(PublicKey::all_from_pem(&pem), [signer.public().clone()]);
            let jwk = signer.public().to_jwk();
            assert!(
                jwk["x"].as_str().is_some_and(|x| x.len() == 43) || jwk["e"] == "AQAB",
                "{jwk}"
            );
        }
        let public = PublicKey::all_from_pem(PUBLIC.as_bytes());
        assert_eq!(public, [Signer::from_pem(SEC1.as_bytes()).unwrap().public().clone()]);
        assert!(Signer::from_pem(b"nothing").is_err());
        assert!(
            Signer::from_pem(b"-----BEGIN EC PRIVATE KEY-----\nMAAA\n-----END EC PRIVATE KEY-----")
                .is_err()
        );
    }
}
