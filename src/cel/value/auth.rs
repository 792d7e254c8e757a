//! What expressions of admission policies ask the authorizer.

use super::{Fail, Out, Val, fail};

/// A question to the authorizer, as an expression builds it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query {
    /// Somebody else than who made the request: the namespace and name of a service account.
    pub account: Option<(String, String)>,
    /// A path that is no resource; then the rest means nothing.
    pub path: Option<String>,
    pub group: String,
    pub resource: String,
    pub subresource: String,
    pub namespace: String,
    pub name: String,
    pub field_selector: String,
    pub label_selector: String,
    pub verb: String,
}

/// What the authorizer answers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Decision {
    pub allowed: bool,
    pub reason: String,
    pub error: Option<String>,
}

/// The error of an evaluation that needs an answer of the authorizer.
pub const UNANSWERED: &str = "the authorizer has not answered yet";

/// What the caller knows and expressions may ask for.
pub trait Host {
    /// What is wrong with `text` by the named format, in upstream's words; nothing if it is well.
    fn violations(&self, format: &str, text: &str) -> Vec<String>;

    /// The authorizer's answer; nothing if it is not known yet. Then the evaluation ends with the error
    /// [`UNANSWERED`], and the caller asks and evaluates once more.
    fn authorize(&self, query: &Query) -> Option<Decision>;
}

/// How far a question was built, or its answer.
#[derive(Debug, Clone)]
pub enum Auth {
    Authorizer(Query),
    Path(Query),
    Group(Query),
    Resource(Query),
    Decision(Decision),
}

impl Auth {
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Auth::Authorizer(_) => "kubernetes.authorization.Authorizer",
            Auth::Path(_) => "kubernetes.authorization.PathCheck",
            Auth::Group(_) => "kubernetes.authorization.GroupCheck",
            Auth::Resource(_) => "kubernetes.authorization.ResourceCheck",
            Auth::Decision(_) => "kubernetes.authorization.Decision",
        }
    }
}

/// What a method puts into a question.
#[derive(Clone, Copy)]
pub(crate) enum Put {
    Path,
    Group,
    Account,
    Resource,
    Subresource,
    Namespace,
    Name,
    FieldSelector,
    LabelSelector,
}

fn made(auth: Auth) -> Out<Val<'static>> {
    Ok(Val::Auth(std::sync::Arc::new(auth)))
}

/// A question with one thing more; nothing if the method does not go with it.
pub(crate) fn put(auth: &Auth, what: Put, text: &str, name: &str) -> Option<Out<Val<'static>>> {
    let blank = text.trim().is_empty();
    Some(match (auth, what) {
        (Auth::Authorizer(_), Put::Path) if blank => fail("path must not be empty"),
        (Auth::Authorizer(query), Put::Path) => {
            made(Auth::Path(Query { path: Some(text.into()), ..query.clone() }))
        }
        (Auth::Authorizer(query), Put::Group) => {
            made(Auth::Group(Query { group: text.into(), ..query.clone() }))
        }
        (Auth::Authorizer(query), Put::Account) => {
            let label = |text: &str| {
                let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
                text.len() <= 63
                    && text.bytes().all(|byte| inner(byte) || byte == b'-')
                    && text.bytes().next().is_some_and(inner)
                    && text.bytes().last().is_some_and(inner)
            };
            if name.len() > 253 || !name.split('.').all(label) {
                return Some(fail("Invalid service account name"));
            }
            if !label(text) {
                return Some(fail("Invalid service account namespace"));
            }
            let account = Some((text.into(), name.into()));
            made(Auth::Authorizer(Query { account, ..query.clone() }))
        }
        (Auth::Group(_), Put::Resource) if blank => fail("resource must not be empty"),
        (Auth::Group(query), Put::Resource) => {
            made(Auth::Resource(Query { resource: text.into(), ..query.clone() }))
        }
        (Auth::Resource(query), what) => {
            let mut query = query.clone();
            let place = match what {
                Put::Subresource => &mut query.subresource,
                Put::Namespace => &mut query.namespace,
                Put::Name => &mut query.name,
                Put::FieldSelector => &mut query.field_selector,
                Put::LabelSelector => &mut query.label_selector,
                _ => return None,
            };
            *place = text.into();
            made(Auth::Resource(query))
        }
        _ => return None,
    })
}

/// The answer to a question about `verb`.
pub(crate) fn check(auth: &Auth, verb: &str, host: &dyn Host) -> Option<Out<Val<'static>>> {
    let (Auth::Path(query) | Auth::Resource(query)) = auth else { return None };
    Some(match host.authorize(&Query { verb: verb.into(), ..query.clone() }) {
        Some(decision) => made(Auth::Decision(decision)),
        None => Err(Box::new(Fail { message: UNANSWERED.into(), cancelled: true })),
    })
}
