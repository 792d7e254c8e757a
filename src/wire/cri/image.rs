//! Images: what there is, pulls and removals.

use stdx::{OrdMap, Sensitive};

use super::{FilesystemUsage, Int64Value, PodSandboxConfig};
use crate::message::messages;

messages! {
    ImageSpec {
        1 image: String,
        2 annotations: OrdMap<String, String>,
        18 user_specified_image: String,
        19 runtime_handler: String,
    }

    ImageFilter {
        1 image: ImageSpec,
    }

    ListImagesRequest {
        1 filter: ImageFilter,
    }

    Image {
        1 id: String,
        2 repo_tags: Vec<String>,
        3 repo_digests: Vec<String>,
        4 size: u64,
        5 uid: Option<Int64Value>,
        6 username: String,
        7 spec: Option<ImageSpec>,
        8 pinned: bool,
    }

    ListImagesResponse {
        1 images: Vec<Image>,
    }

    ImageStatusRequest {
        1 image: ImageSpec,
        2 verbose: bool,
    }

    ImageStatusResponse {
        1 image: Option<Image>,
        2 info: OrdMap<String, String>,
    }

    AuthConfig {
        1 username: String,
        2 password: Sensitive,
        3 auth: Sensitive,
        4 server_address: String,
        5 identity_token: Sensitive,
        6 registry_token: Sensitive,
    }

    PullImageRequest {
        1 image: ImageSpec,
        2 auth: Option<AuthConfig>,
        3 sandbox_config: PodSandboxConfig,
    }

    PullImageResponse {
        1 image_ref: String,
    }

    RemoveImageRequest {
        1 image: ImageSpec,
    }

    RemoveImageResponse {}

    ImageFsInfoRequest {}

    ImageFsInfoResponse {
        1 image_filesystems: Vec<FilesystemUsage>,
        2 container_filesystems: Vec<FilesystemUsage>,
    }
}
