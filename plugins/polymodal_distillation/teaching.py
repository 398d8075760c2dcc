"""What changes in the course of self-distillation, and the checks of its numbers."""

from dataclasses import dataclass
from typing import Any

from polymodal import Step, cosine
from polymodal_distillation.options import SelfDistillation


@dataclass(frozen=True)
class Plan:
    """The temperatures, the teacher's momentum, and when the last layer is let go.

    Raises:
        ValueError: a temperature that is not above 0, or a share out of range.
    """

    student_temperature: float
    teacher_temperature: tuple[float, float]
    warmup: float
    momentum: float
    freeze_last: float

    def __post_init__(self) -> None:
        first, last = self.teacher_temperature
        if min(self.student_temperature, first, last) <= 0:
            raise ValueError(
                "temperatures must be above 0, got student_temperature "
                f"{self.student_temperature} and teacher_temperature {[first, last]}"
            )
        for name in ("warmup", "momentum", "freeze_last"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie between 0 and 1, got {getattr(self, name)}")

    def temperature(self, step: Step) -> float:
        """Return the teacher's: it rises in a line to the second over the warm-up."""
        first, last = self.teacher_temperature
        done = min(step.progress / self.warmup, 1.0) if self.warmup else 1.0
        return first + (last - first) * done

    def frozen(self, step: Step) -> bool:
        """Return whether the head's last layer stays as it was drawn."""
        return step.progress < self.freeze_last

    def momentum_at(self, step: Step) -> float:
        """Return the teacher's momentum: it grows to 1 by a cosine."""
        return cosine(self.momentum, 1.0, step.progress)


def plan_of(options: SelfDistillation, temperature: tuple[float, float]) -> Plan:
    """Return the schedule that these options say, with the teacher's temperature from and to."""
    return Plan(
        options["student_temperature"],
        temperature,
        options["warmup"],
        options["momentum"],
        options["freeze_last"],
    )


def heads_of(options: SelfDistillation) -> dict[str, Any]:
    """Return what these options say of `Heads`."""
    names = ("hidden", "bottleneck", "centre_momentum", "norm")
    return {name: value for name, value in options.items() if name in names}
