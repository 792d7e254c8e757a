//! Waiting for signals of the process.

use async_signal::{Signal, Signals};
use smol::stream::StreamExt;
use stdx::{Context, Result};

/// Waits for SIGTERM or SIGINT; gives its name.
pub async fn terminated() -> Result<&'static str> {
    let mut signals = Signals::new([Signal::Term, Signal::Int]).context(|| "listen for signals")?;
    loop {
        match signals.next().await {
            Some(Ok(Signal::Int)) => return Ok("SIGINT"),
            Some(Ok(_)) => return Ok("SIGTERM"),
            Some(Err(error)) => return Err(error).context(|| "listen for signals"),
            None => std::future::pending::<()>().await,
        }
    }
}
