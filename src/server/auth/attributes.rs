//! What authorization is asked about: one action on one resource or path.

use api::kinds::NAMESPACE;
use client::Request;

use crate::user::User;

/// An action. Text is as RBAC compares it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Attributes {
    pub(crate) verb: String,
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) resource: String,
    pub(crate) subresource: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
    /// Of lists and watches.
    pub(crate) field_selector: String,
    pub(crate) label_selector: String,
    /// For what is no resource; "" otherwise.
    pub(crate) path: String,
}

impl Attributes {
    pub(crate) fn of(request: &Request, verb: &str) -> Attributes {
        let kind = request.kind;
        let (group, version) = match request.group_version.as_str() {
            "" => (kind.group, kind.declared.version),
            served => served.rsplit_once('/').unwrap_or(("", served)),
        };
        let namespace = match kind {
            // A namespace lies in itself, so that roles in it may speak of it.
            _ if *kind == NAMESPACE => request.name.clone(),
            _ if kind.namespaced() => request.namespace.clone(),
            _ => String::new(),
        };
        let mut name = request.name.clone();
        if name.is_empty() && matches!(verb, "list" | "watch" | "deletecollection") {
            name = selected_name(&request.list.field_selector);
        }
        if verb == "create" && request.subresource.is_empty() {
            // A name in the body is not seen yet when upstream authorizes.
            name.clear();
        }
        Attributes {
            verb: verb.to_owned(),
            group: group.to_owned(),
            version: version.to_owned(),
            resource: kind.plural.to_owned(),
            subresource: request.subresource.clone(),
            namespace,
            name,
            field_selector: request.list.field_selector.clone(),
            label_selector: request.list.label_selector.clone(),
            path: String::new(),
        }
    }

    /// A path that is no resource.
    pub(crate) fn path(verb: &str, path: &str) -> Attributes {
        Attributes { verb: verb.to_owned(), path: path.to_owned(), ..Attributes::default() }
    }

    /// What who asks has made of it, in bytes.
    pub(crate) fn n_bytes(&self) -> usize {
        let texts = [
            &self.verb,
            &self.group,
            &self.version,
            &self.resource,
            &self.subresource,
            &self.namespace,
            &self.name,
            &self.path,
            &self.field_selector,
            &self.label_selector,
        ];
        texts.iter().map(|text| text.len()).sum()
    }

    pub(crate) fn is_resource(&self) -> bool {
        self.path.is_empty()
    }

    /// `pods/log`
    pub(crate) fn resource_text(&self) -> String {
        match self.subresource.as_str() {
            "" => self.resource.clone(),
            sub => format!("{}/{sub}", self.resource),
        }
    }

    /// Upstream's sentence for a refusal.
    pub(crate) fn refusal(&self, user: &User) -> String {
        if !self.is_resource() {
            return format!("User {:?} cannot {} path {:?}", user.name, self.verb, self.path);
        }
        let what = format!(
            "User {:?} cannot {} resource {:?} in API group {:?}",
            user.name,
            self.verb,
            self.resource_text(),
            self.group
        );
        match self.namespace.as_str() {
            "" => format!("{what} at the cluster scope"),
            namespace => format!("{what} in the namespace {namespace:?}"),
        }
    }
}

/// The name that a field selector asks for, if it asks for one.
pub(crate) fn selected_name(fields: &str) -> String {
    let terms = api::selector::parse_fields(fields).unwrap_or_default();
    let mut names = terms.into_iter().filter(|term| term.equal && term.path == "metadata.name");
    names
        .next()
        .map(|term| term.value)
        .filter(|name| api::path::is_path_segment(name))
        .unwrap_or_default()
}
