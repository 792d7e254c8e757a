//! Service account tokens for projected volumes: asked for once, renewed at 80 % of their life.

use std::time::Duration;

use api::{Lens, Value, json, kinds};
use client::{Answer, Body, Client, Request, Verb};
use stdx::OrdMap;
use stdx::time::{Mono, Now, Wall};

use crate::volumes::TokenWanted;
use podplan::Pod;

/// The tokens of one pod, by volume and path.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    held: OrdMap<(String, String), Token>,
}

#[derive(Debug)]
struct Token {
    text: String,
    /// When it ends, as the API said it.
    end: String,
    renew_at: Mono,
    /// When the clock was last set before it was issued.
    era: Wall,
}

/// However long a token lives, it is renewed after this long.
const AGE_MAX: Duration = Duration::from_secs(24 * 3600);

impl Tokens {
    /// A token that is not due for renewal, and when it ends; the old one where renewal fails and it still lives.
    pub(super) async fn get(
        &mut self,
        client: &Client,
        pod: &Pod,
        account: &str,
        volume: &str,
        wanted: &TokenWanted,
    ) -> Result<(String, String), String> {
        let key = (volume.to_owned(), wanted.path.clone());
        let now = rt::now();
        if let Some(token) = self.held.get(&key).filter(|token| token.good_at(now)) {
            return Ok(token.given());
        }
        match request(client, pod, account, wanted).await {
            Ok(token) => {
                let given = token.given();
                self.held.insert(key, token);
                Ok(given)
            }
            Err(error) => match self.held.get_mut(&key) {
                Some(token) => {
                    log::warn!("pod {}/{}: renew a token: {error}", pod.namespace, pod.name);
                    token.renew_at = now.mono + Duration::from_secs(30);
                    token.era = now.eras.since();
                    Ok(token.given())
                }
                None => Err(format!("failed to fetch token: {error}")),
            },
        }
    }

    /// When the next renewal is due.
    pub(super) fn renew_at(&self) -> Option<Mono> {
        self.held.values().map(|token| token.renew_at).min()
    }
}

impl Token {
    fn given(&self) -> (String, String) {
        (self.text.clone(), self.end.clone())
    }

    /// Its times mean nothing to anybody once the clock was set.
    fn good_at(&self, now: Now) -> bool {
        self.renew_at > now.mono && self.era == now.eras.since()
    }
}

async fn request(
    client: &Client,
    pod: &Pod,
    account: &str,
    wanted: &TokenWanted,
) -> Result<Token, String> {
    let mut ask = Request::new(Verb::Create, &kinds::SERVICE_ACCOUNT, &pod.namespace, account);
    ask.subresource = "token".to_owned();
    let audiences: Vec<&str> =
        if wanted.audience.is_empty() { Vec::new() } else { vec![&*wanted.audience] };
    ask.body = Body::Tree(json!({
    "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
    "metadata": {"name": account, "namespace": pod.namespace},
    "spec": {
        "audiences": audiences,
        "expirationSeconds": wanted.expiration_secs,
        "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": pod.name, "uid": pod.uid},
    }}));
    let answer = client.call(ask).await.map_err(|status| status.to_string())?;
    let tree: Value = match answer {
        Answer::Tree(tree) => tree,
        Answer::Object(object) => object.tree(),
        Answer::List(_) => return Err("a token request was answered with a list".into()),
    };
    let text = tree.str("status.token").to_owned();
    if text.is_empty() {
        return Err("a token request was answered without a token".into());
    }
    let now = rt::now();
    let end = tree.str("status.expirationTimestamp").to_owned();
    let lifetime = match api::time::parse(&end) {
        Some(expires) => expires.since(now.wall),
        None => Duration::from_secs(u64::try_from(wanted.expiration_secs).unwrap_or(3600)),
    };
    let renew_at = now.mono + (lifetime * 4 / 5).min(AGE_MAX);
    Ok(Token { text, end, renew_at, era: now.eras.since() })
}
