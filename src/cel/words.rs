//! Words of the language that name nothing else.

/// What the grammar reads.
pub(crate) const KEYWORDS: [&str; 4] = ["in", "true", "false", "null"];

/// What no variable may be called.
pub(crate) const RESERVED: [&str; 17] = [
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];
