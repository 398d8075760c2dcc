"""Names that every tracking service accepts."""

import re


def plain_name(name: str) -> str:
    """Return a metric's name in letters, digits and _ - . /, as TensorBoard and MLflow ask.

    `recall@1 image>text` becomes `recall_at_1_image_to_text`.
    """
    return re.sub(r"[^\w\-./]", "_", name.replace("@", "_at_").replace(">", "_to_"))
