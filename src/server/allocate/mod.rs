//! What Services get from the cluster: addresses and ports, each held by one Service only.

use api::{Kind, Status, Value};

use crate::core::Core;

/// The allocators of the cluster's Services.
#[derive(Debug, Default)]
pub(crate) struct Allocators {}

/// What was taken for a write that may still fail; given back when dropped without `keep`.
#[derive(Debug, Default)]
pub(crate) struct Reservation {}

impl Reservation {
    pub(crate) fn keep(self) {}
}

impl Allocators {
    pub(crate) async fn create(
        &self,
        _core: &Core,
        _kind: &Kind,
        _tree: &mut Value,
        _dry_run: bool,
    ) -> Result<Reservation, Status> {
        Ok(Reservation {})
    }

    pub(crate) async fn update(
        &self,
        _core: &Core,
        _kind: &Kind,
        _new: &mut Value,
        _old: &Value,
        _dry_run: bool,
    ) -> Result<Reservation, Status> {
        Ok(Reservation {})
    }

    pub(crate) fn deleted(&self, _kind: &Kind, _old: &Value) {}
}
