//! The chain of authorizers: masters, nodes, RBAC.

use api::Status;
use api::status::Reason;
use store::Store;

use super::Attributes;
use crate::user::{MASTERS, User};

/// Whether something may be done, and why.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Decision {
    pub(crate) allowed: bool,
    pub(crate) reason: String,
}

/// All authorizers.
#[derive(Debug, Default)]
pub(crate) struct Authorizer {
    pub(crate) rbac: super::rbac::Rbac,
}

impl Authorizer {
    pub(crate) async fn decide(
        &self,
        store: &Store,
        user: &User,
        attributes: &Attributes,
    ) -> Decision {
        if user.in_group(MASTERS) {
            return Decision { allowed: true, reason: String::new() };
        }
        let mut refusal = String::new();
        if let Some(node) = user.node_name() {
            let decision = super::node::decide(store, node, attributes).await;
            if decision.allowed {
                return decision;
            }
            refusal = decision.reason;
        }
        let mut decision = self.rbac.decide(store, user, attributes).await;
        if !decision.allowed && !refusal.is_empty() {
            // Upstream joins what each authorizer had to say.
            decision.reason = match decision.reason.as_str() {
                "" => refusal,
                reason => format!("{refusal}, {reason}"),
            };
        }
        decision
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
