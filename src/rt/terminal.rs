//! The terminal of a command that carries one from elsewhere: raw for as long as that lasts.

use std::os::fd::AsFd;

use async_signal::{Signal, Signals};
use smol::stream::StreamExt;

/// Standard input in raw mode, until this is dropped.
pub struct Raw(sys::pty::Settings);

impl Raw {
    /// `None` if standard input is no terminal.
    pub fn begin() -> Option<Raw> {
        sys::pty::make_raw(std::io::stdin().as_fd()).ok().map(Raw)
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = sys::pty::restore(std::io::stdin().as_fd(), &self.0);
    }
}

impl std::fmt::Debug for Raw {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Raw")
    }
}

/// Columns and rows of the terminal, if there is one.
pub fn size() -> Option<(u16, u16)> {
    sys::pty::size(std::io::stdout().as_fd()).ok()
}

/// Completes when the terminal's size may have changed.
pub async fn resized() {
    if let Ok(mut signals) = Signals::new([Signal::Winch]) {
        signals.next().await;
    } else {
        std::future::pending::<()>().await;
    }
}
