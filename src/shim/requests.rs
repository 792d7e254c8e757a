//! What clients ask for.

use std::os::fd::{AsFd, OwnedFd};

use stdx::{Context, Error, Result};
use sys::process::{self, Cloned};
use wire::shim::{
    Container, ContainerState, Created, Exec, Field, Joined, KeepExit, LogLimits, Resize, Signal,
    State, Target, VERSION, decode, kind, pid_mode,
};

use crate::connection::{Role, Token};
use crate::launch::{self, ContainerNamespaces};
use crate::log::{Flood, Log};
use crate::sandbox::open_namespace;
use crate::server::Server;
use crate::streams::Streams;
use crate::task::{ContainerParts, Phase, Task};

impl Server {
    pub(crate) fn handle_frame(&mut self, token: Token, frame_kind: u8, payload: &[u8]) {
        let Some(connection) = self.connection(token) else { return };
        let result = match connection.role.clone() {
            Role::New => {
                connection.role = Role::Waiting;
                self.handle_request(token, frame_kind, payload)
            }
            Role::Exec(_) | Role::Attached { .. } => self.handle_stream(token, frame_kind, payload),
            Role::Waiting | Role::Subscriber => Err(Error::new("one request a connection")),
        };
        if let Err(error) = result {
            self.answer_error(token, &error.to_string());
        }
    }

    fn handle_request(&mut self, token: Token, frame_kind: u8, payload: &[u8]) -> Result<()> {
        match frame_kind {
            kind::SUBSCRIBE => self.subscribe(token),
            kind::CREATE => self.create(token, decode(payload)?, None),
            kind::CREATE_JOINED => {
                let Joined { target, plan } = decode(payload)?;
                let target = self.namespaces_of(&target)?;
                self.create(token, plan, Some(&target))
            }
            kind::START => self.start(token, &decode::<Target>(payload)?.id),
            kind::EXEC => self.exec(token, decode(payload)?),
            kind::ATTACH => self.attach(token, decode::<Target>(payload)?.id),
            kind::SIGNAL => {
                let Signal { id, signal } = decode(payload)?;
                let task = self.main_task(&id)?;
                if task.exit().is_none() {
                    process::kill(task.pid, signal)
                        .context(|| format!("send signal {signal} to container {id}"))?;
                }
                self.answer_ok(token);
                Ok(())
            }
            kind::REMOVE => {
                let id = decode::<Target>(payload)?.id;
                // Normally it has exited; one whose creation nobody waited for has not.
                for task in self.tasks.iter().filter(|task| task.id == id && task.exit().is_none())
                {
                    let _ = process::kill(task.pid, process::SIGKILL);
                    task.kill_cgroup();
                }
                self.tasks.retain(|task| task.id != id);
                self.answer_ok(token);
                Ok(())
            }
            kind::RESIZE => {
                let resize: Resize = decode(payload)?;
                let task = self.main_task(&resize.id)?;
                resize_task(task, &resize)?;
                self.answer_ok(token);
                Ok(())
            }
            kind::REOPEN_LOG => {
                let id = decode::<Target>(payload)?.id;
                let task = self.main_task(&id)?;
                task.log.reopen().context(|| format!("open the log of container {id} again"))?;
                self.answer_ok(token);
                Ok(())
            }
            kind::LIMIT_LOG => {
                let limits: LogLimits = decode(payload)?;
                let task = self.main_task(&limits.id)?;
                task.log.limit(limits.file_max_bytes, limits.files_max);
                self.answer_ok(token);
                Ok(())
            }
            kind::KEEP_EXIT => {
                let KeepExit { id, path } = decode(payload)?;
                self.main_task(&id)?.container.kept_exit = path;
                self.answer_ok(token);
                Ok(())
            }
            kind::SHUTDOWN => {
                self.shutdown = Some(token);
                for task in &self.tasks {
                    if task.exit().is_none() {
                        let _ = process::kill(task.pid, process::SIGKILL);
                        if task.is_main() && !task.container.is_init {
                            task.kill_cgroup();
                        }
                    }
                }
                Ok(())
            }
            other => Err(Error::new(format!(
                "this shim (version {VERSION}) does not know request {other}"
            ))),
        }
    }

    fn handle_stream(&mut self, token: Token, frame_kind: u8, payload: &[u8]) -> Result<()> {
        let Some(connection) = self.connections.iter_mut().find(|one| one.token == token) else {
            return Ok(());
        };
        let is_attach = matches!(connection.role, Role::Attached { .. });
        let number = match &mut connection.role {
            Role::Exec(number) => *number,
            Role::Attached { id, used_stdin } => {
                *used_stdin |= matches!(frame_kind, kind::STDIN | kind::CLOSE_STDIN);
                let task = self.tasks.iter().find(|task| task.is_main() && task.id == *id);
                let Some(task) = task else { return Ok(()) };
                task.number
            }
            _ => return Ok(()),
        };
        // The process may have ended while this was under way.
        let Some(task) = self.task(number) else { return Ok(()) };
        match frame_kind {
            kind::STDIN => task.streams.write_stdin(payload),
            // A container whose stdin outlives its clients keeps it.
            kind::CLOSE_STDIN if is_attach && !task.container.stdin_once => {}
            kind::CLOSE_STDIN => task.streams.close_stdin(),
            kind::STREAM_RESIZE => resize_task(task, &decode(payload)?)?,
            kind::KILL if is_attach => {
                if let Some(connection) = self.connection(token) {
                    connection.closing = true;
                }
            }
            kind::KILL => {
                let _ = process::kill(task.pid, process::SIGKILL);
            }
            other => return Err(Error::new(format!("frame {other} on a stream"))),
        }
        Ok(())
    }

    fn main_task(&mut self, id: &str) -> Result<&mut Task> {
        let found = self.tasks.iter_mut().find(|task| task.is_main() && task.id == id);
        found.context(|| format!("container {id} is not known to its shim"))
    }

    fn subscribe(&mut self, token: Token) -> Result<()> {
        let containers = self
            .tasks
            .iter()
            .filter(|task| task.is_main() && !matches!(task.phase, Phase::Launching(_)))
            .map(|task| ContainerState {
                id: task.id.clone(),
                pid: task.pid.cast_unsigned(),
                started_at: task.started_at,
                exit: task.exit().cloned(),
            })
            .collect();
        let state = State { version: VERSION, pid: std::process::id(), containers };
        if let Some(connection) = self.connection(token) {
            connection.role = Role::Subscriber;
            connection.send(kind::STATE, |out| state.put(out));
        }
        Ok(())
    }

    /// Of a container that runs: its main process cannot be reaped before we return, so the number stays
    /// its own.
    fn namespaces_of(&mut self, id: &str) -> Result<ContainerNamespaces> {
        let task = self.main_task(id)?;
        if !task.is_running() {
            return Err(Error::new(format!("container {id} is not running")));
        }
        let open = |name: &str| open_namespace(&format!("/proc/{}/ns/{name}", task.pid));
        Ok(ContainerNamespaces { mount: open("mnt")?, cgroup: open("cgroup")?, pid: open("pid")? })
    }

    /// In a forked child, which others may look into as soon as it is in a container: what it has of other
    /// containers goes.
    fn forget_others(&mut self) {
        // Freed memory is overwritten.
        self.tasks = Vec::new();
        self.connections = Vec::new();
        self.forget_buffer();
    }

    fn create(
        &mut self,
        token: Token,
        plan: Container,
        target: Option<&ContainerNamespaces>,
    ) -> Result<()> {
        if self.tasks.iter().any(|task| task.is_main() && task.id == plan.id) {
            return Err(Error::new(format!("container {} exists already", plan.id)));
        }
        let log =
            Log::open(&plan.log_path).context(|| format!("open log file {}", plan.log_path))?;
        let (streams, child_streams) = make_streams(plan.process.tty, plan.process.stdin)?;
        let (ours, theirs) = launch_sockets()?;
        let mut namespaces = process::CLONE_NEWNS;
        if plan.pid_mode == pid_mode::OWN {
            namespaces |= process::CLONE_NEWPID;
        }
        let mut cgroup = single_cgroup(&plan.cgroups);
        let cloned = fork_into(namespaces, &mut cgroup).context(|| "fork")?;
        let (pid, pidfd) = match cloned {
            Cloned::Child => {
                drop(ours);
                self.forget_others();
                launch::container(&plan, &self.sandbox, target, &theirs, child_streams)
            }
            Cloned::Parent { pid, pidfd } => (pid, pidfd),
        };
        drop((theirs, child_streams, pidfd));
        if cgroup.is_none()
            && let Err(error) = join_cgroups(&plan.cgroups, pid)
        {
            let _ = process::kill(pid, process::SIGKILL);
            return Err(error);
        }
        sys::unix::send(ours.as_fd(), b"G", None).context(|| "let the new process go on")?;
        let container = ContainerParts {
            cgroup: plan.cgroups.first().cloned().unwrap_or_default(),
            directory: plan.directory,
            kill_cgroup: plan.kill_cgroup,
            oom_file: plan.oom_file,
            is_init: plan.pid_mode == pid_mode::OWN,
            stdin_once: plan.stdin_once,
            kept_exit: String::new(),
        };
        let number = self.new_number();
        self.tasks.push(Task {
            number,
            id: plan.id,
            exec_client: None,
            pid,
            phase: Phase::Launching(token),
            socket: Some(ours),
            handed_over: false,
            flood: Flood::default(),
            streams,
            log,
            stdin: plan.process.stdin,
            started_at: 0,
            container,
        });
        Ok(())
    }

    fn exec(&mut self, token: Token, plan: Exec) -> Result<()> {
        let namespaces = self.namespaces_of(&plan.container)?;
        let (streams, child_streams) = make_streams(plan.process.tty, plan.process.stdin)?;
        let (ours, theirs) = launch_sockets()?;
        let mut cgroup = single_cgroup(&plan.cgroups);
        let cloned = fork_into(0, &mut cgroup).context(|| "fork")?;
        let (pid, pidfd) = match cloned {
            Cloned::Child => {
                drop(ours);
                self.forget_others();
                launch::exec(&plan.process, &namespaces, &theirs, child_streams)
            }
            Cloned::Parent { pid, pidfd } => (pid, pidfd),
        };
        drop((theirs, child_streams, pidfd, namespaces));
        if cgroup.is_none()
            && let Err(error) = join_cgroups(&plan.cgroups, pid)
        {
            let _ = process::kill(pid, process::SIGKILL);
            return Err(error);
        }
        sys::unix::send(ours.as_fd(), b"G", None).context(|| "let the new process go on")?;
        let number = self.new_number();
        self.tasks.push(Task {
            number,
            id: plan.container,
            exec_client: Some(token),
            pid,
            phase: Phase::Launching(token),
            socket: Some(ours),
            handed_over: false,
            flood: Flood::default(),
            streams,
            log: Log::default(),
            stdin: plan.process.stdin,
            started_at: 0,
            container: ContainerParts::default(),
        });
        Ok(())
    }

    /// A child has done all but exec.
    pub(crate) fn child_is_ready(&mut self, number: u32, message: &[u8]) {
        let Some(task) = self.task(number) else { return };
        let Phase::Launching(token) = task.phase else { return };
        if !task.is_main() {
            // An exec'd process goes on at once; its client hears of it when it runs.
            task.phase = Phase::Starting(token);
            if let Some(socket) = &task.socket {
                let _ = sys::unix::send(socket.as_fd(), b"S", None);
            }
            if let Some(connection) = self.connection(token) {
                connection.role = Role::Exec(number);
            }
            return;
        }
        task.phase = Phase::Created;
        let pid = task.pid.cast_unsigned();
        let mut created: Created = decode(message).unwrap_or_default();
        created.pid = pid;
        if let Some(connection) = self.connection(token) {
            connection.send(kind::CREATED, |out| created.put(out));
            connection.closing = true;
        }
    }

    fn start(&mut self, token: Token, id: &str) -> Result<()> {
        let task = self.main_task(id)?;
        match (&task.phase, &task.socket) {
            (Phase::Created, Some(socket)) => {
                sys::unix::send(socket.as_fd(), b"S", None)
                    .context(|| format!("start container {id}"))?;
                task.phase = Phase::Starting(token);
                Ok(())
            }
            (Phase::Exited(exit), _) => {
                Err(Error::new(format!("container {id} has exited with code {}", exit.code)))
            }
            _ => Err(Error::new(format!("container {id} has been started already"))),
        }
    }

    fn attach(&mut self, token: Token, id: String) -> Result<()> {
        let task = self.main_task(&id)?;
        let exit = task.exit().cloned();
        if let Some(connection) = self.connection(token) {
            connection.role = Role::Attached { id, used_stdin: false };
        }
        self.answer_ok(token);
        if let (Some(exit), Some(connection)) = (exit, self.connection(token)) {
            connection.send(kind::EXIT, |out| exit.put(out));
            connection.closing = true;
        }
        Ok(())
    }

    fn new_number(&mut self) -> u32 {
        let number = self.next_number;
        self.next_number = self.next_number.wrapping_add(1);
        number
    }
}

/// Our end never waits: whatever a child does with its own, we go on.
fn launch_sockets() -> Result<(OwnedFd, OwnedFd)> {
    let (ours, theirs) = sys::unix::socket_pair().context(|| "make a socket pair")?;
    sys::unix::set_nonblocking(ours.as_fd(), true).context(|| "prepare a socket pair")?;
    Ok((ours, theirs))
}

/// Forks, with the child in the given cgroup if there is one. A cgroup that it could not be born in is
/// taken out: it must join it then.
fn fork_into(namespaces: i32, cgroup: &mut Option<OwnedFd>) -> std::io::Result<Cloned> {
    match process::clone_into(namespaces, cgroup.as_ref().map(AsFd::as_fd)) {
        // Before Linux 5.7 the kernel's struct ends where ours names the cgroup.
        Err(error)
            if cgroup.is_some() && error.kind() == std::io::ErrorKind::ArgumentListTooLong =>
        {
            *cgroup = None;
            process::clone(namespaces)
        }
        cloned => cloned,
    }
}

fn make_streams(tty: bool, stdin: bool) -> Result<(Streams, launch::ChildStreams)> {
    if tty { Ok(Streams::for_terminal()) } else { Streams::pipes(stdin).context(|| "make pipes") }
}

fn resize_task(task: &Task, resize: &Resize) -> Result<()> {
    let terminal = task.streams.stdout.as_ref().filter(|_| task.streams.terminal);
    let terminal = terminal.context(|| format!("resize: container {} has no terminal", task.id))?;
    sys::pty::set_size(terminal.as_fd(), resize.columns, resize.rows)
        .context(|| format!("resize the terminal of container {}", task.id))
}

/// On a pure v2 host the one cgroup, which a child can be born in.
fn single_cgroup(directories: &[String]) -> Option<OwnedFd> {
    let [directory] = directories else { return None };
    sys::file::open_dir(directory).ok()
}

fn join_cgroups(directories: &[String], pid: i32) -> Result<()> {
    for directory in directories {
        std::fs::write(std::path::Path::new(directory).join("cgroup.procs"), pid.to_string())
            .context(|| format!("move a process into cgroup {directory}"))?;
    }
    Ok(())
}
