//! What a kubelet wants of the kernel's settings. Nothing here changes them: where they must be so, the node does not
//! start without.

use stdx::{Context, Error, Result};

/// Below `/proc/sys`, as upstream's kubelet has them.
const WANTED: [(&str, i64); 6] = [
    ("vm/overcommit_memory", 1),
    ("vm/panic_on_oom", 0),
    ("kernel/panic", 10),
    ("kernel/panic_on_oops", 1),
    ("kernel/keys/root_maxkeys", 1_000_000),
    ("kernel/keys/root_maxbytes", 25_000_000),
];

/// Whether the kernel is set as a kubelet wants it. Blocking.
///
/// # Errors
/// All settings that are otherwise, in upstream's words.
pub fn check_kernel() -> Result<()> {
    judge(|name| {
        let text = rt::fs::read_small_text(format!("/proc/sys/{name}"))?;
        text.trim().parse().context(|| format!("read /proc/sys/{name}"))
    })
}

fn judge(actual: impl Fn(&str) -> Result<i64>) -> Result<()> {
    let mut wrong = Vec::new();
    for (name, expected) in WANTED {
        match actual(name) {
            Ok(actual) if actual == expected => {}
            Ok(actual) => wrong.push(format!(
                "invalid kernel flag: {name}, expected value: {expected}, actual value: {actual}"
            )),
            Err(error) => wrong.push(error.to_string()),
        }
    }
    match wrong.len() {
        0 => Ok(()),
        1 => Err(Error::new(wrong.remove(0))),
        _ => Err(Error::new(format!("[{}]", wrong.join(", ")))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_otherwise_is_told_by_name() {
        let told = |change: &[(&str, i64)]| {
            let actual = |name: &str| {
                let all = change.iter().chain(&WANTED);
                Ok(all.clone().find(|(known, _)| *known == name).unwrap().1)
            };
            judge(actual).err().map(|error| error.to_string()).unwrap_or_default()
        };
        assert_eq!(told(&[]), "");
        let first = "invalid kernel flag: vm/overcommit_memory, expected value: 1, actual value: 0";
        assert_eq!(told(&[("vm/overcommit_memory", 0)]), first);
        assert_eq!(
            told(&[("vm/overcommit_memory", 0), ("kernel/panic", 0)]),
            format!(
                "[{first}, invalid kernel flag: kernel/panic, expected value: 10, actual value: 0]"
            )
        );
    }
}
