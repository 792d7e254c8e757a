//! The operator's hold on the server: while a file is there, the first process starts none and ends the one that runs.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use sys::inotify::Inotify;
use sys::poll::{POLLIN, PollSet};

/// The file, as `install.sh` has it for busybox's init. `/run` is empty after a start of the machine.
pub const STOPPED_FILE: &str = "/run/k3s.stopped";

/// Whether the server is held, and how that is noticed.
#[derive(Debug)]
pub(crate) struct Hold {
    /// `None` where the kernel has no inotify: then the file is looked at with whatever else happens.
    watch: Option<Inotify>,
    place: Option<usize>,
    is_held: bool,
    file: PathBuf,
}

impl Hold {
    /// Nothing is held at first: what an earlier start of a container left is removed.
    pub(crate) fn new(file: &Path) -> Hold {
        let _ = rt::fs::remove_file(file);
        let watch = Inotify::new().and_then(|watch| {
            watch.add(file.parent().unwrap_or(file))?;
            Ok(watch)
        });
        let watch = watch.inspect_err(|error| log::warn!("watch {}: {error}", file.display())).ok();
        Hold { watch, place: None, is_held: false, file: file.to_owned() }
    }

    pub(crate) fn is_held(&self) -> bool {
        self.is_held
    }

    pub(crate) fn add_to(&mut self, set: &mut PollSet) {
        self.place = self.watch.as_ref().map(|watch| set.add(watch.as_fd(), POLLIN));
    }

    /// What is so from now on, if it has changed.
    pub(crate) fn changed(&mut self, set: &PollSet) -> Option<bool> {
        if let (Some(watch), Some(place)) = (&self.watch, self.place) {
            if set.ready(place) == 0 {
                return None;
            }
            let _ = watch.drain();
        }
        let is_held = rt::fs::symlink_metadata(&self.file).is_ok();
        (is_held != std::mem::replace(&mut self.is_held, is_held)).then_some(is_held)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_file_holds_while_it_is_there() {
        let folder = std::env::temp_dir().join(format!("boot-hold-{}", std::process::id()));
        rt::fs::create_dir_all(&folder, 0o755).unwrap();
        let file = folder.join("k3s.stopped");
        rt::fs::write(&file, b"", 0o644).unwrap();
        let mut hold = Hold::new(&file);
        let mut turn = |until| {
            let mut set = PollSet::default();
            hold.add_to(&mut set);
            set.wait(Some(until)).unwrap();
            (hold.changed(&set), hold.is_held())
        };
        let (soon, never) = (Duration::from_secs(30), Duration::ZERO);
        assert_eq!(turn(never), (None, false), "what an earlier start left is gone");
        rt::fs::write(&file, b"", 0o644).unwrap();
        assert_eq!(turn(soon), (Some(true), true));
        assert_eq!(turn(never), (None, true));
        rt::fs::write(folder.join("other"), b"", 0o644).unwrap();
        assert_eq!(turn(soon), (None, true));
        rt::fs::remove_file(&file).unwrap();
        assert_eq!(turn(soon), (Some(false), false));
        rt::fs::remove_dir_all(&folder).unwrap();
    }
}
