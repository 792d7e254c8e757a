//! Log lines: time, level, message; to standard error, a file, or both.

use std::io::{LineWriter, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use log::{LevelFilter, Log, Metadata, Record};
use stdx::{Context, Error, Result};

/// What libraries debug is not what our operators look for.
const LIBRARIES: [&str; 3] = ["rustls", "polling", "async_io"];

/// Starts logging for the process's life.
///
/// # Errors
/// If the log file cannot be opened.
pub(crate) fn start(debug: bool, file: Option<&Path>, also_stderr: bool) -> Result<()> {
    let mut sinks = Vec::new();
    if let Some(path) = file {
        let opened = rt::fs::open_append(path).context(|| "open the log")?;
        sinks.push(whole_lines(Box::new(opened)));
    }
    if file.is_none() || also_stderr {
        sinks.push(whole_lines(Box::new(std::io::stderr())));
    }
    let logger = Box::leak(Box::new(Logger(Mutex::new(sinks))));
    log::set_logger(logger).map_err(|error| Error::new(format!("start logging: {error}")))?;
    log::set_max_level(if debug { LevelFilter::Debug } else { LevelFilter::Info });
    Ok(())
}

type Sink = LineWriter<Box<dyn Write + Send>>;

/// A line is written in pieces; others write to the same console, and each piece would be a system call.
fn whole_lines(sink: Box<dyn Write + Send>) -> Sink {
    LineWriter::with_capacity(1024, sink)
}

struct Logger(Mutex<Vec<Sink>>);

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
            && !LIBRARIES.iter().any(|library| metadata.target().starts_with(library))
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let now = rt::now().wall;
        let mut time = api::time::format(now);
        time.pop();
        let mut sinks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for sink in &mut *sinks {
            // Nobody could be told of a failure.
            let _ = writeln!(
                sink,
                "{time}.{:09}Z [{}] {}",
                now.subsec_nanos(),
                record.level(),
                record.args()
            );
        }
    }

    fn flush(&self) {
        for sink in &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            let _ = sink.flush();
        }
    }
}
