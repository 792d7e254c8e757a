//! The repository's own rules, as tests: `cargo tidy`. Knows nothing but files.

#[cfg(test)]
mod bounds;
#[cfg(test)]
mod circles;
#[cfg(test)]
mod files;
#[cfg(test)]
mod functions;
#[cfg(test)]
mod kubectl;
#[cfg(test)]
mod rooms;
#[cfg(test)]
mod scripts;
#[cfg(test)]
mod words;
