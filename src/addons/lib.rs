//! The addons room.
