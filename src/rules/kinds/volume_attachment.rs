//! VolumeAttachment: a volume that is to be attached to a node.

use api::complain::{Complain, IMMUTABLE};
use api::kinds::VOLUME_ATTACHMENT;
use api::lens::Lens;
use api::names;
use api::status::Cause;
use serde_json::Value;

use super::{Rules, persistent_volume};
use crate::checks;
use crate::column::Column;
use crate::keep;

pub(super) static RULES: Rules = Rules {
    kind: &VOLUME_ATTACHMENT,
    columns: &[
        Column { format: "name", ..Column::path("Attacher", "spec.attacher") },
        Column::path("PV", "spec.source.persistentVolumeName"),
        Column::path("Node", "spec.nodeName"),
        Column {
            kind: "boolean",
            ..Column::with("Attached", |tree, _| tree.flag("status.attached").into())
        },
        Column::AGE,
    ],
    prepare_status: keep::keep_metadata,
    validate,
    // A rule of its own checks it where it counts.
    unchecked: "spec.source.inlineVolumeSpec",
    validate_part: |_, new, old, causes| {
        // Upstream has no rules of its own for statuses here, so those of the object hold.
        validate(new, Some(old), causes);
    },
    on_update: "CCV",
    ..Rules::BASE
};

fn validate(new: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    let spec = new.at("spec");
    // Upstream checks updates twice, and new objects by stricter rules as well.
    for _ in 0..=usize::from(old.is_some()) {
        every(new, causes);
    }
    match old {
        None => {
            checks::driver_name(spec.str("attacher"), "spec.attacher", causes);
            if let Some(volume) = spec.at("source.persistentVolumeName").as_str() {
                let path = "spec.source.persistentVolumeName";
                causes.check_name(path, volume, names::subdomain);
            }
        }
        Some(old) if old.at("spec") != spec => causes.invalid("spec", spec, IMMUTABLE),
        Some(_) => {}
    }
}

fn every(new: &Value, causes: &mut Vec<Cause>) {
    const EXACTLY_ONE: &str =
        "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
    const METADATA_BYTES_MAX: usize = 256 * 1024;
    const MESSAGE_BYTES_MAX: usize = 1024;
    let spec = new.at("spec");
    if spec.str("attacher").is_empty() {
        causes.required("spec.attacher", "");
    }
    let (inline, volume) =
        (spec.at("source.inlineVolumeSpec"), spec.at("source.persistentVolumeName"));
    match (inline.is_null(), volume.is_null()) {
        (true, true) => causes.required("spec.source", EXACTLY_ONE),
        (false, false) => causes.forbidden("spec.source", EXACTLY_ONE),
        (true, false) if volume == "" => {
            let detail = "must specify non empty persistentVolumeName";
            causes.required("spec.source.persistentVolumeName", detail);
        }
        (true, false) => {}
        (false, true) => {
            persistent_volume::spec(inline, "spec.source.inlineVolumeSpec", true, causes);
        }
    }
    causes.check_name("spec.nodeName", spec.str("nodeName"), names::subdomain);
    let pairs = new.pairs("status.attachmentMetadata");
    if pairs.map(|(key, value)| key.len() + value.len()).sum::<usize>() > METADATA_BYTES_MAX {
        causes.too_long("status.attachmentMetadata", METADATA_BYTES_MAX);
    }
    for error in ["status.attachError", "status.detachError"] {
        if new.at(error).str("message").len() > MESSAGE_BYTES_MAX {
            // Upstream names the other bound.
            causes.too_long(&format!("{error}.message"), METADATA_BYTES_MAX);
        }
    }
}
