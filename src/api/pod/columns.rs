//! Printing of pods.
