"""A baseline that gets the ancestor's answers instead of its layers: knowledge distillation.

The descendant starts from scratch. It learns the few-shot labels, and through a second, auxiliary head
it imitates what the ancestor thinks of the same images: its softened probabilities of the base classes.

    loss = CE(student(x), y) + weight * T^2 * KL(softmax(teacher(x) / T) || softmax(aux(x) / T))

Source: Hinton, Vinyals and Dean 2015, arXiv 1503.02531, section 2. What differs: there teacher and
student have the same classes and share one head. Here the task's classes are new to the ancestor, so its
answers go to a head of their own, which is thrown away with the teacher. And the cross-entropy with the
soft targets is written as a divergence, which only takes off the teacher's own entropy, a constant.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lgutils import models
from lgutils.ancestry import Ancestor
from lgutils.checks import NotNegative, Positive, expect, typed
from lgutils.errors import UserError


@dataclass(frozen=True)
class DistillConfig:
    """How much to imitate the teacher, and how softly.

    Attributes:
        temperature: T above; logits are divided by it. Positive; 1 leaves the probabilities as they are.
        weight: of the imitation against the labels. Not negative; 0 is plain training.
    """

    temperature: Positive = 4.0
    weight: NotNegative = 1.0

    def __post_init__(self):
        typed(self)


@dataclass(frozen=True)
class Losses:
    """The two halves of the loss and their sum, as scalar tensors in nats, means over the batch.

    Attributes:
        labels: cross-entropy of the student with the labels.
        imitation: the divergence at temperature T, without weight and T^2.
        total: labels + weight * T^2 * imitation.
    """

    labels: Tensor
    imitation: Tensor
    total: Tensor


def divergence(logits: Tensor, wanted: Tensor, temperature: float) -> Tensor:
    """KL(softmax(wanted / T) || softmax(logits / T)), the mean over the batch, in nats.

    Args:
        logits, wanted: (B, classes); computed in float32 if they are shorter (autocast).
    Returns:
        A scalar, 0 where both give the same probabilities.
    """
    precise = torch.promote_types(logits.dtype, torch.float32)
    found, target = (
        F.log_softmax(z.to(precise) / temperature, dim=1) for z in (logits, wanted.detach())
    )
    return F.kl_div(found, target, reduction="batchmean", log_target=True)


def _head(model: nn.Module, who: str) -> nn.Linear:
    """The linear classifier of a timm model: what is auxiliary needs its width."""
    models.check_module(model)
    timms = all(hasattr(model, name) for name in ("forward_features", "forward_head"))
    head = model.get_classifier() if timms and hasattr(model, "get_classifier") else None
    if not isinstance(head, nn.Linear):
        raise UserError(
            f"The {who} ({type(model).__name__}) has no single linear classifier on pooled features. "
            "Use a timm model with one, such as 'learngene_vgg' or 'resnet18'."
        )
    return head


class Distilling(nn.Module):
    """A student, its frozen teacher and the auxiliary head, as one model for `train.fit`.

    As a function it is the student: (B, C, H, W) normalised images -> (B, classes) logits; the teacher
    and the auxiliary head only work in `losses`. The teacher is in evaluation mode always, whatever
    `train()` says, and gets no gradients. Trained parameters are `student` and `aux`.

    Attributes:
        student: the model to keep: after training, take it from here.
        teacher: the ancestor's model; it sees the same normalised images as the student, so the
            student's normalisation must be the ancestor's (that of every `inherit.Descendant` is).
        aux: linear, from the student's pooled features to the teacher's classes.
        config: temperature and weight.
    """

    def __init__(
        self, student: nn.Module, teacher: nn.Module, aux: nn.Linear, config: DistillConfig
    ):
        """Put the parts together without copying; the teacher given is frozen. See `distilling`."""
        super().__init__()
        _head(student, "student")
        self.student, self.aux, self.config = student, aux, config
        self.teacher = teacher.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "Distilling":
        """Set the mode of student and auxiliary head; the teacher stays in evaluation mode."""
        super().train(mode)
        self.teacher.eval()
        return self

    def no_weight_decay(self) -> set[str]:
        """Names of the student's parameters that timm leaves without weight decay (positions)."""
        names = getattr(self.student, "no_weight_decay", set)()
        return {f"student.{name}" for name in names}

    def forward(self, x: Tensor) -> Tensor:
        """The student's (B, classes) logits."""
        return self.student(x)

    def losses(self, x: Tensor, y: Tensor) -> Losses:
        """Both losses from one forward pass of the student and one of the teacher.

        Args:
            x: (B, C, H, W) normalised images.
            y: (B,) labels of the task.
        """
        pooled = self.student.forward_head(self.student.forward_features(x), pre_logits=True)
        labels = F.cross_entropy(self.student.get_classifier()(pooled), y)
        with torch.no_grad():
            wanted = self.teacher(x)
        imitation = divergence(self.aux(pooled), wanted, self.config.temperature)
        total = labels + self.config.weight * self.config.temperature**2 * imitation
        return Losses(labels, imitation, total)


def objective(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """The total loss of a `Distilling` model, for `train.fit(..., objective=distill.objective)`.

    `FitConfig.label_smoothing` has no say here. With `FitConfig.compile` the loss is computed uncompiled.

    Args:
        model: what `distilling` gave.
        x: (B, C, H, W) normalised images.
        y: (B,) labels.
    Raises:
        UserError: another kind of model.
    """
    if not hasattr(model, "losses"):
        raise UserError(
            f"{type(model).__name__} has no teacher to imitate. Train what distill.distilling gives."
        )
    return model.losses(x, y).total


def distilling(
    student: nn.Module,
    ancestor: Ancestor,
    config: DistillConfig = DistillConfig(),
    seed: int = 0,
) -> Distilling:
    """Copy a student and an ancestor into one model that learns by imitation too.

    Args:
        student: any timm model with a linear classifier, usually
            `inherit.descend("scratch", ...).model`; not modified.
        ancestor: the teacher; not modified.
        config: temperature and weight.
        seed: seeds the auxiliary head; the global generators are left as they were.
    Returns:
        A model for `train.fit(..., objective=objective)`, on the CPU.
    Raises:
        UserError: student or ancestor has no linear classifier.
    Source: arXiv 1503.02531; see the module's text for what differs.
    """
    expect(ancestor, Ancestor, "ancestor", "Take what ancestry.accumulate gives, not its model.")
    expect(config, DistillConfig, "config", "Make one: DistillConfig(temperature=4.0).")
    width = _head(student, "student").in_features
    classes = _head(ancestor.model, "ancestor").out_features
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        aux = nn.Linear(width, classes)
    return Distilling(models.copied(student), models.copied(ancestor.model), aux, config)
