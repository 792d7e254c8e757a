//! What can be asked of the API and what comes back, the same in process and over HTTP.

use std::fmt;
use std::sync::Arc;

use api::{Kind, Object, Status, Value};
use rt::BoxFuture;

/// Upstream's verbs, as RBAC names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    Get,
    List,
    Watch,
    Create,
    Update,
    Patch,
    Delete,
    DeleteCollection,
}

impl Verb {
    pub fn as_str(self) -> &'static str {
        match self {
            Verb::Get => "get",
            Verb::List => "list",
            Verb::Watch => "watch",
            Verb::Create => "create",
            Verb::Update => "update",
            Verb::Patch => "patch",
            Verb::Delete => "delete",
            Verb::DeleteCollection => "deletecollection",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PatchType {
    /// RFC 6902
    Json,
    /// RFC 7386
    Merge,
    Strategic,
    /// Server-side apply.
    Apply,
}

/// What goes with a request.
#[derive(Debug, Clone, Default)]
pub enum Body {
    #[default]
    None,
    Tree(Value),
    Patch(PatchType, Value),
}

/// `ListOptions`, for list, watch and delete collection.
#[derive(Debug, Clone, Default)]
pub struct ListOptions {
    pub label_selector: String,
    pub field_selector: String,
    /// As given in the query: "" and "0" differ.
    pub resource_version: String,
    pub resource_version_match: String,
    /// 0 is no limit.
    pub limit: u64,
    pub continue_token: String,
    pub allow_bookmarks: bool,
    pub send_initial_events: Option<bool>,
    pub timeout_secs: Option<u64>,
}

/// `DeleteOptions`.
#[derive(Debug, Clone, Default)]
pub struct DeleteOptions {
    pub grace_secs: Option<i64>,
    pub uid: Option<String>,
    pub resource_version: Option<String>,
    /// "", "Background", "Foreground" or "Orphan".
    pub propagation: String,
}

/// One request. Who asks is a property of the `Api` it is put to.
#[derive(Debug, Clone)]
pub struct Request {
    pub verb: Verb,
    pub kind: &'static Kind,
    /// The version asked for, when it is not the stored one ("" is the stored one).
    pub group_version: String,
    pub namespace: String,
    pub name: String,
    /// "" or "status", "scale", "binding", ...
    pub subresource: String,
    pub body: Body,
    pub list: ListOptions,
    pub delete: DeleteOptions,
    pub dry_run: bool,
    pub field_manager: String,
    /// "Strict", "Warn" or "Ignore"; "" is Warn.
    pub field_validation: String,
    /// Server-side apply takes ownership over conflicts.
    pub force: bool,
}

impl Request {
    pub fn new(verb: Verb, kind: &'static Kind, namespace: &str, name: &str) -> Request {
        Request {
            verb,
            kind,
            group_version: String::new(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            subresource: String::new(),
            body: Body::None,
            list: ListOptions::default(),
            delete: DeleteOptions::default(),
            dry_run: false,
            field_manager: String::new(),
            field_validation: String::new(),
            force: false,
        }
    }
}

/// A list at one revision.
#[derive(Debug, Clone, Default)]
pub struct List {
    pub items: Vec<Object>,
    pub revision: u64,
    /// For the next page; "" at the end.
    pub continue_token: String,
    pub remaining: Option<u64>,
}

/// What comes back.
#[derive(Debug, Clone)]
pub enum Answer {
    /// A stored object (get, create, update, patch, and delete that waits for finalizers).
    Object(Object),
    List(List),
    /// An answer that is not stored: reviews, scale, tokens, `Status` of a finished delete, dry runs.
    Tree(Value),
}

/// One watch event.
#[derive(Debug, Clone)]
pub enum WatchEvent {
    Added(Object),
    Modified(Object),
    /// The last state, at the revision of the deletion.
    Deleted(Object),
    /// Everything up to this revision has been seen. `initial_end` ends the initial events
    /// that `send_initial_events` asked for.
    Bookmark {
        revision: u64,
        initial_end: bool,
    },
}

/// A running watch. Dropping it ends it.
pub trait WatchStream: Send {
    /// The next event; `None` when the server ended it (start again from the last revision),
    /// an error when it cannot go on (`Expired`: list again).
    fn next(&mut self) -> BoxFuture<'_, Option<Result<WatchEvent, Status>>>;
}

/// The API as one identity sees it.
pub trait Api: Send + Sync {
    /// Any verb but watch.
    fn call(&self, request: Request) -> BoxFuture<'_, Result<Answer, Status>>;

    /// A watch; `request.verb` is `Watch`, `request.list` says of what and from where.
    fn watch(&self, request: Request) -> BoxFuture<'_, Result<Box<dyn WatchStream>, Status>>;

    /// What is at a path with its query, whoever serves it, as a tree. Only controllers ask for that, and
    /// they run in a server's process: others cannot.
    fn read(&self, target: String) -> BoxFuture<'_, Result<Value, Status>> {
        let why = format!("{target} cannot be read from here");
        Box::pin(async { Err(Status::unavailable(why)) })
    }
}

/// Convenience over [`Api`]. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    api: Arc<dyn Api>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Client")
    }
}

impl Client {
    pub fn new(api: Arc<dyn Api>) -> Client {
        Client { api }
    }

    pub fn api(&self) -> &Arc<dyn Api> {
        &self.api
    }

    pub async fn call(&self, request: Request) -> Result<Answer, Status> {
        self.api.call(request).await
    }

    pub async fn get(
        &self,
        kind: &'static Kind,
        namespace: &str,
        name: &str,
    ) -> Result<Object, Status> {
        object(self.call(Request::new(Verb::Get, kind, namespace, name)).await?)
    }

    /// `None` when it does not exist.
    pub async fn get_optional(
        &self,
        kind: &'static Kind,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Object>, Status> {
        match self.get(kind, namespace, name).await {
            Ok(object) => Ok(Some(object)),
            Err(status) if status.is_not_found() => Ok(None),
            Err(status) => Err(status),
        }
    }

    pub async fn list(
        &self,
        kind: &'static Kind,
        namespace: &str,
        options: ListOptions,
    ) -> Result<List, Status> {
        let mut request = Request::new(Verb::List, kind, namespace, "");
        request.list = options;
        match self.call(request).await? {
            Answer::List(list) => Ok(list),
            _ => Err(Status::internal("a list request was not answered with a list")),
        }
    }

    /// The tree's metadata says where.
    pub async fn create(&self, kind: &'static Kind, tree: Value) -> Result<Object, Status> {
        object(self.put(Verb::Create, kind, "", tree).await?)
    }

    pub async fn update(&self, kind: &'static Kind, tree: Value) -> Result<Object, Status> {
        object(self.put(Verb::Update, kind, "", tree).await?)
    }

    pub async fn update_status(&self, kind: &'static Kind, tree: Value) -> Result<Object, Status> {
        object(self.put(Verb::Update, kind, "status", tree).await?)
    }

    /// A create or update of any subresource, answered by whatever it answers.
    pub async fn put(
        &self,
        verb: Verb,
        kind: &'static Kind,
        subresource: &str,
        tree: Value,
    ) -> Result<Answer, Status> {
        use api::Lens;
        let mut request =
            Request::new(verb, kind, tree.str("metadata.namespace"), tree.str("metadata.name"));
        request.subresource = subresource.to_owned();
        request.body = Body::Tree(tree);
        self.call(request).await
    }

    pub async fn patch(
        &self,
        kind: &'static Kind,
        namespace: &str,
        name: &str,
        subresource: &str,
        patch_type: PatchType,
        patch: Value,
    ) -> Result<Object, Status> {
        let mut request = Request::new(Verb::Patch, kind, namespace, name);
        request.subresource = subresource.to_owned();
        request.body = Body::Patch(patch_type, patch);
        object(self.call(request).await?)
    }

    pub async fn delete(
        &self,
        kind: &'static Kind,
        namespace: &str,
        name: &str,
        options: DeleteOptions,
    ) -> Result<(), Status> {
        let mut request = Request::new(Verb::Delete, kind, namespace, name);
        request.delete = options;
        self.call(request).await.map(drop)
    }

    pub async fn watch(
        &self,
        kind: &'static Kind,
        namespace: &str,
        options: ListOptions,
    ) -> Result<Box<dyn WatchStream>, Status> {
        let mut request = Request::new(Verb::Watch, kind, namespace, "");
        request.list = options;
        self.api.watch(request).await
    }
}

fn object(answer: Answer) -> Result<Object, Status> {
    match answer {
        Answer::Object(object) => Ok(object),
        _ => Err(Status::internal("a request for an object was answered with something else")),
    }
}
