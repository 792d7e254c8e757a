//! Memory that a burst of work needed goes back to the kernel once it is quiet again.

use std::time::Duration;

use smol::Async;

/// How long nothing may have come and gone before memory is given back, and how often that is looked at.
const QUIET: Duration = Duration::from_secs(5);
/// What may come and go in quiet times.
const QUIET_MAX_BYTES: usize = 512 << 10;
/// Under load that does not end, it is given back all the same after so many looks.
const LOOKS_MAX: u32 = 12;

/// Gives memory back after each burst. Runs for ever, and sleeps while there is none.
pub async fn follow_memory() {
    let bursts = match sys::memory::Bursts::new().and_then(Async::new_nonblocking) {
        Ok(bursts) => bursts,
        Err(error) => return log::warn!("watch for free memory: {error}; it is kept"),
    };
    loop {
        if let Err(error) = bursts.read_with(sys::memory::Bursts::take).await {
            return log::warn!("watch for free memory: {error}; it is kept");
        }
        let mut before = sys::memory::in_use();
        for _ in 0..LOOKS_MAX {
            crate::sleep(QUIET).await;
            let now = sys::memory::in_use();
            if now.abs_diff(before) <= QUIET_MAX_BYTES {
                break;
            }
            before = now;
        }
        crate::unblock(sys::memory::give_back).await;
        bursts.get_ref().listen();
    }
}
