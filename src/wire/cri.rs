//! The messages of the Container Runtime Interface, version 1, but for what only Windows and SELinux have.
//!
//! Tables as `message` reads and writes them, in the protocol's words. Values that may be secrets cannot be printed.

mod container;
mod image;
mod runtime;
mod sandbox;
pub mod schema;
mod stats;

pub use container::*;
pub use image::*;
pub use runtime::*;
pub use sandbox::*;
pub use stats::*;

use crate::message::open_enums;

/// What the paths of the methods begin with.
pub const RUNTIME_SERVICE: &str = "/runtime.v1.RuntimeService/";
pub const IMAGE_SERVICE: &str = "/runtime.v1.ImageService/";

open_enums! {
    Protocol { TCP = 0, UDP = 1, SCTP = 2, }
    MountPropagation { PRIVATE = 0, HOST_TO_CONTAINER = 1, BIDIRECTIONAL = 2, }
    NamespaceMode { POD = 0, CONTAINER = 1, NODE = 2, TARGET = 3, }
    SupplementalGroupsPolicy { MERGE = 0, STRICT = 1, }
    ProfileType { RUNTIME_DEFAULT = 0, UNCONFINED = 1, LOCALHOST = 2, }
    PodSandboxState { READY = 0, NOT_READY = 1, }
    ContainerState { CREATED = 0, RUNNING = 1, EXITED = 2, UNKNOWN = 3, }
    ContainerEventType { CREATED = 0, STARTED = 1, STOPPED = 2, DELETED = 3, }
    MetricType { COUNTER = 0, GAUGE = 1, }
    CgroupDriver { SYSTEMD = 0, CGROUPFS = 1, }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Message;
    use stdx::prng::Prng;

    #[test]
    fn a_request_is_read_as_a_client_writes_it() {
        // A sandbox "p" on the host's network.
        let bytes = b"\x0a\x1b\x0a\x09\x0a\x01\x70\x12\x01\x75\x1a\x01\x6e\x32\x06\x0a\x01\x61\x12\x01\x62\x42\x06\x12\x04\x0a\x02\x08\x02";
        let read = RunPodSandboxRequest::decode(bytes, 10).unwrap();
        assert_eq!(read.config.metadata.name, "p");
        assert_eq!(read.config.labels["a"], "b");
        let options = read.config.linux.security_context.namespace_options.unwrap();
        assert_eq!((options.network, options.pid), (NamespaceMode::NODE, NamespaceMode::POD));
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let mut prng = Prng::new(7);
        for _ in 0..20_000 {
            let mut bytes = vec![0; usize::try_from(prng.below(60)).unwrap_or(0)];
            prng.fill(&mut bytes);
            let _ = CreateContainerRequest::decode(&bytes, 100);
            let _ = RunPodSandboxRequest::decode(&bytes, 100);
        }
    }
}
