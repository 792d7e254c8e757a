//! Having storage drivers (CSI) do their work: they are registered, mount the volumes of pods and take them down, and say how
//! full these are. What is known of them is in `csi`.

mod expand;
mod figures;
mod mount;
mod register;
mod unmount;

pub(crate) use figures::measure;
pub(crate) use mount::{set_up, wanted};
pub(crate) use register::run;
pub(crate) use unmount::take_down;
