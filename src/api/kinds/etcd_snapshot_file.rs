//! ETCDSnapshotFile: a snapshot of the embedded etcd, on a server's disk or in a bucket.

use crate::kind::*;

pub static ETCD_SNAPSHOT_FILE: Kind = Kind {
    group: "k3s.cattle.io",
    name: "ETCDSnapshotFile",
    plural: "etcdsnapshotfiles",
    scope: Scope::Cluster,
    storage: "k3s.cattle.io/etcdsnapshotfiles",
    declared: &Declared {
        version: "v1",
        schema: SCHEMA,
        doc: "A snapshot of the embedded etcd, on a server's disk or in a bucket. It tells of the snapshot: deleting it deletes no file.",
        conditional_updates: true,
        json: true,
        ..Declared::BASE
    },
};

/// Schema text; see `schema` for its form. Stored as JSON, as k3s stores them; the tags are ours.
const SCHEMA: &str = "
package io.cattle.k3s.v1
ETCDSnapshotFile kind
   1 metadata ObjectMeta
   2 spec     ETCDSnapshotSpec
   3 status   ETCDSnapshotStatus
ETCDSnapshotSpec
   1 snapshotName! str -- The snapshot's name, by which commands know it.
   2 nodeName!     str -- The node that took it.
   3 location!     str -- Where it is: a file:// or s3:// URL.
   4 metadata      {}str -- What a ConfigMap told of it when it was taken.
   5 s3            ETCDSnapshotS3? -- The bucket that it is in.
ETCDSnapshotS3
   1 endpoint      str
   2 endpointCA    str
   3 skipSSLVerify bool
   4 bucket        str
   5 region        str
   6 prefix        str
   7 insecure      bool
ETCDSnapshotStatus
   1 size         quantity? -- In bytes.
   2 creationTime time? -- When it was taken.
   3 readyToUse   bool? -- Whether it can be restored.
   4 error        ETCDSnapshotError?
ETCDSnapshotError
   1 time    time?
   2 message str?
";
