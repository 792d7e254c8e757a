//! Who a request over HTTP comes from: front proxy, certificate, tokens; then impersonation.

use api::Status;
use api::query::unescape;
use api::status::Reason;
use http::{Headers, Peer};
use ring::digest;

use crate::auth::{Attributes, bootstrap_tokens};
use crate::core::Core;
use crate::user::{AUTHENTICATED, SERVICE_ACCOUNTS, UNAUTHENTICATED, User};

/// Groups and extras that one request may impersonate.
const IMPERSONATED_MAX: usize = 256;

/// Authenticates a request.
///
/// # Errors
/// 401, which says no more, as upstream's.
pub(crate) async fn user(core: &Core, peer: &Peer, headers: &Headers) -> Result<User, Status> {
    credentials(core, peer, headers).await?.ok_or_else(unauthorized)
}

/// Who a request comes from; `None` if it does not say.
///
/// # Errors
/// 401 if what it says is not true.
pub(crate) async fn credentials(
    core: &Core,
    peer: &Peer,
    headers: &Headers,
) -> Result<Option<User>, Status> {
    if let Some(leaf) = peer.certificates.first() {
        let client = core.clients.get(leaf, &core.config.request_header_ca);
        if let Some((user, ends)) = &client.user {
            if !client.is_proxy {
                core.certificates.observe(*ends, rt::now().wall);
                return Ok(Some(user.clone()));
            }
            if let Some(user) = proxied(core, &user.name, headers) {
                return Ok(Some(user));
            }
        }
    }
    match bearer(headers) {
        Some(token) => token_user(core, token).await.map(Some),
        None => Ok(None),
    }
}

/// Takes away everything that says who asks, or for whom: a request that is passed on is the
/// server's, and whoever gets it could use what it says elsewhere.
pub(crate) fn strip(headers: &mut Headers) {
    const TOKEN_PROTOCOL: &str = "base64url.bearer.authorization.k8s.io.";
    headers.retain(|name, _| {
        name != "authorization"
            && !name.starts_with("impersonate-")
            && !name.starts_with("x-remote-")
    });
    let protocols: Vec<String> =
        headers.get_all("sec-websocket-protocol").map(str::to_owned).collect();
    if protocols.iter().any(|protocol| protocol.contains(TOKEN_PROTOCOL)) {
        let kept: Vec<&str> = protocols
            .iter()
            .flat_map(|list| list.split(','))
            .map(str::trim)
            .filter(|protocol| !protocol.starts_with(TOKEN_PROTOCOL))
            .collect();
        headers.set("sec-websocket-protocol", kept.join(", "));
    }
}

/// The 401 that upstream answers.
pub(crate) fn unauthorized() -> Status {
    Status::new(Reason::Unauthorized, "Unauthorized")
}

/// Who a bearer token belongs to.
///
/// # Errors
/// 401
async fn token_user(core: &Core, token: &str) -> Result<User, Status> {
    if let Some(user) = known_user(core, token).await? {
        return Ok(user);
    }
    match core.tokens.authenticate(&core.store, token, &[]).await {
        Ok(Some((user, _))) => return Ok(user),
        Ok(None) => {}
        Err(why) => log::debug!("a service account token was refused: {why}"),
    }
    match others_user(core, token, &[]).await {
        Ok(Some((user, _))) => Ok(user),
        Ok(None) => Err(unauthorized()),
        Err(why) => {
            log::debug!("a token of another issuer was refused: {why}");
            Err(unauthorized())
        }
    }
}

/// Whom others know by a token, an issuer or an administrator's server, and for which of the audiences that are wanted.
///
/// # Errors
/// Why a token of an issuer is not good.
pub(crate) async fn others_user(
    core: &Core,
    token: &str,
    wanted: &[String],
) -> Result<Option<(User, Vec<String>)>, String> {
    let own = core.tokens.audiences();
    let wanted = if wanted.is_empty() { own } else { wanted };
    let mut refused = None;
    if let Some(authenticators) = &core.authenticators {
        // Their audiences say who may show a token; it is good for every audience of this server.
        match Box::pin(authenticators.user(token)).await {
            Ok(Some(user)) => {
                let granted: Vec<String> =
                    wanted.iter().filter(|one| own.contains(one)).cloned().collect();
                return Ok(Some((user, granted)).filter(|(_, granted)| !granted.is_empty()));
            }
            Ok(None) => {}
            Err(why) => refused = Some(why),
        }
    }
    if let Some(webhook) = &core.token_webhook
        && let Some(known) = webhook.authenticate(token, wanted, own).await
    {
        return Ok(Some(known));
    }
    refused.map_or(Ok(None), Err)
}

/// Who a token belongs to that is no service account's: a static one, or a bootstrap token.
///
/// # Errors
/// If the store cannot be read.
pub(crate) async fn known_user(core: &Core, token: &str) -> Result<Option<User>, Status> {
    // Digests are compared, so that the time it takes tells nothing about the token.
    let hash = |text: &str| digest::digest(&digest::SHA256, text.as_bytes()).as_ref().to_vec();
    let given = hash(token);
    let known = core.config.static_tokens.iter().find(|known| hash(&known.token) == given);
    if let Some(known) = known {
        let mut user = known.user.clone();
        if !user.in_group(AUTHENTICATED) {
            user.groups.push(AUTHENTICATED.to_owned());
        }
        return Ok(Some(user));
    }
    bootstrap_tokens::user(&core.store, token, &rt::now()).await
}

/// The token of `Authorization: Bearer`, or of the WebSocket protocol that browsers must use.
fn bearer(headers: &Headers) -> Option<&str> {
    let value = headers.get("authorization")?.trim();
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim()).filter(|token| !token.is_empty())
}

/// What a front proxy says about the user whose request it passes on.
fn proxied(core: &Core, proxy: &str, headers: &Headers) -> Option<User> {
    let allowed = &core.config.request_header_names;
    if !allowed.is_empty() && !allowed.iter().any(|name| name == proxy) {
        return None;
    }
    let mut user = User { name: headers.get("x-remote-user")?.to_owned(), ..User::default() };
    user.uid = headers.get("x-remote-uid").unwrap_or("").to_owned();
    user.groups = headers.get_all("x-remote-group").map(str::to_owned).collect();
    for (name, value) in headers.iter() {
        if let (Some(key), Ok(value)) =
            (name.strip_prefix("x-remote-extra-"), std::str::from_utf8(value))
        {
            user.extra.entry(unescape(key, false)).or_default().push(value.to_owned());
        }
    }
    if !user.in_group(AUTHENTICATED) && !user.in_group(UNAUTHENTICATED) {
        user.groups.push(AUTHENTICATED.to_owned());
    }
    Some(user)
}

/// Turns the caller into who it asks to be, if it may.
///
/// # Errors
/// 403, or 400 for impersonation headers without a user.
pub(crate) async fn impersonated(
    core: &Core,
    user: User,
    headers: &Headers,
) -> Result<User, Status> {
    let Some(name) = headers.get("impersonate-user").filter(|name| !name.is_empty()) else {
        let stray = headers.iter().any(|(name, _)| {
            name == "impersonate-group"
                || name == "impersonate-uid"
                || name.starts_with("impersonate-extra-")
        });
        return match stray {
            true => Err(Status::internal("requested impersonation without impersonating a user")),
            false => Ok(user),
        };
    };
    let mut wanted = User { name: name.to_owned(), ..User::default() };
    wanted.groups =
        headers.get_all("impersonate-group").take(IMPERSONATED_MAX).map(str::to_owned).collect();
    let check = |group: &str, resource: &str, sub: &str, namespace: &str, name: &str| Attributes {
        verb: "impersonate".into(),
        group: group.into(),
        version: "v1".into(),
        resource: resource.into(),
        subresource: sub.into(),
        namespace: namespace.into(),
        name: name.into(),
        ..Attributes::default()
    };
    let mut checks = Vec::new();
    match wanted.service_account_name() {
        Some((namespace, account)) => {
            checks.push(check("", "serviceaccounts", "", namespace, account));
        }
        None => checks.push(check("", "users", "", "", name)),
    }
    checks.extend(wanted.groups.iter().map(|group| check("", "groups", "", "", group)));
    if let Some(uid) = headers.get("impersonate-uid").filter(|uid| !uid.is_empty()) {
        checks.push(check("authentication.k8s.io", "uids", "", "", uid));
        wanted.uid = uid.to_owned();
    }
    for (name, value) in headers.iter().take(IMPERSONATED_MAX) {
        if let (Some(key), Ok(value)) =
            (name.strip_prefix("impersonate-extra-"), std::str::from_utf8(value))
        {
            let key = unescape(key, false).to_ascii_lowercase();
            checks.push(check("authentication.k8s.io", "userextras", &key, "", value));
            wanted.extra.entry(key).or_default().push(value.to_owned());
        }
    }
    for attributes in &checks {
        core.authorizer.check(&core.store, &user, attributes).await?;
    }
    complete_groups(&mut wanted);
    Ok(wanted)
}

/// Groups that follow from the name.
fn complete_groups(user: &mut User) {
    if user.groups.is_empty()
        && let Some((namespace, _)) = user.service_account_name()
    {
        user.groups = vec![SERVICE_ACCOUNTS.into(), format!("{SERVICE_ACCOUNTS}:{namespace}")];
    }
    let group = match user.name.as_str() {
        super::user::ANONYMOUS => UNAUTHENTICATED,
        _ => AUTHENTICATED,
    };
    if !user.in_group(group) {
        user.groups.push(group.to_owned());
    }
}
