//! The protocol between k3rs and a pod's shim: length-prefixed frames over a Unix socket.
//!
//! A frame is a little-endian `u32` length of what follows, one kind byte, and the payload. A client
//! sends one request a connection; `Subscribe`, `Exec` and `Attach` keep theirs for events or streams.
//! Shims outlive the k3rs that started them, so a newer k3rs must understand an older shim: kinds
//! are never reused, and `VERSION` changes with any payload.
//!
//! Decoding never panics; every length is checked against what is left.

use stdx::{Error, Result, Sensitive};

pub const VERSION: u32 = 1;
/// Longest frame: a container plan with a large environment.
pub const FRAME_MAX_BYTES: usize = 4 << 20;
/// Longest stream chunk in one frame.
pub const CHUNK_MAX_BYTES: usize = 32 << 10;

/// The sandbox's plan, in its state directory.
pub const SANDBOX_FILE: &str = "sandbox";
/// A container's exit status, in its own directory below that: an encoded `Exit`.
pub const EXIT_FILE: &str = "exit";
/// What a shim had to say on its way out, in the state directory.
pub const LOG_FILE: &str = "shim.log";
/// The argument that starts the process that all shims are forked from.
pub const ZYGOTE: &str = "zygote";
/// The listening socket, in the state directory.
pub const SOCKET_FILE: &str = "socket";

/// What a frame is. Values are for ever.
pub mod kind {
    /// -> `State`, then `Exited` events as they happen.
    pub const SUBSCRIBE: u8 = 1;
    /// `Container` -> `CREATED` or `ERROR`.
    pub const CREATE: u8 = 2;
    /// `Target` -> `OK` or `ERROR`.
    pub const START: u8 = 3;
    /// `Signal` -> `OK` or `ERROR`.
    pub const SIGNAL: u8 = 4;
    /// `Target`: forget an exited container -> `OK`.
    pub const REMOVE: u8 = 5;
    /// `Exec` -> `OK` or `ERROR`, then stream frames.
    pub const EXEC: u8 = 6;
    /// `Target` -> `OK` or `ERROR`, then stream frames.
    pub const ATTACH: u8 = 7;
    /// `Resize` -> `OK` or `ERROR`.
    pub const RESIZE: u8 = 8;
    /// `Target` -> `OK` or `ERROR`.
    pub const REOPEN_LOG: u8 = 9;
    /// Kill everything and end -> `OK`, then the socket closes.
    pub const SHUTDOWN: u8 = 10;
    /// `LogLimits`: when the shim rotates a container's log by itself -> `OK` or `ERROR`.
    pub const LIMIT_LOG: u8 = 11;
    /// `KeepExit`: where a container's exit is written down for a boot that comes after -> `OK` or `ERROR`.
    pub const KEEP_EXIT: u8 = 13;
    /// `Joined`: a container in another one's PID namespace -> `CREATED` or `ERROR`.
    pub const CREATE_JOINED: u8 = 12;

    // On a stream connection, to the shim.
    pub const STDIN: u8 = 20;
    pub const CLOSE_STDIN: u8 = 21;
    /// `Resize` with an empty id.
    pub const STREAM_RESIZE: u8 = 22;
    pub const KILL: u8 = 23;

    // On a stream connection, from the shim.
    pub const STDOUT: u8 = 30;
    pub const STDERR: u8 = 31;
    /// `Exit`; the last frame.
    pub const EXIT: u8 = 32;

    // Answers and events.
    pub const EXITED: u8 = 40;
    pub const OK: u8 = 50;
    /// A `String`.
    pub const ERROR: u8 = 51;
    pub const CREATED: u8 = 52;
    pub const STATE: u8 = 53;
}

/// Starts a frame in `out`, lets `payload` append, and sets the length.
pub fn frame(out: &mut Vec<u8>, kind: u8, payload: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    out.push(kind);
    payload(out);
    let n_bytes = u32::try_from(out.len() - start - 4).unwrap_or(u32::MAX);
    out[start..start + 4].copy_from_slice(&n_bytes.to_le_bytes());
}

/// A frame with one value as its payload.
pub fn frame_of(kind: u8, value: &impl Field) -> Vec<u8> {
    let mut out = Vec::new();
    frame(&mut out, kind, |out| value.put(out));
    out
}

/// If `buf` starts with a whole frame: its kind, its payload and its total length.
pub fn parse_frame(buf: &[u8]) -> Result<Option<(u8, &[u8], usize)>> {
    let Some(head) = buf.first_chunk::<4>() else { return Ok(None) };
    let n_bytes = usize::try_from(u32::from_le_bytes(*head)).unwrap_or(usize::MAX);
    if n_bytes == 0 || n_bytes > FRAME_MAX_BYTES {
        return Err(Error::new(format!(
            "shim frame of {n_bytes} bytes, allowed are 1 to {FRAME_MAX_BYTES}"
        )));
    }
    match buf.get(4..4 + n_bytes) {
        Some(body) => Ok(Some((body[0], &body[1..], 4 + n_bytes))),
        None => Ok(None),
    }
}

/// Decodes a payload that must be exactly one `T`.
pub fn decode<T: Field>(payload: &[u8]) -> Result<T> {
    let mut rest = payload;
    let value = T::take(&mut rest)?;
    if !rest.is_empty() {
        return Err(Error::new(format!("{} bytes after the end of a shim message", rest.len())));
    }
    Ok(value)
}

/// A value with a fixed encoding.
pub trait Field: Sized {
    fn put(&self, out: &mut Vec<u8>);
    fn take(rest: &mut &[u8]) -> Result<Self>;
}

/// Declares a struct whose encoding is its fields in order.
macro_rules! message {
    ($(#[$meta:meta])* $name:ident { $($(#[$field_meta:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct $name { $($(#[$field_meta])* pub $field: $type,)* }

        impl Field for $name {
            fn put(&self, out: &mut Vec<u8>) {
                $(self.$field.put(out);)*
            }
            fn take(rest: &mut &[u8]) -> Result<Self> {
                Ok($name { $($field: Field::take(rest)?,)* })
            }
        }
    };
}

message! {
    /// What the shim sets up for the whole pod before it serves requests; read from a file.
    Sandbox {
        version: u32,
        id: String,
        /// Empty: keep the host's UTS namespace.
        hostname: String,
        host_network: bool,
        /// Empty: a new network namespace.
        netns: String,
        host_ipc: bool,
        shared_pid: bool,
        host_pid: bool,
        /// Paths below `/proc/sys` with their values.
        sysctls: Vec<(String, String)>,
        shm_size_bytes: u64,
    }
}

message! {
    /// A container up to its `execve`, with everything resolved that needs images or policy.
    Container {
        id: String,
        /// Its own state directory; the exit status goes to `exit` in it.
        directory: String,
        /// Directories whose `cgroup.procs` the process is written to.
        cgroups: Vec<String>,
        /// Directory of a cgroup v2 with `cgroup.kill`, or empty.
        kill_cgroup: String,
        /// File with an `oom_kill N` line, or empty.
        oom_file: String,
        rootfs: Rootfs,
        /// A value of `pid_mode`.
        pid_mode: u8,
        new_cgroup_namespace: bool,
        mounts: Vec<Mount>,
        devices: Vec<DeviceNode>,
        masked_paths: Vec<String>,
        readonly_paths: Vec<String>,
        /// Image volumes, which stay writable on a read-only root.
        volumes: Vec<String>,
        readonly_root: bool,
        process: Process,
        /// Empty: output is discarded.
        log_path: String,
        stdin_once: bool,
        /// Empty or `inside outside count` lines.
        uid_map: String,
        gid_map: String,
    }
}

pub mod pid_mode {
    pub const OWN: u8 = 0;
    pub const HOST: u8 = 1;
    pub const SANDBOX: u8 = 2;
    /// Another container's, of a `CREATE_JOINED` only.
    pub const TARGET: u8 = 3;
}

message! {
    /// An overlay: `lowers` are colon-separated, top first, relative to `base`.
    Rootfs {
        base: String,
        lowers: String,
        upper: String,
        work: String,
    }
}

message! {
    Mount {
        /// A value of `mount_kind`.
        kind: u8,
        source: String,
        target: String,
        /// For `FILESYSTEM`.
        fs_type: String,
        /// `MS_*` for `FILESYSTEM`; `MS_RDONLY` also for `BIND`.
        flags: u64,
        data: String,
        /// `MS_PRIVATE`, `MS_SLAVE` or `MS_SHARED`.
        propagation: u64,
        recursive_read_only: bool,
    }
}

pub mod mount_kind {
    pub const BIND: u8 = 0;
    pub const FILESYSTEM: u8 = 1;
    /// The pod's `/dev/shm`.
    pub const SHM: u8 = 2;
    /// A read-only overlay or single layer: `source` is the base, `data` the lowers.
    pub const IMAGE: u8 = 3;
}

message! {
    DeviceNode {
        path: String,
        /// `b'c'`, `b'b'` or `b'p'`.
        kind: u8,
        major: u32,
        minor: u32,
        mode: u32,
        uid: u32,
        gid: u32,
    }
}

message! {
    Process {
        args: Vec<Sensitive>,
        env: Vec<Sensitive>,
        cwd: String,
        /// `user[:group]`, resolved in the container; wins over `uid` and `gid` if not empty.
        user: String,
        uid: u32,
        /// `None`: the user's group in the container's passwd, else 0.
        gid: Option<u32>,
        groups: Vec<u32>,
        /// Add the groups that the container's group file lists for the user.
        merge_groups: bool,
        capabilities: Capabilities,
        no_new_privileges: bool,
        /// A compiled classic BPF program, or empty.
        seccomp: Vec<u8>,
        /// Resource number, soft, hard.
        rlimits: Vec<(u32, u64, u64)>,
        oom_score_adj: Option<i32>,
        umask: u32,
        tty: bool,
        stdin: bool,
        columns: u16,
        rows: u16,
    }
}

message! {
    /// Bit masks by capability number.
    Capabilities {
        bounding: u64,
        effective: u64,
        permitted: u64,
        inheritable: u64,
        ambient: u64,
    }
}

message! {
    Exec {
        container: String,
        cgroups: Vec<String>,
        process: Process,
    }
}

message! {
    /// A container that shares its processes with a running one of the same pod.
    Joined {
        /// The other one's id.
        target: String,
        plan: Container,
    }
}

message! { Target { id: String, } }
message! { LogLimits { id: String, file_max_bytes: u64, files_max: u32, } }
message! { KeepExit { id: String, path: String, } }
message! { Signal { id: String, signal: i32, } }
message! { Resize { id: String, columns: u16, rows: u16, } }

message! {
    Created {
        pid: u32,
        uid: u32,
        gid: u32,
        groups: Vec<u32>,
        home: String,
        /// What had to be clamped for lack of privilege.
        warnings: Vec<String>,
    }
}

message! {
    Exit {
        code: i32,
        signal: i32,
        oom_killed: bool,
        /// Nanoseconds since the Unix epoch.
        at: i64,
        message: String,
    }
}

message! { Exited { id: String, exit: Exit, } }

message! {
    ContainerState {
        id: String,
        pid: u32,
        /// 0 before the start.
        started_at: i64,
        exit: Option<Exit>,
    }
}

message! {
    State {
        version: u32,
        pid: u32,
        containers: Vec<ContainerState>,
    }
}

fn take_bytes<'a>(rest: &mut &'a [u8], n_bytes: usize) -> Result<&'a [u8]> {
    match rest.split_at_checked(n_bytes) {
        Some((head, tail)) => {
            *rest = tail;
            Ok(head)
        }
        None => Err(Error::new("shim message ends early")),
    }
}

macro_rules! number {
    ($($type:ty)*) => {$(
        impl Field for $type {
            fn put(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
            fn take(rest: &mut &[u8]) -> Result<Self> {
                let bytes = take_bytes(rest, size_of::<$type>())?;
                let mut raw = [0; size_of::<$type>()];
                raw.copy_from_slice(bytes);
                Ok(<$type>::from_le_bytes(raw))
            }
        }
    )*};
}
number!(u8 u16 u32 u64 i32 i64);

impl Field for bool {
    fn put(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
    fn take(rest: &mut &[u8]) -> Result<Self> {
        Ok(u8::take(rest)? != 0)
    }
}

impl Field for String {
    fn put(&self, out: &mut Vec<u8>) {
        put_len(self.len(), out);
        out.extend_from_slice(self.as_bytes());
    }
    fn take(rest: &mut &[u8]) -> Result<Self> {
        let n_bytes = take_len(rest)?;
        let bytes = take_bytes(rest, n_bytes)?;
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => Err(Error::new("shim message holds text that is not UTF-8")),
        }
    }
}

impl Field for Sensitive {
    fn put(&self, out: &mut Vec<u8>) {
        self.reveal().put(out);
    }
    fn take(rest: &mut &[u8]) -> Result<Self> {
        String::take(rest).map(Sensitive::from)
    }
}

impl<T: Field> Field for Vec<T> {
    fn put(&self, out: &mut Vec<u8>) {
        put_len(self.len(), out);
        for item in self {
            item.put(out);
        }
    }
    fn take(rest: &mut &[u8]) -> Result<Self> {
        let n_items = take_len(rest)?;
        // Every item takes at least one byte, so a hostile count cannot make us allocate.
        let mut items = Vec::with_capacity(n_items.min(rest.len()));
        for _ in 0..n_items {
            items.push(T::take(rest)?);
        }
        Ok(items)
    }
}

impl<T: Field> Field for Option<T> {
    fn put(&self, out: &mut Vec<u8>) {
        self.is_some().put(out);
        if let Some(value) = self {
            value.put(out);
        }
    }
    fn take(rest: &mut &[u8]) -> Result<Self> {
        Ok(if bool::take(rest)? { Some(T::take(rest)?) } else { None })
    }
}

impl Field for (String, String) {
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
        self.1.put(out);
    }
    fn take(rest: &mut &[u8]) -> Result<Self> {
        Ok((Field::take(rest)?, Field::take(rest)?))
    }
}

impl Field for (u32, u64, u64) {
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
        self.1.put(out);
        self.2.put(out);
    }
    fn take(rest: &mut &[u8]) -> Result<Self> {
        Ok((Field::take(rest)?, Field::take(rest)?, Field::take(rest)?))
    }
}

fn put_len(n: usize, out: &mut Vec<u8>) {
    u32::try_from(n).unwrap_or(u32::MAX).put(out);
}

fn take_len(rest: &mut &[u8]) -> Result<usize> {
    Ok(usize::try_from(u32::take(rest)?).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Container {
        Container {
            id: "abc".into(),
            cgroups: vec!["/sys/fs/cgroup/cpu/x".into()],
            devices: vec![DeviceNode {
                path: "/dev/null".into(),
                kind: b'c',
                major: 1,
                minor: 3,
                ..Default::default()
            }],
            mounts: vec![Mount { target: "/proc".into(), flags: 1 << 20, ..Default::default() }],
            process: Process {
                args: vec!["sh".into(), "-c".into(), "true".into()],
                gid: Some(7),
                oom_score_adj: Some(-998),
                rlimits: vec![(7, 1, u64::MAX)],
                seccomp: vec![1, 2, 3],
                ..Default::default()
            },
            ..Default::default()
        }
    }

    #[test]
    fn round_trip() {
        let frame = frame_of(kind::CREATE, &sample());
        let (kind, payload, n_bytes) = parse_frame(&frame).unwrap().unwrap();
        assert_eq!((kind, n_bytes), (kind::CREATE, frame.len()));
        assert_eq!(decode::<Container>(payload).unwrap(), sample());
        for cut in 0..frame.len() {
            assert!(parse_frame(&frame[..cut]).unwrap().is_none());
        }
        assert!(parse_frame(&[0, 0, 0, 0]).is_err());
        assert!(parse_frame(&[0xff; 8]).is_err());
    }

    #[test]
    fn damaged_messages_are_errors_not_panics() {
        let mut prng = stdx::prng::Prng::new(1);
        let mut bytes = Vec::new();
        sample().put(&mut bytes);
        for cut in 0..bytes.len() {
            assert!(decode::<Container>(&bytes[..cut]).is_err());
        }
        for _ in 0..2000 {
            let mut damaged = bytes.clone();
            for _ in 0..3 {
                let at = usize::try_from(prng.below(damaged.len() as u64)).unwrap();
                damaged[at] = prng.next_u64().to_le_bytes()[0];
            }
            let _ = decode::<Container>(&damaged);
        }
    }
}
