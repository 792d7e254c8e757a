//! The tidy room.
