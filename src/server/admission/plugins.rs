//! The table of admission plugins: upstream's names, in upstream's order.

use api::kinds::{
    CERTIFICATE_SIGNING_REQUEST, INGRESS, NODE, PERSISTENT_VOLUME, PERSISTENT_VOLUME_CLAIM, POD,
    PRIORITY_CLASS, SERVICE,
};
use api::{Status, Value};
use rt::BoxFuture;

use super::{Act, Notes, Operation, add_finalizer};
use super::{
    certificate, images, limit_ranger, namespace, node, pod, pod_security, policies,
    resource_quota, runtime_class, service, service_account, storage_class, webhooks,
};

/// What a plugin does to the object. It says whether it changed it.
#[derive(Clone, Copy)]
enum Mutate {
    Nothing,
    /// Decides by what it is given.
    Now(fn(&Act<'_>, &mut Value) -> Result<bool, Status>),
    /// Looks something up, or asks somebody.
    Asks(
        for<'a> fn(
            &'a Act<'a>,
            &'a mut Value,
            &'a mut Notes,
        ) -> BoxFuture<'a, Result<bool, Status>>,
    ),
}

/// What a plugin refuses.
#[derive(Clone, Copy)]
enum Validate {
    Nothing,
    Now(fn(&Act<'_>, &Value) -> Result<(), Status>),
    Asks(for<'a> fn(&'a Act<'a>, &'a Value, &'a mut Notes) -> BoxFuture<'a, Result<(), Status>>),
}

/// One admission plugin.
pub(super) struct Plugin {
    /// As in `--enable-admission-plugins`.
    pub(super) name: &'static str,
    /// Whether it runs unless it is disabled.
    pub(super) on: bool,
    /// Which attempts it looks at.
    pub(super) handles: fn(&Act<'_>) -> bool,
    mutate: Mutate,
    validate: Validate,
}

impl Plugin {
    const BASE: Plugin = Plugin {
        name: "",
        on: true,
        handles: |_| false,
        mutate: Mutate::Nothing,
        validate: Validate::Nothing,
    };

    /// Its first step; says whether the object is another now.
    ///
    /// # Errors
    /// What it refuses.
    pub(super) async fn mutate(
        &self,
        act: &Act<'_>,
        tree: &mut Value,
        notes: &mut Notes,
    ) -> Result<bool, Status> {
        match self.mutate {
            Mutate::Nothing => Ok(false),
            Mutate::Now(mutate) => mutate(act, tree),
            Mutate::Asks(mutate) => mutate(act, tree, notes).await,
        }
    }

    /// Its second step.
    ///
    /// # Errors
    /// What it refuses.
    pub(super) async fn validate(
        &self,
        act: &Act<'_>,
        tree: &Value,
        notes: &mut Notes,
    ) -> Result<(), Status> {
        match self.validate {
            Validate::Nothing => Ok(()),
            Validate::Now(validate) => validate(act, tree),
            Validate::Asks(validate) => validate(act, tree, notes).await,
        }
    }
}

/// All there are, in the order in which they run. At most 32.
pub(super) static PLUGINS: &[Plugin] = &[
    Plugin { name: "AlwaysAdmit", on: false, ..Plugin::BASE },
    Plugin {
        name: "NamespaceLifecycle",
        handles: |act| act.operation != Operation::Connect,
        mutate: Mutate::Asks(|act, tree, _| Box::pin(namespace::check(act, tree))),
        ..Plugin::BASE
    },
    Plugin {
        name: "LimitRanger",
        handles: limit_ranger::handles,
        mutate: Mutate::Asks(|act, tree, _| Box::pin(limit_ranger::apply(act, tree))),
        validate: Validate::Asks(|act, tree, _| Box::pin(limit_ranger::check(act, tree))),
        ..Plugin::BASE
    },
    Plugin {
        name: "ServiceAccount",
        handles: service_account::handles,
        mutate: Mutate::Asks(|act, tree, _| Box::pin(service_account::apply(act, tree))),
        validate: Validate::Asks(|act, tree, _| Box::pin(service_account::check(act, tree))),
        ..Plugin::BASE
    },
    Plugin {
        name: "NodeRestriction",
        // k3s turns it on.
        handles: |act| act.operation != Operation::Connect && act.caller.user.node_name().is_some(),
        validate: Validate::Asks(|act, tree, _| Box::pin(node::check(act, tree))),
        ..Plugin::BASE
    },
    Plugin {
        name: "TaintNodesByCondition",
        handles: |act| act.creates(&NODE),
        mutate: Mutate::Now(|_, tree| Ok(pod::taint_new_node(tree))),
        ..Plugin::BASE
    },
    Plugin {
        name: "AlwaysPullImages",
        on: false,
        handles: |act| act.writes(&POD),
        mutate: Mutate::Now(|act, tree| Ok(images::always_pull(act, tree))),
        validate: Validate::Now(images::check_always_pulled),
    },
    Plugin {
        name: "PodSecurity",
        handles: pod_security::handles,
        validate: Validate::Asks(|act, tree, notes| {
            Box::pin(pod_security::check(act, tree, notes))
        }),
        ..Plugin::BASE
    },
    Plugin {
        name: "Priority",
        handles: |act| act.creates(&POD) || act.writes(&PRIORITY_CLASS),
        mutate: Mutate::Asks(|act, tree, _| Box::pin(pod::priority(act, tree))),
        validate: Validate::Asks(|act, tree, _| Box::pin(pod::one_default_priority(act, tree))),
        ..Plugin::BASE
    },
    Plugin {
        name: "DefaultTolerationSeconds",
        handles: |act| act.writes(&POD),
        mutate: Mutate::Now(|_, tree| Ok(pod::default_tolerations(tree))),
        ..Plugin::BASE
    },
    Plugin {
        name: "DefaultStorageClass",
        handles: |act| act.creates(&PERSISTENT_VOLUME_CLAIM),
        mutate: Mutate::Asks(|act, tree, _| Box::pin(storage_class::apply(act, tree))),
        ..Plugin::BASE
    },
    Plugin {
        name: "StorageObjectInUseProtection",
        handles: |act| act.creates(&PERSISTENT_VOLUME_CLAIM) || act.creates(&PERSISTENT_VOLUME),
        mutate: Mutate::Now(|act, tree| {
            let claim = *act.kind == PERSISTENT_VOLUME_CLAIM;
            let name =
                if claim { "kubernetes.io/pvc-protection" } else { "kubernetes.io/pv-protection" };
            Ok(add_finalizer(tree, name))
        }),
        ..Plugin::BASE
    },
    Plugin {
        name: "PersistentVolumeClaimResize",
        handles: |act| act.writes(&PERSISTENT_VOLUME_CLAIM) && act.old.is_some(),
        validate: Validate::Asks(|act, tree, _| Box::pin(storage_class::check_resize(act, tree))),
        ..Plugin::BASE
    },
    Plugin {
        name: "RuntimeClass",
        handles: |act| act.creates(&POD),
        mutate: Mutate::Asks(|act, tree, _| Box::pin(runtime_class::apply(act, tree))),
        validate: Validate::Asks(|act, tree, _| Box::pin(runtime_class::check(act, tree))),
        ..Plugin::BASE
    },
    Plugin {
        name: "CertificateApproval",
        handles: |act| certificate::changes(act, "approval"),
        validate: Validate::Asks(|act, tree, _| Box::pin(certificate::may_approve(act, tree))),
        ..Plugin::BASE
    },
    Plugin {
        name: "CertificateSigning",
        handles: |act| certificate::changes(act, "status"),
        validate: Validate::Asks(|act, tree, _| Box::pin(certificate::may_sign(act, tree))),
        ..Plugin::BASE
    },
    Plugin {
        name: "CertificateSubjectRestriction",
        handles: |act| act.creates(&CERTIFICATE_SIGNING_REQUEST),
        validate: Validate::Now(certificate::restrict_subject),
        ..Plugin::BASE
    },
    Plugin {
        name: "DefaultIngressClass",
        handles: |act| act.creates(&INGRESS),
        mutate: Mutate::Asks(|act, tree, _| Box::pin(storage_class::apply_to_ingress(act, tree))),
        ..Plugin::BASE
    },
    Plugin {
        name: "DenyServiceExternalIPs",
        on: false,
        handles: |act| act.writes(&SERVICE),
        validate: Validate::Now(service::deny_external_ips),
        ..Plugin::BASE
    },
    Plugin {
        name: "MutatingAdmissionWebhook",
        handles: webhooks::handles,
        mutate: Mutate::Asks(|act, tree, notes| Box::pin(webhooks::mutate(act, tree, notes))),
        ..Plugin::BASE
    },
    Plugin {
        name: "ValidatingAdmissionPolicy",
        handles: policies::handles,
        validate: Validate::Asks(|act, tree, notes| Box::pin(policies::validate(act, tree, notes))),
        ..Plugin::BASE
    },
    Plugin {
        name: "ValidatingAdmissionWebhook",
        handles: webhooks::handles,
        validate: Validate::Asks(|act, tree, notes| Box::pin(webhooks::validate(act, tree, notes))),
        ..Plugin::BASE
    },
    Plugin {
        name: "ResourceQuota",
        handles: resource_quota::handles,
        validate: Validate::Asks(|act, tree, notes| {
            Box::pin(async move {
                notes.charge = resource_quota::charge(act, tree).await?;
                Ok(())
            })
        }),
        ..Plugin::BASE
    },
    Plugin {
        name: "AlwaysDeny",
        on: false,
        handles: |_| true,
        mutate: Mutate::Now(|act, tree| {
            Err(act.forbidden(tree, "admission control is denying all modifications"))
        }),
        ..Plugin::BASE
    },
];

/// Names of upstream's that are not here yet. What they would do is not done, whether they are disabled or not.
pub(super) const LATER: [&str; 11] = [
    "NamespaceAutoProvision",
    "NamespaceExists",
    "LimitPodHardAntiAffinityTopology",
    "ImagePolicyWebhook",
    "PodNodeSelector",
    "PodTolerationRestriction",
    "EventRateLimit",
    "ExtendedResourceToleration",
    "OwnerReferencesPermissionEnforcement",
    "ClusterTrustBundleAttest",
    "MutatingAdmissionPolicy",
];

const _: () = assert!(PLUGINS.len() <= 32);
