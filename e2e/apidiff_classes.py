"""Runs the instrument as it is, and says beside its report what its differences are: apidiff_classes.py DIRECTORY [ARGUMENTS of apidiff.py].

The instrument counts an answer as different that quotes an object with its uid, revision and times, for it looks at each answer as it is. Its
numbers stay what they are. This report asks once more with those masked on both sides, and sorts what is left; it has whole messages, too.
"""

import collections
import json
import re
import sys

UUID = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
# What two servers cannot have in common, wherever it stands in a text.
MASKS = [
    (re.compile(UUID), "#"),
    (re.compile(r'(\\*"(?:resourceVersion|uid|continue)\\*": ?)\\*"[^"\\]*\\*"'), r"\1#"),
    (re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z| \+0000 UTC)"), "#"),
    (re.compile(r"resource version: \d+, current: \d+"), "resource version: #"),
    (re.compile(r"0x[0-9a-f]{6,}"), "#"),
]
TOKENS = {"continue", "resourceVersion"}


def masked(x):
    if isinstance(x, dict):
        return {k: "#" if k in TOKENS and isinstance(v, str) and v else masked(v) for k, v in x.items()}
    if isinstance(x, (list, tuple)):
        return [masked(v) for v in x]
    if isinstance(x, str):
        for pattern, by in MASKS:
            x = pattern.sub(by, x)
    return x


def text(answer):
    return answer[1].get("message", "") if isinstance(answer[1], dict) else str(answer[1])


def undumped(message):
    """Without the values that it shows: how Go would print them is no part of the answer."""
    return re.sub(r"(Invalid|Duplicate|Unsupported) value: .*?: (?=[a-z`])", r"\1 value: #: ", message, flags=re.S)


def class_of(stock, ours, same):
    """`same`: whether two answers are, as the instrument sees it."""
    (code, _, warned), (our_code, _, our_warned) = stock, ours
    if code == 0:
        return "the stock server crashed"
    a, b = masked(stock), masked(ours)
    if same(a, b):
        return "uid, revision, time or token"
    if code != our_code:
        if "is being deleted" in text(stock) + text(ours) or (code, our_code) == (409, 201):
            return "still being deleted there"
        return "code"
    said, our_said = text(a), text(b)
    if code >= 400 and undumped(said) == undumped(our_said):
        return "how a value is shown"
    if code < 400:
        lacking = [w for w in warned if w not in our_warned]
        if lacking and all("overlapping paths" in w for w in lacking) and not [w for w in our_warned if w not in warned]:
            return "upstream's wrong warning of overlapping paths"
    return "other"


class Difference(tuple):
    """What the instrument's `compare` returns, with both answers."""

    stock, ours, kind = None, None, None


def main():
    directory = sys.argv.pop(1)
    sys.path.insert(0, directory)
    import apidiff

    compare, add = apidiff.compare, apidiff.Tally.add
    classes, cases = collections.Counter(), collections.defaultdict(list)

    def compare_and_keep(stock, ours):
        found = compare(stock, ours)
        if found is None:
            return None
        found = Difference(found)
        found.kind = class_of(stock, ours, lambda a, b: compare(a, b) is None)
        found.stock, found.ours = stock, ours
        return found

    def add_and_keep(self, area, label, difference, case):
        if difference is not None:
            kind = getattr(difference, "kind", None) or area
            classes[kind] += 1
            if kind in ("code", "other", "how a value is shown"):
                show = lambda answer: f"{answer[0]} {text(answer)[:2000]} {answer[2] or ''}".replace("\n", " ")
                both = (show(difference.stock), show(difference.ours)) if getattr(difference, "stock", None) else ("", "")
                if difference[0] == "object":
                    both = difference[1:]
                cases[kind].append((area, label, difference[0], *both, json.dumps(case)))
        add(self, area, label, difference, case)

    apidiff.compare, apidiff.Tally.add = compare_and_keep, add_and_keep
    out = sys.argv[sys.argv.index("--out") + 1] if "--out" in sys.argv else "apidiff.md"
    apidiff.main()
    lines = [f"# What the differences of {out} are", "", "| class | answers |", "|---|---|"]
    lines += [f"| {kind} | {n} |" for kind, n in classes.most_common()]
    for kind in sorted(cases):
        lines += ["", f"## {kind}", ""]
        for area, label, what, stock, ours, case in sorted(cases[kind]):
            lines += [f"- **{area}** {label}: {what}", f"  - stock: {stock}", f"  - ours: {ours}", f"  - case: `{case[:1500]}`"]
    with open(f"{out.removesuffix('.md')}.classes.md", "w") as report:
        report.write("\n".join(lines) + "\n")
    print("\n".join(lines[2 : 4 + len(classes)]))


if __name__ == "__main__":
    main()
