//! Where volumes of drivers are in the kubelet's directory, and what is written beside each: upstream's `vol_data.json`.

use std::path::{Path, PathBuf};

use api::{Lens, Value, json};
use stdx::Result;

use super::Csi;

const FILE: &str = "vol_data.json";
/// Below a pod's directory, where its volumes are with a file system, and where those without are written down.
const MOUNTED: &str = "volumes/kubernetes.io~csi";
const MAPPED: &str = "volumeDevices/kubernetes.io~csi";
/// Below the kubelet's directory, where drivers put devices, by volume and pod.
const PUBLISHED: &str = "plugins/kubernetes.io/csi/volumeDevices/publish";

/// What is known of a volume that a pod has, or may have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Record {
    pub driver: String,
    pub handle: String,
    /// The PersistentVolume, or the pod's own name of the volume.
    pub spec: String,
    /// Its VolumeAttachment; empty where there is none.
    pub attachment: String,
    pub ephemeral: bool,
    pub node: String,
    /// It is a device, without a file system.
    pub block: bool,
    /// The directory in which the record is.
    pub directory: PathBuf,
    /// Where the driver mounts it, or puts the device.
    pub target: PathBuf,
}

impl Record {
    /// The driver makes its target itself, in a directory that is there. Blocking.
    pub(crate) fn write(&self) -> Result<()> {
        let of_target = self.target.parent().filter(|_| self.block);
        for directory in [Some(&*self.directory), of_target].into_iter().flatten() {
            rt::fs::create_dir_all(directory, 0o750)?;
        }
        let mode = if self.ephemeral { "Ephemeral" } else { "Persistent" };
        let tree = json!({
            "attachmentID": self.attachment, "driverName": self.driver, "nodeName": self.node,
            "specVolID": self.spec, "volumeHandle": self.handle, "volumeLifecycleMode": mode,
        });
        rt::fs::write_atomic(self.directory.join(FILE), tree.to_string().as_bytes(), 0o600)
    }

    /// Blocking.
    pub(crate) fn read(directory: &Path) -> Option<Record> {
        let bytes = rt::fs::read_record(directory.join(FILE), rt::fs::SMALL_MAX_BYTES).ok()??;
        let tree: Value = serde_json::from_slice(&bytes).ok()?;
        let text = |key: &str| tree.str(key).to_owned();
        let record = Record {
            driver: text("driverName"),
            handle: text("volumeHandle"),
            spec: text("specVolID"),
            attachment: text("attachmentID"),
            ephemeral: tree.str("volumeLifecycleMode") == "Ephemeral",
            node: text("nodeName"),
            block: false,
            directory: directory.to_owned(),
            target: directory.join("mount"),
        };
        (is_driver_name(&record.driver) && !record.handle.is_empty()).then_some(record)
    }

    /// Removes what is left of a volume that is not mounted any more. Blocking.
    pub(crate) fn remove(&self) -> Result<()> {
        if self.block {
            rt::fs::remove_file(&self.target)?;
            // Other pods may have the volume, too.
            let _ = self.target.parent().map(rt::fs::remove_empty_dir);
        }
        remove(&self.directory, &self.target)
    }
}

/// Removes a record and the place where the volume was. A place in which something is left stays with it.
fn remove(directory: &Path, place: &Path) -> Result<()> {
    rt::fs::remove_empty_dir(place)?;
    rt::fs::remove_file(directory.join(FILE))?;
    rt::fs::remove_empty_dir(directory)
}

impl Csi {
    pub(crate) fn pods(&self) -> PathBuf {
        self.root.join("pods")
    }

    /// Where a pod's volume is written down, and where its driver puts it.
    pub(crate) fn places(&self, uid: &str, spec: &str, block: bool) -> (PathBuf, PathBuf) {
        let directory = self.pods().join(uid).join(if block { MAPPED } else { MOUNTED }).join(spec);
        let target = match block {
            true => self.root.join(PUBLISHED).join(spec).join(uid),
            false => directory.join("mount"),
        };
        (directory, target)
    }

    /// Whether a pod has, or may have, volumes of drivers. Blocking.
    pub(crate) fn has_records(&self, uid: &str) -> bool {
        let pod = self.pods().join(uid);
        [MOUNTED, MAPPED].iter().any(|part| pod.join(part).is_dir())
    }

    /// The volumes that a pod has, or may have. Blocking.
    pub(crate) fn records_of(&self, uid: &str) -> Vec<Record> {
        let pod = self.pods().join(uid);
        let mut records = Vec::new();
        for (part, block) in [(MOUNTED, false), (MAPPED, true)] {
            for directory in rt::fs::list_dir(pod.join(part)).unwrap_or_default() {
                let (Some(mut record), Some(spec)) =
                    (Record::read(&directory), directory.file_name())
                else {
                    continue;
                };
                if block {
                    record.block = true;
                    record.target = self.root.join(PUBLISHED).join(spec).join(uid);
                }
                records.push(record);
            }
        }
        records
    }

    /// Those of all pods. Blocking.
    pub(crate) fn records(&self) -> Vec<Record> {
        let pods = rt::fs::list_dir(self.pods()).unwrap_or_default();
        let uids = pods.iter().filter_map(|pod| pod.file_name()?.to_str());
        uids.flat_map(|uid| self.records_of(uid)).collect()
    }

    /// The directory of a volume that is staged for all its pods.
    fn staging_directory(&self, driver: &str, handle: &str) -> PathBuf {
        let drivers = self.root.join("plugins/kubernetes.io/csi");
        drivers.join(driver).join(api::csi::hash(&[handle]))
    }

    pub(crate) fn staging_place(&self, driver: &str, handle: &str) -> PathBuf {
        self.staging_directory(driver, handle).join("globalmount")
    }

    /// Blocking.
    pub(crate) fn write_staged(&self, driver: &str, handle: &str) -> Result<()> {
        let directory = self.staging_directory(driver, handle);
        rt::fs::create_dir_all(directory.join("globalmount"), 0o750)?;
        let tree = json!({"driverName": driver, "volumeHandle": handle});
        rt::fs::write_atomic(directory.join(FILE), tree.to_string().as_bytes(), 0o600)
    }

    /// Blocking.
    pub(crate) fn is_staged(&self, driver: &str, handle: &str) -> bool {
        self.staging_directory(driver, handle).join(FILE).exists()
    }

    /// Blocking.
    pub(crate) fn remove_staged(&self, driver: &str, handle: &str) -> Result<()> {
        remove(&self.staging_directory(driver, handle), &self.staging_place(driver, handle))
    }

    /// Driver and handle of each volume that is, or may be, staged. Blocking.
    pub(crate) fn all_staged(&self) -> Vec<(String, String)> {
        let drivers = rt::fs::list_dir(self.root.join("plugins/kubernetes.io/csi"));
        let directories = drivers.unwrap_or_default().into_iter().filter(|path| path.is_dir());
        let volumes = directories.flat_map(|path| rt::fs::list_dir(path).unwrap_or_default());
        let records = volumes.filter_map(|directory| Record::read(&directory));
        records.map(|record| (record.driver, record.handle)).collect()
    }

    /// How many pods have, or may have, a volume. Blocking.
    pub(crate) fn users(&self, driver: &str, handle: &str) -> usize {
        let records = self.records();
        records.iter().filter(|it| it.driver == driver && it.handle == handle).count()
    }

    /// Whether a volume has left anything on this node. Blocking.
    pub(crate) fn is_here(&self, driver: &str, handle: &str) -> bool {
        self.is_staged(driver, handle) || self.users(driver, handle) > 0
    }

    /// Removes the directories of a pod whose volumes are down. Blocking.
    pub(crate) fn remove_pod(&self, uid: &str) -> Result<()> {
        let pod = self.pods().join(uid);
        for part in [MOUNTED, "volumes", MAPPED, "volumeDevices", ""] {
            rt::fs::remove_empty_dir(pod.join(part))?;
        }
        Ok(())
    }
}

/// The directories in which drivers have staged volumes for a pod, and have devices for it, by what the kubelet wrote
/// below `root`. Blocking.
pub fn staged_for(root: &Path, uid: &str) -> Vec<PathBuf> {
    let csi = Csi { root: root.to_owned(), ..Csi::default() };
    let records = csi.records_of(uid).into_iter().filter(|record| !record.ephemeral);
    let directories = records.flat_map(|record| {
        let devices = record.target.parent().filter(|_| record.block).map(Path::to_owned);
        [Some(csi.staging_directory(&record.driver, &record.handle)), devices]
    });
    directories.flatten().collect()
}

/// What a driver may be called; the name becomes a part of paths.
pub(crate) fn is_driver_name(name: &str) -> bool {
    const DRIVER_NAME_MAX_BYTES: usize = 63;
    name.len() <= DRIVER_NAME_MAX_BYTES && api::names::is_subdomain(&name.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_found_again_and_strangers_are_not_believed() {
        let dir = crate::testing::directory("csi-records");
        let csi = Csi { root: dir.path().to_owned(), ..Csi::default() };
        let record = Record {
            driver: "d.example.com".into(),
            handle: "h/../1".into(),
            spec: "pv".into(),
            attachment: "csi-1".into(),
            node: "n".into(),
            directory: csi.places("uid", "pv", false).0,
            target: csi.places("uid", "pv", false).1,
            ..Record::default()
        };
        record.write().unwrap();
        assert_eq!(csi.records(), std::slice::from_ref(&record));
        assert_eq!(Csi::open(dir.path()).in_use(), ["kubernetes.io/csi/d.example.com^h/../1"]);
        let bad = Record {
            driver: "../d".into(),
            directory: csi.places("uid", "q", false).0,
            ..record.clone()
        };
        bad.write().unwrap();
        assert_eq!(csi.records().len(), 1);
        // What a driver left behind is not removed over its head.
        rt::fs::write(record.target.join("f"), b"", 0o600).unwrap_err();
        rt::fs::create_dir_all(&record.target, 0o755).unwrap();
        rt::fs::write(record.target.join("f"), b"", 0o600).unwrap();
        assert!(record.remove().is_err());
        rt::fs::remove_file(record.target.join("f")).unwrap();
        record.remove().unwrap();
        assert!(csi.records().is_empty());

        let (directory, target) = csi.places("uid", "pv", true);
        let device = Record { block: true, directory, target, ..record };
        device.write().unwrap();
        assert!(!device.target.exists() && device.target.parent().unwrap().is_dir());
        assert_eq!(csi.records_of("uid"), std::slice::from_ref(&device));
        let devices = dir.path().join(PUBLISHED).join("pv");
        assert_eq!(staged_for(dir.path(), "uid")[1], devices);
        // A driver that leaves its file.
        rt::fs::write(&device.target, b"", 0o600).unwrap();
        device.remove().unwrap();
        assert!(csi.records().is_empty() && !devices.exists());

        csi.write_staged("d.example.com", "h").unwrap();
        assert_eq!(csi.all_staged(), [("d.example.com".to_owned(), "h".to_owned())]);
        csi.remove_staged("d.example.com", "h").unwrap();
        assert!(csi.all_staged().is_empty() && !csi.is_staged("d.example.com", "h"));
    }
}
