//! Objects as `kubectl describe` tells them.
