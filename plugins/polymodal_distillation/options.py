"""What the methods that learn from a slow copy have in common: their heads, and their schedule."""

from typing import Annotated, TypedDict

from polymodal import Default


class SelfDistillation(TypedDict, total=False):
    """The heads of student and teacher, and how the teacher moves and sharpens over a run.

    Args:
        hidden: width of the heads' hidden layers.
        bottleneck: width before their last layers.
        student_temperature: of the student's softmax.
        teacher_temperature: of the teacher's, from and to.
        warmup: share of the run over which it goes from the first to the second.
        momentum: of the teacher at the start; it grows to 1 by a cosine.
        centre_momentum: share of the old centres that is kept in each step.
        freeze_last: share of the run in which the heads' last layers stay as they were drawn.
        norm: whether the heads' hidden layers have batch norms, as the code of DINO's paper has for
            convolutional networks. In short runs on little data they keep vectors apart that
            otherwise all end in one place. Batches must not be cut into micro-batches then.
    """

    hidden: Annotated[int, Default(2048)]
    bottleneck: Annotated[int, Default(256)]
    student_temperature: Annotated[float, Default(0.1)]
    teacher_temperature: Annotated[tuple[float, float], Default((0.04, 0.04))]
    warmup: Annotated[float, Default(0.3)]
    momentum: Annotated[float, Default(0.996)]
    centre_momentum: Annotated[float, Default(0.9)]
    freeze_last: Annotated[float, Default(0.01)]
    norm: Annotated[bool, Default(False)]
