//! Addon: a manifest that the deploy controller applied from a file.

use api::kinds::ADDON;

use super::Rules;
use crate::column::Column;

pub(super) static RULES: Rules = Rules { kind: &ADDON, columns: COLUMNS, ..Rules::BASE };

const COLUMNS: &[Column<'static>] =
    &[Column::path("Source", "spec.source"), Column::path("Checksum", "spec.checksum")];
