//! The netplan room.
