//! Values under a structural schema: what is unknown goes, what is missing is filled in.

use serde_json::Value;
use stdx::Arrange;

use super::{At, NOTHING, Node, Structural, property};

/// How many unknown fields are told.
const UNKNOWN_MAX: usize = 20;

/// What objects carry whatever their schema says.
pub const TYPES: [&str; 3] = ["apiVersion", "kind", "metadata"];

/// What holds of a value because of where it is.
#[derive(Clone, Copy, Default)]
struct Level {
    /// A whole object.
    root: bool,
    /// An item of a list that keeps what is unknown.
    keep: bool,
}

/// Where a walk is, and what it found.
#[derive(Default)]
struct Pruning {
    path: String,
    unknown: Vec<String>,
}

impl Structural {
    /// Takes out of a whole object what the schema does not know; answers the paths of that.
    pub fn prune(&self, tree: &mut Value) -> Vec<String> {
        let mut pruning = Pruning::default();
        if !self.nodes.is_empty() {
            self.prune_at(0, tree, Level { root: true, keep: false }, &mut pruning);
        }
        pruning.unknown.arrange();
        pruning.unknown
    }

    /// The same of a value at a node, such as a default: whether nothing is unknown in it.
    pub fn is_pruned(&self, at: At, value: &Value) -> bool {
        let mut pruned = value.clone();
        self.prune_at(at, &mut pruned, Level::default(), &mut Pruning::default());
        pruned == *value
    }

    fn prune_at(&self, at: At, value: &mut Value, level: Level, pruning: &mut Pruning) {
        let nothing = Node::default();
        let node = self.node(at).unwrap_or(&nothing);
        let preserve = node.preserve || level.keep;
        let len = pruning.path.len();
        match value {
            Value::Object(map) => map.retain(|key, value| {
                let is_meta = TYPES.contains(&key.as_str());
                if (level.root || node.embedded) && is_meta {
                    return true;
                }
                let below = self.below(node, key);
                if below.is_none() && preserve {
                    return true;
                }
                super::check::enter(&mut pruning.path, key);
                match below {
                    Some(below) => self.prune_at(below, value, Level::default(), pruning),
                    None if pruning.unknown.len() < UNKNOWN_MAX => {
                        pruning.unknown.push(pruning.path.clone());
                    }
                    None => {}
                }
                pruning.path.truncate(len);
                below.is_some()
            }),
            Value::Array(items) if node.items.is_some() || !preserve => {
                let below = node.items.unwrap_or(NOTHING);
                let level = Level { root: false, keep: preserve };
                for (idx, item) in items.iter_mut().enumerate() {
                    pruning.path.push_str(&format!("[{idx}]"));
                    self.prune_at(below, item, level, pruning);
                    pruning.path.truncate(len);
                }
            }
            _ => {}
        }
    }

    /// Fills in defaults, after nulls that may not be there are gone. Idempotent.
    pub fn fill(&self, tree: &mut Value) {
        self.fill_at(0, tree);
    }

    fn fill_at(&self, at: At, value: &mut Value) {
        let Some(node) = self.node(at) else { return };
        match value {
            Value::Object(map) => {
                let may_be_null = |key: &str| {
                    let below = self.below(node, key).and_then(|below| self.node(below));
                    below.is_none_or(|below| below.nullable)
                };
                map.retain(|key, value| !value.is_null() || may_be_null(key));
                for (name, below) in &node.properties {
                    let default = self.node(*below).and_then(|below| below.default.as_deref());
                    if let Some(default) = default
                        && !map.contains_key(&**name)
                    {
                        map.insert(name.to_string(), default.clone());
                    }
                }
                for (key, value) in map.iter_mut() {
                    if let Some(below) = property(node, key).or(node.additional) {
                        self.fill_at(below, value);
                    }
                }
            }
            Value::Array(items) => {
                let Some(below) = node.items else { return };
                let default = self.node(below).filter(|below| !below.nullable);
                let default = default.and_then(|below| below.default.as_deref());
                for item in items.iter_mut() {
                    if let (true, Some(default)) = (item.is_null(), default) {
                        *item = default.clone();
                    }
                    self.fill_at(below, item);
                }
            }
            _ => {}
        }
    }
}
