//! What must outlive the machine's power: which containers of a pod were started, and how they ended.
//!
//! The runtime's state is lost with a boot, and the API may never have heard of a start. So a start
//! is on this node's disk before the process runs, and an end before anything is made of it.

use api::{Lens, Value, json};
use stdx::time::Wall;

use super::state::{Exit, exit_of};
use super::status::terminated;
use super::{RestartPolicy, Role, time_at};

/// The newest container of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub name: String,
    pub attempt: u32,
    pub id: String,
    /// When it was about to be started.
    pub started_at: Option<Wall>,
    /// `None` until its end was seen.
    pub exit: Option<Exit>,
}

/// True for a container that must not run again only because nobody remembers it. The others start
/// anew after a power cut anyway, and are spared the write.
pub fn counts(policy: RestartPolicy, role: Role) -> bool {
    policy != RestartPolicy::Always || role == Role::Ephemeral
}

/// Notes a start; false if it was noted before.
pub fn began(records: &mut Vec<Record>, record: Record) -> bool {
    match records.iter_mut().find(|known| known.name == record.name) {
        Some(known) if known.id == record.id => return false,
        Some(known) => *known = record,
        None => records.push(record),
    }
    true
}

/// Notes an end; false if there is nothing new in it.
pub fn ended(records: &mut [Record], name: &str, exit: &Exit) -> bool {
    let known = records.iter_mut().find(|known| known.name == name);
    match known.filter(|known| known.id == exit.container_id && known.exit.is_none()) {
        Some(known) => {
            known.exit = Some(exit.clone());
            true
        }
        None => false,
    }
}

/// As they are on disk.
pub fn to_text(records: &[Record]) -> String {
    let list: Vec<Value> = records
        .iter()
        .map(|record| {
            json!({
                "name": record.name, "attempt": record.attempt, "id": record.id,
                "startedAt": record.started_at.map(api::time::format),
                "terminated": record.exit.as_ref().map(terminated),
            })
        })
        .collect();
    Value::from(list).to_string()
}

/// Reads what `to_text` wrote.
///
/// # Errors
/// If it is something else.
pub fn from_text(bytes: &[u8]) -> Result<Vec<Record>, serde_json::Error> {
    let tree: Value = serde_json::from_slice(bytes)?;
    let read = |entry: &Value| Record {
        name: entry.str("name").to_owned(),
        attempt: entry.int("attempt").and_then(|n| u32::try_from(n).ok()).unwrap_or(0),
        id: entry.str("id").to_owned(),
        started_at: time_at(entry, "startedAt"),
        exit: entry.at("terminated").is_object().then(|| exit_of(entry.at("terminated"))),
    };
    Ok(tree.list("").iter().map(read).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(name: &str, id: &str) -> Record {
        let started_at = Some(Wall::from_secs(1000));
        Record { name: name.into(), attempt: 1, id: id.into(), started_at, exit: None }
    }

    #[test]
    fn records_survive_as_text() {
        let mut records = Vec::new();
        assert!(began(&mut records, record("a", "1")));
        assert!(!began(&mut records, record("a", "1")));
        assert!(began(&mut records, record("b", "2")));
        let exit = Exit::unknown("1", Some(Wall::from_secs(1000)), Wall::from_secs(1005), "why");
        assert!(ended(&mut records, "a", &exit));
        assert!(!ended(&mut records, "a", &exit), "once");
        assert!(!ended(&mut records, "b", &exit), "another container's");
        assert_eq!(from_text(to_text(&records).as_bytes()).unwrap(), records);
        assert!(began(&mut records, record("a", "3")), "the next run of it");
        assert_eq!(records.iter().filter(|record| record.name == "a").count(), 1);
        assert!(from_text(b"[{").is_err());
    }

    #[test]
    fn only_what_may_not_run_again_is_written() {
        assert!(counts(RestartPolicy::Never, Role::App));
        assert!(counts(RestartPolicy::OnFailure, Role::Init));
        assert!(counts(RestartPolicy::Always, Role::Ephemeral));
        assert!(!counts(RestartPolicy::Always, Role::App));
    }
}
