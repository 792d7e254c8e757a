//! The life of the first process: it starts the server again and again, reaps, and listens.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use stdx::backoff::Backoff;
use stdx::time::Mono;
use sys::kernel::End;
use sys::netlink::Netlink;
use sys::poll::{POLLIN, PollSet};
use sys::process::{self, SIGCHLD, SIGINT, SIGPWR, SIGTERM, SIGUSR1, SIGUSR2};

use crate::child::{self, Program};
use crate::input::Buttons;
use crate::network::{Network, Waits};
use crate::shell;
use crate::stopped::{Hold, STOPPED_FILE};

/// All that we act on; the others stay blocked.
pub(crate) const SIGNALS: [i32; 6] = [SIGCHLD, SIGTERM, SIGINT, SIGPWR, SIGUSR1, SIGUSR2];

/// After this long without an end, an end is a first one again.
const SETTLED: Duration = Duration::from_secs(60);
const RESTART: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
/// How often we look whether the shell is unpacked yet.
const SHELL_AGAIN: Duration = Duration::from_secs(1);
/// How often we look for a card whose event was lost.
const CARDS_AGAIN: Duration = Duration::from_secs(5);
/// The server waits this long for an address, as it would find none for the node without; and this long for
/// a card that nobody named, of which there may be none.
const ADDRESS_WAIT_MAX: Duration = Duration::from_secs(15);
const CARD_WAIT_MAX: Duration = Duration::from_secs(4);

/// A program that is kept running.
#[derive(Debug)]
pub(crate) struct Kept {
    name: &'static str,
    pid: Option<i32>,
    started: Mono,
    /// Not before then.
    next: Mono,
    failures: u32,
}

impl Kept {
    pub(crate) fn new(name: &'static str) -> Kept {
        Kept { name, pid: None, started: Mono(0), next: Mono(0), failures: 0 }
    }

    fn is_due(&self, now: Mono) -> bool {
        self.pid.is_none() && now >= self.next
    }

    /// How long it waits until it is started again.
    fn ended(&mut self, now: Mono) -> Duration {
        self.pid = None;
        self.failures = match now.since(self.started) >= SETTLED {
            true => 1,
            false => self.failures.saturating_add(1),
        };
        let wait = RESTART.delay(self.failures);
        self.next = now + wait;
        wait
    }

    fn failed(&mut self, now: Mono) {
        self.failures = self.failures.saturating_add(1);
        self.next = now + RESTART.delay(self.failures);
    }
}

/// What the first process watches.
#[derive(Debug)]
pub(crate) struct Supervisor {
    /// The whole machine is ours; otherwise a container.
    pub(crate) machine: bool,
    pub(crate) program: PathBuf,
    /// `server ...`.
    pub(crate) args: Vec<String>,
    /// What a container's processes start with.
    pub(crate) env: Vec<(String, String)>,
    /// `k3rs.shell`: the terminal's name, or empty for the console.
    pub(crate) shell_terminal: Option<String>,
    pub(crate) bin: PathBuf,
    pub(crate) hostname: Option<String>,
    pub(crate) signals: OwnedFd,
    pub(crate) network: Option<Network>,
    pub(crate) buttons: Buttons,
    pub(crate) events: Option<Netlink>,
    pub(crate) has_modules: bool,
    pub(crate) server: Kept,
    pub(crate) hold: Hold,
    pub(crate) shell: Kept,
    pub(crate) set: PollSet,
    pub(crate) began: Mono,
    pub(crate) cards_next: Mono,
}

impl Supervisor {
    /// One turn of the loop: start what is due, wait, act. Tells when the machine shall end.
    pub(crate) fn turn(&mut self) -> Option<End> {
        let now = rt::now().mono;
        self.start_due(now);
        self.set.clear();
        let signals = self.set.add(self.signals.as_fd(), POLLIN);
        let events = self.events.as_ref().map(|events| self.set.add(events.as_fd(), POLLIN));
        if let Some(network) = &mut self.network {
            network.add_to(&mut self.set);
        }
        self.buttons.add_to(&mut self.set);
        self.hold.add_to(&mut self.set);
        let timeout = self.deadline(now).map(|deadline| deadline.since(now));
        if let Err(error) = self.set.wait(timeout) {
            log::error!("wait for events: {error}");
            crate::wait_ms(1000);
        }
        let now = rt::now().mono;
        self.reap(now);
        if let Some(network) = &mut self.network {
            network.turn(&self.set, now);
            if now >= self.cards_next {
                network.look_for_cards();
                self.cards_next = now + CARDS_AGAIN;
            }
        }
        if let Some(is_held) = self.hold.changed(&self.set) {
            self.hold_server(is_held);
        }
        if events.is_some_and(|place| self.set.ready(place) != 0) {
            self.read_events();
        }
        if self.buttons.pressed(&self.set) {
            log::info!("The power button was pressed");
            return Some(End::PowerOff);
        }
        if self.set.ready(signals) == 0 {
            return None;
        }
        let received = process::read_signals(self.signals.as_fd());
        received.into_iter().find_map(meaning)
    }

    pub(crate) fn server_pid(&self) -> Option<i32> {
        self.server.pid
    }

    fn deadline(&self, now: Mono) -> Option<Mono> {
        let mut deadlines = Vec::with_capacity(5);
        if self.server.pid.is_none() && !self.hold.is_held() {
            deadlines.push(self.server.next);
            deadlines.extend(self.address_wait_end().filter(|end| now < *end));
        }
        if self.shell_terminal.is_some() && self.shell.pid.is_none() {
            deadlines.push(self.shell.next);
        }
        if let Some(network) = &self.network {
            deadlines.extend(network.deadline());
            if network.has_pending() {
                deadlines.push(self.cards_next);
            }
        }
        // A deadline that is past and waits for something else must not make us spin.
        let deadlines = deadlines.into_iter().map(|deadline| deadline.max(now + MIN_WAIT));
        deadlines.min()
    }

    /// Until when the server's first start waits, if an address is still to come.
    fn address_wait_end(&self) -> Option<Mono> {
        let network = self.network.as_ref().filter(|_| self.server.failures == 0)?;
        let wait = match network.waits_for() {
            Waits::Nothing => return None,
            Waits::AnyCard => CARD_WAIT_MAX,
            Waits::Address => ADDRESS_WAIT_MAX,
        };
        Some(self.began + wait)
    }

    fn start_due(&mut self, now: Mono) {
        let wait_end = self.address_wait_end();
        if !self.hold.is_held() && self.server.is_due(now) && wait_end.is_none_or(|end| now >= end)
        {
            if wait_end.is_some() {
                log::warn!("Starting the server before this machine has an address");
            }
            self.settle_hostname();
            let mut args = vec!["k3rs".to_owned()];
            args.extend(self.args.iter().cloned());
            let env = self.environment();
            // As the kubelet protects itself: without the server nobody evicts the pod that eats memory.
            const SERVER_OOM_SCORE: i32 = -998;
            let program = Program {
                path: &self.program,
                args: &args,
                env: &env,
                terminal: None,
                oom_score_adj: SERVER_OOM_SCORE,
            };
            Self::start(&mut self.server, &program, now);
        }
        if self.shell.is_due(now)
            && let Some(terminal) = &self.shell_terminal
        {
            let path = self.bin.join("sh");
            let device = terminal_device(terminal);
            match (rt::fs::metadata(&path).is_ok(), rt::fs::open_terminal(&device)) {
                (true, Ok(terminal)) => {
                    shell::furnish(Path::new("/"), &self.bin);
                    let mut env = self.environment();
                    env.extend(shell_settings());
                    let program = Program {
                        path: &path,
                        // The dash makes it a login shell.
                        args: &["-sh".to_owned()],
                        env: &env,
                        terminal: Some(terminal.as_fd()),
                        oom_score_adj: 0,
                    };
                    Self::start(&mut self.shell, &program, now);
                }
                (true, Err(error)) => {
                    log::warn!("{error}");
                    self.shell.failed(now);
                }
                (false, _) => self.shell.next = now + SHELL_AGAIN,
            }
        }
    }

    fn hold_server(&mut self, is_held: bool) {
        if !is_held {
            log::info!("{STOPPED_FILE} is gone: the server starts");
            self.server = Kept { pid: self.server.pid, ..Kept::new(self.server.name) };
            return;
        }
        log::info!("{STOPPED_FILE} is there: the server is stopped until it is gone");
        if let Some(pid) = self.server.pid
            && let Err(error) = process::kill(pid, SIGTERM)
        {
            log::warn!("stop the server: {error}");
        }
    }

    fn start(kept: &mut Kept, program: &Program<'_>, now: Mono) {
        match child::start(program) {
            Ok(pid) => (kept.pid, kept.started) = (Some(pid), now),
            Err(error) => {
                log::error!("{error}");
                kept.failed(now);
            }
        }
    }

    /// A container's own; on a machine nobody has made one yet.
    fn environment(&self) -> Vec<(String, String)> {
        if !self.machine {
            return self.env.clone();
        }
        let bin = self.bin.display();
        let path =
            format!("{bin}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:{bin}/aux");
        [("PATH", path), ("HOME", "/".into()), ("TERM", "linux".into())]
            .map(|(name, value)| (name.to_owned(), value))
            .into()
    }

    /// The node is named after the host, so it must have a name before the server starts, and keep it.
    fn settle_hostname(&mut self) {
        if !self.machine {
            return;
        }
        let now = sys::host::name();
        let network = self.network.as_mut();
        let name = match (&self.hostname, &network) {
            (Some(name), _) => name.clone(),
            _ if !matches!(now.as_str(), "" | "(none)" | "localhost") => return,
            (None, Some(network)) if network.given_hostname().is_some() => {
                network.given_hostname().unwrap_or_default().to_owned()
            }
            (None, _) => default_hostname(network.and_then(Network::first_mac)),
        };
        if name == now {
            return;
        }
        match process::set_hostname(&name) {
            Ok(()) => log::info!("This machine is called {name}"),
            Err(error) => log::warn!("call this machine {name}: {error}"),
        }
    }

    fn reap(&mut self, now: Mono) {
        while let Ok(Some((pid, ended))) = process::reap_any() {
            for (kept, is_held) in
                [(&mut self.server, self.hold.is_held()), (&mut self.shell, false)]
            {
                if kept.pid != Some(pid) {
                    continue;
                }
                let (wait, name) = (kept.ended(now).as_secs(), kept.name);
                match is_held {
                    true => log::info!("{name} ended ({ended:?})"),
                    false => log::warn!("{name} ended ({ended:?}); starting it again in {wait} s"),
                }
            }
        }
    }

    /// Devices that have appeared.
    fn read_events(&mut self) {
        const ALIASES_MAX: usize = 64;
        let Some(events) = &self.events else { return };
        let (mut input, mut cards, mut aliases) = (false, false, Vec::new());
        let mut buf = Vec::new();
        while events.receive(&mut buf).is_ok() {
            let event = Event::parse(&buf);
            if event.action != "add" {
                continue;
            }
            input |= event.subsystem == "input";
            cards |= event.subsystem == "net";
            if !event.modalias.is_empty() && aliases.len() < ALIASES_MAX {
                aliases.push(event.modalias.to_owned());
            }
        }
        if input {
            self.buttons.look();
        }
        if cards && let Some(network) = &mut self.network {
            network.look_for_cards();
        }
        if self.has_modules && !aliases.is_empty() {
            let mut args = vec!["k3rs".to_owned(), "modprobe".to_owned(), "-a".to_owned()];
            args.append(&mut aliases);
            let program = Program {
                path: &self.program,
                args: &args,
                env: &[],
                terminal: None,
                oom_score_adj: 0,
            };
            if let Err(error) = child::start(&program) {
                log::warn!("load drivers: {error}");
            }
        }
    }
}

/// What a signal asks for.
pub(crate) fn meaning(signal: i32) -> Option<End> {
    match signal {
        SIGTERM | SIGPWR | SIGUSR2 => Some(End::PowerOff),
        SIGINT => Some(End::Restart),
        SIGUSR1 => Some(End::Halt),
        _ => None,
    }
}

const MIN_WAIT: Duration = Duration::from_millis(20);

/// One event of the kernel about a device: strings with zeroes between them.
#[derive(Debug, Default, PartialEq, Eq)]
struct Event<'a> {
    action: &'a str,
    subsystem: &'a str,
    modalias: &'a str,
}

impl<'a> Event<'a> {
    fn parse(bytes: &'a [u8]) -> Event<'a> {
        let mut event = Event::default();
        for line in bytes.split(|byte| *byte == 0) {
            let Ok(line) = std::str::from_utf8(line) else { continue };
            match line.split_once('=') {
                Some(("ACTION", value)) => event.action = value,
                Some(("SUBSYSTEM", value)) => event.subsystem = value,
                Some(("MODALIAS", value)) => event.modalias = value,
                _ => {}
            }
        }
        event
    }
}

/// busybox's shell prefers its own applets to `PATH`, and its `reboot` sends what everybody else sends to
/// power off. So that the shell of the first process asks the first process, it gets aliases.
fn shell_settings() -> Option<(String, String)> {
    const ALIASES: &str = "alias reboot='k3rs reboot' poweroff='k3rs poweroff' halt='k3rs halt' modprobe='k3rs modprobe'\n";
    let path = Path::new(crate::RUN_DIR).join("shell");
    match rt::fs::write(&path, ALIASES.as_bytes(), 0o644) {
        Ok(()) => Some(("ENV".into(), path.display().to_string())),
        Err(error) => {
            log::warn!("{error}");
            None
        }
    }
}

/// The terminal behind the console: `/dev/console` itself cannot control jobs.
fn terminal_device(name: &str) -> PathBuf {
    if !name.is_empty() {
        return Path::new("/dev").join(name);
    }
    let active = rt::fs::read_text("/sys/class/tty/console/active").unwrap_or_default();
    match active.split_whitespace().last() {
        Some(name) => Path::new("/dev").join(name),
        None => PathBuf::from("/dev/console"),
    }
}

/// The same at every start, and another on every machine.
fn default_hostname(mac: Option<Vec<u8>>) -> String {
    match mac.as_deref() {
        Some([.., a, b, c]) => format!("k3rs-{a:02x}{b:02x}{c:02x}"),
        _ => "k3rs".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_fails_is_started_ever_less_often() {
        let mut kept = Kept::new("k3rs server");
        let at = |secs: u64| Mono(0) + Duration::from_secs(secs);
        let mut waits = Vec::new();
        let mut now = at(100);
        for _ in 0..8 {
            (kept.pid, kept.started) = (Some(7), now);
            kept.ended(now);
            waits.push(kept.next.since(now).as_secs());
            assert!(!kept.is_due(now) && kept.is_due(kept.next));
            now = kept.next;
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        (kept.pid, kept.started) = (Some(7), now);
        now = now + Duration::from_secs(61);
        kept.ended(now);
        assert_eq!(kept.next.since(now).as_secs(), 1, "it had been well for a while");
    }

    #[test]
    fn device_events() {
        let event = b"add@/devices/x\0ACTION=add\0DEVPATH=/devices/x\0SUBSYSTEM=net\0MODALIAS=pci:v1\0\xff\0";
        let parsed = Event::parse(event);
        assert_eq!(parsed, Event { action: "add", subsystem: "net", modalias: "pci:v1" });
        assert_eq!(Event::parse(b""), Event::default());
    }

    #[test]
    fn names_of_machines() {
        assert_eq!(default_hostname(Some(vec![0x52, 0x54, 0, 0x12, 0x34, 0x56])), "k3rs-123456");
        assert_eq!(default_hostname(None), "k3rs");
    }
}
