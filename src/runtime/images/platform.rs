//! Which of an image's platforms this machine runs.

use wire::oci::{Descriptor, Image, Platform};

/// Go's names, as images have them.
const ARCHITECTURE: &str = if cfg!(target_arch = "x86_64") {
    "amd64"
} else if cfg!(target_arch = "aarch64") {
    "arm64"
} else if cfg!(target_arch = "arm") {
    "arm"
} else if cfg!(target_arch = "riscv64") {
    "riscv64"
} else {
    std::env::consts::ARCH
};

/// The best of an index's manifests; none if none runs here.
pub(super) fn choose<'a>(manifests: &[&'a Descriptor]) -> Option<&'a Descriptor> {
    let ranked = manifests.iter().filter_map(|one| {
        let rank = match &one.platform {
            Some(platform) => rank(platform, ARCHITECTURE)?,
            // An index of one may leave it out.
            None if manifests.len() == 1 => 100,
            None => return None,
        };
        Some((rank, *one))
    });
    // The first of the best, as others choose.
    ranked.min_by_key(|(rank, _)| *rank).map(|(_, one)| one)
}

/// Whether an image without an index is for this machine. Nothing said is taken as yes.
pub(super) fn runs_here(image: &Image) -> bool {
    if image.architecture.is_empty() && image.os.is_empty() {
        return true;
    }
    let platform = Platform {
        architecture: image.architecture.clone(),
        os: image.os.clone(),
        variant: image.variant.clone(),
    };
    rank(&platform, ARCHITECTURE).is_some()
}

/// 0 is the best; none does not run.
fn rank(platform: &Platform, architecture: &str) -> Option<u32> {
    if platform.os != "linux" && !platform.os.is_empty() {
        return None;
    }
    let variant = || platform.variant.trim_start_matches('v').parse::<u32>().unwrap_or(0);
    match (architecture, platform.architecture.as_str()) {
        ("arm", "arm") => match platform.variant.as_str() {
            // Nothing said means v7, as containerd has it.
            "" | "v7" => Some(0),
            "v6" => Some(1),
            "v5" => Some(2),
            _ => None,
        },
        ("arm64", "arm64") => match platform.variant.as_str() {
            "" | "v8" | "8" => Some(0),
            _ => None,
        },
        // A 64-bit machine runs 32-bit programs where the kernel allows it: the last resort.
        ("arm64", "arm") if variant() <= 8 => Some(10 + 8 - variant().min(8)),
        ("amd64", "amd64") => match platform.variant.as_str() {
            "" | "v1" => Some(0),
            _ => None,
        },
        (own, other) if own == other => Some(0),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks() {
        let rank_of = |architecture: &str, variant: &str, machine: &str| {
            let platform = Platform {
                architecture: architecture.into(),
                os: "linux".into(),
                variant: variant.into(),
            };
            rank(&platform, machine)
        };
        assert!(rank_of("arm", "v7", "arm") < rank_of("arm", "v6", "arm"));
        assert!(rank_of("arm64", "v8", "arm64") < rank_of("arm", "v7", "arm64"));
        assert!(rank_of("arm", "v7", "arm64") < rank_of("arm", "v6", "arm64"));
        assert_eq!(rank_of("arm", "v8", "arm"), None);
        assert_eq!(rank_of("amd64", "", "arm64"), None);
        assert_eq!(rank_of("amd64", "v3", "amd64"), None);
        let windows =
            Platform { architecture: "amd64".into(), os: "windows".into(), variant: String::new() };
        assert_eq!(rank(&windows, "amd64"), None);
    }
}
