//! Bootstrap tokens: bearer tokens that Secrets in kube-system define, for those who have nothing else to show yet.
//!
//! Source: kube-apiserver's bootstrap token authenticator.

use api::kinds::SECRET;
use api::kinds::secret::{self, BOOTSTRAP_TOKEN};
use api::{Lens, Status, Value};
use ring::digest;
use stdx::time::Now;
use store::Store;

use crate::storage;
use crate::user::User;

const GROUP: &str = "system:bootstrappers";
/// Groups beside that one.
const GROUPS_MAX: usize = 64;

/// Who a token belongs to; `None` if it is no bootstrap token, or none that is good now.
///
/// # Errors
/// If the store cannot be read.
pub(crate) async fn user(store: &Store, token: &str, now: &Now) -> Result<Option<User>, Status> {
    let Some((id, shown)) = token.split_once('.').filter(|_| has_form(token)) else {
        return Ok(None);
    };
    let name = format!("bootstrap-token-{id}");
    let kept = storage::find(store, &SECRET, "kube-system", &name).await?;
    let kept = kept.filter(|kept| !kept.deleting());
    Ok(kept.and_then(|kept| user_of(&kept.tree(), id, shown, now)))
}

fn has_form(token: &str) -> bool {
    let is_plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    token.len() == 23
        && token.bytes().enumerate().all(|(idx, b)| if idx == 6 { b == b'.' } else { is_plain(b) })
}

fn user_of(kept: &Value, id: &str, shown: &str, now: &Now) -> Option<User> {
    let field = |name: &str| secret::text(kept, name);
    // Digests are compared, so that the time it takes tells nothing about the secret.
    let hash = |text: &str| digest::digest(&digest::SHA256, text.as_bytes()).as_ref().to_vec();
    let is_ours = kept.str("type") == BOOTSTRAP_TOKEN
        && hash(&field("token-secret")) == hash(shown)
        && field("token-id") == id
        && field("usage-bootstrap-authentication") == "true";
    let expires = field("expiration");
    let lives = expires.is_empty() || api::time::parse(&expires).is_some_and(|end| now.wall < end);
    if !is_ours || !lives {
        return None;
    }
    let extra = field("auth-extra-groups");
    let mut groups = vec![GROUP];
    for group in extra.split(',').filter(|group| !group.is_empty()).take(GROUPS_MAX) {
        if !is_group(group) {
            log::debug!("bootstrap token {id}: {group:?} is no group that it may give");
            return None;
        }
        groups.push(group);
    }
    Some(User::new(&format!("system:bootstrap:{id}"), &groups))
}

/// Tokens give no groups but those below that of all who bootstrap.
fn is_group(group: &str) -> bool {
    let Some(rest) = group.strip_prefix("system:bootstrappers:") else { return false };
    let is_plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    (1..=256).contains(&rest.len())
        && rest.bytes().all(|b| is_plain(b) || b == b':' || b == b'-')
        && rest.bytes().last().is_some_and(is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::{LensMut, json};
    use stdx::time::Wall;

    #[test]
    fn only_a_living_token_with_its_secret_is_somebody() {
        const SECRET: &str = "0123456789abcdef";
        let encode = |text: &str| Value::from(wire::base64::encode(text.as_bytes()));
        let now = Now { wall: Wall::from_secs(1_800_000_000), ..Now::default() };
        let base = json!({"type": BOOTSTRAP_TOKEN, "data": {
            "token-id": encode("abcdef"), "token-secret": encode(SECRET),
            "usage-bootstrap-authentication": encode("true"),
        }});
        let with = |name: &str, value: &str| {
            let mut tree = base.clone();
            tree.map_mut("data").insert(name.to_owned(), encode(value));
            tree
        };
        let mut opaque = base.clone();
        opaque.set("type", "Opaque");
        let two = "system:bootstrappers:a,system:bootstrappers:k3s:default-node-token";
        for (tree, secret, wanted) in [
            (&base, SECRET, Some("system:bootstrappers")),
            (&base, "0123456789abcdee", None),
            (&opaque, SECRET, None),
            (&with("token-id", "abcdeg"), SECRET, None),
            (&with("usage-bootstrap-authentication", "false"), SECRET, None),
            (&with("expiration", "2027-01-15T07:59:59Z"), SECRET, None),
            (&with("expiration", "2027-01-15T08:00:01Z"), SECRET, Some("system:bootstrappers")),
            (&with("expiration", "tomorrow"), SECRET, None),
            (
                &with("auth-extra-groups", two),
                SECRET,
                Some(
                    "system:bootstrappers,system:bootstrappers:a,system:bootstrappers:k3s:default-node-token",
                ),
            ),
            (&with("auth-extra-groups", "system:masters"), SECRET, None),
            (&with("auth-extra-groups", "system:bootstrappers:"), SECRET, None),
            (&with("auth-extra-groups", "system:bootstrappers:a-"), SECRET, None),
        ] {
            let found = user_of(tree, "abcdef", secret, &now);
            let groups = found.as_ref().map(|user| user.groups[..user.groups.len() - 1].join(","));
            assert_eq!(groups.as_deref(), wanted, "{tree}");
            assert!(found.is_none_or(|user| user.name == "system:bootstrap:abcdef"));
        }
        for (token, is) in [
            ("abcdef.0123456789abcdef", true),
            ("abcdef.0123456789abcde", false),
            ("abcdeF.0123456789abcdef", false),
            ("abcde..0123456789abcdef", false),
            ("abcdef-0123456789abcdef", false),
            ("", false),
        ] {
            assert_eq!(has_form(token), is, "{token}");
        }
    }
}
