//! Keys of tokens. Of service accounts': ECDSA P-256 for new ones, RSA for imported ones. Of other issuers': JSON Web Keys.

use api::{Lens, Value, json};
use ring::digest;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED,
    EcdsaKeyPair, KeyPair, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384,
    RSA_PKCS1_2048_8192_SHA512, RSA_PKCS1_SHA256, RSA_PSS_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, RsaKeyPair, UnparsedPublicKey,
    VerificationAlgorithm,
};
use stdx::{Context, Error, Result};
use wire::base64::{decode_url, encode_url};

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
    sort: Sort,
    /// The curve point, or the PKCS#1 RSAPublicKey.
    bytes: Vec<u8>,
    /// As upstream makes it: the hash of the SubjectPublicKeyInfo.
    pub(crate) id: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sort {
    P256,
    P384,
    Rsa,
}

/// The algorithms that signatures may have, each with the sort of its keys. What needs other curves is not there.
const ALGORITHMS: [(&str, Sort, &dyn VerificationAlgorithm); 8] = [
    ("ES256", Sort::P256, &ECDSA_P256_SHA256_FIXED),
    ("RS256", Sort::Rsa, &RSA_PKCS1_2048_8192_SHA256),
    ("ES384", Sort::P384, &ECDSA_P384_SHA384_FIXED),
    ("PS256", Sort::Rsa, &RSA_PSS_2048_8192_SHA256),
    ("PS384", Sort::Rsa, &RSA_PSS_2048_8192_SHA384),
    ("PS512", Sort::Rsa, &RSA_PSS_2048_8192_SHA512),
    ("RS384", Sort::Rsa, &RSA_PKCS1_2048_8192_SHA384),
    ("RS512", Sort::Rsa, &RSA_PKCS1_2048_8192_SHA512),
];
/// Of the number in a key that is read: 8192 bits.
const NUMBER_MAX_BYTES: usize = 1024;

/// The names of all algorithms.
pub(crate) fn algorithms() -> impl Iterator<Item = &'static str> {
    ALGORITHMS.iter().map(|(name, ..)| *name)
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
            let public = PublicKey::new(Sort::P256, key.public_key().as_ref().to_vec());
            Signer { key: Private::Ecdsa(Box::new(key)), public }
        };
        let rsa = |key: RsaKeyPair| {
            let public = PublicKey::new(Sort::Rsa, key.public_key().as_ref().to_vec());
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
    /// A key of service accounts.
    fn new(sort: Sort, bytes: Vec<u8>) -> PublicKey {
        let prefix = match sort {
            Sort::Rsa => der::RSA,
            Sort::P256 | Sort::P384 => der::EC_P256,
        };
        let mut bits = vec![0];
        bits.extend_from_slice(&bytes);
        let mut content = prefix.to_vec();
        content.extend(der::write(der::BIT_STRING, &bits));
        let info = der::write(der::SEQUENCE, &content);
        let id = encode_url(digest::digest(&digest::SHA256, &info).as_ref());
        PublicKey { sort, bytes, id }
    }

    /// A JSON Web Key that verifies; `None` for what is none, or of a sort that is not known.
    pub(crate) fn from_jwk(jwk: &Value) -> Option<PublicKey> {
        if !matches!(jwk.str("use"), "" | "sig") {
            return None;
        }
        let number = |name: &str| decode_url(jwk.str(name)).filter(|n| n.len() <= NUMBER_MAX_BYTES);
        let (sort, bytes) = match (jwk.str("kty"), jwk.str("crv")) {
            ("RSA", _) => {
                let integer = |name: &str| {
                    let n = number(name)?;
                    let start = n.iter().position(|byte| *byte != 0)?;
                    // A first bit would be a sign.
                    let sign: &[u8] = if n[start] >= 0x80 { &[0] } else { &[] };
                    Some(der::write(der::INTEGER, &[sign, &n[start..]].concat()))
                };
                let numbers = [integer("n")?, integer("e")?].concat();
                (Sort::Rsa, der::write(der::SEQUENCE, &numbers))
            }
            ("EC", curve) => {
                let (sort, n_bytes) = match curve {
                    "P-256" => (Sort::P256, 32),
                    "P-384" => (Sort::P384, 48),
                    _ => return None,
                };
                let (x, y) = (number("x")?, number("y")?);
                if x.len() != n_bytes || y.len() != n_bytes {
                    return None;
                }
                (sort, [&[4], x.as_slice(), y.as_slice()].concat())
            }
            _ => return None,
        };
        Some(PublicKey { sort, bytes, id: jwk.str("kid").to_owned() })
    }

    /// Every key of a PEM file; private keys count with their public half.
    pub(crate) fn all_from_pem(pem: &[u8]) -> Vec<PublicKey> {
        let mut keys = Vec::new();
        for (label, bytes) in der::pem(pem) {
            match label.as_str() {
                "PUBLIC KEY" => keys.extend(PublicKey::from_info(&bytes)),
                "RSA PUBLIC KEY" => keys.push(PublicKey::new(Sort::Rsa, bytes)),
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
        let (sort, rest) =
            match (content.strip_prefix(der::EC_P256), content.strip_prefix(der::RSA)) {
                (Some(rest), _) => (Sort::P256, rest),
                (_, Some(rest)) => (Sort::Rsa, rest),
                _ => return None,
            };
        let (bits, _) = der::read(der::BIT_STRING, rest)?;
        Some(PublicKey::new(sort, bits.get(1..)?.to_vec()))
    }

    /// The name in a token's head: of what such a key signs here.
    pub(crate) fn algorithm(&self) -> &'static str {
        let own = ALGORITHMS.iter().find(|(_, sort, _)| *sort == self.sort);
        own.map_or("", |(name, ..)| name)
    }

    /// Whether it made a signature by the algorithm of that name.
    pub(crate) fn verifies(&self, algorithm: &str, text: &[u8], signature: &[u8]) -> bool {
        let fits = |(name, sort, _): &&(&str, Sort, _)| *name == algorithm && *sort == self.sort;
        ALGORITHMS.iter().find(fits).is_some_and(|(.., how)| {
            UnparsedPublicKey::new(*how, &self.bytes).verify(text, signature).is_ok()
        })
    }

    /// The key as JSON Web Key.
    pub(crate) fn to_jwk(&self) -> Value {
        let mut jwk = json!({"use": "sig", "kid": self.id, "alg": self.algorithm()});
        match self.sort {
            Sort::P256 | Sort::P384 => {
                // An uncompressed point: 4, then both coordinates.
                let (x, y) = self.bytes.get(1..).unwrap_or_default().split_at(self.bytes.len() / 2);
                jwk["kty"] = "EC".into();
                jwk["crv"] = "P-256".into();
                jwk["x"] = encode_url(x).into();
                jwk["y"] = encode_url(y).into();
            }
            Sort::Rsa => {
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
            assert!(signer.public().verifies(signer.public().algorithm(), b"text", &signature));
            assert!(!signer.public().verifies(signer.public().algorithm(), b"texu", &signature));
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
