//! Helm charts: an archive becomes a chart, a chart and values become objects, hooks and notes. Fetches nothing, knows no cluster.
