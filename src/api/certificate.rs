//! Certificate signing requests and certificates as objects hold them: PEM, checked.

use ring::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
use wire::pem;
use wire::pkcs10::{self, Request, Signed};

const RSA_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const EC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const ED25519: &[u8] = &[0x2b, 0x65, 0x70];
const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const P384: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x22];

/// The first section of a PEM text as a request, whose signature is its own key's.
///
/// # Errors
/// What is wrong with it.
pub fn request(text: &[u8]) -> Result<Request, String> {
    let first = pem::sections(text).into_iter().next();
    let Some(section) = first.filter(|section| section.label == "CERTIFICATE REQUEST") else {
        return Err("PEM block type must be CERTIFICATE REQUEST".into());
    };
    request_der(&section.content)
}

/// The same of a request in DER.
///
/// # Errors
/// What is wrong with it.
pub fn request_der(der: &[u8]) -> Result<Request, String> {
    let request = pkcs10::read(der).ok_or("asn1: syntax error: data truncated")?;
    let algorithm = algorithm(&request.signed)
        .ok_or("x509: cannot verify signature: algorithm unimplemented")?;
    let key = UnparsedPublicKey::new(algorithm, &request.signed.key);
    key.verify(&request.signed.content, &request.signed.signature)
        .map_err(|_| "x509: the signature does not verify")?;
    Ok(request)
}

/// What a key is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    Rsa,
    P256,
    P384,
    Ed25519,
}

/// What the key of a request is of; `None` if it is of none that we know.
pub fn key_algorithm(signed: &Signed) -> Option<Algorithm> {
    Some(match (signed.key_algorithm.as_slice(), signed.curve.as_slice()) {
        (RSA_KEY, _) => Algorithm::Rsa,
        (EC_KEY, P256) => Algorithm::P256,
        (EC_KEY, P384) => Algorithm::P384,
        (ED25519, _) => Algorithm::Ed25519,
        _ => return None,
    })
}

/// How a request is signed: what its key is, and the last byte of the signature's identifier,
/// which says the hash.
fn algorithm(signed: &Signed) -> Option<&'static dyn VerificationAlgorithm> {
    Some(match (key_algorithm(signed)?, *signed.algorithm.last()?) {
        (Algorithm::Rsa, 11) => &signature::RSA_PKCS1_2048_8192_SHA256,
        (Algorithm::Rsa, 12) => &signature::RSA_PKCS1_2048_8192_SHA384,
        (Algorithm::Rsa, 13) => &signature::RSA_PKCS1_2048_8192_SHA512,
        (Algorithm::P256, 2) => &signature::ECDSA_P256_SHA256_ASN1,
        (Algorithm::P256, 3) => &signature::ECDSA_P256_SHA384_ASN1,
        (Algorithm::P384, 2) => &signature::ECDSA_P384_SHA256_ASN1,
        (Algorithm::P384, 3) => &signature::ECDSA_P384_SHA384_ASN1,
        (Algorithm::Ed25519, _) => &signature::ED25519,
        _ => return None,
    })
}

/// Checks a chain of certificates in PEM; nothing at all is well.
///
/// # Errors
/// What is wrong with it, in upstream's words where it has some.
pub fn chain(text: &[u8]) -> Result<(), String> {
    if text.is_empty() {
        return Ok(());
    }
    let sections = pem::sections(text);
    if sections.is_empty() {
        return Err("must contain at least one CERTIFICATE PEM block".into());
    }
    for section in sections {
        if section.label != "CERTIFICATE" {
            let label = section.label;
            return Err(format!("only CERTIFICATE PEM blocks are allowed, found {label:?}"));
        }
        if section.has_headers {
            return Err("no PEM block headers are permitted".into());
        }
        if !pkcs10::is_certificate(&section.content) {
            return Err("x509: malformed certificate".into());
        }
    }
    Ok(())
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A request of `system:node:a` by a P-256 key, and one of `alice` by an RSA key: PEM in base64.
    const NODE: &str = "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURSBSRVFVRVNULS0tLS0KTUlJQktEQ0J6d0lCQURBdk1SVXdFd1lEVlFRS0RBeHplWE4wWlcwNmJtOWtaWE14RmpBVUJnTlZCQU1NRFhONQpjM1JsYlRwdWIyUmxPbUV3V1RBVEJnY3Foa2pPUFFJQkJnZ3Foa2pPUFFNQkJ3TkNBQVNtalZwakQvaU9FY3ViCjkzQmsyYXo4SUEweG9hOVRSQXBuSk9kNnN2cTg3VFdTVVVTMGR6cDMydWVrWGMxeFh6MnZQakVuRTBqRzhxaDEKVm9yem1IZkNvRDR3UEFZSktvWklodmNOQVFrT01TOHdMVEFyQmdOVkhSRUVKREFpZ2dsaExtVjRZVzF3YkdXSApCQW9BQUFHQkEzaEFlWVlLYzNCcFptWmxPaTh2ZWpBS0JnZ3Foa2pPUFFRREFnTklBREJGQWlCcUIydjRHZnNyCnI0ZjNBL1VDS2ZzMk42UnlOSzBHV2s0dWxhdThoUGYxUWdJaEFNU2pYOGsxREtiOCthRjZxcTJ1UzVIR1g2bjQKMnlpWFlOaUUxSzhlbG10VwotLS0tLUVORCBDRVJUSUZJQ0FURSBSRVFVRVNULS0tLS0K";
    const ALICE: &str = "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURSBSRVFVRVNULS0tLS0KTUlJQ1p6Q0NBVThDQVFBd0lqRVFNQTRHQTFVRUNnd0haWGhoYlhCc1pURU9NQXdHQTFVRUF3d0ZZV3hwWTJVdwpnZ0VpTUEwR0NTcUdTSWIzRFFFQkFRVUFBNElCRHdBd2dnRUtBb0lCQVFDOVF6LzlMRGpZUWpnWHZrb0NGYzBxClowK0VqdjRkMGRBeGFrb2FycUR3dFkxMk9wZElUV2U2V0VFbG4ybWtuWTBSN05nYWpPeWVZRGZ2U1Z6ZGZPWkMKVU5rdHEyRzZOR2wxQWF6Tk1HTFk3RnpGSk1jc0pPSkRqSFlLMVA0SFpQbEl5UE8rT05JbkhBVENWaHBFaUNYVAoxc0M5RFpIQk1NakNidlJRZE1nYUcxNWFCbnRxQWQxbG9HRFFTWGRhdE9RQkZJeURBMG8vZjhuQnF0OGcrZDl2Ck9MU3JyM01OUGJqRFVWM3pWYUtCSUcwekYvN2NPdkNnTE5LeGhuV012T0txUi85ZHh4NksyTWtEMnR4VTZDVlMKelFEQWx2cGFkUm9pZ3MwOXI2SXZNN0hxVVpxNUhKWHFaZGRLMWlscnMweldtcTE0QTkxWWYweCtCS3RRVHVlSgpBZ01CQUFHZ0FEQU5CZ2txaGtpRzl3MEJBUXNGQUFPQ0FRRUFUOFlMWWlQZG5BVlRiYUlaTXgvaFZKSlhjV1RiCjNyNEFWbjFDaHUreU04WnI5R0lYcXRBQnBCaUNFYmhFUXFxWktSM2VRYVlwUytkaG9aam9XanR1eEdwM2N1RWcKVk5WTDlra2plU1pWZU9mdDY0WnJ1MENUdFNFSndNeVd0Slllb081RDIrNnJGQ3VpczZNNUdubmUxS24zMlNyYQpXb3RSUk9ReXR0QXlMYVM2dFFuV21zRVN5bTM0dU0yU2dSbTJUU25WZGRtYk1GL09GVmUwdGhlMzhwamVBcDIrCnVtUE1NaUVaZUVablJsK2lqRUw2NTU0M2pPQ3FPNSt4dVJBVUVnSEdSb2w2ZktMMzdXM25DODVLUnZISzFMd3IKdStjakdSdUNSajhiWWF4c1N4QVh1YUQ2Nm52S2dobUY3TjVadWhJSERIRlg0d3VGSUZ4T1FzMnlUdz09Ci0tLS0tRU5EIENFUlRJRklDQVRFIFJFUVVFU1QtLS0tLQo=";

    #[test]
    fn requests_are_signed_by_their_own_keys() {
        for (text, name) in [(NODE, "system:node:a"), (ALICE, "alice")] {
            let pem = wire::base64::decode(text).unwrap();
            assert_eq!(request(&pem).unwrap().common_name, name);
            let mut der = pem::sections(&pem).remove(0).content;
            let last = der.len() - 1;
            der[last] ^= 1;
            let broken = wire::base64::encode(&der);
            let broken = format!(
                "-----BEGIN CERTIFICATE REQUEST-----\n{broken}\n-----END CERTIFICATE REQUEST-----\n"
            );
            assert!(request(broken.as_bytes()).unwrap_err().contains("does not verify"), "{name}");
        }
        assert!(request(b"").unwrap_err().starts_with("PEM block type must be"));
    }

    #[test]
    fn chains_are_certificates_only() {
        assert_eq!(chain(b""), Ok(()));
        for (text, word) in [
            ("x", "at least one CERTIFICATE"),
            ("-----BEGIN X-----\nAA==\n-----END X-----", "found \"X\""),
            ("-----BEGIN CERTIFICATE-----\nA: b\n\nAA==\n-----END CERTIFICATE-----", "headers"),
            ("-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----", "malformed"),
        ] {
            assert!(chain(text.as_bytes()).unwrap_err().contains(word), "{text}");
        }
    }
}
