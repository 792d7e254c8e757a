//! `k3rs rollback`: the version before, with the data that it had.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use cluster::Paths;
use stdx::version::VERSION;
use stdx::{Context, Error, Result};

use crate::settings::config::Config;
use crate::settings::flags::On;
use crate::{machine::prepare, machine::upgrade};

const USAGE: &str = "USAGE: k3rs rollback [--binary FILE] [--keep-data] [--data-dir DIR]\n\n\
    Puts the version before in this program's place, and a server's data back to what they were when this version first\n\
    started; what was written since lies in server/db/rollback/ under this version's name. A second rollback takes both back.\n\
    k3rs must not be running.\n\n\
    OPTIONS:\n   --binary FILE   the program of the version before (default: this program's file with .previous, where\n                   install.sh and packages leave it)\n   --keep-data     leave the data as they are\n";

/// How long the program before has to say its version.
const SAY_MAX: Duration = Duration::from_secs(30);
const LINE_MAX_BYTES: usize = 256;

struct Asked {
    binary: Option<PathBuf>,
    keep_data: bool,
    rest: Vec<String>,
}

pub(crate) fn command(args: &[String]) -> ExitCode {
    if args.iter().any(|arg| matches!(arg.as_str(), "--help" | "-h" | "help")) {
        crate::print(USAGE);
        return ExitCode::SUCCESS;
    }
    if let Err(error) = prepare::need_root("rollback") {
        return crate::fail(&error.to_string());
    }
    rt::start_workers(1);
    let done = parse(args).and_then(|asked| {
        let config = Config::load(On::Either, &asked.rest, |name| std::env::var(name).ok())?;
        rt::block_on(run(&asked, &config))
    });
    crate::ended("rollback", done)
}

fn parse(args: &[String]) -> Result<Asked> {
    let mut asked = Asked { binary: None, keep_data: false, rest: Vec::new() };
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        match arg.as_str() {
            "--keep-data" | "--keep-data=true" => asked.keep_data = true,
            "--keep-data=false" => asked.keep_data = false,
            "--binary" => {
                let file = rest.next().context(|| "flag needs an argument: --binary")?;
                asked.binary = Some(file.into());
            }
            other => match other.strip_prefix("--binary=") {
                Some(file) => asked.binary = Some(file.into()),
                None => asked.rest.push(other.to_owned()),
            },
        }
    }
    Ok(asked)
}

async fn run(asked: &Asked, config: &Config) -> Result<String> {
    let own = std::env::current_exe().context(|| "find the running program")?;
    let own = own.canonicalize().context(|| format!("find {}", own.display()))?;
    let name = own.file_name().unwrap_or(OsStr::new("k3rs")).to_string_lossy().into_owned();
    let saved = own.with_file_name([&name, ".previous"].concat());
    let before = asked.binary.clone().unwrap_or_else(|| saved.clone());
    if !before.is_file() {
        return Err(Error::new(format!(
            "there is no program of the version before at {}: name it with --binary",
            before.display()
        )));
    }
    let version = version_of(&before).await?;
    if version == VERSION {
        // What is kept of its data would be lost: it lies where this version's would be put.
        return Err(Error::new(format!("{} is this version, {VERSION}", before.display())));
    }
    let paths = Paths::new(&config.data_dir);
    let _lock = match config.data_dir.exists() {
        true => Some(prepare::lock(&paths)?),
        false => None,
    };
    let mut said = String::new();
    if !asked.keep_data && paths.server().join("db").exists() {
        put_back(&paths, config, &version)?;
        said +=
            &format!("The data are those that {version} had last; what was written since is in ");
        said += &format!("{}\n", upgrade::kept(&paths).join(VERSION).display());
    }
    // There is a whole program at every moment.
    let aside = own.with_file_name([".", &name, ".rollback"].concat());
    rt::fs::copy_atomic(&own, &aside, 0o755)?;
    rt::fs::copy_atomic(&before, &own, 0o755)?;
    rt::fs::rename(&aside, &saved)?;
    if config.data_dir.exists() {
        upgrade::write(&paths, &version)?;
    }
    said += &format!(
        "{} is k3rs {version} now, {} the one from before ({VERSION}): start k3rs again\n",
        own.display(),
        saved.display()
    );
    Ok(said)
}

/// What a program says of itself: `k3rs version v1.32.9+k3rs1`.
async fn version_of(program: &Path) -> Result<String> {
    let what = || format!("ask {} for its version", program.display());
    let args = [OsStr::new("--version")];
    let (_helper, mut output) = rt::process::Helper::start(program.as_os_str(), &args, &[])?;
    let line = rt::timeout(SAY_MAX, output.line(LINE_MAX_BYTES)).await;
    let line = line.context(what)?.context(what)?;
    let version = line.strip_prefix("k3rs version ").map(str::trim);
    version
        .map(str::to_owned)
        .ok_or_else(|| Error::new(format!("{} is no k3rs: it says {line:?}", program.display())))
}

/// Exchanges the datastore and its keys for those that were kept. After an end in the middle, the next call goes on.
fn put_back(paths: &Paths, config: &Config, version: &str) -> Result<()> {
    let all = upgrade::kept(paths);
    let shared = |what: &str| {
        Err(Error::new(format!(
            "{what}: put that back first, then use --keep-data, which brings back the program alone"
        )))
    };
    if config.datastore.is_some() {
        return shared("the data are in the database that --datastore-endpoint names");
    }
    if paths.etcd().exists() {
        let dir = paths.snapshots();
        return shared(&format!(
            "the data are in the embedded etcd, whose snapshot before-... in {} is put back by k3rs server --cluster-reset --cluster-reset-restore-path=FILE",
            dir.display()
        ));
    }
    let from = [version, upgrade::UNKNOWN].map(|name| all.join(name));
    let Some(from) = from.into_iter().find(|folder| folder.is_dir()) else {
        return Err(Error::new(format!(
            "nothing is kept of the data of {version} in {}: --keep-data brings back the program alone",
            all.display()
        )));
    };
    let aside = all.join(VERSION);
    let mark = aside.join(".moving");
    // What an earlier rollback from this version put there is in the way; what an interrupted one did is not.
    if !mark.exists() {
        rt::fs::remove_dir_all(&aside)?;
        rt::fs::create_dir_all(&aside, 0o700)?;
        rt::fs::write_atomic(&mark, b"", 0o600)?;
    }
    let datastore = paths.datastore();
    let move_one = |from: &Path, to: &Path| -> Result<()> {
        match from.symlink_metadata().is_ok() && to.symlink_metadata().is_err() {
            true => rt::fs::rename(from, to),
            false => Ok(()),
        }
    };
    // The log of writes goes with its file: first away, last back.
    if from.join("state.db").exists() {
        for name in ["state.db-wal", "state.db-shm", "state.db"] {
            move_one(&datastore.with_file_name(name), &aside.join(name))?;
        }
        move_one(&from.join("state.db"), &datastore)?;
    }
    move_one(&from.join("state.db-wal"), &datastore.with_file_name("state.db-wal"))?;
    for name in upgrade::BESIDE {
        if from.join(name).exists() {
            let own = paths.server().join(name);
            move_one(&own, &aside.join(name))?;
            move_one(&from.join(name), &own)?;
        }
    }
    rt::fs::sync_dir(paths.server())?;
    rt::fs::remove_file(&mark)?;
    // Not empty: something was there already, and is kept.
    let _ = rt::fs::remove_empty_dir(&from);
    Ok(())
}
