//! What `--kube-scheduler-arg` says; profiles come from the file that `config` names.

use std::path::Path;
use std::sync::Arc;

use sched::Profiles;
use stdx::{Context, Error, Result};

use super::{Args, Component};

/// The profiles that were given, if any.
///
/// # Errors
/// For what upstream refuses, and a file that cannot be read.
pub(crate) fn read(args: &[String], idle: &mut Vec<String>) -> Result<Option<Arc<Profiles>>> {
    let mut args = Args::read(Component::Scheduler, args)?;
    let path = args.text("config").filter(|path| !path.is_empty());
    idle.extend(args.idle());
    let Some(path) = path else { return Ok(None) };
    let what = || format!("kube-scheduler: --config {path}");
    let tree = super::configuration(Path::new(&path)).context(what)?;
    let read = sched::read(&tree).map_err(Error::new).context(what)?;
    if !read.idle.is_empty() {
        idle.push(format!("fields of the scheduler's configuration: {}", read.idle.join(", ")));
    }
    Ok(Some(Arc::new(read.profiles)))
}
