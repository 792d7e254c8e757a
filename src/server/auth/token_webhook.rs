//! Bearer tokens that an administrator's server knows: it is asked by `TokenReview`, and what it said is kept for a while.
//!
//! Source: k8s.io/apiserver/plugin/pkg/authenticator/token/webhook, pkg/authentication/token/cache.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use api::{Lens, Value, json};
use client::{Access, Hook};
use stdx::{Context, Error, Result};

use super::asked::{self, Asked};
use crate::user::{AUTHENTICATED, User};

/// Groups, and values of what is extra, of a user.
const TEXTS_MAX: usize = 1024;
/// How long a question may take, with its repetitions, and with waiting for its turn.
const WAIT_MAX: Duration = Duration::from_secs(30);

const VERSIONS: [&str; 2] = ["v1", "v1beta1"];

/// kube-apiserver's `--authentication-token-webhook-*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenWebhookOptions {
    /// A kubeconfig; without one nobody is asked.
    pub config_file: Option<PathBuf>,
    pub version: String,
    /// A duration as Go writes it.
    pub cache_ttl: String,
}

impl Default for TokenWebhookOptions {
    fn default() -> TokenWebhookOptions {
        TokenWebhookOptions {
            config_file: None,
            version: "v1beta1".into(),
            cache_ttl: "2m0s".into(),
        }
    }
}

/// The server that knows tokens.
#[derive(Debug)]
pub struct TokenWebhook {
    asked: Asked,
    ttl: Duration,
}

/// Who it is and for which audiences; `None` for a token that is nobody's.
type Answer = Option<(User, Vec<String>)>;

impl TokenWebhook {
    /// Reads the kubeconfig. Blocking.
    ///
    /// # Errors
    /// If it cannot be used, or for a version that there is not.
    pub fn open(options: &TokenWebhookOptions) -> Result<Option<Arc<TokenWebhook>>> {
        let Some(file) = &options.config_file else { return Ok(None) };
        let version = options.version.as_str();
        if !VERSIONS.contains(&version) {
            return Err(Error::new(format!(
                "unsupported authentication webhook version {version:?}, supported versions are \"v1\", \"v1beta1\""
            )));
        }
        let ttl = asked::duration(&options.cache_ttl).context(|| {
            format!(
                "invalid argument {:?} for \"--authentication-token-webhook-cache-ttl\" flag: it is no duration",
                options.cache_ttl
            )
        })?;
        let hook = Access::from_kubeconfig_file(file)
            .and_then(|access| Hook::new(access, "kube-apiserver"))
            .context(|| "use --authentication-token-webhook-config-file")?;
        let question = ("TokenReview", format!("authentication.k8s.io/{version}"));
        let asked = Asked::new(hook, question, "authenticator", WAIT_MAX);
        Ok(Some(Arc::new(TokenWebhook { asked, ttl })))
    }

    /// Who a token belongs to, and which of the audiences that are wanted it is for. A server whose answer names none
    /// speaks for `own`.
    pub(crate) async fn authenticate(
        &self,
        token: &str,
        wanted: &[String],
        own: &[String],
    ) -> Answer {
        let key = (!self.ttl.is_zero())
            .then(|| asked::key([token].into_iter().chain(wanted.iter().map(String::as_str))));
        let spec = || json!({"token": token, "audiences": wanted});
        let judge = |status: &Value| Ok((self.ttl, read(status, wanted, own)?.is_some()));
        let status = self.asked.answer(key, &spec, &judge).await.ok()?;
        read(&status, wanted, own).ok().flatten()
    }
}

fn read(status: &Value, wanted: &[String], own: &[String]) -> Result<Answer> {
    let named = texts(status, "audiences");
    let for_whom = if named.is_empty() { own } else { &named[..] };
    let audiences: Vec<String> =
        wanted.iter().filter(|one| for_whom.contains(one)).cloned().collect();
    if audiences.is_empty() || !status.flag("authenticated") {
        let why = status.str("error");
        if !why.is_empty() {
            log::debug!("the token webhook refused a token: {why:?}");
        }
        return Ok(None);
    }
    let user = status.at("user");
    let mut read = User {
        name: user.str("username").to_owned(),
        uid: user.str("uid").to_owned(),
        groups: texts(user, "groups"),
        ..User::default()
    };
    if read.name.is_empty() {
        return Err(Error::new("its answer names no user"));
    }
    for (key, values) in user.at("extra").as_object().into_iter().flatten().take(TEXTS_MAX) {
        read.extra.insert(key.clone(), texts(values, ""));
    }
    if !read.in_group(AUTHENTICATED) {
        read.groups.push(AUTHENTICATED.to_owned());
    }
    Ok(Some((read, audiences)))
}

fn texts(tree: &Value, path: &str) -> Vec<String> {
    let texts = tree.list(path).iter().filter_map(|text| text.as_str().map(str::to_owned));
    texts.take(TEXTS_MAX).collect()
}
