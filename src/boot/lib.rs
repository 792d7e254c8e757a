//! k3rs as the first process of a machine: file systems, kernel modules, root, address, then the server,
//! kept running until the machine is switched off.
//!
//! The first process must not end, so it stays small: one thread, one poll loop, no executor, and what
//! parses much text or may fail runs in processes of their own. It knows nothing of Kubernetes; the
//! server is a program that it starts. Its parts:
//!
//! * `words` reads the kernel's command line; `mounts`, `load` (with `modules`), `root` (with `disk`)
//!   and `program` set the machine up; `network` (with `links` and `dhcp`) gives it its addresses;
//! * `supervise` is the loop; `shutdown` its end; `input` the power button.

mod child;
mod clock;
mod dhcp;
mod disk;
mod input;
mod links;
mod load;
mod modules;
mod mounts;
mod network;
mod program;
mod root;
mod shell;
mod shutdown;
mod stopped;
mod supervise;
mod words;

use std::os::fd::{AsFd, OwnedFd};
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::time::Duration;

use stdx::time::Wall;
use stdx::{Context, Error, Result};
use sys::kernel::End;
use sys::netlink::{Family, Netlink};
use sys::poll::PollSet;
use sys::process;

use input::Buttons;
use network::Network;
use stopped::Hold;
use supervise::{Kept, Supervisor};

pub use stopped::STOPPED_FILE;
use words::Words;

/// What we keep while the machine is up.
const RUN_DIR: &str = "/run/k3rs";
const NAME: &std::ffi::CStr = c"k3rs-init";

/// Whether this process, being the first, is to be `run` for these arguments: always on a machine, and
/// for the server in a container, whose orphans want a parent too.
pub fn is_wanted(args: &[String]) -> bool {
    if process::id() != 1 {
        return false;
    }
    let command = args.first().map(String::as_str);
    is_machine() || matches!(command, None | Some("server" | "agent"))
}

/// Is the first process until the machine ends; in a container, until the container is to end.
/// Logs with the `log` crate, to whatever logger the caller has set up on standard error. The environment
/// is for a container's server; on a machine it holds words of the kernel's command line, for nobody.
/// `built`: no clock is right that stands before.
pub fn run(args: &[String], env: Vec<(String, String)>, built: Wall) -> i32 {
    let _ = process::set_name(NAME);
    let Ok(signals) = process::signal_fd(&supervise::SIGNALS) else {
        log::error!("make a descriptor for signals");
        return 1;
    };
    if !is_machine() {
        return run_container(args, env, signals);
    }
    mounts::kernel_file_systems();
    open_console();
    log::info!("k3rs {} is the first process", stdx::version::VERSION);
    let _ = sys::kernel::ctrl_alt_del_is_a_signal();
    let words = Words::parse(&rt::fs::read_text("/proc/cmdline").unwrap_or_default());
    for complaint in &words.complaints {
        log::warn!("Kernel command line: {complaint}");
    }
    let program = loop {
        let prepared = std::panic::catch_unwind(AssertUnwindSafe(|| prepare(&words, args)));
        match prepared.unwrap_or_else(|_| Err(Error::new("a panic"))) {
            Ok(program) => break program,
            Err(error) => {
                log::error!("This machine cannot start: {error}. Trying again");
                if let Some(how) = wait_for_end(&signals, Duration::from_secs(5)) {
                    shutdown::run(how, None, &signals, true);
                }
            }
        }
    };
    let supervisor = set_up(words, program, signals, built);
    live(supervisor);
    loop {
        // The machine should have ended; there is nothing left to do, but the first process stays.
        wait_ms(60_000);
    }
}

/// `poweroff`, `reboot`, `halt`: asks the first process.
///
/// # Errors
/// If the first process is not this program, and would take the signal for something else.
pub fn ask(name: &str) -> Result<()> {
    if !is_running() {
        let first = rt::fs::read_text("/proc/1/comm").unwrap_or_default();
        return Err(Error::new(format!(
            "{name}: the first process of this machine is not k3rs but {}",
            first.trim()
        )));
    }
    let signal = match name {
        "reboot" => process::SIGINT,
        "halt" => process::SIGUSR1,
        _ => process::SIGUSR2,
    };
    process::kill(1, signal).context(|| format!("{name}: signal the first process"))
}

/// `modprobe [-q] [-a] NAME...`: loads modules by name or alias, as the kernel asks for them.
///
/// # Errors
/// If the kernel has no modules here, or one is missing.
pub fn modprobe(args: &[String]) -> Result<()> {
    let names: Vec<String> = args.iter().filter(|arg| !arg.starts_with('-')).cloned().collect();
    let directory = load::directory().context(|| "find the kernel's modules")?;
    match load::load_named(&directory, &names) {
        true => Ok(()),
        false => Err(Error::new(format!("not all of these could be loaded: {}", names.join(" ")))),
    }
}

/// True in the first PID namespace, which is the machine's.
fn is_machine() -> bool {
    const FIRST_PID_NAMESPACE: &str = "pid:[4026531836]";
    if rt::fs::read_link("/proc/self/ns/pid").is_none() {
        // Nobody has mounted /proc: a machine that has just started, or we will see then.
        mounts::kernel_file_systems();
    }
    rt::fs::read_link("/proc/self/ns/pid").is_none_or(|link| link == Path::new(FIRST_PID_NAMESPACE))
}

/// Standard input and output on the console: what the kernel opened for us may have been in another `/dev`.
fn open_console() {
    let console = rt::fs::open_terminal(Path::new("/dev/console"));
    if let Ok(console) = console {
        for number in 0..3 {
            let _ = process::duplicate_as(console.as_fd(), number);
        }
    }
}

/// From a bare kernel to a root file system with everything in it; the program's path there. May start
/// the program anew from another place, which comes here again and finds the work done.
fn prepare(words: &Words, args: &[String]) -> Result<PathBuf> {
    rt::fs::create_dir_all(RUN_DIR, 0o755)?;
    let modules = load::directory();
    if let Some(directory) = &modules {
        child::apart("load kernel modules", || {
            load::load_all(directory, &words.modules, root::is_initramfs())
        });
    } else if rt::fs::metadata("/proc/modules").is_ok() && root::is_initramfs() {
        log::warn!(
            "There are no modules of this kernel in /lib/modules: only what it has built in works"
        );
    }
    if !root::is_initramfs() {
        let layout = root::settle(words, || {})?;
        finish(layout, modules.is_some());
        return std::env::current_exe().context(|| "find the running program");
    }
    let origin = program::Origin::open()?;
    // Modules are loaded or not needed: their files only take memory now.
    let layout = root::settle(words, || {
        if let Some(directory) = &modules
            && let Err(error) = rt::fs::remove_dir_all(directory)
        {
            log::warn!("{error}");
        }
    })?;
    if let Some(init) = &words.init
        && layout.on_disk
    {
        rt::fs::metadata(init).context(|| format!("hand over to {init} (init=)"))?;
        log::info!("Handing over to {init} (init=)");
        origin.delete();
        return Err(start_anew(Path::new(init), args));
    }
    let place = program::settle(&origin, layout, words.exec);
    if place.moved {
        origin.delete();
        let error = start_anew(&place.path, args);
        log::error!("{error}");
    }
    finish(layout, load::directory().is_some());
    Ok(place.path)
}

/// Replaces this process; only an error comes back.
fn start_anew(path: &Path, args: &[String]) -> Error {
    let text = |text: &str| std::ffi::CString::new(text).unwrap_or_default();
    let path_text = path.to_string_lossy();
    let mut argv = vec![text(&path_text)];
    argv.extend(args.iter().map(|arg| text(arg)));
    let error = process::exec(&text(&path_text), &argv, &[]);
    Error::wrap(format!("start {path_text}"), error)
}

/// Whether the first process of this machine is `run`.
pub fn is_running() -> bool {
    let first = rt::fs::read_text("/proc/1/comm").unwrap_or_default();
    first.trim().as_bytes() == NAME.to_bytes()
}

/// What is left to do once the root is in place.
fn finish(layout: root::Layout, has_modules: bool) {
    root::make_writable(layout.has_data);
    mounts::share_root();
    mounts::kernel_settings();
    mounts::check_cgroups();
    // The kernel starts this program for drivers that it misses; without modules, with an empty name,
    // it need not try.
    let mut loader = PathBuf::from("\n");
    if has_modules && let Ok(program) = std::env::current_exe() {
        loader = Path::new(RUN_DIR).join("modprobe");
        let _ = rt::fs::symlink_atomic(program, &loader);
    }
    let set =
        rt::fs::write_in_place("/proc/sys/kernel/modprobe", loader.to_string_lossy().as_bytes());
    if let Err(error) = set {
        log::debug!("{error}");
    }
}

fn set_up(words: Words, program: PathBuf, signals: OwnedFd, built: Wall) -> Supervisor {
    if words.clock_floor {
        clock::raise_to_floor(built);
    }
    let from_ip = words.addresses.iter().find_map(|address| address.hostname.clone());
    let from_file = || {
        let text = rt::fs::read_text("/etc/hostname").unwrap_or_default();
        Some(text.trim().to_owned()).filter(|name| !name.is_empty())
    };
    let hostname = words.hostname.clone().or(from_ip).or_else(from_file);
    let network = Network::start(&words.addresses, hostname.as_deref().unwrap_or(""));
    let network = network.map_err(|error| log::error!("Set up the network: {error}")).ok();
    let mut buttons = Buttons::default();
    buttons.look();
    let args = if words.args.is_empty() { vec!["server".to_owned()] } else { words.args };
    let now = rt::now().mono;
    Supervisor {
        machine: true,
        bin: bin_directory(&args),
        program,
        args,
        env: Vec::new(),
        shell_terminal: words.shell.map(Option::unwrap_or_default),
        hostname,
        signals,
        network,
        buttons,
        // Group 1 is the kernel's own.
        events: Netlink::subscribe(Family::Uevent, 1).ok(),
        has_modules: load::directory().is_some(),
        server: Kept::new("k3rs server"),
        hold: Hold::new(Path::new(STOPPED_FILE)),
        shell: Kept::new("The console's shell"),
        set: PollSet::default(),
        began: now,
        cards_next: now,
    }
}

/// Where the server unpacks what an operator finds at a shell.
fn bin_directory(args: &[String]) -> PathBuf {
    let mut data = root::DATA_DIR;
    for (idx, arg) in args.iter().enumerate() {
        match arg.split_once('=') {
            Some(("--data-dir" | "-d", value)) => data = value,
            None if matches!(arg.as_str(), "--data-dir" | "-d") => {
                data = args.get(idx + 1).map_or(data, String::as_str);
            }
            _ => {}
        }
    }
    Path::new(data).join("data/current/bin")
}

/// Turns until the end. A panic in one costs that turn.
fn live(mut supervisor: Supervisor) {
    loop {
        match std::panic::catch_unwind(AssertUnwindSafe(|| supervisor.turn())) {
            Ok(None) => {}
            Ok(Some(how)) => {
                let (server, machine) = (supervisor.server_pid(), supervisor.machine);
                shutdown::run(how, server, &supervisor.signals, machine);
                return;
            }
            Err(_) => {
                log::error!("The first process met a bug of its own and goes on");
                wait_ms(1000);
            }
        }
    }
}

/// In a container the machine, its network and its disks are somebody else's: what is left is to start the
/// server again, to reap, and to end.
fn run_container(args: &[String], env: Vec<(String, String)>, signals: OwnedFd) -> i32 {
    let program = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("/proc/self/exe"));
    let args = if args.is_empty() { vec!["server".to_owned()] } else { args.to_vec() };
    let now = rt::now().mono;
    live(Supervisor {
        machine: false,
        bin: bin_directory(&args),
        program,
        args,
        env,
        shell_terminal: None,
        hostname: None,
        signals,
        network: None,
        buttons: Buttons::default(),
        events: None,
        has_modules: false,
        server: Kept::new("k3rs server"),
        hold: Hold::new(Path::new(STOPPED_FILE)),
        shell: Kept::new("shell"),
        set: PollSet::default(),
        began: now,
        cards_next: now,
    });
    0
}

/// Waits, but not when asked to end.
fn wait_for_end(signals: &OwnedFd, time: Duration) -> Option<End> {
    let _ = sys::poll::wait_readable(signals.as_fd(), Some(time));
    while let Ok(Some(_)) = process::reap_any() {}
    let received = process::read_signals(signals.as_fd());
    received.into_iter().find_map(supervise::meaning)
}

/// Does nothing for a while.
fn wait_ms(time_ms: u64) {
    let _ = PollSet::default().wait(Some(Duration::from_millis(time_ms)));
}
