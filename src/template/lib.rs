//! Go's text/template: templates are read once and executed over trees of values, with functions that the caller gives.
