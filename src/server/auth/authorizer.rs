//! The chain of authorizers: masters, then nodes and RBAC, or what an administrator wants in their place.

use std::sync::Arc;

use api::Status;
use api::status::Reason;
use store::Store;

use super::Attributes;
use super::access_config::{Authorizers, Mode};
use crate::user::{MASTERS, User};

/// Whether something may be done, and why. Neither allowed nor denied is no opinion: then others are asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Decision {
    pub(crate) allowed: bool,
    /// Nobody else is asked.
    pub(crate) denied: bool,
    pub(crate) reason: String,
    /// What went wrong; "" if nothing did.
    pub(crate) error: String,
}

impl Decision {
    pub(crate) fn allowed(reason: String) -> Decision {
        Decision { allowed: true, reason, ..Decision::default() }
    }

    pub(crate) fn no_opinion(reason: String) -> Decision {
        Decision { reason, ..Decision::default() }
    }
}

/// All authorizers.
#[derive(Debug, Default)]
pub(crate) struct Authorizer {
    pub(crate) rbac: super::rbac::Rbac,
    /// Who is asked in place of the default.
    pub(crate) chain: Option<Arc<Authorizers>>,
}

/// k3s's.
const DEFAULT: [Mode; 2] = [Mode::Node, Mode::Rbac];

impl Authorizer {
    /// Who is asked, and in which order.
    pub(crate) fn modes(&self) -> Arc<[Mode]> {
        self.chain.as_ref().map_or_else(|| DEFAULT.into(), |chain| chain.modes())
    }

    pub(crate) async fn decide(
        &self,
        store: &Store,
        user: &User,
        attributes: &Attributes,
    ) -> Decision {
        if user.in_group(MASTERS) {
            return Decision::allowed(String::new());
        }
        match &self.chain {
            None => self.first(&DEFAULT, store, user, attributes).await,
            Some(chain) => {
                let modes = chain.modes();
                self.first(&modes, store, user, attributes).await
            }
        }
    }

    /// What the first says that has an opinion, or why none has one.
    async fn first(
        &self,
        modes: &[Mode],
        store: &Store,
        user: &User,
        attributes: &Attributes,
    ) -> Decision {
        let mut none = Decision::default();
        let join = |all: &mut String, one: String, between: &str| match all.is_empty() {
            true => *all = one,
            false if one.is_empty() => {}
            false => {
                all.push_str(between);
                all.push_str(&one);
            }
        };
        for mode in modes {
            let decision = match mode {
                Mode::Node => match user.node_name() {
                    Some(node) => super::node::decide(store, node, attributes).await,
                    None => continue,
                },
                Mode::Rbac => self.rbac.decide(store, user, attributes).await,
                Mode::AlwaysAllow => Decision::allowed(String::new()),
                Mode::AlwaysDeny => Decision::no_opinion("Everything is forbidden.".into()),
                // Of whoever asks nobody, the future is not larger for it.
                Mode::Webhook(webhook) => Box::pin(webhook.decide(user, attributes)).await,
            };
            if decision.allowed || decision.denied {
                return decision;
            }
            join(&mut none.reason, decision.reason, "\n");
            join(&mut none.error, decision.error, ", ");
        }
        none
    }

    /// # Errors
    /// 403 in upstream's words.
    pub(crate) async fn check(
        &self,
        store: &Store,
        user: &User,
        attributes: &Attributes,
    ) -> Result<(), Status> {
        let decision = self.decide(store, user, attributes).await;
        match decision.allowed {
            true => Ok(()),
            false => Err(forbidden(user, attributes, &decision.reason)),
        }
    }
}

/// The answer where the authorizers do not work.
pub(crate) fn failed(error: &str) -> Status {
    Status::new(Reason::InternalError, format!("Internal Server Error: {error}"))
}

/// Upstream's `responsewriters.Forbidden`.
pub(crate) fn forbidden(user: &User, attributes: &Attributes, reason: &str) -> Status {
    let mut why = attributes.refusal(user);
    if !reason.is_empty() {
        why = format!("{why}: {reason}");
    }
    if !attributes.is_resource() {
        return Status::new(Reason::Forbidden, format!("forbidden: {why}"));
    }
    let qualified = match attributes.group.as_str() {
        "" => attributes.resource.clone(),
        group => format!("{}.{group}", attributes.resource),
    };
    let message = match attributes.name.as_str() {
        "" => format!("{qualified} is forbidden: {why}"),
        name => format!("{qualified} {name:?} is forbidden: {why}"),
    };
    let mut status = Status::new(Reason::Forbidden, message);
    if !attributes.name.is_empty() {
        status = status.detail("name", attributes.name.as_str());
    }
    if !attributes.group.is_empty() {
        status = status.detail("group", attributes.group.as_str());
    }
    status.detail("kind", attributes.resource.as_str())
}
