//! The table of admission plugins: upstream's names, in upstream's order.

use api::kinds::{NODE, PERSISTENT_VOLUME, PERSISTENT_VOLUME_CLAIM, POD, PRIORITY_CLASS, SERVICE};
use api::{Status, Value};
use rt::BoxFuture;

use super::{Act, Notes, Operation, add_finalizer};
use super::{images, namespace, node, pod, pod_security, service, service_account, storage_class};

/// Changes the object and says whether it did.
type Mutate = for<'a> fn(&'a Act<'a>, &'a mut Value) -> BoxFuture<'a, Result<bool, Status>>;
type Validate =
    for<'a> fn(&'a Act<'a>, &'a Value, &'a mut Notes) -> BoxFuture<'a, Result<(), Status>>;

/// One admission plugin.
pub(super) struct Plugin {
    /// As in `--enable-admission-plugins`.
    pub(super) name: &'static str,
    /// Whether it runs unless it is disabled.
    pub(super) on: bool,
    /// Which attempts it looks at.
    handles: fn(&Act<'_>) -> bool,
    mutate: Option<Mutate>,
    validate: Option<Validate>,
}

impl Plugin {
    const BASE: Plugin =
        Plugin { name: "", on: true, handles: |_| false, mutate: None, validate: None };

    /// Its first step; says whether the object is another now.
    ///
    /// # Errors
    /// What it refuses.
    pub(super) async fn mutates(&self, act: &Act<'_>, tree: &mut Value) -> Result<bool, Status> {
        match self.mutate.filter(|_| (self.handles)(act)) {
            Some(mutate) => mutate(act, tree).await,
            None => Ok(false),
        }
    }

    /// Its second step.
    ///
    /// # Errors
    /// What it refuses.
    pub(super) async fn validates(
        &self,
        act: &Act<'_>,
        tree: &Value,
        notes: &mut Notes,
    ) -> Result<(), Status> {
        match self.validate.filter(|_| (self.handles)(act)) {
            Some(validate) => validate(act, tree, notes).await,
            None => Ok(()),
        }
    }
}

/// A step that asks nobody.
fn done<'a, T: Send + 'a>(result: T) -> BoxFuture<'a, Result<T, Status>> {
    Box::pin(std::future::ready(Ok(result)))
}

/// All there are, in the order in which they run. At most 32.
pub(super) static PLUGINS: &[Plugin] = &[
    Plugin { name: "AlwaysAdmit", on: false, ..Plugin::BASE },
    Plugin {
        name: "NamespaceLifecycle",
        handles: |act| act.operation != Operation::Connect,
        mutate: Some(|act, tree| Box::pin(namespace::check(act, tree))),
        ..Plugin::BASE
    },
    Plugin {
        name: "ServiceAccount",
        handles: service_account::handles,
        mutate: Some(|act, tree| Box::pin(service_account::apply(act, tree))),
        validate: Some(|act, tree, _| Box::pin(service_account::check(act, tree))),
        ..Plugin::BASE
    },
    Plugin {
        name: "NodeRestriction",
        // k3s turns it on.
        handles: |act| act.operation != Operation::Connect && act.caller.user.node_name().is_some(),
        validate: Some(|act, tree, _| Box::pin(node::check(act, tree))),
        ..Plugin::BASE
    },
    Plugin {
        name: "TaintNodesByCondition",
        handles: |act| act.creates(&NODE),
        mutate: Some(|_, tree| done(pod::taint_new_node(tree))),
        ..Plugin::BASE
    },
    Plugin {
        name: "AlwaysPullImages",
        on: false,
        handles: |act| act.writes(&POD),
        mutate: Some(|act, tree| done(images::always_pull(act, tree))),
        validate: Some(|act, tree, _| {
            Box::pin(std::future::ready(images::check_always_pulled(act, tree)))
        }),
    },
    Plugin {
        name: "PodSecurity",
        handles: pod_security::handles,
        validate: Some(|act, tree, notes| Box::pin(pod_security::check(act, tree, notes))),
        ..Plugin::BASE
    },
    Plugin {
        name: "Priority",
        handles: |act| act.creates(&POD) || act.writes(&PRIORITY_CLASS),
        mutate: Some(|act, tree| Box::pin(pod::priority(act, tree))),
        validate: Some(|act, tree, _| Box::pin(pod::one_default_priority(act, tree))),
        ..Plugin::BASE
    },
    Plugin {
        name: "DefaultTolerationSeconds",
        handles: |act| act.writes(&POD),
        mutate: Some(|_, tree| done(pod::default_tolerations(tree))),
        ..Plugin::BASE
    },
    Plugin {
        name: "DefaultStorageClass",
        handles: |act| act.creates(&PERSISTENT_VOLUME_CLAIM),
        mutate: Some(|act, tree| Box::pin(storage_class::apply(act, tree))),
        ..Plugin::BASE
    },
    Plugin {
        name: "StorageObjectInUseProtection",
        handles: |act| act.creates(&PERSISTENT_VOLUME_CLAIM) || act.creates(&PERSISTENT_VOLUME),
        mutate: Some(|act, tree| {
            let claim = *act.kind == PERSISTENT_VOLUME_CLAIM;
            let name =
                if claim { "kubernetes.io/pvc-protection" } else { "kubernetes.io/pv-protection" };
            done(add_finalizer(tree, name))
        }),
        ..Plugin::BASE
    },
    Plugin {
        name: "PersistentVolumeClaimResize",
        handles: |act| act.writes(&PERSISTENT_VOLUME_CLAIM) && act.old.is_some(),
        validate: Some(|act, tree, _| Box::pin(storage_class::check_resize(act, tree))),
        ..Plugin::BASE
    },
    Plugin {
        name: "DenyServiceExternalIPs",
        on: false,
        handles: |act| act.writes(&SERVICE),
        validate: Some(|act, tree, _| {
            Box::pin(std::future::ready(service::deny_external_ips(act, tree)))
        }),
        ..Plugin::BASE
    },
    Plugin {
        name: "AlwaysDeny",
        on: false,
        handles: |_| true,
        mutate: Some(|act, tree| {
            let refusal = act.forbidden(tree, "admission control is denying all modifications");
            Box::pin(std::future::ready(Err(refusal)))
        }),
        ..Plugin::BASE
    },
];

/// Names of upstream's that are not here yet. What they would do is not done, whether they are disabled or not.
pub(super) const LATER: [&str; 21] = [
    "NamespaceAutoProvision",
    "NamespaceExists",
    "LimitPodHardAntiAffinityTopology",
    "LimitRanger",
    "ImagePolicyWebhook",
    "PodNodeSelector",
    "PodTolerationRestriction",
    "EventRateLimit",
    "ExtendedResourceToleration",
    "OwnerReferencesPermissionEnforcement",
    "RuntimeClass",
    "CertificateApproval",
    "CertificateSigning",
    "ClusterTrustBundleAttest",
    "CertificateSubjectRestriction",
    "DefaultIngressClass",
    "MutatingAdmissionPolicy",
    "MutatingAdmissionWebhook",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionWebhook",
    "ResourceQuota",
];

const _: () = assert!(PLUGINS.len() <= 32);
