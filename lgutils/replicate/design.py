"""How large the sweeps are: tasks of each study, shots, settings, and the few-shot training."""

from dataclasses import dataclass

from lgutils import fleet, recipes
from lgutils.errors import UserError
from lgutils.fleet import FEW_SHOT
from lgutils.fleet.tuning import TUNING_TASKS
from lgutils.train import FitConfig

TASKS = 20
LOGGED = (1, 2, 3, 5, 7, 10, 14, 20, 28, 40, 60, 80, 100, 140, 200, 280, 400, 500)  # epochs


@dataclass(frozen=True)
class Sizes:
    """How many tasks each study uses; the first ones, so that a larger run extends a smaller one.

    Attributes:
        arms: tasks of the main comparison, at least 4.
    """

    arms: int = TASKS

    def __post_init__(self):
        if self.arms < 4:
            raise UserError(f"{self.arms} tasks were asked for; at least 4 are needed.")

    def of(self, study: str) -> int:
        """Tasks of a study: the costly ones use fewer."""
        share = {"arms": 1, "shots": 3 / 10, "long": 1 / 4, "grid": 1 / 5, "sets": 3 / 20}[study]
        return max(2, round(self.arms * share))


@dataclass(frozen=True)
class Design:
    """What is varied, and over which values.

    Attributes:
        shots: training images of each class in the study of claim 4.
        rates, weight_decays: the grid of claim 2; the rates are also the ones that every arm is tuned over.
        random_sets: rival learngenes of the same budget.
        tuning_tasks: seeds of the open-world tasks for tuning; never those of reported tasks.
        fit: how descendants train, but for the learning rate.
    """

    shots: tuple[int, ...] = (1, 2, 5, 10, 20, 50)
    rates: tuple[float, ...] = fleet.LEARNING_RATES
    weight_decays: tuple[float, ...] = (0.05, 0.5)
    random_sets: int = 20
    tuning_tasks: tuple[int, ...] = TUNING_TASKS
    fit: FitConfig = FEW_SHOT

    @classmethod
    def preset(cls, scale_name: str, family: str = "cnn", dataset: str | None = None) -> "Design":
        """The design of a scale and family.

        Descendants train as the family's recipe says, on the ancestor's dataset (None for the recipe's). "rehearsal" varies little: it only proves the path.
        """
        fit = recipes.find(family, scale_name, dataset).few_shot
        decay = fit.weight_decay
        if scale_name != "rehearsal":
            return cls(weight_decays=(decay, 10 * decay), fit=fit)
        return cls(
            shots=(5, 10, 20), rates=(1e-3, 1e-2), weight_decays=(decay,), random_sets=2,
            tuning_tasks=TUNING_TASKS[:1], fit=fit,
        )  # fmt: skip

    @property
    def fits(self) -> dict[str, FitConfig]:
        """How each arm trains before its learning rate is tuned."""
        return fleet.tuning.fits(self.fit)

    def logged(self, arm: str) -> tuple[int, ...]:
        """Epochs after which an arm's learning curve is evaluated."""
        return tuple(epoch for epoch in LOGGED if epoch <= self.fits[arm].epochs)
