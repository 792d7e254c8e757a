//! Service account tokens: issuing them, and checking that what they are bound to still lives.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::kinds::{NODE, POD, SECRET, SERVICE_ACCOUNT};
use api::{Kind, Lens, LensMut, Object, Value, json};
use ring::digest;
use stdx::Arrange;
use stdx::Result;
use stdx::time::{Now, Wall};
use store::Store;

use super::jwt;
use super::keys::{PublicKey, Signer};
use crate::config::Config;
use crate::storage;
use crate::user::User;

/// The issuer of tokens that old clusters kept in Secrets.
const LEGACY_ISSUER: &str = "kubernetes/serviceaccount";

/// Clocks may differ by this much.
const LEEWAY_SECS: i64 = 10;

/// The kubelet asks for tokens of this life; upstream then gives a year and warns after it.
const WARN_ONLY_SECS: i64 = 3607;
const EXTENDED_SECS: i64 = 365 * 24 * 3600;

/// Issues and checks tokens.
#[derive(Debug)]
pub(crate) struct Tokens {
    signer: Option<Signer>,
    keys: Vec<PublicKey>,
    issuers: Vec<String>,
    audiences: Vec<String>,
    verified: Mutex<HashMap<[u8; 32], Arc<Value>>>,
}

/// Tokens whose signatures were found good and need not be checked again: a signature costs
/// milliseconds on a slow core, and every request of a pod carries one.
const VERIFIED_MAX: usize = 256;

/// Upstream lets tokens of ending pods live for a minute; those of pods in grace live on.
const DYING: Duration = Duration::from_secs(60);

/// What a token shall be for.
#[derive(Debug)]
pub(crate) struct Grant<'a> {
    pub(crate) account: &'a Object,
    pub(crate) audiences: Vec<String>,
    pub(crate) expiration_secs: i64,
    /// The pod, secret or node it lives and dies with.
    pub(crate) bound: Option<&'a Object>,
    /// The node of the pod, name and uid.
    pub(crate) node: Option<(String, String)>,
}

impl Tokens {
    /// # Errors
    /// If the signing key cannot be read.
    pub(crate) fn new(config: &Config) -> Result<Tokens> {
        let signer = match config.service_account_key.is_empty() {
            true => None,
            false => Some(Signer::from_pem(&config.service_account_key)?),
        };
        let mut keys: Vec<PublicKey> = signer.iter().map(|s| s.public().clone()).collect();
        for pem in &config.service_account_public_keys {
            for key in PublicKey::all_from_pem(pem) {
                if !keys.contains(&key) {
                    keys.push(key);
                }
            }
        }
        Ok(Tokens {
            signer,
            keys,
            issuers: config.issuers.clone(),
            audiences: config.api_audiences.clone(),
            verified: Mutex::default(),
        })
    }

    pub(crate) fn audiences(&self) -> &[String] {
        &self.audiences
    }

    pub(crate) fn issuer(&self) -> &str {
        self.issuers.first().map_or("", String::as_str)
    }

    /// `/openid/v1/jwks`
    pub(crate) fn key_set(&self) -> Value {
        json!({"keys": self.keys.iter().map(PublicKey::to_jwk).collect::<Vec<_>>()})
    }

    /// The algorithms in use, for the discovery document.
    pub(crate) fn algorithms(&self) -> Vec<&'static str> {
        let mut names: Vec<&str> = self.keys.iter().map(PublicKey::algorithm).collect();
        names.arrange();
        names.dedup();
        names
    }

    /// Signs a token.
    ///
    /// # Errors
    /// If there is no signing key.
    pub(crate) fn issue(&self, grant: &Grant<'_>, now: Wall) -> Result<String> {
        let signer = self
            .signer
            .as_ref()
            .ok_or_else(|| stdx::Error::new("issue a token: there is no service account key"))?;
        let account = grant.account;
        let api_only = grant.audiences.iter().all(|a| self.audiences.contains(a));
        let pod = grant.bound.is_some_and(|object| object.kind() == &POD);
        let extend = grant.expiration_secs == WARN_ONLY_SECS && api_only && pod;
        let life_secs = if extend { EXTENDED_SECS } else { grant.expiration_secs };
        let reference = |object: &Object| json!({"name": object.name(), "uid": object.uid()});
        let mut own = json!({
            "namespace": account.namespace(), "serviceaccount": reference(account),
        });
        if let Some(bound) = grant.bound {
            own[bound.kind().singular()] = reference(bound);
        }
        if let Some((name, uid)) = &grant.node {
            let mut node = json!({"name": name});
            if !uid.is_empty() {
                node["uid"] = uid.as_str().into();
            }
            own["node"] = node;
        }
        if extend {
            own["warnafter"] = (now.secs() + WARN_ONLY_SECS).into();
        }
        let claims = json!({
            "aud": grant.audiences, "exp": now.secs() + life_secs, "iat": now.secs(),
            "iss": self.issuer(), "jti": crate::uid::new_uid(), "nbf": now.secs(),
            "sub": format!("system:serviceaccount:{}:{}", account.namespace(), account.name()),
            "kubernetes.io": own,
        });
        jwt::sign(signer, &claims)
    }

    /// Whose token it is, and for which of the audiences; `None` if it is not one of ours.
    ///
    /// # Errors
    /// Why a token of ours is not good.
    pub(crate) async fn authenticate(
        &self,
        store: &Store,
        token: &str,
        audiences: &[String],
    ) -> Result<Option<(User, Vec<String>)>, String> {
        let Some(peeked) = jwt::peek(token) else { return Ok(None) };
        let issuer = peeked.str("iss");
        let legacy = issuer == LEGACY_ISSUER;
        if !legacy && !self.issuers.iter().any(|own| own == issuer) {
            return Ok(None);
        }
        let claims = self.claims(token).ok_or("invalid bearer token")?;
        match legacy {
            true => self.legacy(store, token, &claims, audiences).await.map(Some),
            false => self.bound(store, &claims, audiences).await.map(Some),
        }
    }

    /// The claims of a token that one of our keys signed. Whether they hold now is checked each time.
    fn claims(&self, token: &str) -> Option<Arc<Value>> {
        let mut digest = [0; 32];
        digest.copy_from_slice(digest::digest(&digest::SHA256, token.as_bytes()).as_ref());
        let lock = || self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(claims) = lock().get(&digest) {
            return Some(Arc::clone(claims));
        }
        let claims = Arc::new(jwt::verify(&self.keys, token)?);
        let mut verified = lock();
        if verified.len() >= VERIFIED_MAX {
            // Those in use come back at the price of one check each.
            verified.clear();
        }
        verified.insert(digest, Arc::clone(&claims));
        Some(claims)
    }

    async fn bound(
        &self,
        store: &Store,
        claims: &Value,
        audiences: &[String],
    ) -> Result<(User, Vec<String>), String> {
        in_its_time(claims, rt::now())?;
        let given: Vec<&str> = match claims.at("aud") {
            Value::String(one) => vec![one],
            list => list.list("").iter().filter_map(Value::as_str).collect(),
        };
        let wanted = if audiences.is_empty() { &self.audiences } else { audiences };
        let granted: Vec<String> =
            wanted.iter().filter(|a| given.contains(&a.as_str())).cloned().collect();
        if granted.is_empty() {
            return Err(format!(
                "token audiences {given:?} is invalid for the target audiences {wanted:?}"
            ));
        }
        let own = claims.get("kubernetes.io").unwrap_or(&Value::Null);
        let namespace = own.str("namespace");
        let account = alive(store, &SERVICE_ACCOUNT, namespace, own.at("serviceaccount")).await?;
        let mut user = User::service_account(namespace, account.name());
        user.uid = account.uid().to_owned();
        let mut tell = |key: &str, value: &str| {
            user.extra
                .insert(format!("authentication.kubernetes.io/{key}"), vec![value.to_owned()]);
        };
        if own.has("secret") {
            alive(store, &SECRET, namespace, own.at("secret")).await?;
        }
        if own.has("pod") {
            let pod = alive(store, &POD, namespace, own.at("pod")).await?;
            tell("pod-name", pod.name());
            tell("pod-uid", pod.uid());
        }
        if own.has("node") {
            // A pod's node is told; a token bound to the node itself dies with it.
            if !own.has("pod") {
                alive(store, &NODE, "", own.at("node")).await?;
            }
            tell("node-name", own.str("node.name"));
            if own.has("node.uid") {
                tell("node-uid", own.str("node.uid"));
            }
        }
        if claims.has("jti") {
            tell("credential-id", &format!("JTI={}", claims.str("jti")));
        }
        Ok((user, granted))
    }

    async fn legacy(
        &self,
        store: &Store,
        token: &str,
        claims: &Value,
        audiences: &[String],
    ) -> Result<(User, Vec<String>), String> {
        let claim = |name: &str| {
            let full = format!("{LEGACY_ISSUER}/{name}");
            claims.get(&full).and_then(Value::as_str).unwrap_or("")
        };
        let (namespace, name) = (claim("namespace"), claim("service-account.name"));
        let account = json!({"name": name, "uid": claim("service-account.uid")});
        let account = alive(store, &SERVICE_ACCOUNT, namespace, &account).await?;
        let secret = storage::find(store, &SECRET, namespace, claim("secret.name"))
            .await
            .map_err(|status| status.to_string())?
            .filter(|secret| !secret.deleting())
            .ok_or("service account token has been invalidated")?;
        let tree = secret.tree();
        let kept = tree.entry("data", "token").and_then(wire::base64::decode);
        if kept.as_deref() != Some(token.as_bytes()) {
            return Err("service account token has been invalidated".into());
        }
        let wanted = if audiences.is_empty() { &self.audiences } else { audiences };
        let granted: Vec<String> =
            wanted.iter().filter(|a| self.audiences.contains(a)).cloned().collect();
        if granted.is_empty() {
            return Err("the token is for the API server only".into());
        }
        let mut user = User::service_account(namespace, account.name());
        user.uid = account.uid().to_owned();
        Ok((user, granted))
    }
}

/// Whether the token lives. One that was issued before the clock was set lives as long as it was
/// meant to: pods read their new one a minute later at best.
fn in_its_time(claims: &Value, now: Now) -> Result<(), String> {
    let moved = claims.int("iat").map_or(0, |iat| {
        let issued = Wall::from_secs(iat);
        now.corrected(issued).secs().saturating_sub(iat)
    });
    let expired = |exp: i64| exp.saturating_add(moved) < now.wall.secs() - LEEWAY_SECS;
    if claims.int("exp").is_none_or(expired) {
        return Err("service account token has expired".into());
    }
    let early = |nbf: i64| nbf.saturating_add(moved) > now.wall.secs() + LEEWAY_SECS;
    if claims.int("nbf").is_some_and(early) {
        return Err("service account token is not valid yet".into());
    }
    Ok(())
}

/// The object that a claim refers to, which must be the very same one and not be going.
async fn alive(
    store: &Store,
    kind: &'static Kind,
    namespace: &str,
    reference: &Value,
) -> Result<Object, String> {
    let name = reference.str("name");
    let namespace = if kind.namespaced() { namespace } else { "" };
    let found = storage::find(store, kind, namespace, name).await.map_err(|s| s.to_string())?;
    let what = kind.singular();
    let object = found.ok_or_else(|| format!("{what} {namespace}/{name} has been deleted"))?;
    let uid = reference.str("uid");
    if !uid.is_empty() && uid != object.uid() {
        return Err(format!("{what} UID ({}) does not match claim ({uid})", object.uid()));
    }
    let gone = object.deleting() && deletion_due(&object, rt::now(), DYING);
    match gone {
        true => Err(format!("{what} {namespace}/{name} has been deleted")),
        false => Ok(object),
    }
}

/// Whether the end of the object's grace is longer ago than `slack`.
fn deletion_due(object: &Object, now: Now, slack: Duration) -> bool {
    let tree = object.tree();
    let Some(ends) = api::time::parse(tree.str("metadata.deletionTimestamp")) else { return false };
    // Stamped ahead of time: what lies in an era is the moment of the request.
    let grace = tree.int("metadata.deletionGracePeriodSeconds").unwrap_or(0);
    let grace = Duration::from_secs(u64::try_from(grace).unwrap_or(0));
    now.age(ends - grace) > grace + slack
}

/// The tree of an authenticated user, as reviews show it.
pub(crate) fn user_tree(user: &User) -> Value {
    let mut tree = json!({"username": user.name});
    if !user.uid.is_empty() {
        tree.set("uid", user.uid.as_str());
    }
    if !user.groups.is_empty() {
        tree.set("groups", json!(user.groups));
    }
    if !user.extra.is_empty() {
        tree.set("extra", json!(user.extra));
    }
    tree
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_outlive_a_setting_of_the_clock_and_not_more() {
        let at = |secs: i64| Now { wall: Wall::from_secs(secs), ..Now::default() };
        let token = json!({"iat": 100, "nbf": 100, "exp": 3700});
        let (expired, early) = ("has expired", "not valid yet");
        let mut set = at(2_000_000_000);
        set.eras = stdx::time::Eras::starting(Wall::from_secs(0));
        set.eras.set(Wall::from_secs(600), Wall::from_secs(1_999_999_000));
        let mut later = set;
        later.wall = Wall::from_secs(1_999_999_000 + 3000 + 200);
        // Set back to 1970 after it was issued.
        let mut back = at(10);
        back.eras = stdx::time::Eras::starting(Wall::from_secs(50));
        back.eras.set(Wall::from_secs(5000), Wall::from_secs(0));
        let mut soon = at(10);
        soon.eras = stdx::time::Eras::starting(Wall::from_secs(50));
        soon.eras.set(Wall::from_secs(500), Wall::from_secs(0));
        for (name, now, want) in [
            ("in its time", at(200), ""),
            ("over", at(4000), expired),
            ("to come", at(50), early),
            ("set to today", set, ""),
            ("set to today, an hour ago", later, expired),
            ("over, and set back", back, expired),
            ("set back", soon, ""),
        ] {
            let verdict = in_its_time(&token, now).err().unwrap_or_default();
            assert!(
                verdict.ends_with(want) && verdict.is_empty() == want.is_empty(),
                "{name}: {verdict}"
            );
        }
        assert!(in_its_time(&json!({}), at(0)).is_err(), "a token says when it ends");
    }
}
