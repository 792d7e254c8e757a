//! The host's name and its groups.

use std::io;

/// The host's name, as `uname -n` has it.
pub fn name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// The id of a group: a number, or a name of `/etc/group`.
pub fn group_id(group: &str) -> io::Result<u32> {
    if let Ok(id) = group.parse() {
        return Ok(id);
    }
    let text = std::fs::read_to_string("/etc/group")?;
    let id = text.lines().find_map(|line| {
        let mut columns = line.split(':');
        (columns.next() == Some(group)).then(|| columns.nth(1)?.parse().ok()).flatten()
    });
    id.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no such group"))
}
