"""Claims: a sentence, the effect measured for it, and the verdict that follows from both."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import msgspec

from lgutils import reading
from lgutils.errors import UserError, unknown
from lgutils.report.stats import Interval

LEVEL = 0.05
ENDS = {"inf": math.inf, "-inf": -math.inf}  # JSON has no infinite numbers
ANEW = "Write the report anew."
VERDICTS = ("supported", "not supported", "contradicted")


@dataclass(frozen=True)
class Claim:
    """A sentence, the effect that was measured for it, and what follows.

    sentence: what is claimed, without a full stop.
    unit: "points" for differences of accuracies in [0, 1], printed times 100 and with a sign. Any
        other, such as "times", "steps" or "shots": plain numbers and that word.
    null: the effect if nothing happens: 0 for differences, 1 for ratios.
    larger: the claim says that the effect lies above `null`; False: below.
    p: two-sided p-value, adjusted for several claims. Where given, both "supported" and
        "contradicted" need p < 0.05 besides an interval on one side of `null`.
    number: of the paper's claim, 1 to 4; None for a control.
    family: "cnn" or "vit". dataset: its name.
    note: one sentence that explains a failed or surprising verdict.
    """

    sentence: str
    effect: Interval
    unit: str = "points"
    null: float = 0.0
    larger: bool = True
    p: float | None = None
    number: int | None = None
    family: str = ""
    dataset: str = ""
    note: str = ""

    def __post_init__(self):
        if self.p is not None and not 0 <= self.p <= 1:
            raise UserError(f"A p-value lies in [0, 1], but p = {self.p} was given.")
        if self.number not in (None, 1, 2, 3, 4):
            raise UserError(f"The paper's claims are 1 to 4 (a control: None), not {self.number}.")
        if not math.isfinite(self.null):
            raise UserError(f"The value of no effect must be a finite number, not {self.null}.")
        if any(map(math.isnan, (self.effect.mean, self.effect.low, self.effect.high))):
            raise UserError(f"The effect {self.effect} holds a nan. Measure it before claiming.")

    @property
    def verdict(self) -> str:
        """One of "supported", "contradicted" and, where the data allow both, "not supported"."""
        above, below = self.effect.low > self.null, self.effect.high < self.null
        if not (above or below) or (self.p is not None and self.p >= LEVEL):
            return "not supported"
        return "supported" if above == self.larger else "contradicted"

    def __str__(self) -> str:
        effect = self.effect.text(self.unit)
        return f"{self.sentence}: {effect}, n = {self.effect.n}: {self.verdict}"

    def to_json(self) -> dict[str, Any]:
        """Plain dict for `json.dumps(..., allow_nan=False)`, with the verdict.

        Infinite ends of an effect become the strings "inf" and "-inf".
        """
        numbers = {key: float(getattr(self.effect, key)) for key in ("mean", "low", "high")}
        effect = {k: v if math.isfinite(v) else str(v) for k, v in numbers.items()}
        effect["n"] = int(self.effect.n)
        plain = {"null": float(self.null), "larger": bool(self.larger)}
        plain["p"] = None if self.p is None else float(self.p)
        plain["number"] = None if self.number is None else int(self.number)
        return asdict(self) | plain | {"effect": effect, "verdict": self.verdict}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "Claim":
        """Read what `to_json` wrote.

        Raises:
            UserError: an unknown or missing entry, one of another type, or a verdict that its numbers do
                not give.
        """
        entries = reading.checked(stored, dict[str, Any], "A claim", ANEW)
        verdict = entries.pop("verdict", None)
        names = [field.name for field in fields(cls)]
        for name in entries:
            if name not in names:
                raise unknown("entry of a claim", name, names)
        if isinstance(effect := entries.get("effect"), dict):
            entries["effect"] = {k: ENDS.get(str(v), v) for k, v in effect.items()}
        claim = reading.checked(entries, cls, "A claim", ANEW)
        if verdict not in (None, claim.verdict):
            raise UserError(f"{claim}. But stored as {verdict}: write the file anew.")
        return claim


class _File(msgspec.Struct):
    """What claims.json holds."""

    claims: list[dict[str, Any]]
    provenance: dict[str, str] = msgspec.field(default_factory=dict)


def read_claims(path: Path | str) -> tuple[list[Claim], dict[str, str]]:
    """Read a claims.json, as `page.write` writes it.

    Returns:
        (claims, what made the numbers).
    Raises:
        UserError: missing or damaged, or a claim that `Claim.from_json` refuses.
    """
    stored = reading.json_file(path, _File, ANEW)
    try:
        return [Claim.from_json(entry) for entry in stored.claims], stored.provenance
    except UserError as error:
        raise UserError(f"{path} is damaged: {error}") from error
