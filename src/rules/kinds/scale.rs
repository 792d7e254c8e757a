//! Scale: the number of replicas of something that can be scaled.

use api::kinds::SCALE;

use super::Rules;
use crate::column::Column;

pub(super) static RULES: Rules = Rules {
    kind: &SCALE,
    columns: &[
        Column::number("Desired", "spec.replicas"),
        Column::number("Available", "status.replicas"),
        Column::AGE,
    ],
    ..Rules::BASE
};
