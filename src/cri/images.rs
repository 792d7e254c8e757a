//! Images: what there is, pulls and removals.

use runtime::images::{Image, PullAuth};
use serde_json::json;
use stdx::{Context, OrdMap, Sensitive};
use wire::base64;
use wire::cri::{
    self, AuthConfig, FilesystemIdentifier, FilesystemUsage, ImageFsInfoResponse,
    ImageStatusRequest, ImageStatusResponse, Int64Value, ListImagesRequest, ListImagesResponse,
    PullImageRequest, PullImageResponse, RemoveImageRequest, UInt64Value,
};

use crate::Shared;
use crate::refusal::{Answer, Refusal};

impl Shared {
    pub(crate) fn list_images(&self, request: &ListImagesRequest) -> ListImagesResponse {
        let images = self.runtime.images();
        let found = match request.filter.image.image.as_str() {
            "" => images.list(),
            wanted => images.get(wanted).into_iter().collect(),
        };
        ListImagesResponse { images: found.iter().map(shown).collect() }
    }

    /// An image that is not there is no error.
    pub(crate) fn image_status(&self, request: &ImageStatusRequest) -> ImageStatusResponse {
        let Some(image) = self.runtime.images().get(&request.image.image) else {
            return ImageStatusResponse::default();
        };
        let mut info = OrdMap::new();
        if request.verbose {
            info.insert("info".to_owned(), verbose_info(&image));
        }
        ImageStatusResponse { image: Some(shown(&image)), info }
    }

    pub(crate) async fn pull_image(&self, request: PullImageRequest) -> Answer<PullImageResponse> {
        let reference = request.image.image;
        if reference.is_empty() {
            return Err(Refusal::invalid("failed to pull image: no image is named"));
        }
        let auth = request.auth.map(credentials).transpose()?.flatten();
        let image = self.runtime.images().pull(&reference, auth).await;
        let image = image.context(|| format!("failed to pull and unpack image {reference:?}"))?;
        Ok(PullImageResponse { image_ref: image.id })
    }

    /// With all its names, as containerd does; an image that is not there is no error.
    pub(crate) async fn remove_image(&self, request: &RemoveImageRequest) -> Answer<Vec<u8>> {
        let images = self.runtime.images();
        if let Some(image) = images.get(&request.image.image) {
            images.remove(&image.id).await?;
        }
        Ok(Vec::new())
    }

    pub(crate) async fn image_fs_info(&self) -> Answer<ImageFsInfoResponse> {
        let usage = self.runtime.images().usage().await?;
        let usage = FilesystemUsage {
            timestamp: rt::now().wall.0,
            fs_id: FilesystemIdentifier { mountpoint: self.config.images.display().to_string() },
            used_bytes: Some(UInt64Value { value: usage.bytes }),
            inodes_used: Some(UInt64Value { value: usage.inodes }),
        };
        Ok(ImageFsInfoResponse {
            image_filesystems: vec![usage.clone()],
            container_filesystems: vec![usage],
        })
    }
}

fn shown(image: &Image) -> cri::Image {
    let user = image.config.user.split(':').next().unwrap_or_default();
    let uid = user.parse().ok().map(|value| Int64Value { value });
    cri::Image {
        id: image.id.clone(),
        repo_tags: image.tags.clone(),
        repo_digests: image.digests.clone(),
        size: image.size_bytes,
        username: if uid.is_some() { String::new() } else { user.to_owned() },
        uid,
        spec: None,
        pinned: image.pinned,
    }
}

/// What `crictl inspecti` shows besides: the image's configuration in OCI's form.
fn verbose_info(image: &Image) -> String {
    let config = &image.config;
    let labels: serde_json::Map<String, serde_json::Value> =
        config.labels.iter().map(|(name, value)| (name.clone(), value.as_str().into())).collect();
    json!({
        "chainID": "",
        "imageSpec": {
            "architecture": config.architecture,
            "os": config.os,
            "config": {
                "User": config.user,
                "Env": config.env,
                "Entrypoint": config.entrypoint,
                "Cmd": config.cmd,
                "WorkingDir": config.working_dir,
                "StopSignal": config.stop_signal,
                "Labels": labels,
            },
        },
    })
    .to_string()
}

/// A name and a password, apart or as one text in base64, or a token; in containerd's order.
fn credentials(auth: AuthConfig) -> Answer<Option<PullAuth>> {
    let AuthConfig { username, password, auth, identity_token, registry_token, .. } = auth;
    let is_given = |secret: &Sensitive| *secret != Sensitive::default();
    if !username.is_empty() {
        return Ok(Some(PullAuth { username, password, ..PullAuth::default() }));
    }
    if is_given(&identity_token) {
        let message = "failed to pull image: identity tokens are not supported";
        return Err(Refusal::invalid(message));
    }
    if is_given(&auth) {
        let wrong = || {
            Refusal::invalid("failed to pull image: the auth field is not name:password in base64")
        };
        let text = base64::decode(auth.reveal()).and_then(|it| String::from_utf8(it).ok());
        let text = text.ok_or_else(wrong)?;
        let (username, password) = text.split_once(':').ok_or_else(wrong)?;
        let password = password.trim_matches('\0').into();
        return Ok(Some(PullAuth {
            username: username.to_owned(),
            password,
            ..PullAuth::default()
        }));
    }
    Ok(is_given(&registry_token).then(|| PullAuth { token: registry_token, ..PullAuth::default() }))
}
