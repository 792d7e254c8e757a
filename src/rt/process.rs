//! Helper programs that end with this process. Containers do not come this way: `runtime` and `shim` make those.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};

use smol::Async;
use smol::io::{AsyncRead, AsyncReadExt};
use stdx::{Context, Result};

pub use sys::process::Ended;
use sys::process::Streams;

/// A program that runs. Dropping it kills the program.
#[derive(Debug)]
pub struct Helper {
    pidfd: Async<OwnedFd>,
    is_over: bool,
}

/// What a program prints.
pub struct Output {
    pipe: Box<dyn AsyncRead + Send + Unpin>,
    buffer: Vec<u8>,
    /// What is over the bound of a line is left out, up to its end.
    is_long: bool,
}

impl std::fmt::Debug for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Output")
    }
}

impl Helper {
    /// Starts `program` with `env` as its whole environment. It is killed when this process ends, however that
    /// comes. Call it in a task, and not in `unblock`: threads of that pool end, and the program would end with
    /// the one that started it.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(
        program: &OsStr,
        args: &[&OsStr],
        env: &[(String, String)],
    ) -> Result<(Helper, Output)> {
        let what = || format!("start {}", program.display());
        let (read, write) = sys::unix::pipe().context(what)?;
        let streams = Streams { input: None, output: write, errors: None };
        let helper = Helper::start_with(program, args, env, streams)?;
        let pipe = Box::new(Async::new(std::fs::File::from(read)).context(what)?);
        Ok((helper, Output { pipe, buffer: Vec::new(), is_long: false }))
    }

    fn start_with(
        program: &OsStr,
        args: &[&OsStr],
        env: &[(String, String)],
        streams: Streams,
    ) -> Result<Helper> {
        let what = || format!("start {}", program.display());
        let started = sys::process::spawn_dependent(program, args, env, streams).context(what)?;
        Ok(Helper { pidfd: Async::new_nonblocking(started.pidfd).context(what)?, is_over: false })
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// If somebody else has reaped it.
    pub async fn ended(&mut self) -> Result<Option<Ended>> {
        let what = || "wait for a program's end";
        self.pidfd.readable().await.context(what)?;
        self.is_over = true;
        sys::process::reap_pidfd(self.pidfd.as_fd()).context(what)
    }

    /// Asks it to end.
    pub fn terminate(&self) {
        self.signal(sys::process::SIGTERM);
    }

    pub fn kill(&self) {
        self.signal(sys::process::SIGKILL);
    }

    fn signal(&self, signal: i32) {
        if !self.is_over {
            // One that is over already needs none.
            let _ = sys::process::pidfd_signal(self.pidfd.as_fd(), signal);
        }
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        self.kill();
        if !self.is_over {
            // It ends within moments; nobody else would reap it.
            let second = Some(std::time::Duration::from_secs(1));
            let _ = sys::poll::wait_readable(self.pidfd.as_fd(), second);
            let _ = sys::process::reap_pidfd(self.pidfd.as_fd());
        }
    }
}

/// What a program that was asked something had to say.
#[derive(Debug)]
pub struct Answer {
    /// `None`: somebody else reaped it.
    pub ended: Option<Ended>,
    pub output: Vec<u8>,
    /// Of its stderr the beginning.
    pub errors: Vec<u8>,
}

/// Runs a program that reads `input` to its end, with `env` as its whole environment. Dropped before the end, it kills
/// the program. As for [`Helper::start`], call it in a task.
///
/// # Errors
/// If it cannot be started, or prints more than `max_bytes`.
pub async fn ask(
    program: &OsStr,
    args: &[&OsStr],
    env: &[(String, String)],
    input: &[u8],
    max_bytes: usize,
) -> Result<Answer> {
    const ERRORS_MAX_BYTES: usize = 4096;
    let what = || format!("run {}", program.display());
    let (read, output) = sys::unix::pipe().context(what)?;
    let (read_errors, errors) = sys::unix::pipe().context(what)?;
    let input = Some(sys::file::in_memory(input).context(what)?);
    let streams = Streams { input, output, errors: Some(errors) };
    let mut helper = Helper::start_with(program, args, env, streams)?;
    let output = Async::new(std::fs::File::from(read)).context(what)?;
    let errors = Async::new(std::fs::File::from(read_errors)).context(what)?;
    let both = smol::future::zip(beginning(output, max_bytes), beginning(errors, ERRORS_MAX_BYTES));
    let ((output, is_whole), (errors, _)) = both.await;
    if !is_whole {
        return Err(stdx::Error::new(format!(
            "{}: it printed more than {max_bytes} bytes",
            what()
        )));
    }
    Ok(Answer { ended: helper.ended().await?, output, errors })
}

/// What comes first of all that is printed, and whether that is all. The rest is read, for nobody may be kept waiting.
async fn beginning(mut pipe: Async<std::fs::File>, max_bytes: usize) -> (Vec<u8>, bool) {
    let (mut bytes, mut is_whole) = (Vec::new(), true);
    let mut some = [0; 2048];
    while let Ok(n @ 1..) = pipe.read(&mut some).await {
        let taken = n.min(max_bytes - bytes.len());
        bytes.extend_from_slice(&some[..taken]);
        is_whole &= taken == n;
    }
    (bytes, is_whole)
}

/// Runs a program with this process's terminal, as a shell would, and gives its exit code. Blocking.
///
/// # Errors
/// If it cannot be started.
pub fn foreground(program: &str, args: &[&str], env: &[(String, String)]) -> Result<i32> {
    let ended = command(program, args, env).status().context(|| format!("run {program}"))?;
    Ok(ended.code().unwrap_or(1))
}

/// Runs a program without input, and gives its exit code and what of its output is within `max_bytes`. Blocking.
///
/// # Errors
/// If it cannot be started, or prints more.
pub fn captured(
    program: &str,
    args: &[&str],
    env: &[(String, String)],
    max_bytes: usize,
) -> Result<(i32, Vec<u8>)> {
    use std::io::Read;
    let what = || format!("run {program}");
    let mut command = command(program, args, env);
    command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::piped());
    let mut child = command.spawn().context(what)?;
    let mut bytes = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        let read = stdout.take(max_bytes as u64 + 1).read_to_end(&mut bytes);
        read.context(what)?;
    }
    if bytes.len() > max_bytes {
        let _ = child.kill();
        let _ = child.wait();
        return Err(stdx::Error::new(format!("{program} printed more than {max_bytes} bytes")));
    }
    let ended = child.wait().context(what)?;
    Ok((ended.code().unwrap_or(1), bytes))
}

fn command(program: &str, args: &[&str], env: &[(String, String)]) -> std::process::Command {
    let mut command = std::process::Command::new(program);
    command.args(args).env_clear().envs(env.iter().map(|(name, value)| (name, value)));
    command
}

impl Output {
    /// The next line, of which what is over `max_bytes` is left out; `None` when all of it was read.
    pub async fn line(&mut self, max_bytes: usize) -> Option<String> {
        loop {
            if let Some(at) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=at).take(at.min(max_bytes)).collect();
                if !std::mem::take(&mut self.is_long) {
                    return Some(String::from_utf8_lossy(&line).into_owned());
                }
                continue;
            }
            if self.buffer.len() >= max_bytes {
                let line = std::mem::take(&mut self.buffer);
                if !std::mem::replace(&mut self.is_long, true) {
                    return Some(String::from_utf8_lossy(&line[..max_bytes]).into_owned());
                }
            }
            let mut some = [0; 2048];
            match self.pipe.read(&mut some).await {
                Ok(n) if n > 0 => self.buffer.extend_from_slice(&some[..n]),
                _ => return None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_a_bound() {
        let script = "echo one; printf '%04000d\\n' 0; printf '%0200d\\n' 0; echo two; exit 5";
        let args = [OsStr::new("-c"), OsStr::new(script)];
        let (mut helper, mut output) = Helper::start(OsStr::new("/bin/sh"), &args, &[]).unwrap();
        let (lines, ended) = crate::block_on(async {
            let mut lines = Vec::new();
            while let Some(line) = output.line(100).await {
                lines.push(line);
            }
            (lines, helper.ended().await.unwrap())
        });
        let long = "0".repeat(100);
        assert_eq!(lines, ["one", &*long, &long, "two"]);
        assert_eq!(ended, Some(Ended::Code(5)));
    }

    #[test]
    fn one_is_asked() {
        let script = b"head -c 300000 /dev/zero; echo $A >&2; exit 4";
        let env = ["A", "PATH"].map(|name| (name.to_owned(), "/bin:/usr/bin".to_owned()));
        let ask =
            |max_bytes| crate::block_on(ask(OsStr::new("/bin/sh"), &[], &env, script, max_bytes));
        let answer = ask(300_000).unwrap();
        assert_eq!((answer.output.len(), &*answer.errors), (300_000, &b"/bin:/usr/bin\n"[..]));
        assert_eq!(answer.ended, Some(Ended::Code(4)));
        let error = ask(299_999).unwrap_err().to_string();
        assert!(error.ends_with("it printed more than 299999 bytes"), "{error}");
    }

    #[test]
    fn dropping_one_kills_it() {
        let args = [OsStr::new("600")];
        let (helper, mut output) = Helper::start(OsStr::new("sleep"), &args, &[]).unwrap();
        drop(helper);
        assert_eq!(crate::block_on(output.line(10)), None, "its end of the pipe is closed");
    }
}
