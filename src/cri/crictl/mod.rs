//! `k3rs crictl`: cri-tools' crictl, on the socket of this machine's node or any other.
//!
//! Requests are written and answers read as trees, by the texts of `wire::cri::schema`; tables and trees are what
//! crictl 1.32 prints. What it does beyond the interface (its own configuration, JSON schemas, traces) is refused.

mod call;
mod change;
mod line;
mod list;
mod out;
mod show;
mod streams;
mod usage;
mod words;

use std::path::PathBuf;

use stdx::{Context, Error, Result};

use call::Client;
use line::{Line, Parsed};
use out::tell;

/// What the command is given of the process it runs in.
#[derive(Debug)]
pub struct World {
    /// The socket of this machine's node.
    pub socket: PathBuf,
    pub env: fn(&str) -> Option<String>,
}

/// Runs the command, which prints what it has to say; its exit code.
pub async fn run(args: &[String], world: &World) -> u8 {
    match obey(args, world).await {
        Ok(()) => 0,
        Err(Failure::Plain(error)) => {
            tell(&error.to_string());
            1
        }
        Err(Failure::Logged(error)) => {
            out::logged("fatal", &error.to_string());
            1
        }
        Err(Failure::Unknown(name)) => {
            tell(&format!("No help topic for '{name}'"));
            3
        }
    }
}

/// How a command fails.
enum Failure {
    /// In the log's form.
    Logged(Error),
    /// As it is: so it is with what was done to several at once.
    Plain(Error),
    /// There is no such command.
    Unknown(String),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Logged(error)
    }
}

async fn obey(args: &[String], world: &World) -> Result<(), Failure> {
    let line = match Line::read(args)? {
        Parsed::Line(line) => line,
        Parsed::Unknown(name) => return Err(Failure::Unknown(name)),
        Parsed::Help => {
            out::print(&usage::all());
            return Ok(());
        }
    };
    if line.is_on("help") {
        out::print(&usage::of(line.command));
        return Ok(());
    }
    let client = Client::open(&line, world)?;
    let run: rt::BoxFuture<'_, Result<()>> = match line.command.names[0] {
        "ps" => Box::pin(list::containers(&client, &line)),
        "pods" => Box::pin(list::sandboxes(&client, &line)),
        "images" => Box::pin(list::images(&client, &line)),
        "stats" => Box::pin(list::stats(&client, &line)),
        "statsp" => Box::pin(list::sandbox_stats(&client, &line)),
        "inspect" => Box::pin(show::container(&client, &line)),
        "inspectp" => Box::pin(show::sandbox(&client, &line)),
        "inspecti" => Box::pin(show::image(&client, &line)),
        "info" => Box::pin(show::info(&client, &line)),
        "version" => Box::pin(show::version(&client)),
        "imagefsinfo" => Box::pin(show::image_fs(&client, &line)),
        "runtime-config" | "metricdescs" | "metricsp" => Box::pin(show::plain(&client, &line)),
        "pull" => Box::pin(change::pull(&client, &line)),
        "rmi" => Box::pin(change::remove_images(&client, &line)),
        "create" => Box::pin(change::create(&client, &line)),
        "run" => Box::pin(change::run(&client, &line)),
        "runp" => Box::pin(change::run_sandbox(&client, &line)),
        "start" | "stop" | "checkpoint" | "update" => Box::pin(change::each(&client, &line)),
        "rm" => Box::pin(change::remove(&client, &line)),
        "stopp" => Box::pin(change::stop_sandboxes(&client, &line)),
        "rmp" => Box::pin(change::remove_sandboxes(&client, &line)),
        "logs" => Box::pin(streams::logs(&client, &line)),
        "events" => Box::pin(streams::events(&client, &line)),
        "attach" => Box::pin(streams::attach(&client, &line)),
        "port-forward" => Box::pin(streams::port_forward(&client, &line)),
        "exec" => Box::pin(streams::exec(&client, &line)),
        name => return Err(Error::new(format!("crictl {name} is not supported by k3rs")).into()),
    };
    let is_plain = matches!(line.command.names[0], "exec" | "rm" | "rmi" | "rmp");
    match run.await {
        Err(error) if is_plain => Err(Failure::Plain(error)),
        done => Ok(done.context(|| line.command.what)?),
    }
}
