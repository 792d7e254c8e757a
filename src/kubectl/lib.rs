//! kubectl, for the users of this binary: its commands, flags, messages and exit codes.
