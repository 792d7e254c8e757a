//! ComponentStatuses: what the parts of this process say of themselves, made up when it is asked for.

use api::kinds::COMPONENT_STATUS;
use api::{Object, Status, json};
use client::{Answer, List, Verb};

use crate::core::{Call, Outcome, method_not_allowed};
use crate::storage::selection::Selection;

/// The names that upstream gives them. They run in this process, or as its store: whoever is asked
/// is alive.
const COMPONENTS: [&str; 3] = ["controller-manager", "etcd-0", "scheduler"];
const DEPRECATED: &str = "v1 ComponentStatus is deprecated in v1.19+";

/// Answers `get` and `list`.
///
/// # Errors
/// 404 for another name, 400 for a selector that cannot be read.
pub(crate) fn read(call: &Call<'_>) -> Result<Outcome, Status> {
    let request = call.request;
    let answer = match request.verb {
        Verb::Get => {
            let known = COMPONENTS.contains(&request.name.as_str());
            if !known {
                // Upstream's error is none of the API's.
                return Err(Status::internal(format!("Component not found: {}", request.name)));
            }
            Answer::Object(status(&request.name)?)
        }
        Verb::List => {
            let selection = Selection::parse(call.form, &request.list)?;
            let all = COMPONENTS.into_iter().map(status).collect::<Result<Vec<_>, _>>()?;
            let items = all.into_iter().filter(|object| selection.matches(object)).collect();
            Answer::List(List { items, ..List::default() })
        }
        _ => return Err(method_not_allowed()),
    };
    Ok(Outcome::ok(answer).with_warnings(vec![DEPRECATED.into()]))
}

fn status(name: &str) -> Result<Object, Status> {
    let tree = json!({
        "apiVersion": "v1", "kind": "ComponentStatus",
        "metadata": {"name": name, "creationTimestamp": null},
        "conditions": [{"type": "Healthy", "status": "True", "message": "ok"}],
    });
    Object::from_tree(&COMPONENT_STATUS, &tree).map_err(Status::internal)
}
