//! Gateway API's objects as far as they are known, read from their trees. What is made of them is in `gateway_plan`.

mod rules;

use api::kind::{Declared, Scope};
use api::selector::Selector;
use api::{Kind, Lens, Object, Value, kinds};
use stdx::{OrdMap, OrdSet};

use crate::table::Key;
pub(crate) use rules::{Backend, Filter, Match, Rule, of_match};

/// What we are to GatewayClasses.
pub(crate) const CONTROLLER: &str = "traefik.io/gateway-controller";
pub(crate) const GROUP: &str = "gateway.networking.k8s.io";
/// Items of one list; the definitions allow fewer.
const ITEMS_MAX: usize = 128;

const fn kind(name: &'static str, plural: &'static str, declared: &'static Declared) -> Kind {
    Kind { group: GROUP, name, plural, declared, ..Kind::BASE }
}

const V1: &Declared = &Declared { version: "v1", ..Declared::RUN_TIME };
const V1BETA1: &Declared = &Declared { version: "v1beta1", ..Declared::RUN_TIME };
const V1ALPHA2: &Declared = &Declared { version: "v1alpha2", ..Declared::RUN_TIME };

pub(crate) static GATEWAY_CLASS: Kind =
    Kind { scope: Scope::Cluster, ..kind("GatewayClass", "gatewayclasses", V1) };
pub(crate) static GATEWAY: Kind = kind("Gateway", "gateways", V1);
pub(crate) static HTTP_ROUTE: Kind = kind("HTTPRoute", "httproutes", V1);
pub(crate) static GRPC_ROUTE: Kind = kind("GRPCRoute", "grpcroutes", V1);
pub(crate) static TLS_ROUTE: Kind = kind("TLSRoute", "tlsroutes", V1ALPHA2);
pub(crate) static REFERENCE_GRANT: Kind = kind("ReferenceGrant", "referencegrants", V1BETA1);

/// What routes lead: their kinds, in the order in which they are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Sort {
    Http,
    Grpc,
    Tls,
}

impl Sort {
    pub(crate) const ALL: [Sort; 3] = [Sort::Http, Sort::Grpc, Sort::Tls];

    pub(crate) fn kind(self) -> &'static Kind {
        match self {
            Sort::Http => &HTTP_ROUTE,
            Sort::Grpc => &GRPC_ROUTE,
            Sort::Tls => &TLS_ROUTE,
        }
    }

    fn of(kind: &'static Kind) -> Option<Sort> {
        Sort::ALL.into_iter().find(|sort| sort.kind() == kind)
    }
}

/// Everything of Gateway API that is known.
#[derive(Debug, Default)]
pub(crate) struct Gateways {
    pub(crate) classes: OrdMap<Box<str>, Class>,
    pub(crate) gateways: OrdMap<Key, Gateway>,
    pub(crate) routes: OrdMap<(Sort, Key), Route>,
    pub(crate) grants: OrdMap<Key, Grant>,
    /// For the labels by which listeners choose them.
    pub(crate) namespaces: OrdMap<Box<str>, Object>,
}

impl Gateways {
    /// What is followed while there is a class of ours.
    pub(crate) const KINDS: [(&'static Kind, &'static str); 6] = [
        (&GATEWAY, ""),
        (&HTTP_ROUTE, ""),
        (&GRPC_ROUTE, ""),
        (&TLS_ROUTE, ""),
        (&REFERENCE_GRANT, ""),
        (&kinds::NAMESPACE, ""),
    ];

    pub(crate) fn has_class(&self) -> bool {
        self.classes.values().any(|class| class.ours)
    }

    pub(crate) fn put(&mut self, kind: &'static Kind, key: Key, object: &Object) {
        if kind == &GATEWAY_CLASS {
            self.classes.insert(key.1, Class::read(object));
        } else if kind == &GATEWAY {
            self.gateways.insert(key, Gateway::read(object));
        } else if let Some(sort) = Sort::of(kind) {
            self.routes.insert((sort, key), Route::read(object, sort));
        } else if kind == &REFERENCE_GRANT {
            self.grants.insert(key, Grant::read(&object.tree()));
        } else if kind == &kinds::NAMESPACE {
            self.namespaces.insert(key.1, object.clone());
        }
    }

    pub(crate) fn remove(&mut self, kind: &'static Kind, key: &Key) {
        if kind == &GATEWAY_CLASS {
            self.classes.remove(&key.1);
        } else if kind == &GATEWAY {
            self.gateways.remove(key);
        } else if let Some(sort) = Sort::of(kind) {
            self.routes.remove(&(sort, key.clone()));
        } else if kind == &REFERENCE_GRANT {
            self.grants.remove(key);
        } else if kind == &kinds::NAMESPACE {
            self.namespaces.remove(&key.1);
        }
    }

    pub(crate) fn clear(&mut self, kind: &'static Kind) {
        if kind == &GATEWAY_CLASS {
            self.classes.clear();
        } else if kind == &GATEWAY {
            self.gateways.clear();
        } else if let Some(sort) = Sort::of(kind) {
            self.routes.retain(|(own, _), _| *own != sort);
        } else if kind == &REFERENCE_GRANT {
            self.grants.clear();
        } else if kind == &kinds::NAMESPACE {
            self.namespaces.clear();
        }
    }

    /// Whether an object of one namespace may name one of another.
    pub(crate) fn permits(&self, from: (&str, &str), namespace: &str, to: &Ref) -> bool {
        let grants = self.grants.iter().filter(|(key, _)| *key.0 == *to.namespace);
        grants.map(|(_, grant)| grant).any(|grant| {
            let mut froms = grant.from.iter();
            froms.any(|(group, kind, own)| {
                (&**group, &**kind, &**own) == (from.0, from.1, namespace)
            }) && grant.to.iter().any(|(group, kind, name)| {
                **group == *to.group
                    && **kind == *to.kind
                    && name.as_ref().is_none_or(|name| **name == *to.name)
            })
        })
    }
}

/// A GatewayClass.
#[derive(Debug)]
pub(crate) struct Class {
    pub(crate) object: Object,
    pub(crate) ours: bool,
    /// It names parameters, of which there are none here.
    pub(crate) has_parameters: bool,
    pub(crate) told: Told,
}

/// What an object's status says, and of which of its generations one speaks now.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) status: Value,
    pub(crate) generation: i64,
}

impl Told {
    fn read(tree: &Value) -> Told {
        let generation = tree.int("metadata.generation").unwrap_or(0);
        Told { status: tree.at("status").clone(), generation }
    }
}

impl Class {
    fn read(object: &Object) -> Class {
        let tree = object.tree();
        Class {
            ours: tree.str("spec.controllerName") == CONTROLLER,
            has_parameters: tree.has("spec.parametersRef"),
            told: Told::read(&tree),
            object: object.clone(),
        }
    }
}

/// The name of an object of any kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ref {
    pub(crate) group: Box<str>,
    pub(crate) kind: Box<str>,
    pub(crate) namespace: Box<str>,
    pub(crate) name: Box<str>,
}

impl Ref {
    /// As an object in `namespace` names it, which means by default `kind` of `group`.
    fn read(tree: &Value, namespace: &str, group: &str, kind: &str) -> Ref {
        let or = |name: &str, default: &str| tree.at(name).as_str().unwrap_or(default).into();
        Ref {
            group: or("group", group),
            kind: or("kind", kind),
            namespace: or("namespace", namespace),
            name: tree.str("name").into(),
        }
    }
}

/// A Gateway.
#[derive(Debug)]
pub(crate) struct Gateway {
    pub(crate) object: Object,
    pub(crate) class: Box<str>,
    pub(crate) listeners: Vec<Listener>,
    /// Why nothing of it is served: a reason, and a sentence.
    pub(crate) refused: Option<(&'static str, &'static str)>,
    /// It wants labels or annotations on what is made for it, which is nothing.
    pub(crate) has_marks: bool,
    pub(crate) told: Told,
}

#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) name: Box<str>,
    /// "" for all; in lower case.
    pub(crate) hostname: Box<str>,
    pub(crate) port: u16,
    pub(crate) protocol: Box<str>,
    pub(crate) passthrough: bool,
    /// Certificates are checked of clients, which is not done here.
    pub(crate) checks_clients: bool,
    /// It has options for TLS, of which none are known here.
    pub(crate) has_options: bool,
    pub(crate) certificates: Vec<Ref>,
    /// Group and kind; `None` for those that the protocol has.
    pub(crate) kinds: Option<Vec<(Box<str>, Box<str>)>>,
    pub(crate) from: From,
}

/// Of which namespaces routes may be attached.
#[derive(Debug)]
pub(crate) enum From {
    All,
    Same,
    Selector(Selector),
}

impl Gateway {
    fn read(object: &Object) -> Gateway {
        let tree = object.tree();
        let listeners = tree.list("spec.listeners").iter().take(ITEMS_MAX);
        let namespace = object.namespace();
        Gateway {
            class: tree.str("spec.gatewayClassName").into(),
            listeners: listeners.map(|listener| Listener::read(listener, namespace)).collect(),
            refused: match tree.list("spec.addresses").is_empty() {
                false => Some(("UnsupportedAddress", "addresses are the load balancer's to give")),
                true => tree
                    .has("spec.infrastructure.parametersRef")
                    .then_some(("InvalidParameters", "parameters are not supported")),
            },
            has_marks: ["labels", "annotations"].iter().any(|name| {
                let marks = tree.at("spec.infrastructure").at(name).as_object();
                marks.is_some_and(|marks| !marks.is_empty())
            }),
            told: Told::read(&tree),
            object: object.clone(),
        }
    }
}

impl Listener {
    /// Whether TLS ends here, which takes a certificate.
    pub(crate) fn ends_tls(&self) -> bool {
        matches!(&*self.protocol, "HTTPS" | "TLS") && !self.passthrough
    }

    fn read(tree: &Value, namespace: &str) -> Listener {
        let allowed = tree.at("allowedRoutes");
        let kinds = allowed.list("kinds").iter().take(ITEMS_MAX);
        let kinds: Vec<_> = kinds
            .map(|kind| {
                let group = kind.at("group").as_str().unwrap_or(GROUP);
                (group.into(), kind.str("kind").into())
            })
            .collect();
        let certificates = tree.list("tls.certificateRefs").iter().take(ITEMS_MAX);
        Listener {
            name: tree.str("name").into(),
            hostname: tree.str("hostname").to_ascii_lowercase().into(),
            port: tree.int("port").and_then(|port| u16::try_from(port).ok()).unwrap_or(0),
            protocol: tree.str("protocol").into(),
            passthrough: tree.str("tls.mode") == "Passthrough",
            checks_clients: tree.has("tls.frontendValidation"),
            has_options: tree.at("tls.options").as_object().is_some_and(|it| !it.is_empty()),
            certificates: certificates.map(|it| Ref::read(it, namespace, "", "Secret")).collect(),
            kinds: (!kinds.is_empty()).then_some(kinds),
            from: match allowed.str("namespaces.from") {
                "All" => From::All,
                "Selector" => {
                    From::Selector(Selector::from_label_selector(allowed.at("namespaces.selector")))
                }
                _ => From::Same,
            },
        }
    }
}

/// An HTTPRoute, GRPCRoute or TLSRoute.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) object: Object,
    pub(crate) parents: Vec<Parent>,
    /// In lower case.
    pub(crate) hostnames: OrdSet<Box<str>>,
    pub(crate) rules: Vec<Rule>,
    pub(crate) created_secs: i64,
    pub(crate) told: Told,
}

/// What a route is attached to.
#[derive(Debug)]
pub(crate) struct Parent {
    pub(crate) to: Ref,
    /// "" for all listeners.
    pub(crate) section: Box<str>,
    pub(crate) port: Option<i64>,
    /// As it is written, for the status.
    pub(crate) tree: Value,
}

impl Route {
    fn read(object: &Object, sort: Sort) -> Route {
        let tree = object.tree();
        let namespace = object.namespace();
        let spec = tree.at("spec");
        let parents = spec.list("parentRefs").iter().take(ITEMS_MAX).map(|tree| Parent {
            to: Ref::read(tree, namespace, GROUP, "Gateway"),
            section: tree.str("sectionName").into(),
            port: tree.int("port"),
            tree: tree.clone(),
        });
        let hostnames = spec.list("hostnames").iter().take(ITEMS_MAX);
        let hostnames =
            hostnames.filter_map(|name| Some(name.as_str()?.to_ascii_lowercase().into()));
        let rules = spec.list("rules").iter().take(ITEMS_MAX);
        Route {
            parents: parents.collect(),
            hostnames: hostnames.collect(),
            rules: rules.map(|rule| Rule::read(rule, namespace, sort == Sort::Grpc)).collect(),
            created_secs: crate::objects::created_secs(&tree),
            told: Told::read(&tree),
            object: object.clone(),
        }
    }
}

/// A ReferenceGrant.
#[derive(Debug)]
pub(crate) struct Grant {
    /// Group, kind and namespace.
    from: Vec<(Box<str>, Box<str>, Box<str>)>,
    /// Group, kind and name; `None` for all names.
    to: Vec<(Box<str>, Box<str>, Option<Box<str>>)>,
}

impl Grant {
    fn read(tree: &Value) -> Grant {
        let text = |tree: &Value, name: &str| tree.str(name).into();
        let from = tree.list("spec.from").iter().take(ITEMS_MAX);
        let to = tree.list("spec.to").iter().take(ITEMS_MAX);
        Grant {
            from: from
                .map(|it| (text(it, "group"), text(it, "kind"), text(it, "namespace")))
                .collect(),
            to: to
                .map(|it| {
                    let name = it.at("name").as_str().filter(|name| !name.is_empty());
                    (text(it, "group"), text(it, "kind"), name.map(Into::into))
                })
                .collect(),
        }
    }
}
