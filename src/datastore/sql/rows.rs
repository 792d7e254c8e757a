//! Rows of kine's table, and what they mean to us.

use std::time::Duration;

use stdx::{Error, Result};
use store::{LeaseId, Row, Version, lease_key};

use super::column;
use super::session::{number, number_or_null};

/// Rows that one answer may have; the statement says so too.
pub(super) const TAIL_ROWS_MAX: usize = 500;

/// kine's own row, which says up to where the table is compacted.
const COMPACT_KEY: &[u8] = b"compact_rev_key";
/// What kine fills numbers with that nobody used.
const GAP: &[u8] = b"gap-";

/// Leases that stand for the time of a stock server's keys have it as their number, in seconds.
const STOCK_LEASE_MAX: LeaseId = i32::MAX as LeaseId;

/// Whether a lease's number may be its time in seconds: our own are random, and hardly ever so small.
pub(super) fn is_stock_lease(id: LeaseId) -> bool {
    (1..=STOCK_LEASE_MAX).contains(&id)
}

/// A row of ours: id, name, created, deleted, `create_revision`, seconds, value, lease, version.
/// `None` for one of kine's own, which is no key.
pub(super) fn read_row(row: &[Option<&[u8]>]) -> Result<Option<Row>> {
    let id: u64 = number(column(row, 0))?;
    let Some(name) = column(row, 1) else {
        return Err(Error::new(format!("row {id} of the datastore has no name")));
    };
    if name == COMPACT_KEY || name.starts_with(GAP) {
        return Ok(None);
    }
    if number::<i64>(column(row, 3))? != 0 {
        return Ok(Some(Row::new(id, 0, name.into(), None)));
    }
    let created = number_or_null::<i64>(column(row, 2))?.unwrap_or(0) != 0;
    let create_revision = match created {
        true => id,
        false => number_or_null(column(row, 4))?.unwrap_or(id),
    };
    // Kine knows no leases, only how long a key lives, and counts no versions.
    let seconds = number_or_null(column(row, 5))?.unwrap_or(0).max(0);
    let version = Version {
        value: column(row, 6).unwrap_or_default().into(),
        create_revision,
        version: number_or_null(column(row, 8))?.unwrap_or(if created { 1 } else { 2 }),
        lease: number_or_null(column(row, 7))?.unwrap_or(seconds),
    };
    Ok(Some(Row::new(id, 0, name.into(), Some(version))))
}

/// The keys of leases whose numbers are their times, after a revision.
pub(super) fn lease_rows(after: u64, leases: &[LeaseId]) -> Vec<Row> {
    let row = |(revision, id): (u64, &LeaseId)| {
        let value = (id * 1000).to_string().into_bytes().into();
        let version = Version { value, create_revision: revision, version: 1, lease: 0 };
        Row::new(revision, 0, lease_key(*id), Some(version))
    };
    (after + 1..).zip(leases).map(row).collect()
}

/// The time of a lease, rounded up as kine counts it.
pub(super) fn ttl_secs(ttl: Duration) -> i64 {
    i64::try_from(ttl.as_millis().div_ceil(1000)).unwrap_or(STOCK_LEASE_MAX).min(STOCK_LEASE_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(columns: [&str; 9]) -> String {
        let row: Vec<Option<&[u8]>> =
            columns.iter().map(|text| (*text != "-").then_some(text.as_bytes())).collect();
        match read_row(&row) {
            Ok(Some(row)) => format!(
                "{} {:?}",
                row.key.escape_ascii(),
                row.kv.map(|kv| { (kv.create_revision, kv.mod_revision, kv.version, kv.lease) })
            ),
            Ok(None) => "none".into(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn rows_of_both_kinds() {
        for (columns, expected) in [
            (["7", "/a", "1", "0", "0", "0", "x", "-", "-"], "/a Some((7, 7, 1, 0))"),
            (["8", "/a", "0", "0", "7", "3600", "x", "-", "-"], "/a Some((7, 8, 2, 3600))"),
            (["9", "/a", "0", "0", "7", "15", "x", "-5", "41"], "/a Some((7, 9, 41, -5))"),
            (["10", "/a", "0", "1", "7", "0", "x", "-", "-"], "/a None"),
            (["11", "gap-11", "0", "1", "0", "0", "-", "-", "-"], "none"),
            (["1", "compact_rev_key", "1", "0", "0", "0", "", "-", "-"], "none"),
            (["12", "-", "1", "0", "0", "0", "", "-", "-"], "row 12 of the datastore has no name"),
            (
                ["x", "/a", "1", "0", "0", "0", "", "-", "-"],
                "the database gave no number where there should be one",
            ),
        ] {
            assert_eq!(read(columns), expected);
        }
    }

    #[test]
    fn times_of_leases() {
        assert_eq!([3_600_000, 1, 0].map(|ms| ttl_secs(Duration::from_millis(ms))), [3600, 1, 0]);
        let rows = lease_rows(5, &[15, 3600]);
        assert_eq!((rows[1].revision(), &*rows[1].key), (7, &b"/k3rs/leases/3600"[..]));
    }
}
