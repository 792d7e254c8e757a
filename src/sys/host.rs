//! The host's name and its groups.

use std::io;

/// The host's name (gethostname(2)).
pub fn name() -> io::Result<String> {
    let mut buf = [0u8; 256];
    // SAFETY: the pointer and length describe `buf`, which lives through the call; one byte is kept for the end.
    let failed = unsafe { libc::gethostname(buf.as_mut_ptr().cast(), buf.len() - 1) } != 0;
    if failed {
        return Err(io::Error::last_os_error());
    }
    let end = buf.iter().position(|byte| *byte == 0).unwrap_or(buf.len());
    Ok(String::from_utf8_lossy(&buf[..end]).into_owned())
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
