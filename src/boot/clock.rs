//! A clock that starts in 1970 is set to the last time that the disk remembers (`k3rs.clock=floor`).
//!
//! It is not done unasked: whoever sets the clock later, by network or by hand, then finds certificates
//! and objects with times that were wrong by months instead of decades, which is harder to notice.

use std::path::Path;
use std::time::UNIX_EPOCH;

use stdx::time::Wall;

use crate::root::DATA_DIR;

/// Files that a running cluster writes to.
const WRITTEN: [&str; 2] = ["server/db/state.db", "server/db/state.db-wal"];

/// Sets the clock forward to when the cluster last wrote something, or the program was `built`. Never back.
pub(crate) fn raise_to_floor(built: Wall) {
    let times = WRITTEN.iter().filter_map(|name| {
        let metadata = rt::fs::metadata(Path::new(DATA_DIR).join(name)).ok()?;
        let secs = metadata.modified().ok()?.duration_since(UNIX_EPOCH).ok()?.as_secs();
        i64::try_from(secs).ok()
    });
    let floor = times.chain([built.secs()]).max().unwrap_or(0);
    if rt::now().wall.secs() >= floor {
        return;
    }
    match sys::kernel::set_clock(floor) {
        Ok(()) => log::info!(
            "Set the clock to {floor} s after 1970: it stood before what this disk and program know"
        ),
        Err(error) => log::warn!("set the clock: {error}"),
    }
}
