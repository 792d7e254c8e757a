//! New authorities for a cluster: whether those that are given can follow the present ones, in k3s's words.

use stdx::{Context, Error, Result};

use crate::bootstrap::{self, Replaced};
use crate::paths::Paths;
use crate::x509::{self, Authority};

/// In a file.
const CERTIFICATES_MAX: usize = 32;

/// Looks whether what is given can take the place of what is on the disk: everybody who believes the present
/// authorities must believe the new ones, so they have a root in common, and tokens of service accounts stay good.
///
/// # Errors
/// All that is wrong.
pub fn check(paths: &Paths, replaced: &[Replaced]) -> Result<()> {
    let given = |name: &str| {
        let found = replaced.iter().find(|(known, _)| *known == name);
        found.map(|(_, bytes)| String::from_utf8_lossy(bytes).into_owned())
    };
    let present = |name: &str| match bootstrap::read(paths, name) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned()),
        Err(error) => Err(error),
    };
    let mut wrong = Vec::new();
    for (name, _) in replaced {
        let checked = match *name {
            "ServiceKey" => check_service_key(&present(name)?, &given(name).unwrap_or_default()),
            name if name.ends_with("CA") => {
                let key_name = format!("{name}Key");
                let key = match given(&key_name) {
                    Some(key) => key,
                    None => present(&key_name)?,
                };
                let new = given(name).unwrap_or_default();
                check_ca(&present(name)?, &new).and_then(|()| check_key(&new, &key))
            }
            name if name.ends_with("CAKey") => {
                let ca_name = name.trim_end_matches("Key");
                match given(ca_name) {
                    // It is looked at with its certificate.
                    Some(_) => Ok(()),
                    None => check_key(&present(ca_name)?, &given(name).unwrap_or_default()),
                }
            }
            _ => Ok(()),
        };
        if let Err(error) = checked {
            wrong.push(format!("{name}: {error}"));
        }
    }
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(Error::new(wrong.join("; "))),
    }
}

fn check_ca(old: &str, new: &str) -> Result<()> {
    let (old, new) = (x509::authorities(old)?, x509::authorities(new)?);
    let old = old.first().context(|| "the present CA is not there")?;
    let first = new.first().context(|| "the new CA has no certificate")?;
    if new.len() == 1 {
        return Err(Error::new(
            "new CA bundle contains only a single certificate but should include root or intermediate CA certificates",
        ));
    }
    if new.len() > CERTIFICATES_MAX {
        return Err(Error::new("new CA bundle has too many certificates"));
    }
    if !new.iter().all(|authority| authority.says.is_ca) {
        return Err(Error::new("new CA bundle contains a certificate that is not a CA's"));
    }
    let now = rt::now().wall;
    if first.says.not_after <= now || first.says.not_before > now {
        return Err(Error::new("new CA certificate has expired or is not yet valid"));
    }
    for (which, authority) in [("old", old), ("new", first)] {
        if !leads_to_root(authority, &new[1..]) {
            return Err(Error::new(format!(
                "{which} CA certificate is not signed by a root of the new CA bundle"
            )));
        }
    }
    Ok(())
}

/// Whether signatures lead from a certificate to one of these that signed itself.
fn leads_to_root(from: &Authority, bundle: &[Authority]) -> bool {
    let mut at = from;
    for _ in 0..=bundle.len() {
        // The certificate itself counts where the bundle has it.
        if bundle.iter().any(|known| known.der == at.der) && at.is_signed_by(at) {
            return true;
        }
        let Some(next) =
            bundle.iter().find(|issuer| issuer.der != at.der && at.is_signed_by(issuer))
        else {
            return false;
        };
        at = next;
    }
    false
}

fn check_key(ca: &str, key: &str) -> Result<()> {
    match x509::has_key(&x509::read_pem(ca)?, key) {
        true => Ok(()),
        false => Err(Error::new("new CA cert and key cannot be loaded as X590KeyPair")),
    }
}

/// The key that signs tokens now must be among those that verify them later.
fn check_service_key(old: &str, new: &str) -> Result<()> {
    let blocks: Vec<&str> = crate::pki::blocks(new).collect();
    blocks.iter().try_for_each(|block| x509::check_key(block))?;
    let public = |pem: &str| x509::public_key(pem);
    let old = crate::pki::blocks(old).next().map(public);
    match old {
        Some(Some(old)) if !blocks.iter().any(|block| public(block).as_ref() == Some(&old)) => {
            Err(Error::new("old ServiceAccount signing key not in new ServiceAccount key list"))
        }
        _ if blocks.is_empty() => Err(Error::new("new ServiceAccount key list is empty")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stdx::time::Wall;

    /// Far away, whatever the test's clock says.
    fn end() -> Wall {
        Wall::from_secs(rt::now().wall.secs() + 400 * 86_400)
    }

    #[test]
    fn new_authorities_have_a_root_in_common_with_the_old() {
        let old = x509::new_ca("old", end()).unwrap();
        let other = x509::new_ca("other", end()).unwrap();
        let root = x509::new_ca("root", end()).unwrap();
        let below = |ca, name| x509::cross_sign(ca, name, end()).unwrap();
        let follows = below(&old, "new");
        let bundle = format!("{}{}", follows.chain_pem, "");
        for (case, old, new, wanted) in [
            ("cross-signed by the old", &old, bundle.clone(), Ok(())),
            ("a root alone", &old, root.chain_pem.clone(), Err("only a single certificate")),
            (
                "strangers",
                &old,
                below(&root, "new").chain_pem,
                Err("old CA certificate is not signed by a root of the new CA bundle"),
            ),
            (
                "the old beside a stranger",
                &old,
                format!("{}{}", other.chain_pem, old.chain_pem),
                Err("new CA certificate is not signed by a root of the new CA bundle"),
            ),
            ("of the same root", &below(&root, "first"), below(&root, "second").chain_pem, Ok(())),
        ] {
            let found = check_ca(&old.chain_pem, &new).map_err(|error| error.to_string());
            match wanted {
                Ok(()) => assert_eq!(found, Ok(()), "{case}"),
                Err(words) => {
                    assert!(found.as_ref().unwrap_err().contains(words), "{case}: {found:?}")
                }
            }
        }
        assert!(check_key(&follows.chain_pem, &follows.key_pem).is_ok());
        assert!(check_key(&follows.chain_pem, &old.key_pem).is_err());
        // A name is no signature.
        let imposter = x509::new_ca("old", end()).unwrap();
        let forged = below(&imposter, "new");
        let first = forged.chain_pem.split_inclusive("-----END CERTIFICATE-----\n").next().unwrap();
        assert!(check_ca(&old.chain_pem, &format!("{first}{}", old.chain_pem)).is_err());
    }

    #[test]
    fn tokens_of_service_accounts_stay_good() {
        let (old, new) = (x509::new_key().unwrap(), x509::new_key().unwrap());
        assert!(check_service_key(&old, &format!("{new}{old}")).is_ok());
        assert!(check_service_key(&old, &new).is_err());
        assert!(check_service_key("", &new).is_ok());
        assert!(check_service_key(&old, "").is_err());
    }
}
