//! Kernel settings under `/proc/sys/net`: written if they differ, a warning where they cannot be.

use std::path::PathBuf;

/// Writes `net.<name>`; `name` has slashes, as interface names may hold dots. True if it is set now.
pub(crate) fn set(name: &str, value: &str) -> bool {
    let path = PathBuf::from("/proc/sys/net").join(name);
    if is(name, value) {
        return true;
    }
    match rt::fs::write_in_place(&path, value.as_bytes()) {
        Ok(()) => true,
        Err(error) => {
            log::warn!("set kernel setting net/{name} to {value}: {error}");
            false
        }
    }
}

/// True if the setting exists and has this value.
pub(crate) fn is(name: &str, value: &str) -> bool {
    let path = PathBuf::from("/proc/sys/net").join(name);
    rt::fs::read_text(path).is_ok_and(|text| text.trim() == value)
}
