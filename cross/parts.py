"""What a binary's bytes are: by room or crate, from the symbols of the unstripped file.

parts.py FILE [USERSPACE]         the parts, largest first: bytes, name
parts.py --functions FILE [N]     the N largest functions and constants
"""

import collections
import os
import re
import subprocess
import sys

# Of Rust's two manglings (legacy `_ZN4room...`, v0 `_RNvNtCs1234_4room...`), the first crate that is named.
LEGACY = re.compile(r"\d+(?:_?\$[^.]*\$)?([a-z_0-9]+)")
V0 = re.compile(r"C(?:s[0-9a-zA-Z]*_)?(\d+)_?")
UNWIND = {".ARM.exidx", ".ARM.extab", ".eh_frame", ".eh_frame_hdr", ".gcc_except_table"}


def readelf(flag, path):
    return subprocess.run(["readelf", flag, path], check=True, capture_output=True, text=True, errors="replace").stdout


def sections(path):
    """index -> (name, bytes in the file, is loaded)"""
    found = {}
    for line in readelf("-SW", path).splitlines():
        match = re.match(r"\s*\[\s*(\d+)\]\s+(\S+)\s+(\S+)\s+[0-9a-f]+\s+[0-9a-f]+\s+([0-9a-f]+)\s+[0-9a-f]+\s+([A-Za-z]*)", line)
        if match:
            size = 0 if match[3] == "NOBITS" else int(match[4], 16)
            found[int(match[1])] = (match[2], size, "A" in match[5])
    return found


def symbols(path):
    """(address, bytes, section index, name), one for each address: folded functions have several names."""
    seen = {}
    for line in readelf("-sW", path).splitlines():
        words = line.split()
        if len(words) < 8 or words[3] not in ("FUNC", "OBJECT", "TLS") or not words[6].isdigit():
            continue
        address = int(words[1], 16) & (~1 if words[3] == "FUNC" else ~0)  # Thumb's mark
        size = int(words[2], 0)
        if size:
            seen[(address, int(words[6]))] = (size, words[7])
    return [(address, size, section, name) for (address, section), (size, name) in seen.items()]


def crate(name):
    if name.startswith("_R"):
        match = V0.search(name)
        if match:
            return name[match.end():match.end() + int(match[1])]
    if name.startswith("_ZN"):
        text = name.replace("$LT$", " ").replace("$GT$", " ").replace("$u20$", " ").replace("..", " ")
        words = re.findall(r"[a-z_][a-z0-9_]*", re.sub(r"^_ZN\d+_?", "", text))
        words = [word for word in words if word not in ("as", "dyn", "mut", "_", "impl", "u7b", "u5b", "u5d")]
        return words[0] if words else "?"
    if name.startswith("sqlite3") or name.startswith("sqlite"):
        return "sqlite (C)"
    return "other C and assembler"


def main():
    arguments = sys.argv[1:]
    if arguments[0] == "--functions":
        rows = sorted(symbols(arguments[1]), key=lambda row: -row[1])[: int(arguments[2]) if len(arguments) > 2 else 60]
        text = "".join(f"{size:9d}  {name}\n" for _, size, _, name in rows)
        sys.stdout.write(subprocess.run(["c++filt"], input=text, capture_output=True, text=True, check=True).stdout)
        return
    path = arguments[0]
    parts = collections.Counter()
    rest = {index: size for index, (name, size, loaded) in sections(path).items() if loaded}
    names = {index: name for index, (name, _, _) in sections(path).items()}
    for _, size, section, name in symbols(path):
        if rest.get(section):
            size = min(size, rest[section])
            rest[section] -= size
            parts[crate(name)] += size
    if len(arguments) > 1 and os.path.exists(arguments[1]):
        size = os.path.getsize(arguments[1])
        rodata = next(index for index, name in names.items() if name == ".rodata")
        parts["userspace (embedded)"] = size
        rest[rodata] -= min(size, rest[rodata])
    for index, size in rest.items():
        parts["unwind tables" if names[index] in UNWIND else f"unnamed in {names[index]}"] += size
    for name, size in parts.most_common():
        if size > 0:
            print(f"{size:10d}  {name}")


main()
