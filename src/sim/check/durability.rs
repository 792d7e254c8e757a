//! What was seen before a power cut is there after it, the lazy class excepted.

use std::collections::BTreeMap;

use api::kind::Durability as Class;
use store::Range;

use super::{Known, Verdict, object, text};

#[derive(Default)]
pub(super) struct Durability;

impl Durability {
    /// Compares what was known with what a fresh start found; `unsure` when a failed commit may
    /// have been written.
    pub(super) fn opened(&mut self, known: &Known, range: &Range, unsure: bool) -> Verdict {
        if range.revision < known.revision {
            return Err(format!("revision {} after {}", range.revision, known.revision));
        }
        let found: BTreeMap<String, u64> =
            range.items.iter().map(|kv| (text(&kv.key), kv.mod_revision)).collect();
        for (key, object) in &known.objects {
            if matches!(object.kind().declared.durability, Class::Lazy) {
                continue;
            }
            let lost = match found.get(key) {
                Some(revision) if *revision == object.revision() => false,
                // A write that was reported as failed may be there all the same.
                Some(revision) => !(unsure && *revision > object.revision()),
                None => !unsure,
            };
            if lost {
                return Err(format!(
                    "{object:?} was lost in a power cut, there is {:?}",
                    found.get(key)
                ));
            }
        }
        for kv in &range.items {
            if let Some(object) = object(kv)
                && !matches!(object.kind().declared.durability, Class::Lazy)
                && !known.objects.contains_key(&text(&kv.key))
                && kv.mod_revision <= known.revision
                && !unsure
            {
                return Err(format!("{object:?} was deleted, and came back in a power cut"));
            }
        }
        Ok(())
    }
}
