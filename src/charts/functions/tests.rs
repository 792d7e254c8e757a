//! Functions, and what Helm gives for them.
