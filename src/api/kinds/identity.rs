//! The identities of kinds that are defined at run time, beside those in code.

use std::sync::{Mutex, PoisonError};

use super::KINDS;
use crate::kind::{Declared, Kind, Scope};

/// How many identities of kinds that are defined at run time a process ever keeps. They are small,
/// and are never given back, because whoever holds a kind holds its address.
pub const IDENTITIES_MAX: usize = 4096;

/// The longest group, name or plural of a kind that is defined at run time.
const NAME_BYTES_MAX: usize = 253;

static IDENTITIES: Mutex<Vec<&'static Kind>> = Mutex::new(Vec::new());

impl Kind {
    /// The identity of a kind that is defined at run time: always the same for the same group, name,
    /// plural and scope, so that what is defined anew is the same kind.
    ///
    /// # Errors
    /// If the names are too long, name a kind in code, or too many kinds were known in this process.
    pub fn intern(
        group: &str,
        name: &str,
        plural: &str,
        scope: Scope,
    ) -> Result<&'static Kind, String> {
        if !group.contains('.')
            || [group, name, plural].iter().any(|part| part.len() > NAME_BYTES_MAX)
        {
            return Err(format!("{name:?} in {group:?} cannot be a kind of its own"));
        }
        let is_taken = |kind: &&&Kind| {
            kind.group == group && (kind.name == name || kind.plural == plural)
                || kind
                    .declared
                    .also
                    .iter()
                    .any(|also| also.group == group && kind.plural == plural)
        };
        if let Some(kind) = KINDS.iter().find(is_taken) {
            return Err(format!("{}.{group} belongs to the server itself", kind.plural));
        }
        // Only grown, by one at a time.
        let mut known = IDENTITIES.lock().unwrap_or_else(PoisonError::into_inner);
        let identity = (group, name, plural, scope);
        if let Some(kind) = known.iter().find(|kind| kind.identity() == identity) {
            return Ok(kind);
        }
        if known.len() >= IDENTITIES_MAX {
            return Err(format!(
                "no more than {IDENTITIES_MAX} kinds are kept apart until a restart"
            ));
        }
        let kept = |text: &str| -> &'static str { Box::leak(text.to_owned().into_boxed_str()) };
        let (group, plural) = (kept(group), kept(plural));
        let storage = kept(&format!("{group}/{plural}"));
        let kind: &'static Kind = Box::leak(Box::new(Kind {
            group,
            name: kept(name),
            plural,
            scope,
            storage,
            declared: &Declared::RUN_TIME,
        }));
        known.push(kind);
        Ok(kind)
    }
}
