//! Manifests, indexes and configs of OCI and Docker images, as far as a runtime needs them.

use serde::{Deserialize, Serialize};
use stdx::OrdMap;

pub const MEDIA_TYPES_MANIFEST: [&str; 4] = [
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];

/// Longest manifest, index or config that we read.
pub const DOCUMENT_MAX_BYTES: usize = 4 << 20;

/// A manifest or an index: whichever lists are present tell which.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Manifest {
    pub schema_version: u32,
    pub media_type: String,
    pub config: Option<Descriptor>,
    pub layers: Vec<Descriptor>,
    pub manifests: Vec<Descriptor>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Descriptor {
    pub media_type: String,
    pub digest: String,
    pub size: u64,
    pub platform: Option<Platform>,
    #[serde(deserialize_with = "null_as_default")]
    pub annotations: OrdMap<String, String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Platform {
    pub architecture: String,
    pub os: String,
    pub variant: String,
}

/// The image's config blob.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Image {
    pub architecture: String,
    pub variant: String,
    pub os: String,
    #[serde(deserialize_with = "null_as_default")]
    pub config: ProcessConfig,
    pub rootfs: RootFs,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct RootFs {
    #[serde(deserialize_with = "null_as_default")]
    pub diff_ids: Vec<String>,
}

/// What the image says about processes; absent and null mean the same everywhere.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ProcessConfig {
    #[serde(deserialize_with = "null_as_default")]
    pub user: String,
    #[serde(deserialize_with = "null_as_default")]
    pub env: Vec<String>,
    #[serde(deserialize_with = "null_as_default")]
    pub entrypoint: Vec<String>,
    #[serde(deserialize_with = "null_as_default")]
    pub cmd: Vec<String>,
    #[serde(deserialize_with = "null_as_default")]
    pub working_dir: String,
    #[serde(deserialize_with = "null_as_default")]
    pub stop_signal: String,
    #[serde(deserialize_with = "null_as_default")]
    pub volumes: OrdMap<String, serde_json::Value>,
    #[serde(deserialize_with = "null_as_default")]
    pub labels: OrdMap<String, String>,
}

/// One image in the `manifest.json` of `docker save`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct SavedImage {
    pub config: String,
    #[serde(deserialize_with = "null_as_default")]
    pub repo_tags: Vec<String>,
    #[serde(deserialize_with = "null_as_default")]
    pub layers: Vec<String>,
}

fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

/// Splits `sha256:<64 hex digits>`, the only algorithm that registries use.
pub fn sha256_hex(digest: &str) -> Option<&str> {
    let hex = digest.strip_prefix("sha256:")?;
    let valid =
        hex.len() == 64 && hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    valid.then_some(hex)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nulls_and_absences() {
        let image: Image = serde_json::from_str(
            r#"{"architecture":"arm","variant":"v7","config":{"Env":null,"Cmd":["a"],"Volumes":{"/v":{}}},"rootfs":{"type":"layers"}}"#,
        )
        .unwrap();
        assert_eq!((image.config.cmd.len(), image.config.env.len()), (1, 0));
        assert!(image.config.volumes.contains_key("/v"));
        let manifest: Manifest =
            serde_json::from_str(r#"{"manifests":[{"digest":"x","annotations":null}]}"#).unwrap();
        assert!(manifest.config.is_none() && manifest.manifests.len() == 1);
        assert!(sha256_hex(&format!("sha256:{}", "a".repeat(64))).is_some());
        assert!(sha256_hex("sha256:../../etc").is_none());
    }
}
