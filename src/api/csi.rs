//! Volumes of storage drivers (CSI): the names that kubelets, controllers and drivers' helpers know them by.

use ring::digest::{SHA256, digest};

/// What a volume is called in a Node's `volumesInUse` and `volumesAttached`.
pub fn unique_name(driver: &str, handle: &str) -> String {
    format!("kubernetes.io/csi/{driver}^{handle}")
}

/// The VolumeAttachment of a volume and a node.
pub fn attachment_name(driver: &str, handle: &str, node: &str) -> String {
    format!("csi-{}", hash(&[handle, driver, node]))
}

/// The handle of a volume that a pod has for itself, without a claim.
pub fn inline_handle(pod_uid: &str, volume: &str) -> String {
    format!("csi-{}", hash(&[pod_uid, volume]))
}

/// SHA-256 of these texts one behind the other, in hexadecimal.
pub fn hash(parts: &[&str]) -> String {
    wire::hex::encode(digest(&SHA256, parts.concat().as_bytes()).as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_upstreams() {
        assert_eq!(unique_name("d", "h"), "kubernetes.io/csi/d^h");
        // `printf abc | sha256sum`
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(attachment_name("b", "a", "c"), format!("csi-{abc}"));
        assert_eq!(inline_handle("ab", "c"), format!("csi-{abc}"));
    }
}
