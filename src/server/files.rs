//! Administrators' files of the API server, read as strictly as upstream reads them; for encryption, audit, authentication and authorization.

use std::path::Path;
use std::time::Duration;

use api::{Lens, Value};
use rules::pod::security::configuration;
use stdx::Result as Done;

/// Of a file; what is longer is none.
const FILE_MAX_BYTES: u64 = 1 << 20;

/// A struct of such a file: its name in Go, and its fields with their types in Go.
pub(crate) type Struct = (&'static str, &'static [(&'static str, &'static str)]);

/// The file's text.
///
/// # Errors
/// If it cannot be read, or is larger than such files are.
pub(crate) fn text(path: &Path) -> Result<String, String> {
    let bytes = rt::fs::read_beginning(path, FILE_MAX_BYTES + 1).map_err(|e| e.to_string())?;
    if bytes.len() as u64 > FILE_MAX_BYTES {
        return Err(format!("more than {FILE_MAX_BYTES} bytes"));
    }
    String::from_utf8(bytes).map_err(|error| error.to_string())
}

/// The object in a text, if it is of the first of `structs` and has only fields that are known, each of its type.
///
/// # Errors
/// In upstream's words.
pub(crate) fn object(
    text: &str,
    versions: &[(&str, &str)],
    structs: &[Struct],
) -> Result<Value, String> {
    let (tree, unknown) = lenient(text, versions, structs)?;
    unknown.map(|()| tree)
}

/// The same, where fields that are not known end nothing: the complaint about them comes beside the object.
///
/// # Errors
/// In upstream's words.
pub(crate) fn lenient(
    text: &str,
    versions: &[(&str, &str)],
    structs: &[Struct],
) -> Result<(Value, Result<(), String>), String> {
    let tree = wire::yaml::parse_one(text);
    let tree = tree.map_err(|error| format!("strict decoding error: {error}"))?;
    let Some((root, _)) = structs.first() else { return Ok((tree, Ok(()))) };
    configuration::check_kind(&tree, root.trim_start_matches("v1."), versions)?;
    let mut unknown = Vec::new();
    // What is left to look at: a value, its type, its path, the field's name in errors of Go.
    let mut todo: Vec<(&Value, &str, String, String)> =
        vec![(&tree, root, String::new(), String::new())];
    while let Some((value, of, path, field)) = todo.pop() {
        match (value, of.strip_prefix("[]")) {
            (Value::Null, _) => {}
            (Value::Array(items), Some(of)) => {
                let items = items.iter().enumerate().rev();
                todo.extend(
                    items.map(|(idx, item)| (item, of, format!("{path}[{idx}]"), field.clone())),
                );
            }
            (Value::String(_), None) if of == "string" => {}
            (Value::Bool(_), None) if of == "bool" => {}
            (Value::Number(_), None) if of == "int32" => {}
            // Whatever it says is refused by somebody else.
            (_, None) if of == "any" => {}
            (Value::Object(map), None) => {
                let Some((name, fields)) = structs.iter().find(|(name, _)| *name == of) else {
                    return Err(configuration::mistyped(value, &field, of));
                };
                for (key, value) in map {
                    let dot = if path.is_empty() { "" } else { "." };
                    let path = format!("{path}{dot}{key}");
                    match fields.iter().find(|(known, _)| known == key) {
                        Some((_, of)) => {
                            let plain = without_indices(&path);
                            let name = name.trim_start_matches("v1.");
                            todo.push((value, of, path, format!("{name}.{plain}")));
                        }
                        None => unknown.push(path),
                    }
                }
            }
            _ => return Err(configuration::mistyped(value, &field, of)),
        }
    }
    Ok((tree, configuration::unknown_fields(unknown)))
}

fn without_indices(path: &str) -> String {
    let mut inside = false;
    let kept = path.chars().filter(|c| {
        let was = inside;
        inside = (was || *c == '[') && *c != ']';
        !was && !inside
    });
    kept.collect()
}

/// What is wrong with a file, in the words of upstream's `field.Error`.
#[derive(Debug, Default)]
pub(crate) struct Wrong(pub(crate) Vec<String>);

impl Wrong {
    fn tell(&mut self, field: &str, what: &str, detail: &str) {
        let colon = if detail.is_empty() { "" } else { ": " };
        let one = [field, ": ", what, colon, detail].concat();
        // Upstream tells nothing twice.
        if !self.0.contains(&one) {
            self.0.push(one);
        }
    }

    pub(crate) fn required(&mut self, field: &str, detail: &str) {
        self.tell(field, "Required value", detail);
    }

    pub(crate) fn invalid(&mut self, field: &str, value: &str, detail: &str) {
        self.tell(field, &format!("Invalid value: {value:?}"), detail);
    }

    pub(crate) fn duplicate(&mut self, field: &str, value: &str) {
        self.tell(field, &format!("Duplicate value: {value:?}"), "");
    }

    pub(crate) fn forbidden(&mut self, field: &str, detail: &str) {
        self.tell(field, "Forbidden", detail);
    }

    pub(crate) fn too_many(&mut self, field: &str, n_items: usize, items_max: usize) {
        self.tell(field, "Too many", &format!("{n_items}: must have at most {items_max} items"));
    }

    /// `value` as it is shown.
    pub(crate) fn not_supported(&mut self, field: &str, value: &str, supported: &[&str]) {
        let quoted: Vec<String> = supported.iter().map(|one| format!("{one:?}")).collect();
        let detail = format!("supported values: {}", quoted.join(", "));
        self.tell(field, &format!("Unsupported value: {value}"), &detail);
    }

    /// # Errors
    /// If anything is wrong: all of it.
    pub(crate) fn end(self) -> Result<(), String> {
        if self.0.is_empty() { Ok(()) } else { Err(configuration::aggregate(&self.0)) }
    }
}

/// How long after a change a file is read: editors write in steps.
const RELOAD_DELAY: Duration = Duration::from_millis(100);

/// Calls `reload` whenever a file says something else than `known` and since; what it says of the outcome is logged with
/// `what`. It does not end while changes can be followed.
pub(crate) async fn follow(
    path: &Path,
    mut known: Option<String>,
    what: &str,
    reload: &(dyn Fn() -> Done<()> + Sync),
) {
    let watch = rt::FileWatch::new();
    // The directory: editors put a new file in the place of the old one.
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if let Err(error) = watch.add(dir) {
        log::error!("follow {}: {error}", path.display());
        return;
    }
    loop {
        let now = text(path).ok();
        if now != known {
            match reload() {
                Ok(()) => log::info!("Reloaded {what} config {}", path.display()),
                Err(error) => log::error!("reload the {what} config: {error}"),
            }
            known = now;
        }
        if watch.changed().await.is_err() {
            return;
        }
        rt::sleep(RELOAD_DELAY).await;
    }
}

/// The texts in a list.
pub(crate) fn texts(tree: &Value, field: &str) -> Vec<String> {
    tree.list(field).iter().filter_map(|text| text.as_str().map(str::to_owned)).collect()
}
