//! Device access on cgroup v2, which has no devices controller: a small eBPF program a cgroup.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use crate::{check, check_fd};

/// Allows only what the rules name (v1's syntax, `c 1:3 rwm`, `*` for any number).
pub fn attach(cgroup: &Path, rules: &[String]) -> io::Result<()> {
    let program = load(&compile(rules)?)?;
    let cgroup = crate::file::open_dir(cgroup)?;
    #[repr(C)]
    struct Attach {
        target_fd: u32,
        program_fd: u32,
        attach_type: u32,
        flags: u32,
    }
    const PROG_ATTACH: libc::c_int = 8;
    const CGROUP_DEVICE: u32 = 6;
    const ALLOW_MULTI: u32 = 2;
    let attr = Attach {
        target_fd: cgroup.as_raw_fd().cast_unsigned(),
        program_fd: program.as_raw_fd().cast_unsigned(),
        attach_type: CGROUP_DEVICE,
        flags: ALLOW_MULTI,
    };
    // SAFETY: the kernel reads `attr` with the size given.
    check(unsafe {
        libc::syscall(libc::SYS_bpf, PROG_ATTACH, std::ptr::from_ref(&attr), size_of::<Attach>())
    })?;
    Ok(())
}

/// Whether the kernel takes such programs, by loading one that is thrown away.
pub fn probe() -> io::Result<()> {
    load(&compile(&[])?).map(drop)
}

fn load(instructions: &[u64]) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct Load {
        program_type: u32,
        n_instructions: u32,
        instructions: u64,
        license: u64,
        log: [u64; 3],
    }
    const PROG_LOAD: libc::c_int = 5;
    const PROG_TYPE_CGROUP_DEVICE: u32 = 15;
    let attr = Load {
        program_type: PROG_TYPE_CGROUP_DEVICE,
        n_instructions: u32::try_from(instructions.len()).unwrap_or(u32::MAX),
        instructions: instructions.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        log: [0; 3],
    };
    let load = || {
        // SAFETY: the kernel reads `attr` and the instructions and licence it points at, all alive here.
        check_fd(unsafe {
            libc::syscall(libc::SYS_bpf, PROG_LOAD, std::ptr::from_ref(&attr), size_of::<Load>())
        })
    };
    match load() {
        // Before Linux 5.11 programs count as locked memory, of which little is allowed by default.
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => {
            let memlock = libc::RLIMIT_MEMLOCK as u32;
            crate::process::set_rlimit(memlock, u64::MAX, u64::MAX)?;
            load()
        }
        loaded => loaded,
    }
}

/// One eBPF instruction in memory order.
fn instruction(code: u8, destination: u8, source: u8, offset: i16, immediate: i32) -> u64 {
    let mut bytes = [0; 8];
    bytes[0] = code;
    bytes[1] = if cfg!(target_endian = "little") {
        destination | source << 4
    } else {
        destination << 4 | source
    };
    bytes[2..4].copy_from_slice(&offset.to_ne_bytes());
    bytes[4..8].copy_from_slice(&immediate.to_ne_bytes());
    u64::from_ne_bytes(bytes)
}

fn compile(rules: &[String]) -> io::Result<Vec<u64>> {
    const LOAD_WORD: u8 = 0x61;
    const AND_32: u8 = 0x54;
    const SHIFT_RIGHT_32: u8 = 0x74;
    const MOVE: u8 = 0xb7;
    const MOVE_REGISTER: u8 = 0xbf;
    const JUMP_NOT_EQUAL: u8 = 0x55;
    const JUMP_NOT_EQUAL_REGISTER: u8 = 0x5d;
    const EXIT: u8 = 0x95;
    // Registers: 2 kind, 3 access, 4 major, 5 minor.
    let mut program = vec![
        instruction(LOAD_WORD, 2, 1, 0, 0),
        instruction(AND_32, 2, 0, 0, 0xffff),
        instruction(LOAD_WORD, 3, 1, 0, 0),
        instruction(SHIFT_RIGHT_32, 3, 0, 0, 16),
        instruction(LOAD_WORD, 4, 1, 4, 0),
        instruction(LOAD_WORD, 5, 1, 8, 0),
    ];
    for rule in rules {
        let rule = parse(rule).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("device rule {rule:?} is not valid"),
            )
        })?;
        // Each test jumps over what is left of this rule's block.
        let mut tests = vec![(JUMP_NOT_EQUAL, 2, 0, rule.kind)];
        if rule.access != ACCESS_ALL {
            tests.push((MOVE_REGISTER, 1, 3, 0));
            tests.push((AND_32, 1, 0, rule.access));
            tests.push((JUMP_NOT_EQUAL_REGISTER, 1, 3, 0));
        }
        tests.extend(rule.major.map(|major| (JUMP_NOT_EQUAL, 4, 0, major)));
        tests.extend(rule.minor.map(|minor| (JUMP_NOT_EQUAL, 5, 0, minor)));
        let n_tests = tests.len();
        for (idx, (code, destination, source, immediate)) in tests.into_iter().enumerate() {
            let is_jump = matches!(code, JUMP_NOT_EQUAL | JUMP_NOT_EQUAL_REGISTER);
            // Over the rest of the tests and the two instructions of the verdict.
            let over = i16::try_from(n_tests - idx + 1).unwrap_or(0);
            let offset = if is_jump { over } else { 0 };
            program.push(instruction(code, destination, source, offset, immediate));
        }
        program.push(instruction(MOVE, 0, 0, 0, 1));
        program.push(instruction(EXIT, 0, 0, 0, 0));
    }
    program.push(instruction(MOVE, 0, 0, 0, 0));
    program.push(instruction(EXIT, 0, 0, 0, 0));
    Ok(program)
}

const ACCESS_ALL: i32 = 7;

struct Rule {
    kind: i32,
    major: Option<i32>,
    minor: Option<i32>,
    access: i32,
}

fn parse(text: &str) -> Option<Rule> {
    let mut words = text.split(' ');
    let kind = match words.next()? {
        "b" => 1,
        "c" => 2,
        _ => return None,
    };
    let (major, minor) = words.next()?.split_once(':')?;
    let number = |text: &str| match text {
        "*" => Some(None),
        text => text.parse().ok().map(Some),
    };
    let access = words.next()?.chars().try_fold(0, |all, letter| match letter {
        'm' => Some(all | 1),
        'r' => Some(all | 2),
        'w' => Some(all | 4),
        _ => None,
    })?;
    Some(Rule { kind, major: number(major)?, minor: number(minor)?, access })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_accepts_the_program() {
        let rules = ["c *:* m", "c 1:3 rwm", "b 8:* r"].map(str::to_owned);
        let program = compile(&rules).unwrap();
        assert_eq!(program.len(), 6 + 6 + 5 + 7 + 2);
        if crate::process::effective_uid() == 0 {
            load(&program).unwrap();
        } else {
            eprintln!("skipped loading: not root");
        }
        assert!(compile(&["x 1:3 rwm".to_owned()]).is_err());
        assert!(compile(&["c 1:3 rwx".to_owned()]).is_err());
    }
}
