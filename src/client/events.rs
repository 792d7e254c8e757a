//! Events (`v1 Event`) as trees: what happened to an object, folded when it happens again.

use api::{Lens, Object, Value, json};
use stdx::time::Wall;

/// How many distinct events one component remembers for folding repeats.
const REMEMBERED_MAX: usize = 256;

/// Who tells.
#[derive(Debug, Clone)]
pub struct Source {
    pub component: String,
    /// The node, for node components; "" otherwise.
    pub host: String,
}

/// Remembers what was told, so that repeats raise a count instead of making objects.
#[derive(Debug, Default)]
pub struct Folder {
    told: Vec<Told>,
}

#[derive(Debug)]
struct Told {
    uid: String,
    field: String,
    reason: String,
    message: String,
    namespace: String,
    name: String,
    count: i64,
}

/// What to do with an event.
#[derive(Debug, Clone, PartialEq)]
pub enum Tell {
    Create(Value),
    /// Merge patch of the event `namespace/name`.
    Patch {
        namespace: String,
        name: String,
        patch: Value,
    },
}

impl Folder {
    /// Decides whether `event` is new or a repeat. `suffix` makes a new event's name unique.
    #[expect(
        clippy::too_many_arguments,
        reason = "an event has this many parts; a struct would only rename them"
    )]
    pub fn tell(
        &mut self,
        source: &Source,
        about: &Object,
        field: &str,
        warning: bool,
        reason: &str,
        message: &str,
        now: Wall,
        suffix: u64,
    ) -> Tell {
        let repeat = self.told.iter().position(|told| {
            told.uid == about.uid()
                && told.field == field
                && told.reason == reason
                && told.message == message
        });
        if let Some(idx) = repeat {
            let mut told = self.told.remove(idx);
            told.count += 1;
            let patch = json!({"count": told.count, "lastTimestamp": api::time::format(now)});
            let tell =
                Tell::Patch { namespace: told.namespace.clone(), name: told.name.clone(), patch };
            self.told.push(told);
            return tell;
        }
        let tree = new_event(source, about, field, warning, reason, message, now, suffix);
        if self.told.len() >= REMEMBERED_MAX {
            self.told.remove(0);
        }
        self.told.push(Told {
            uid: about.uid().to_owned(),
            field: field.to_owned(),
            reason: reason.to_owned(),
            message: message.to_owned(),
            namespace: tree.str("metadata.namespace").to_owned(),
            name: tree.str("metadata.name").to_owned(),
            count: 1,
        });
        Tell::Create(tree)
    }

    /// Forgets an event that the server no longer has, so that the next repeat makes it anew.
    pub fn forget(&mut self, namespace: &str, name: &str) {
        self.told.retain(|told| told.namespace != namespace || told.name != name);
    }
}

#[expect(clippy::too_many_arguments, reason = "as above")]
fn new_event(
    source: &Source,
    about: &Object,
    field: &str,
    warning: bool,
    reason: &str,
    message: &str,
    now: Wall,
    suffix: u64,
) -> Value {
    let namespace = if about.namespace().is_empty() { "default" } else { about.namespace() };
    let time = api::time::format(now);
    let mut tree = json!({
        "apiVersion": "v1", "kind": "Event",
        "metadata": {"namespace": namespace, "name": format!("{}.{suffix:016x}", about.name())},
        "involvedObject": {
            "apiVersion": about.api_version(), "kind": about.kind().name,
            "name": about.name(), "uid": about.uid(),
        },
        "type": if warning { "Warning" } else { "Normal" },
        "reason": reason, "message": message,
        "source": {"component": source.component},
        "reportingComponent": source.component, "reportingInstance": source.host,
        "firstTimestamp": time, "lastTimestamp": time, "count": 1,
    });
    use api::LensMut;
    if !about.namespace().is_empty() {
        tree.set("involvedObject.namespace", about.namespace());
    }
    if about.revision() != 0 {
        tree.set("involvedObject.resourceVersion", about.revision().to_string());
    }
    if !field.is_empty() {
        tree.set("involvedObject.fieldPath", field);
    }
    if !source.host.is_empty() {
        tree.set("source.host", source.host.as_str());
    }
    tree
}
