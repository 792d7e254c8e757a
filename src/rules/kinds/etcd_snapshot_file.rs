//! ETCDSnapshotFile: a snapshot of the embedded etcd, on a disk or in a bucket.

use api::kinds::ETCD_SNAPSHOT_FILE;

use super::Rules;
use crate::column::Column;

pub(super) static RULES: Rules =
    Rules { kind: &ETCD_SNAPSHOT_FILE, columns: COLUMNS, ..Rules::BASE };

const COLUMNS: &[Column<'static>] = &[
    Column::path("SnapshotName", "spec.snapshotName"),
    Column::path("Node", "spec.nodeName"),
    Column::path("Location", "spec.location"),
    Column::path("Size", "status.size"),
    Column::path("CreationTime", "status.creationTime"),
];
