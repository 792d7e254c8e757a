//! Node passwords: whoever first comes under a node's name with a password keeps the name, as k3s has it.
//!
//! A Secret `<node>.node-password.k3s` in kube-system holds a hash (k3s's pkg/authenticator/hash): `$1:`, the salt in hex, the cost
//! (log N, r, p) and the key in base64. It goes with its Node (`control/token_cleaner.rs`).

use api::kinds::SECRET;
use api::kinds::secret::{NODE_PASSWORD_SUFFIX, text};
use api::status::Reason;
use api::{Status, json};
use client::Client;
use rt::lock::Semaphore;
use scrypt::Params;

use crate::token;

const NAMESPACE: &str = "kube-system";

/// What new hashes cost. Passwords are 128 random bits, so that k3s's 2^15, which takes 32 MiB, would buy nothing.
const COST: Cost = Cost { log_n: 12, r: 8, p: 1 };
/// Up to which a hash is looked at: 64 MiB.
const COST_MAX: Cost = Cost { log_n: 16, r: 8, p: 4 };
const KEY_BYTES: usize = 64;
const SALT_BYTES: usize = 8;
/// A password, as its header may be long.
const PASSWORD_MAX_BYTES: usize = 256;
const NAME_MAX_BYTES: usize = 253 - NODE_PASSWORD_SUFFIX.len();
/// Hashes computed at the same time: each takes megabytes.
const HASHES_MAX: usize = 1;

/// How much work a hash takes: the binary logarithm of the rounds, the size of blocks and their number.
#[derive(Clone, Copy)]
struct Cost {
    log_n: u8,
    r: u32,
    p: u32,
}

/// Names that nodes have and may get.
pub(crate) struct Claims {
    client: Client,
    turns: Semaphore,
}

impl Claims {
    /// `client` must be one that may read and create Secrets in kube-system.
    pub(crate) fn new(client: Client) -> Claims {
        Claims { client, turns: Semaphore::new(HASHES_MAX) }
    }

    /// Gives the name to who has its password, or to the first who comes.
    ///
    /// # Errors
    /// 400 if no node can be called so, 403 if the name is another's, and what the API server says.
    pub(crate) async fn claim(&self, node: &str, password: &str) -> Result<(), Status> {
        check_name(node)?;
        if password.len() > PASSWORD_MAX_BYTES {
            return Err(Status::bad_request("node password is too long"));
        }
        let name = format!("{node}{NODE_PASSWORD_SUFFIX}");
        for _ in 0..2 {
            let _turn = self.turns.acquire().await;
            let secret = self.client.get_optional(&SECRET, NAMESPACE, &name).await?;
            let Some(secret) = secret else {
                let given = password.to_owned();
                let hash = rt::unblock(move || hash(&given)).await;
                let tree = json!({
                    "apiVersion": "v1", "kind": "Secret", "immutable": true,
                    "metadata": {"namespace": NAMESPACE, "name": name},
                    "data": {"hash": wire::base64::encode(hash.as_bytes())},
                });
                match self.client.create(&SECRET, tree).await {
                    // Somebody else was here first.
                    Err(status) if status.is_already_exists() => continue,
                    done => return done.map(drop),
                }
            };
            let kept = text(&secret.tree(), "hash");
            let given = password.to_owned();
            return match rt::unblock(move || verify(&kept, &given)).await {
                true => Ok(()),
                false => Err(refused(node)),
            };
        }
        Err(Status::unavailable(format!("the node password of {node} changes too often")))
    }
}

/// Claims the name of a server's own node, where other servers let nodes join too.
///
/// # Errors
/// As [`Claims::claim`].
pub async fn claim_own(client: Client, node: &str, password: &str) -> Result<(), Status> {
    Claims::new(client).claim(node, password).await
}

/// The name is another node's.
pub(crate) fn refused(node: &str) -> Status {
    let why = format!("unable to verify hash for node '{node}': hash does not match");
    Status::new(Reason::Forbidden, why)
}

/// A node gets a certificate for its name, which must not be one by which others know the API server.
pub(crate) fn check_name(node: &str) -> Result<(), Status> {
    let is_servers = node == "localhost" || node.split('.').next() == Some("kubernetes");
    match api::names::is_subdomain(node) && node.len() <= NAME_MAX_BYTES && !is_servers {
        true => Ok(()),
        false => Err(Status::bad_request(format!("no node can be called {node:?}"))),
    }
}

/// A new hash of a password.
fn hash(password: &str) -> String {
    let mut salt = [0; SALT_BYTES];
    rt::random(&mut salt);
    format(password, &salt, COST).unwrap_or_default()
}

fn format(password: &str, salt: &[u8], cost: Cost) -> Option<String> {
    let Cost { log_n, r, p } = cost;
    if log_n == 0 || log_n > COST_MAX.log_n || r > COST_MAX.r || p > COST_MAX.p {
        return None;
    }
    let mut key = [0; KEY_BYTES];
    let params = Params::new(log_n, r, p, KEY_BYTES).ok()?;
    scrypt::scrypt(password.as_bytes(), salt, &params, &mut key).ok()?;
    let (salt, key) = (wire::hex::encode(salt), wire::base64::encode(&key));
    Some(format!("$1:{salt}:{log_n}:{r}:{p}:{}", key.trim_end_matches('=')))
}

/// Whether a kept hash, by us or by k3s, is of this password.
fn verify(kept: &str, password: &str) -> bool {
    let mut parts = kept.strip_prefix("$1:").unwrap_or("").splitn(5, ':');
    let salt = parts.next().and_then(unhex);
    let mut number = || parts.next().and_then(|text| text.parse::<u32>().ok());
    let cost = (number().and_then(|log_n| u8::try_from(log_n).ok()), number(), number());
    let (Some(salt), (Some(log_n), Some(r), Some(p))) = (salt, cost) else { return false };
    // The digests are compared, so that the time it takes tells nothing.
    let again = format(password, &salt, Cost { log_n, r, p });
    again.is_some_and(|again| token::hash(again.as_bytes()) == token::hash(kept.as_bytes()))
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_k3s_own() {
        let cost = Cost { log_n: 4, r: 8, p: 1 };
        let kept = format("secret", &[0, 1, 0xab], cost).unwrap();
        let key = "GWx6VyoLlo6gX9ToHzHN2TSPYkfiCkJakaKZS696e7uSuUyJVIjxzsC52gDQpuvYGS4Jk+pm3nX89n3YZC0P+w";
        assert_eq!(kept, format!("$1:0001ab:4:8:1:{key}"));
        assert!(verify(&kept, "secret"));
        assert!(!verify(&kept, "Secret"));
        assert!(verify(&hash("secret"), "secret"));
        for bad in [
            "",
            "$1:",
            "$2:0001ab:4:8:1:",
            "$1:00:4:8:1:",
            "$1:xx:4:8:1:AA",
            "$1:00:64:8:1:AA",
            "$1:00:4:8",
        ] {
            assert!(!verify(bad, "secret"), "{bad}");
        }
    }

    #[test]
    fn what_would_cost_too_much_is_not_begun() {
        for (log_n, r, p) in [
            (17, 8, 1),
            (15, 9, 1),
            (15, 8, 5),
            (0, 8, 1),
            (15, 0, 1),
            (15, 8, 0),
            (u8::MAX, u32::MAX, u32::MAX),
        ] {
            assert_eq!(format("", b"", Cost { log_n, r, p }), None);
        }
    }

    #[test]
    fn names_that_no_node_can_have() {
        for (name, fine) in [
            ("node1", true),
            ("node1.example.com", true),
            ("mykubernetes", true),
            ("", false),
            ("Node", false),
            ("a/b", false),
            ("..", false),
            ("localhost", false),
            ("kubernetes", false),
            ("kubernetes.default.svc", false),
        ] {
            assert_eq!(check_name(name).is_ok(), fine, "{name}");
        }
        assert!(check_name(&"a.".repeat(118)[..235]).is_ok());
        assert!(check_name(&format!("{}b", "a.".repeat(118))).is_err());
    }
}
