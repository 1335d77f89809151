"""Learn from a teacher: the loss between a student's answers and those of a trained network."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .features import FeatureMatching


class Distillation:
    """T^2 KL(softmax(t / T) || softmax(s / T)), averaged over images, for logits s of a student and t of `teacher`.

    Source: Hinton, Vinyals, Dean 2015, arXiv:1503.02531. `temperature` T softens both answers; T^2 keeps the gradient
    as large as it is without. A student is trained on `weight` of this loss and 1 - `weight` of that on labels.
    Differs: the divergence instead of the cross-entropy, which has the same gradient and is 0 where both agree.

    `features` add a loss of their own, from the same pass of the teacher.

    The teacher is in evaluation mode, and no gradient reaches it. This is no module, so that the teacher is part of
    nothing that belongs to the student: no optimizer, average, checkpoint or count. Raises ValueError where
    `temperature` is not positive or `weight` not in (0, 1].
    """

    def __init__(
        self, teacher: nn.Module, *, temperature: float, weight: float, features: FeatureMatching | None = None
    ) -> None:
        if not 0 < temperature < float("inf"):
            raise ValueError(f"distillation.temperature={temperature}: must be positive; 4 is usual")
        if not 0 < weight <= 1:
            raise ValueError(
                f"distillation.weight={weight}: must lie in (0, 1]; 0.9 is usual, and teacher=null trains without one"
            )
        self.teacher = teacher.eval().requires_grad_(False)
        self.temperature, self.weight, self.features = temperature, weight, features

    def loss(self, images: Tensor, logits: Tensor) -> Tensor:
        """The loss, a scalar, of a student that answers `logits` (N, num_classes) on images (N, C, H, W)."""
        with torch.no_grad():
            answers = self.teacher(images)
        wide = torch.promote_types(logits.dtype, torch.float32)
        student = F.log_softmax(logits.to(wide) / self.temperature, dim=1)
        teacher = F.log_softmax(answers.to(wide) / self.temperature, dim=1)
        return self.temperature**2 * F.kl_div(student, teacher, reduction="batchmean", log_target=True)


def distillation(
    student: nn.Module,
    teacher: nn.Module,
    input_shape: tuple[int, int, int],
    *,
    temperature: float,
    weight: float,
    features: float | None,
) -> Distillation:
    """How `student` learns from `teacher` on images of `input_shape` (C, H, W).

    `features` is the weight of FeatureMatching; None or 0: the student learns from answers alone.
    """
    matching = FeatureMatching(student, teacher, input_shape, weight=features) if features else None
    return Distillation(teacher, temperature=temperature, weight=weight, features=matching)
