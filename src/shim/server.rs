//! The loop: clients, children, their streams, and the ends of children.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use stdx::{Context, Result};
use sys::poll::{POLLIN, POLLOUT, PollSet};
use sys::process::{self, Ended};
use wire::shim::{Exit, Exited, Field, kind};

use crate::connection::{Connection, Role, Token};
use crate::launch::MESSAGE_MAX_BYTES;
use crate::log::Stream;
use crate::sandbox::Sandbox;
use crate::streams::{self, Got};
use crate::task::{Phase, Task};

/// An attached client that takes nothing for this long is cut off: until then it slows the
/// container down, as with containerd, but it cannot stop it.
const ATTACH_STUCK_MAX: Duration = Duration::from_secs(1);
/// Reads of one stream while draining it after its process's end.
const DRAIN_READS_MAX: usize = 64;
/// Clients at a time; more wait in the listen queue.
const CONNECTIONS_MAX: usize = 64;

#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) listener: UnixListener,
    pub(crate) signals: OwnedFd,
    pub(crate) sandbox: Sandbox,
    pub(crate) connections: Vec<Connection>,
    pub(crate) tasks: Vec<Task>,
    pub(crate) next_number: u32,
    /// The client that asked for the end.
    pub(crate) shutdown: Option<Token>,
    /// Read into, and given back when there is nothing more to read: most pods say little.
    buf: Vec<u8>,
    /// A read of this turn filled the buffer: the next one may be larger.
    filled: bool,
}

/// What is read at once of a stream that says little.
const SMALL_READ_BYTES: usize = 2 << 10;

/// Who a poll entry belongs to.
#[derive(Clone, Copy, Debug)]
enum Source {
    Listener,
    Signals,
    Connection(Token),
    Socket(u32),
    Stdin(u32),
    Output(u32, Stream),
}

impl Server {
    pub(crate) fn new(listener: UnixListener, signals: OwnedFd, sandbox: Sandbox) -> Server {
        Server {
            listener,
            signals,
            sandbox,
            connections: Vec::new(),
            tasks: Vec::new(),
            next_number: 1,
            shutdown: None,
            buf: Vec::new(),
            filled: false,
        }
    }

    /// Serves until a client asks for the end and all children have ended.
    pub(crate) fn serve(mut self) -> Result<()> {
        self.listener.set_nonblocking(true).context(|| "prepare the listening socket")?;
        let mut set = PollSet::default();
        let mut sources = Vec::new();
        loop {
            if self.shutdown.is_some() && self.tasks.iter().all(|task| task.exit().is_some()) {
                self.say_goodbye();
                return Ok(());
            }
            self.collect(&mut set, &mut sources);
            set.wait(self.timeout()).context(|| "poll")?;
            for (place, source) in sources.iter().enumerate() {
                let ready = set.ready(place);
                if ready != 0 {
                    self.handle(*source, ready);
                }
            }
            self.sweep();
        }
    }

    fn collect(&mut self, set: &mut PollSet, sources: &mut Vec<Source>) {
        set.clear();
        sources.clear();
        let now = Instant::now();
        let mut add = |source, fd, events| {
            set.add(fd, events);
            sources.push(source);
        };
        for task in &self.tasks {
            if let Some(socket) = &task.socket {
                add(Source::Socket(task.number), socket.as_fd(), POLLIN);
            }
            if let Some(stdin) =
                task.streams.stdin.as_ref().filter(|_| task.streams.has_waiting_input())
            {
                add(Source::Stdin(task.number), stdin.as_fd(), POLLOUT);
            }
            // A client hears that its process runs before it hears what the process says.
            if task.is_running() && self.clients_keep_up(task) && task.flood.wait(now).is_none() {
                if let Some(stdout) = &task.streams.stdout {
                    add(Source::Output(task.number, Stream::Stdout), stdout.as_fd(), POLLIN);
                }
                if let Some(stderr) = &task.streams.stderr {
                    add(Source::Output(task.number, Stream::Stderr), stderr.as_fd(), POLLIN);
                }
            }
        }
        add(Source::Signals, self.signals.as_fd(), POLLIN);
        for connection in &self.connections {
            let mut events = 0;
            if self.wants_input(connection) {
                events |= POLLIN;
            }
            if connection.n_waiting() > 0 {
                events |= POLLOUT;
            }
            // Without events, the end of the connection is still reported.
            add(Source::Connection(connection.token), connection.socket.as_fd(), events);
        }
        if self.connections.len() < CONNECTIONS_MAX {
            add(Source::Listener, self.listener.as_fd(), POLLIN);
        }
    }

    fn timeout(&self) -> Option<Duration> {
        let attached = |connection: &&Connection| matches!(connection.role, Role::Attached { .. });
        let stuck = self.connections.iter().filter(attached).filter_map(|one| one.stuck_since);
        let stuck = stuck.map(|since| ATTACH_STUCK_MAX.saturating_sub(since.elapsed()));
        let now = Instant::now();
        stuck.chain(self.tasks.iter().filter_map(|task| task.flood.wait(now))).min()
    }

    /// Whether all clients that get this task's output have room for more.
    fn clients_keep_up(&self, task: &Task) -> bool {
        !self.connections.iter().any(|one| one.is_full() && is_client_of(one, task))
    }

    fn wants_input(&self, connection: &Connection) -> bool {
        match self.task_of(connection) {
            Some(task) => task.streams.has_room(),
            None => true,
        }
    }

    /// The task whose streams a connection carries.
    pub(crate) fn task_of(&self, connection: &Connection) -> Option<&Task> {
        self.tasks.iter().find(|task| is_client_of(connection, task))
    }

    pub(crate) fn connection(&mut self, token: Token) -> Option<&mut Connection> {
        self.connections.iter_mut().find(|one| one.token == token)
    }

    pub(crate) fn task(&mut self, number: u32) -> Option<&mut Task> {
        self.tasks.iter_mut().find(|task| task.number == number)
    }

    fn handle(&mut self, source: Source, ready: i16) {
        match source {
            Source::Listener => self.accept(),
            Source::Signals => {
                process::read_signals(self.signals.as_fd());
                self.reap();
            }
            Source::Connection(token) => self.handle_connection(token, ready),
            Source::Socket(number) => {
                self.handle_child(number);
            }
            Source::Stdin(number) => {
                if let Some(task) = self.task(number) {
                    task.streams.flush_stdin();
                }
                // Frames may have waited for the room.
                let tokens: Vec<Token> = self.connections.iter().map(|one| one.token).collect();
                tokens.into_iter().for_each(|token| self.handle_input(token));
            }
            Source::Output(number, stream) => {
                self.pump(number, stream);
            }
        }
    }

    fn accept(&mut self) {
        while self.connections.len() < CONNECTIONS_MAX {
            let Ok((socket, _)) = self.listener.accept() else { return };
            if socket.set_nonblocking(true).is_ok() {
                let token = self.next_number;
                self.next_number = self.next_number.wrapping_add(1);
                self.connections.push(Connection::new(token, socket));
            }
        }
    }

    fn handle_connection(&mut self, token: Token, ready: i16) {
        let mut buf = self.take_buf();
        let mut filled = false;
        if let Some(connection) = self.connection(token) {
            if ready & POLLOUT != 0 {
                connection.flush();
            }
            if ready & !POLLOUT != 0 {
                let n_before = connection.input.len();
                connection.broken |= !connection.fill(&mut buf);
                filled = connection.input.len() - n_before == buf.len();
            }
        }
        self.filled |= filled;
        self.buf = buf;
        self.handle_input(token);
    }

    /// Takes the whole frames out of what a client sent.
    fn handle_input(&mut self, token: Token) {
        loop {
            let Some(at) = self.connections.iter().position(|one| one.token == token) else {
                return;
            };
            if !self.wants_input(&self.connections[at]) || self.connections[at].closing {
                return;
            }
            let input = std::mem::take(&mut self.connections[at].input);
            match wire::shim::parse_frame(&input) {
                Ok(Some((kind, payload, n_bytes))) => {
                    self.handle_frame(token, kind, payload);
                    if let Some(connection) = self.connection(token) {
                        connection.input = input[n_bytes..].to_vec();
                    }
                }
                Ok(None) => {
                    if !input.is_empty() {
                        self.connections[at].input = input;
                    }
                    return;
                }
                Err(error) => {
                    self.answer_error(token, &error.to_string());
                    return;
                }
            }
        }
    }

    pub(crate) fn answer_error(&mut self, token: Token, text: &str) {
        if let Some(connection) = self.connection(token) {
            connection.send(kind::ERROR, |out| text.to_owned().put(out));
            connection.closing = true;
        }
    }

    pub(crate) fn answer_ok(&mut self, token: Token) {
        if let Some(connection) = self.connection(token) {
            connection.send(kind::OK, |_| ());
            connection.closing = !matches!(connection.role, Role::Attached { .. } | Role::Exec(_));
        }
    }

    /// A message of a child on its way to exec. False when there is none now.
    fn handle_child(&mut self, number: u32) -> bool {
        let mut buf = vec![0; MESSAGE_MAX_BYTES];
        let shutting_down = self.shutdown.is_some();
        let Some(task) = self.task(number) else { return false };
        let Some(socket) = &task.socket else { return false };
        let received = sys::unix::receive(socket.as_fd(), &mut buf);
        let (message, fd) = match &received {
            Ok((n, fd)) => (&buf[..*n], fd.as_ref()),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => return true,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return false,
            Err(_) => (&buf[..0], None),
        };
        match (message.first(), &task.phase) {
            (Some(b'P'), Phase::Starting(_)) if !task.handed_over => {
                task.handed_over = true;
                if let Some(pid) = message[1..].first_chunk::<4>() {
                    task.pid = i32::from_le_bytes(*pid);
                }
                if shutting_down {
                    let _ = process::kill(task.pid, process::SIGKILL);
                }
            }
            (Some(b'T'), Phase::Launching(_)) => {
                let stdin = task.stdin;
                let master = fd.and_then(|fd| fd.try_clone().ok());
                if let Some(master) = master
                    && let Err(error) = task.streams.set_terminal(master, stdin)
                {
                    eprintln!("shim: take a terminal of container {}: {error}", task.id);
                }
            }
            (Some(b'C'), Phase::Launching(_)) => self.child_is_ready(number, &message[1..]),
            (Some(b'E'), _) => {
                let text = String::from_utf8_lossy(&message[1..]).into_owned();
                self.child_failed(number, &text);
            }
            (None, Phase::Starting(_)) => self.child_has_started(number),
            _ => self.child_failed(number, "the process ended while it was being set up"),
        }
        true
    }

    fn child_has_started(&mut self, number: u32) {
        let Some(task) = self.task(number) else { return };
        let Phase::Starting(token) = task.phase else { return };
        task.socket = None;
        task.started_at = crate::wall_now();
        task.phase = Phase::Running;
        let (pid, is_main) = (task.pid.cast_unsigned(), task.is_main());
        if let Some(connection) = self.connection(token).filter(|_| is_main) {
            // It may be another process than the one that was created.
            connection.send(kind::OK, |out| pid.put(out));
            connection.closing = true;
        } else {
            self.answer_ok(token);
        }
    }

    fn child_failed(&mut self, number: u32, text: &str) {
        let Some(task) = self.task(number) else { return };
        task.socket = None;
        let _ = process::kill(task.pid, process::SIGKILL);
        // As containerd reports a process that could not be started.
        const START_ERROR_CODE: i32 = 128;
        let exit = Exit {
            code: START_ERROR_CODE,
            at: crate::wall_now(),
            message: text.to_owned(),
            ..Exit::default()
        };
        let phase = std::mem::replace(&mut task.phase, Phase::Exited(exit.clone()));
        match phase {
            Phase::Launching(token) => {
                // Nothing of it is kept: the client gets the error instead of a container.
                self.tasks.retain(|task| task.number != number);
                self.answer_error(token, text);
            }
            Phase::Starting(token) => {
                if task.is_main() {
                    task.save_exit(&exit);
                    let id = task.id.clone();
                    self.answer_error(token, text);
                    self.publish(&id, exit);
                } else {
                    self.tasks.retain(|task| task.number != number);
                    self.answer_error(token, text);
                }
            }
            other => task.phase = other,
        }
    }

    /// Takes the ends of all children that have ended.
    fn reap(&mut self) {
        while let Ok(Some((pid, ended))) = process::reap_any() {
            // What was said before its end counts, and tells whose process it was.
            let launching = self.tasks.iter().filter(|task| task.socket.is_some());
            let launching: Vec<u32> = launching.map(|task| task.number).collect();
            for number in launching {
                while self.task(number).is_some_and(|task| task.exit().is_none())
                    && self.handle_child(number)
                {}
            }
            let found = self.tasks.iter().find(|task| task.pid == pid && task.exit().is_none());
            let Some(task) = found else { continue };
            let number = task.number;
            if task.socket.is_some() {
                // Somebody else holds its end of the socket.
                self.child_failed(number, "the process ended while it was being set up");
            } else {
                self.end(number, ended);
            }
        }
    }

    fn end(&mut self, number: u32, ended: Ended) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            for _ in 0..DRAIN_READS_MAX {
                if !self.pump(number, stream) {
                    break;
                }
            }
        }
        let now = crate::wall_now();
        let Some(task) = self.task(number) else { return };
        task.log.finish(Stream::Stdout, now);
        task.log.finish(Stream::Stderr, now);
        task.streams = streams::Streams::default();
        task.log = crate::log::Log::default();
        let (code, signal) = match ended {
            Ended::Code(code) => (code, 0),
            Ended::Signal(signal) => (128 + signal, signal),
        };
        let mut exit = Exit { code, signal, at: now, ..Exit::default() };
        if let Some(token) = task.exec_client {
            self.tasks.retain(|task| task.number != number);
            if let Some(connection) = self.connection(token) {
                connection.send(kind::EXIT, |out| exit.put(out));
                connection.closing = true;
            }
            return;
        }
        if !task.container.is_init {
            task.kill_cgroup();
        }
        let oom_file = &task.container.oom_file;
        exit.oom_killed = !oom_file.is_empty()
            && sys::cgroup::keyed_number(std::path::Path::new(oom_file), "oom_kill") > 0;
        task.save_exit(&exit);
        task.phase = Phase::Exited(exit.clone());
        let id = task.id.clone();
        self.publish(&id, exit);
    }

    /// Tells everyone who cares that a container has ended.
    fn publish(&mut self, id: &str, exit: Exit) {
        let event = Exited { id: id.to_owned(), exit };
        for connection in &mut self.connections {
            match &connection.role {
                Role::Subscriber => connection.send(kind::EXITED, |out| event.put(out)),
                Role::Attached { id, .. } if *id == event.id => {
                    connection.send(kind::EXIT, |out| event.exit.put(out));
                    connection.closing = true;
                }
                _ => {}
            }
        }
    }

    /// Moves one chunk from a process to its log and clients. False when there is none now.
    fn pump(&mut self, number: u32, stream: Stream) -> bool {
        let mut buf = self.take_buf();
        let got = match self.task(number) {
            Some(task) => {
                let file = match stream {
                    Stream::Stdout => &mut task.streams.stdout,
                    Stream::Stderr => &mut task.streams.stderr,
                };
                let got = file.as_mut().map_or(Got::Nothing, |file| streams::read(file, &mut buf));
                if got == Got::End {
                    *file = None;
                }
                got
            }
            None => Got::Nothing,
        };
        if let Got::Bytes(n) = got {
            self.filled |= n == buf.len();
            self.deliver(number, stream, &buf[..n]);
        }
        self.buf = buf;
        matches!(got, Got::Bytes(_))
    }

    fn deliver(&mut self, number: u32, stream: Stream, bytes: &[u8]) {
        let Some(at) = self.tasks.iter().position(|task| task.number == number) else { return };
        let task = &mut self.tasks[at];
        if task.is_main() {
            let n_written = task.log.write(stream, bytes, crate::wall_now());
            task.flood.add(n_written.max(bytes.len()), Instant::now());
        }
        let kind = match stream {
            Stream::Stdout => kind::STDOUT,
            Stream::Stderr => kind::STDERR,
        };
        let task = &self.tasks[at];
        for connection in &mut self.connections {
            if is_client_of(connection, task) {
                connection.send(kind, |out| out.extend_from_slice(bytes));
            }
        }
    }

    /// Drops connections that are done, broken or stuck, and room that was not needed.
    fn sweep(&mut self) {
        if !std::mem::take(&mut self.filled) {
            self.buf = Vec::new();
        } else if self.buf.len() < wire::shim::CHUNK_MAX_BYTES {
            self.buf = vec![0; wire::shim::CHUNK_MAX_BYTES];
        }
        let now = Instant::now();
        let mut at = 0;
        while at < self.connections.len() {
            let connection = &self.connections[at];
            let stuck = matches!(connection.role, Role::Attached { .. })
                && connection.stuck_since.is_some_and(|since| now - since >= ATTACH_STUCK_MAX);
            if !(connection.broken || stuck || (connection.closing && connection.n_waiting() == 0))
            {
                at += 1;
                continue;
            }
            let connection = self.connections.remove(at);
            // Nobody is left who wants the process, which somebody may have stopped on its way.
            let wanted = |task: &&Task| {
                task.exec_client == Some(connection.token)
                    && matches!(task.phase, Phase::Launching(_) | Phase::Starting(_))
            };
            if let Some(task) = self.tasks.iter().find(wanted) {
                let _ = process::kill(task.pid, process::SIGKILL);
            }
            if let Role::Attached { id, used_stdin: true } = &connection.role
                && let Some(task) =
                    self.tasks.iter_mut().find(|task| task.is_main() && task.id == *id)
                && task.container.stdin_once
            {
                task.streams.close_stdin();
            }
        }
    }

    fn say_goodbye(&mut self) {
        if let Some(pid) = &self.sandbox.pid {
            let _ = process::kill(pid.init_pid, process::SIGKILL);
        }
        if let Some(token) = self.shutdown
            && let Some(connection) = self.connection(token)
        {
            let _ = connection.socket.set_nonblocking(false);
            connection.send(kind::OK, |_| ());
        }
    }

    /// For a forked child, which reads nothing.
    pub(crate) fn forget_buffer(&mut self) {
        self.buf = Vec::new();
    }

    /// The shared read buffer, which only exists while there is something to read.
    fn take_buf(&mut self) -> Vec<u8> {
        let mut buf = std::mem::take(&mut self.buf);
        if buf.is_empty() {
            buf.resize(SMALL_READ_BYTES, 0);
        }
        buf
    }
}

fn is_client_of(connection: &Connection, task: &Task) -> bool {
    match &connection.role {
        Role::Attached { id, .. } => task.is_main() && task.id == *id,
        Role::Exec(number) => task.number == *number,
        _ => false,
    }
}
