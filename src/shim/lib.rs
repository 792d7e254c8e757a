//! The shim room.
