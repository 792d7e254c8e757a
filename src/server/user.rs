//! Who asks: a user with a name, groups and what authenticators add, through a program.

use std::sync::Arc;

use api::Status;
use client::Request;
use stdx::OrdMap;

/// The group of those who may do anything.
pub(crate) const MASTERS: &str = "system:masters";
pub(crate) const AUTHENTICATED: &str = "system:authenticated";
pub(crate) const UNAUTHENTICATED: &str = "system:unauthenticated";
pub(crate) const ANONYMOUS: &str = "system:anonymous";
pub(crate) const SERVICE_ACCOUNTS: &str = "system:serviceaccounts";

/// Who a request comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct User {
    pub name: String,
    pub uid: String,
    pub groups: Vec<String>,
    pub extra: OrdMap<String, Vec<String>>,
}

/// The client of a request.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    pub(crate) user: Arc<User>,
    /// The name of the client's program, the default field manager.
    pub(crate) agent: String,
    /// Who counts the memory that the request works on; nobody for those inside the process.
    pub(crate) meter: Option<Arc<dyn Meter>>,
    /// Who tells the audit log of the request, if somebody does.
    pub(crate) witness: Option<Arc<dyn Witness>>,
}

/// Is told what is found out about a request on its way.
pub(crate) trait Witness: Send + Sync + std::fmt::Debug {
    /// Keeps an annotation, unless there is one under this key.
    fn annotate(&self, key: &str, value: &str);
}

/// Counts the memory that a request works on.
pub(crate) trait Meter: Send + Sync + std::fmt::Debug {
    /// Says that the request takes so many bytes now, all in all.
    ///
    /// # Errors
    /// 429 if it is too much now.
    fn hold(&self, bytes: usize) -> Result<(), Status>;
}

impl Caller {
    pub(crate) fn new(user: User, agent: impl Into<String>) -> Caller {
        Caller { user: Arc::new(user), agent: agent.into(), meter: None, witness: None }
    }

    /// Annotates the request in the audit log.
    pub(crate) fn note(&self, key: &str, value: &str) {
        if let Some(witness) = &self.witness {
            witness.annotate(key, value);
        }
    }

    /// The field manager of a request.
    pub(crate) fn manager(&self, request: &Request) -> String {
        match request.field_manager.as_str() {
            "" => self.agent.clone(),
            manager => manager.to_owned(),
        }
    }
}

impl User {
    /// An authenticated user with these groups.
    pub fn new(name: &str, groups: &[&str]) -> User {
        let groups = groups.iter().copied().chain([AUTHENTICATED]);
        User {
            name: name.to_owned(),
            groups: groups.map(str::to_owned).collect(),
            ..User::default()
        }
    }

    /// The server's own components when they need not be told apart: may do anything.
    pub fn admin() -> User {
        User::new("system:admin", &[MASTERS])
    }

    /// The API server's loopback client.
    pub fn apiserver() -> User {
        User::new("system:apiserver", &[MASTERS])
    }

    /// A controller's service account in kube-system.
    pub fn controller(name: &str) -> User {
        User::service_account("kube-system", name)
    }

    pub fn service_account(namespace: &str, name: &str) -> User {
        User::new(
            &format!("system:serviceaccount:{namespace}:{name}"),
            &[SERVICE_ACCOUNTS, &format!("{SERVICE_ACCOUNTS}:{namespace}")],
        )
    }

    /// A kubelet.
    pub fn node(name: &str) -> User {
        User::new(&format!("system:node:{name}"), &["system:nodes"])
    }

    pub fn anonymous() -> User {
        User {
            name: ANONYMOUS.to_owned(),
            groups: vec![UNAUTHENTICATED.to_owned()],
            ..User::default()
        }
    }

    pub fn in_group(&self, group: &str) -> bool {
        self.groups.iter().any(|own| own == group)
    }

    /// The node this is the kubelet of.
    pub fn node_name(&self) -> Option<&str> {
        let name = self.name.strip_prefix("system:node:")?;
        // Without a name it is no node: "" would be the node of all pods that have none yet.
        (self.in_group("system:nodes") && !name.is_empty()).then_some(name)
    }

    /// The namespace and name of the service account this is.
    pub(crate) fn service_account_name(&self) -> Option<(&str, &str)> {
        self.name.strip_prefix("system:serviceaccount:")?.split_once(':')
    }
}
