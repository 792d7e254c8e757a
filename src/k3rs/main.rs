//! k3rs: one binary that is a whole Kubernetes node.
//!
//! This room dispatches commands (by name, or by the name of the link it was called through), reads
//! flags, environment and configuration, and wires the other rooms together. It decides nothing else.

mod agent;
mod commands;
mod etcd;
mod ingress;
mod kine;
mod machine;
mod node;
mod peers;
mod server;
mod settings;
mod shared_log;
mod userspace;

use std::path::PathBuf;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: sys::memory::Allocator = sys::memory::Allocator;

/// What the binary can be asked to do.
struct Command {
    name: &'static str,
    about: &'static str,
    run: fn(&[String]) -> ExitCode,
    hidden: bool,
}

static COMMANDS: &[Command] = &[
    Command { name: "server", about: "Run management server", run: server::command, hidden: false },
    Command { name: "agent", about: "Run node agent", run: agent::command, hidden: false },
    Command {
        name: "ctr",
        about: "Look at and change this node's images",
        run: ctr_command,
        hidden: false,
    },
    Command { name: "crictl", about: "Run crictl", run: crictl_command, hidden: false },
    Command { name: "kubectl", about: "Run kubectl", run: kubectl_command, hidden: false },
    Command { name: "token", about: "Manage tokens", run: token_command, hidden: false },
    Command {
        name: "secrets-encrypt",
        about: "Control secrets encryption and its keys",
        run: server::secrets::command,
        hidden: false,
    },
    Command {
        name: "etcd-snapshot",
        about: "Take, list and delete snapshots of the embedded etcd",
        run: etcd::snapshots::command,
        hidden: false,
    },
    Command {
        name: "certificate",
        about: "Look at certificates, make them anew, replace authorities",
        run: commands::certificate::command,
        hidden: false,
    },
    Command {
        name: "kine",
        about: "Serve the etcd API on a datastore",
        run: kine::command,
        hidden: false,
    },
    Command {
        name: "check-config",
        about: "Look whether this machine has what k3rs needs",
        run: commands::check_config::command,
        hidden: false,
    },
    Command {
        name: "completion",
        about: "Print or install the completion script of a shell",
        run: commands::completion::command,
        hidden: false,
    },
    Command {
        name: "killall",
        about: "End k3rs and all pods on this machine, and keep the data",
        run: commands::killall::command,
        hidden: false,
    },
    Command {
        name: "rollback",
        about: "Go back to the version before and its data",
        run: commands::rollback::command,
        hidden: false,
    },
    Command {
        name: "uninstall",
        about: "Remove everything k3rs made on this machine",
        run: commands::uninstall::command,
        hidden: false,
    },
    Command {
        name: "shim",
        about: "Run the parent process of a pod",
        run: shim_command,
        hidden: true,
    },
    Command {
        name: "ingress",
        about: "Run the ingress of a cluster, in a pod",
        run: ingress::command,
        hidden: true,
    },
    Command {
        name: "poweroff",
        about: "Switch this machine off, if k3rs runs it",
        run: |_| end("poweroff"),
        hidden: false,
    },
    Command {
        name: "reboot",
        about: "Restart this machine, if k3rs runs it",
        run: |_| end("reboot"),
        hidden: false,
    },
    Command {
        name: "halt",
        about: "Stop this machine, if k3rs runs it",
        run: |_| end("halt"),
        hidden: false,
    },
    Command {
        name: "modprobe",
        about: "Load kernel modules with what they need",
        run: modprobe_command,
        hidden: true,
    },
    Command {
        name: "help",
        about: "Show this list, or a command's options",
        run: help,
        hidden: false,
    },
];

fn main() -> ExitCode {
    let mut argv = std::env::args();
    let program = argv.next().unwrap_or_default();
    let args: Vec<String> = argv.collect();
    let called_as = program.rsplit('/').next().unwrap_or("");
    if let Some((asked, before)) = args.split_last()
        && asked == commands::completion::ASK
    {
        print(&commands::completion::words(before));
        return ExitCode::SUCCESS;
    }
    if boot::is_wanted(&args) {
        return init(&args);
    }
    // Called through a link: `kubectl get pods` is `k3rs kubectl get pods`.
    if let Some(command) = COMMANDS.iter().find(|command| command.name == called_as) {
        return (command.run)(&args);
    }
    if userspace::CNI_NAMES.contains(&called_as) {
        return cni_plugin(called_as);
    }
    match args.first().map(String::as_str) {
        Some("--version" | "-v" | "version") => version(),
        None | Some("--help" | "-h") => usage(),
        Some(name) => match COMMANDS.iter().find(|command| command.name == name) {
            // The pods' parent and the modules' loader are called by programs.
            Some(command) if !command.hidden && asks_version(&args[1..]) => version(),
            Some(command) => (command.run)(&args[1..]),
            None => fail(&format!("unknown command {name:?} (k3rs help lists them)")),
        },
    }
}

/// The names of commands that are for people.
fn shown_commands() -> impl Iterator<Item = &'static str> {
    COMMANDS.iter().filter(|command| !command.hidden).map(|command| command.name)
}

fn version() -> ExitCode {
    print(&format!("k3rs version {}\n", stdx::version::VERSION));
    ExitCode::SUCCESS
}

fn asks_version(args: &[String]) -> bool {
    args.first().is_some_and(|arg| arg == "--version")
}

/// `k3rs help server` is `k3rs server --help`.
fn help(args: &[String]) -> ExitCode {
    let Some(name) = args.first().filter(|arg| !arg.starts_with('-') && *arg != "help") else {
        return usage();
    };
    match COMMANDS.iter().find(|command| command.name == name && !command.hidden) {
        Some(command)
            if matches!(
                command.name,
                "server"
                    | "agent"
                    | "token"
                    | "uninstall"
                    | "ctr"
                    | "secrets-encrypt"
                    | "etcd-snapshot"
                    | "certificate"
                    | "kine"
                    | "check-config"
                    | "completion"
                    | "killall"
                    | "rollback"
                    | "crictl"
                    | "kubectl"
            ) =>
        {
            (command.run)(&["--help".to_owned()])
        }
        Some(command) => {
            print(&format!("k3rs {} - {}\n\nUSAGE: k3rs {0}\n", command.name, command.about));
            ExitCode::SUCCESS
        }
        None => fail(&format!("unknown command {name:?} (k3rs help lists them)")),
    }
}

fn usage() -> ExitCode {
    let mut text = String::from(
        "k3rs - Kubernetes, small and simple\n\nUSAGE: k3rs COMMAND [OPTIONS]\n\nCOMMANDS:\n",
    );
    for command in COMMANDS.iter().filter(|command| !command.hidden) {
        text.push_str(&format!("   {:<16} {}\n", command.name, command.about));
    }
    text.push_str("\nk3rs help COMMAND shows a command's options, k3rs --version the version.\n");
    print(&text);
    ExitCode::SUCCESS
}

/// Called through a link in `data/cni`, by whoever makes a pod's network.
fn cni_plugin(name: &str) -> ExitCode {
    use std::io::Write;
    let answer = net::plugins::run(name, std::env::vars().collect(), &mut std::io::stdin());
    let _ = std::io::stderr().write_all(answer.errors.as_bytes());
    print(&answer.output);
    if answer.failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// This process is the first of its machine or container.
fn init(args: &[String]) -> ExitCode {
    if let Err(error) = machine::logging::start(false, None, false) {
        fail(&error.to_string());
    }
    ExitCode::from(
        u8::try_from(boot::run(args, std::env::vars().collect(), machine::clock::built()))
            .unwrap_or(1),
    )
}

fn end(name: &str) -> ExitCode {
    match boot::ask(name) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error.to_string()),
    }
}

fn modprobe_command(args: &[String]) -> ExitCode {
    // The kernel asks for many modules that there are not; its callers tell what they miss.
    match boot::modprobe(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) if args.iter().any(|arg| arg == "-q") => ExitCode::FAILURE,
        Err(error) => fail(&error.to_string()),
    }
}

fn ctr_command(args: &[String]) -> ExitCode {
    let config = match settings::config::Config::load(settings::flags::On::Either, &[], |name| {
        std::env::var(name).ok()
    }) {
        Ok(config) => config,
        Err(error) => return fail(&error.to_string()),
    };
    match rt::block_on(cli::ctr::run(args, &cli::Door::new(machine::door::socket(&config)))) {
        Ok(text) => {
            print(&text);
            ExitCode::SUCCESS
        }
        Err(error) => fail(&format!("ctr: {error}")),
    }
}

fn kubectl_command(args: &[String]) -> ExitCode {
    let world = kubectl::World {
        env: &|name| std::env::var(name).ok(),
        all_env: &|| std::env::vars().collect(),
        kubeconfig: kubectl::default_kubeconfig(),
    };
    ExitCode::from(kubectl::run(args, &world))
}

fn crictl_command(args: &[String]) -> ExitCode {
    let env = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let config = match settings::config::Config::load(settings::flags::On::Either, &[], env) {
        Ok(config) => config,
        Err(error) => return fail(&error.to_string()),
    };
    let world = ::cri::crictl::World { socket: node::cri::socket(&config), env };
    ExitCode::from(rt::block_on(::cri::crictl::run(args, &world)))
}

fn token_command(args: &[String]) -> ExitCode {
    let open = |named: Option<&str>| {
        let from_env = std::env::var("KUBECONFIG").ok().filter(|path| !path.is_empty());
        let config = settings::config::Config::load(settings::flags::On::Either, &[], |name| {
            std::env::var(name).ok()
        })?;
        let path = named.map(PathBuf::from).or(from_env.map(PathBuf::from));
        let path = path.unwrap_or_else(|| machine::prepare::EtcDir::at(&config).kubeconfig());
        let access = client::Access::from_kubeconfig_file(&path)?;
        let ca = String::from_utf8_lossy(&access.ca_pem()?).into_owned();
        Ok((client::Client::remote(access, "k3rs")?, ca))
    };
    let rotate = |rotation: cli::token::Rotation| -> rt::BoxFuture<'static, stdx::Result<()>> {
        Box::pin(server::keys::ask_for_rotation(rotation))
    };
    let world = cli::token::World {
        open: &open,
        rotate: &rotate,
        whole: |ca_pem, token| format!("K10{}::{token}", cluster::token::ca_hash(ca_pem)),
        random: rt::random,
        now: rt::now().wall,
    };
    ended("token", rt::block_on(cli::token::run(args, &world)))
}

fn shim_command(args: &[String]) -> ExitCode {
    let args: Vec<std::ffi::OsString> = args.iter().map(Into::into).collect();
    ExitCode::from(u8::try_from(shim::main(&args)).unwrap_or(1))
}

/// Prints what a command has to say, or what went wrong with it; exit code 0, or 1.
fn ended(command: &str, done: stdx::Result<String>) -> ExitCode {
    match done {
        Ok(text) => {
            print(&text);
            ExitCode::SUCCESS
        }
        Err(error) => fail(&format!("{command}: {error}")),
    }
}

/// Says what went wrong and gives the exit code for it.
fn fail(what: &str) -> ExitCode {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "k3rs: {what}");
    ExitCode::FAILURE
}

fn print(text: &str) {
    use std::io::Write;
    let _ = std::io::stdout().write_all(text.as_bytes());
}
