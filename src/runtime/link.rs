//! The runtime's end of the connections to a shim.

use stdx::{Error, Result};

use crate::spec::TerminalSize;
use crate::stream::Output;

#[derive(Debug)]
pub(crate) struct SendHalf {}

impl SendHalf {
    pub(crate) async fn stdin(&mut self, _bytes: &[u8]) -> Result<()> {
        Err(Error::new("write stdin: not built yet"))
    }
    pub(crate) async fn close_stdin(&mut self) -> Result<()> {
        Err(Error::new("close stdin: not built yet"))
    }
    pub(crate) async fn resize(&mut self, _size: TerminalSize) -> Result<()> {
        Err(Error::new("resize: not built yet"))
    }
    pub(crate) async fn kill(&mut self) -> Result<()> {
        Err(Error::new("kill: not built yet"))
    }
}

#[derive(Debug)]
pub(crate) struct ReceiveHalf {}

impl ReceiveHalf {
    pub(crate) async fn next(&mut self) -> Option<Output> {
        None
    }
}
