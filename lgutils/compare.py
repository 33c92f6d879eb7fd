"""Two result folders side by side: which effects and verdicts differ."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from textwrap import wrap

import pandas as pd

from lgutils import reading
from lgutils.checks import Share
from lgutils.errors import UserError
from lgutils.report import Claim, read_claims

Key = tuple[str, str, str, int]  # sentence, family, dataset, which of several alike
GROUP = ["dataset", "family", "method", "k_shot"]


def compare(a: Path | str, b: Path | str) -> str:
    """Compare the claims of two result folders, and their runs where both hold a runs.csv.

    Returns:
        Plain text; it ends with a sentence that counts the changed verdicts.
    Raises:
        UserError: a folder or its claims.json is missing or damaged.
    """
    a, b = Path(a), Path(b)
    left, right = _claims(a), _claims(b)
    both = [key for key in left if key in right]
    changed = [key for key in both if left[key].verdict != right[key].verdict]
    parts = [f"A: {a}\nB: {b}"]
    if both:
        parts.append(_table([_line(left[key], right[key]) for key in both]))
    for letter, mine, other in (("A", left, right), ("B", right, left)):
        if alone := [claim for key, claim in mine.items() if key not in other]:
            parts.append(f"Only in {letter}:\n" + "\n".join(f"  {_name(c)}" for c in alone))
    if runs := _runs(a, b):
        parts.append(runs)
    same = ": all claims are the same" if left == right else ""
    parts.append(f"{len(changed)} of {len(both)} verdicts changed{same}.")
    return "\n\n".join(parts)


def _claims(folder: Path) -> dict[Key, Claim]:
    path = folder / "claims.json"
    if not folder.is_dir():
        raise UserError(f"There is no folder {folder}. Name two folders that hold a claims.json.")
    if not path.is_file():
        raise UserError(
            f"{folder} holds no claims.json. Name a folder that a report was written to."
        )
    seen: Counter = Counter()
    keyed = {}
    for claim in read_claims(path)[0]:
        alike = (claim.sentence, claim.family, claim.dataset)
        keyed[(*alike, seen[alike])] = claim
        seen[alike] += 1
    return keyed


def _name(claim: Claim) -> str:
    where = ", ".join(filter(None, (claim.family, claim.dataset)))
    return f"{claim.sentence} ({where})" if where else claim.sentence


def _line(a: Claim, b: Claim) -> list[str]:
    """Mark, name, effects, overlap of the intervals, verdicts."""
    overlap = a.effect.low <= b.effect.high and b.effect.low <= a.effect.high
    verdict = a.verdict if a.verdict == b.verdict else f"{a.verdict} -> {b.verdict}"
    return [
        "" if a.verdict == b.verdict else "*",
        _name(a),
        a.effect.text(a.unit),
        b.effect.text(b.unit),
        ("yes" if overlap else "no") if a.unit == b.unit else "other unit",
        verdict,
    ]


def _table(lines: Sequence[Sequence[str]], width: int = 44) -> str:
    """Columns of text; the second is broken at `width`. A star marks a changed verdict."""
    head = ["", "claim", "effect A", "effect B", "overlap", "verdict A -> B"]
    rows = []
    for line in (head, *lines):
        name = wrap(line[1], width) or [""]
        rows.append([line[0], name[0], *line[2:]])
        rows += [["", "  " + rest, *[""] * 4] for rest in name[1:]]
    widths = [max(len(row[k]) for row in rows) for k in range(len(head))]
    rows.insert(1, ["-" * w for w in widths])
    texts = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in rows]
    star = "\n* the verdict changed" if any(line[0] for line in lines) else ""
    return "\n".join(text.rstrip() for text in texts) + star


def _rows(path: Path) -> pd.DataFrame:
    """Group, key (where there is one) and accuracy of every run."""
    frame = reading.table(path, {**dict.fromkeys(GROUP, str | int | float), "accuracy": Share})
    return frame[[*GROUP, "accuracy", *(["key"] if "key" in frame else [])]]


def _runs(a: Path, b: Path) -> str:
    """Which groups have another mean accuracy, over the runs that both have, if they share any.

    Means over runs that only one of them has would differ by what was run, not by what came out.
    """
    paths = [folder / "runs.csv" for folder in (a, b)]
    if not all(path.is_file() for path in paths):
        return ""
    left, right = map(_rows, paths)
    lines = [f"runs.csv: {len(left)} rows in A, {len(right)} in B"]
    if "key" in left and "key" in right:
        shared = set(left["key"]) & set(right["key"])
        lines[0] += f", {len(shared)} of them the same jobs"
        if shared:
            left, right = (frame[frame["key"].isin(shared)] for frame in (left, right))
    means = [frame.groupby(GROUP, dropna=False)["accuracy"].mean() for frame in (left, right)]
    table = pd.concat(means, axis=1, keys=["a", "b"]).sort_index()
    for group, old, new in table.itertuples(name=None):
        name = "  {}, {}, {}, {}-shot".format(*group)
        if pd.isna(old) or pd.isna(new):
            lines.append(f"{name}: only in {'B' if pd.isna(old) else 'A'}")
        elif abs(new - old) > 1e-9:
            change = f"{100 * old:.2f} % -> {100 * new:.2f} % ({100 * (new - old):+.2f} points)"
            lines.append(f"{name}: mean accuracy {change}")
    if len(lines) == 1:
        lines[0] += "; every mean accuracy is the same"
    return "\n".join(lines)
