//! Who a container's process is: users and groups out of its own passwd and group files.

use stdx::{Context, Error, Result};

/// Numeric ids and home directory of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
    pub(crate) home: String,
}

/// What is asked for: `user` (`name[:group]`) wins over `uid`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted<'a> {
    pub(crate) user: &'a str,
    pub(crate) uid: u32,
    pub(crate) gid: Option<u32>,
    pub(crate) groups: &'a [u32],
    pub(crate) merge_groups: bool,
}

/// Resolves against the texts of `/etc/passwd` and `/etc/group` (empty if absent).
///
/// # Errors
/// If a name is in neither file. Numbers need not be.
pub(crate) fn resolve(wanted: Wanted<'_>, passwd: &str, group: &str) -> Result<Identity> {
    let (user, user_group) = match wanted.user.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (wanted.user, None),
    };
    let entry = match user {
        "" => passwd_entries(passwd).find(|entry| entry.uid == wanted.uid),
        name => match number(name) {
            // A number is that uid, as containerd has it; an entry whose name is a number is not asked.
            Some(uid) => passwd_entries(passwd).find(|entry| entry.uid == uid),
            None => passwd_entries(passwd).find(|entry| entry.name == name),
        },
    };
    let uid = match (&entry, user) {
        (Some(entry), _) => entry.uid,
        (None, "") => wanted.uid,
        (None, name) => number(name).context(|| {
            format!("unable to find user {name}: no matching entries in passwd file")
        })?,
    };
    let gid = match (user_group, wanted.gid) {
        (_, Some(gid)) => gid,
        (Some(name), None) => find_group(name, group)?,
        (None, None) => entry.as_ref().map_or(0, |entry| entry.gid),
    };
    let mut groups = wanted.groups.to_vec();
    if wanted.merge_groups
        && let Some(entry) = &entry
    {
        for line in group_entries(group) {
            if line.members.split(',').any(|member| member == entry.name)
                && !groups.contains(&line.gid)
            {
                groups.push(line.gid);
            }
        }
    }
    // Programs that only look at the supplementary groups must see the primary one, too.
    if !groups.contains(&gid) {
        groups.insert(0, gid);
    }
    if groups.len() > GROUPS_MAX {
        return Err(Error::new(format!(
            "{} supplementary groups, allowed are {GROUPS_MAX}",
            groups.len()
        )));
    }
    if [uid, gid].iter().chain(&groups).any(|id| *id > ID_MAX) {
        return Err(Error::new(format!("uids and gids must be in range 0-{ID_MAX}")));
    }
    let home = entry.map(|entry| entry.home).filter(|home| !home.is_empty()).unwrap_or("/");
    Ok(Identity { uid, gid, groups, home: home.to_owned() })
}

/// As containerd and Kubernetes have it. To the kernel, the largest number of all means "stay who you are".
const ID_MAX: u32 = i32::MAX.cast_unsigned();

/// A user or group given as a number.
fn number(name: &str) -> Option<u32> {
    name.parse().ok().filter(|id| *id <= ID_MAX)
}

/// The kernel's NGROUPS_MAX.
const GROUPS_MAX: usize = 65_536;

fn find_group(name: &str, group: &str) -> Result<u32> {
    let named = || group_entries(group).find(|entry| entry.name == name).map(|entry| entry.gid);
    number(name)
        .or_else(named)
        .context(|| format!("unable to find group {name}: no matching entries in group file"))
}

struct PasswdEntry<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

/// Lines that are not entries are skipped, as every other reader of these files does.
fn passwd_entries(text: &str) -> impl Iterator<Item = PasswdEntry<'_>> {
    text.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        let home = fields.nth(1).unwrap_or("");
        Some(PasswdEntry { name, uid, gid, home })
    })
}

struct GroupEntry<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

fn group_entries(text: &str) -> impl Iterator<Item = GroupEntry<'_>> {
    text.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let gid = fields.nth(1)?.parse().ok()?;
        Some(GroupEntry { name, gid, members: fields.next().unwrap_or("") })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nbad line\nweb:x:33:34::/srv:/bin/false\n99:x:7:8::/n:\nhuge:x:4294967295:1::/h:\n";
    const GROUP: &str = "root:x:0:\nstaff:x:50:web,other\nlog:x:4:web\n";

    fn check(user: &str, uid: u32, gid: Option<u32>, expected: &str) {
        let wanted = Wanted { user, uid, gid, groups: &[1000], merge_groups: true };
        let got = match resolve(wanted, PASSWD, GROUP) {
            Ok(id) => format!("{} {} {:?} {}", id.uid, id.gid, id.groups, id.home),
            Err(error) => error.to_string(),
        };
        assert_eq!(got, expected);
    }

    #[test]
    fn users_and_groups() {
        check("", 0, None, "0 0 [0, 1000] /root");
        check("web", 0, None, "33 34 [34, 1000, 50, 4] /srv");
        check("web:staff", 0, None, "33 50 [1000, 50, 4] /srv");
        check("33:77", 0, None, "33 77 [77, 1000, 50, 4] /srv");
        check("99", 0, None, "99 0 [0, 1000] /");
        check("7", 0, None, "7 8 [8, 1000] /n");
        check("+0", 0, None, "0 0 [0, 1000] /root");
        for user in ["4294967295", "2147483648", "-1", " 33"] {
            let why = format!("unable to find user {user}: no matching entries in passwd file");
            check(user, 0, None, &why);
        }
        let range = "uids and gids must be in range 0-2147483647";
        check("", u32::MAX, None, range);
        check("huge", 0, None, range);
        check("web", 0, Some(u32::MAX), range);
        check("12345", 0, None, "12345 0 [0, 1000] /");
        check("", 33, Some(5), "33 5 [5, 1000, 50, 4] /srv");
        check("", 1234, None, "1234 0 [0, 1000] /");
        check("nobody", 0, None, "unable to find user nobody: no matching entries in passwd file");
        check(
            "web:nogroup",
            0,
            None,
            "unable to find group nogroup: no matching entries in group file",
        );
    }
}
