//! A pod's volumes on this node: made, kept up to date, and taken down.

mod atomic;
mod claim;
mod devices;
mod payload;
mod setup;
pub(crate) mod subpath;

pub(crate) use claim::{
    Claims, FINALIZER as LOCAL_PATH_FINALIZER, local_path_of, release_local_path,
};
pub(crate) use devices::block_devices;
pub(crate) use payload::{TokenWanted, tokens_wanted};
pub(crate) use setup::{
    Made, Mounted, Setup, bind_sub_path, directory_size, is_block_device, is_dynamic, refresh,
    set_up, take_down,
};
