//! Rules of pods.
