"""What tokenizers of the Hugging Face hub have in common."""

from typing import Any

# What their attributes call the roles, the preferred name first.
_NAMES = {
    "pad": ("pad",),
    "unknown": ("unk",),
    "mask": ("mask",),
    "begin": ("bos", "cls"),
    "end": ("eos", "sep"),
}


def special_ids(library: Any) -> dict[str, int]:
    """Return the id of each role that a tokenizer of transformers has."""
    special: dict[str, int] = {}
    for role, names in _NAMES.items():
        for name in names:
            number = getattr(library, f"{name}_token_id")
            if number is not None:
                special.setdefault(role, number)
    return special


def one_line(error: Exception) -> str:
    """Return what an error of the library or the network says, cut short."""
    if "trust_remote_code" in str(error):
        return "it comes with code of its own, which is never run; only what transformers knows is"
    return " ".join(str(error).split())[:300]
