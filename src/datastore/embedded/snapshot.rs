//! Snapshots of a member: taken as etcd's own stream, believed once its digest is right, and put back by etcd's own tool.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::grpc::{self, Status};
use ring::digest::{Context as Digest, SHA256, SHA256_OUTPUT_LEN};
use rt::process::{Ended, Helper};
use stdx::{Context, Error, Result};
use wire::etcd::{self, Message, method};
use wire::headers::Headers;

use super::config::Setup;
use super::members::Members;
use super::program;

/// Etcd sends 32 KiB at a time.
const PIECE_MAX_BYTES: usize = 4 << 20;
/// Between two pieces.
const PIECE_MAX: Duration = Duration::from_secs(60);
/// What is written at once.
const BLOCK_BYTES: usize = 1 << 20;
/// Pages of its database: a file of another length is none.
const PAGE_BYTES: u64 = 512;

/// The programs that restore one: the one that we build, and etcd's, which before 3.5 are one.
const RESTORERS: [&str; 3] = ["k3rs-etcdutl", "etcdutl", "etcdctl"];
/// Of what it says, so much is told.
const LINE_MAX_BYTES: usize = 512;
const RESTORE_MAX: Duration = Duration::from_secs(1800);

/// Where a snapshot goes.
pub trait Sink: Send {
    /// Told first how many bytes there will be.
    ///
    /// # Errors
    /// If there is no room for them.
    fn begin(&mut self, bytes: u64) -> Result<()>;

    /// # Errors
    /// If they cannot be kept.
    fn put(&mut self, bytes: Vec<u8>) -> rt::BoxFuture<'_, Result<()>>;
}

impl Members {
    /// Takes a snapshot of the first member: its database and, behind it, the digest of that.
    ///
    /// # Errors
    /// If it breaks off, or is not what its digest says; or the sink's error.
    pub async fn snapshot(&self, sink: &mut dyn Sink) -> Result<()> {
        let mut incoming =
            self.stream(method::SNAPSHOT, &etcd::SnapshotRequest {}.encode()).await?;
        let mut check = Check::new();
        let mut block = Vec::new();
        let mut begun = false;
        loop {
            let piece = rt::timeout(PIECE_MAX, incoming.next()).await;
            let piece = piece.unwrap_or_else(|rt::Elapsed| {
                Err(Status::new(grpc::Code::DEADLINE_EXCEEDED, "etcd sends nothing any more"))
            });
            let Some(piece) = piece.context(|| "take a snapshot of etcd")? else { break };
            let piece = etcd::SnapshotResponse::decode(&piece, usize::MAX);
            let piece = piece.context(|| "read a piece of etcd's snapshot")?;
            if !begun {
                begun = true;
                sink.begin(piece.remaining_bytes.saturating_add(piece.blob.len() as u64))?;
            }
            check.push(&piece.blob);
            block.extend_from_slice(&piece.blob);
            if block.len() >= BLOCK_BYTES {
                sink.put(std::mem::take(&mut block)).await?;
            }
        }
        check.end()?;
        sink.put(block).await
    }

    async fn stream(&self, path: &str, message: &[u8]) -> Result<grpc::Incoming> {
        let (http, endpoint) = self.first();
        let (mut outgoing, incoming) =
            grpc::streaming(http, endpoint, path, &Headers::new(), PIECE_MAX_BYTES);
        outgoing.send(message).await.context(|| format!("call {path}"))?;
        Ok(incoming)
    }
}

/// The digest of all but the last bytes, which must be it.
struct Check {
    digest: Digest,
    last: Vec<u8>,
    n_bytes: u64,
}

impl Check {
    fn new() -> Check {
        Check { digest: Digest::new(&SHA256), last: Vec::new(), n_bytes: 0 }
    }

    fn push(&mut self, bytes: &[u8]) {
        self.n_bytes += bytes.len() as u64;
        self.last.extend_from_slice(bytes);
        let known = self.last.len().saturating_sub(SHA256_OUTPUT_LEN);
        self.digest.update(&self.last[..known]);
        self.last.drain(..known);
    }

    fn end(self) -> Result<()> {
        let n_pages_bytes = self.n_bytes.saturating_sub(SHA256_OUTPUT_LEN as u64);
        let is_whole = n_pages_bytes > 0 && n_pages_bytes.is_multiple_of(PAGE_BYTES);
        match is_whole && self.digest.finish().as_ref() == self.last {
            true => Ok(()),
            false => Err(Error::new(format!(
                "etcd's snapshot of {} bytes is not what its digest says",
                self.n_bytes
            ))),
        }
    }
}

/// Looks at a whole snapshot in a file.
///
/// # Errors
/// If it cannot be read, or is not what its digest says.
pub fn check(file: &Path) -> Result<()> {
    use std::io::Read;
    let mut reader = rt::fs::open(file)?;
    let (mut check, mut block) = (Check::new(), vec![0; BLOCK_BYTES]);
    loop {
        match reader.read(&mut block).context(|| format!("read {}", file.display()))? {
            0 => return check.end().context(|| format!("use {}", file.display())),
            n => check.push(&block[..n]),
        }
    }
}

/// Finds the program that restores snapshots, as [`super::find`] finds etcd's.
///
/// # Errors
/// Where it was looked for, and what to do.
pub fn find_restorer(
    beside: Option<&Path>,
    unpacked: &Path,
    path: Option<&OsStr>,
) -> Result<PathBuf> {
    let found = program::look(&RESTORERS, beside, unpacked, path);
    found.map_err(|looked| {
        Error::new(format!(
            "restoring a snapshot needs etcd's tool, and there is none: looked for {} in {looked} and on PATH. Install etcdutl, or etcdctl before 3.6 (Debian's etcd-client)",
            RESTORERS.join(", "),
        ))
    })
}

/// Makes a member's directory of a snapshot, in `dir`, which is not there yet.
///
/// # Errors
/// What the program says.
pub async fn restore(program: &Path, setup: &Setup, snapshot: &Path, dir: &Path) -> Result<()> {
    let url = setup.peer_url();
    let args: Vec<OsString> = vec![
        "snapshot".into(),
        "restore".into(),
        snapshot.into(),
        "--name".into(),
        setup.name.clone().into(),
        "--data-dir".into(),
        dir.into(),
        "--initial-cluster".into(),
        format!("{}={url}", setup.name).into(),
        "--initial-advertise-peer-urls".into(),
        url.into(),
    ];
    let args: Vec<&OsStr> = args.iter().map(OsString::as_os_str).collect();
    let mut env = setup.env.clone();
    env.push(("ETCDCTL_API".to_owned(), "3".to_owned()));
    let what = || format!("restore {} with {}", snapshot.display(), program.display());
    let (mut helper, mut output) = Helper::start(program.as_os_str(), &args, &env).context(what)?;
    let mut last = String::new();
    let ended = rt::timeout(RESTORE_MAX, async {
        while let Some(line) = output.line(LINE_MAX_BYTES).await {
            log::debug!("{}: {line}", program.display());
            last = line;
        }
        helper.ended().await
    });
    match ended.await {
        Ok(Ok(Some(Ended::Code(0)))) => Ok(()),
        Ok(Ok(_)) => Err(Error::new(last)).context(what),
        Ok(Err(error)) => Err(error).context(what),
        Err(rt::Elapsed) => Err(Error::new("it takes too long")).context(what),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_of(pieces: &[&[u8]]) -> Result<()> {
        let mut check = Check::new();
        pieces.iter().for_each(|piece| check.push(piece));
        check.end()
    }

    #[test]
    fn a_snapshot_is_what_its_digest_says() {
        let pages = [7; 1024];
        let digest = ring::digest::digest(&SHA256, &pages);
        let digest = digest.as_ref();
        let whole = [&pages[..], digest].concat();
        for at in [0, 1, 31, 32, 512, 1000, 1024, 1030, 1056] {
            assert!(check_of(&[&whole[..at], &whole[at..]]).is_ok(), "{at}");
        }
        let bytewise: Vec<&[u8]> = whole.chunks(1).collect();
        assert!(check_of(&bytewise).is_ok());
        for n in [0, 1, 32, 544, 1024, 1055] {
            assert!(check_of(&[&whole[..n]]).is_err(), "{n}");
        }
        let mut changed = whole.clone();
        changed[500] ^= 1;
        assert!(check_of(&[&changed]).is_err());
        let empty = ring::digest::digest(&SHA256, b"");
        assert!(check_of(&[empty.as_ref()]).is_err(), "nothing is no snapshot");
    }
}
