//! The rt room.
