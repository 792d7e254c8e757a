//! Log lines: time, level, message; to standard error, a file, or both.

use std::io::LineWriter;
use std::path::Path;

use log::LevelFilter;
use simplelog::{CombinedLogger, ConfigBuilder, SharedLogger, WriteLogger};
use stdx::{Context, Result};

/// Starts logging for the process's life.
///
/// # Errors
/// If the log file cannot be opened.
pub(crate) fn start(debug: bool, file: Option<&Path>, also_stderr: bool) -> Result<()> {
    let level = if debug { LevelFilter::Debug } else { LevelFilter::Info };
    let config = ConfigBuilder::new()
        .set_time_format_rfc3339()
        .set_thread_level(LevelFilter::Off)
        .set_target_level(LevelFilter::Off)
        .set_location_level(LevelFilter::Off)
        // What libraries debug is not what our operators look for.
        .add_filter_ignore_str("rustls")
        .add_filter_ignore_str("polling")
        .add_filter_ignore_str("async_io")
        .build();
    let mut loggers: Vec<Box<dyn SharedLogger>> = Vec::new();
    if let Some(path) = file {
        let opened = rt::fs::open_append(path).context(|| "open the log")?;
        loggers.push(WriteLogger::new(level, config.clone(), whole_lines(opened)));
    }
    if file.is_none() || also_stderr {
        loggers.push(WriteLogger::new(level, config, whole_lines(std::io::stderr())));
    }
    CombinedLogger::init(loggers).context(|| "start logging")
}

/// The logger writes a line in pieces; others write to the same console, and each piece would be a system call.
fn whole_lines<W: std::io::Write>(sink: W) -> LineWriter<W> {
    LineWriter::with_capacity(1024, sink)
}
