//! Releases of charts: HelmChart objects are fetched, rendered, applied, and recorded as Helm records them.
