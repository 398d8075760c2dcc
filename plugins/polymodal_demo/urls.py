"""Addresses of made-up pages, some of them traps."""

from collections.abc import Sequence
from functools import cache
from itertools import islice
from typing import Any

import numpy as np

from polymodal_demo.generated import GeneratedSource, pick

CATEGORIES = (
    "bank", "books", "cars", "food", "games", "health", "music", "news", "sport", "travel",
)  # fmt: skip
OWN, SHARED = 6, 2  # words of a category alone, and those it shares with each of two others
BRANDS = (300, 100)  # names of sites in training rows, and in validation rows
_PLAIN = ("index", "view", "home", "en", "de", "list", "item", "archive", "main", "page", "static")
_HOSTS = ("www", "m", "app", "en", "blog", "my", "cdn")
_ENDS = ("com", "net", "org", "info", "io", "co", "de", "top", "xyz")
_KEYS = ("id", "page", "ref", "q", "sid", "utm", "lang")
_ALIKE = {"o": "0", "l": "1", "i": "1", "e": "3", "s": "5", "a": "4"}
_LURES = ("login", "secure", "verify", "account", "update")
_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"


class Urls(GeneratedSource):
    """Addresses of web pages, each of one of ten categories, half of them phishing.

    An address is made of a scheme, a host (subdomain, a site's name, a top-level domain), a path
    and sometimes a query. The path has two to five words of its category, and perhaps a plain one.
    A category has ten words, made up, of which it shares two with each of two others, so that it
    takes several words to tell. Phishing shows in one of three ways: characters of the name in
    look-alikes ("m1kado"), a name as subdomain of a throw-away host, or a long random query after a
    lure. Honest addresses have digits in names, such words and short queries, too.

    What can be learned without labels: which words go together, so that those that a few labelled
    rows lack are known; and how names are spelt. Validation rows have names that training rows
    never have, and may have characters swapped.

    Fields: `url`, `category` (one of ten), `phishing` ("yes", "no"), `split` ("train" or
    "validation"; use `split: {column: split}`).

    Args:
        samples: how many.
        validation: share of the rows, evenly spread.
        swaps: how often two neighbouring characters of each validation row change places.
        seed: of everything drawn but words and names.

    Raises:
        ValueError: a share out of range, or a negative number.
    """

    fields = ("url", "category", "phishing", "split")

    def __init__(
        self, *, samples: int = 10_000, validation: float = 0.1, swaps: int = 0, seed: int = 0
    ):
        super().__init__(samples=samples, seed=seed)
        if not 0 <= validation <= 1 or swaps < 0:
            raise ValueError(
                f"validation must lie between 0 and 1 and swaps not be negative, got {validation} "
                f"and {swaps}"
            )
        self.validation = validation
        self.swaps = swaps

    def column(self, name: str) -> list[Any]:
        """Return a field of every row; which split a row is of takes no drawing."""
        if name == "split":
            return [self._split(index) for index in range(self.samples)]
        return super().column(name)

    def _split(self, index: int) -> str:
        due = int((index + 1) * self.validation) > int(index * self.validation)
        return "validation" if due else "train"

    def make(self, index: int, generator: np.random.Generator) -> dict[str, Any]:
        """Return one address."""
        split = self._split(index)
        paths, names = _vocabulary()
        name = pick(generator, names[split == "validation"])
        category = int(generator.integers(len(CATEGORIES)))
        trap = generator.random() < 0.5
        way = int(generator.integers(3)) if trap else -1  # how it shows
        host = _site(name, generator, alike=way == 0)
        if generator.random() < 0.3:
            host = f"{pick(generator, _HOSTS)}.{host}"
        if way == 1:
            host = f"{name}.{pick(generator, _ENDS[:4])}.{_random(generator, 5, 8)}"
            host += f".{pick(generator, _ENDS)}"
        scheme = "http" if generator.random() < (0.5 if trap else 0.3) else "https"
        url = f"{scheme}://{host}/{_path(paths[category], generator)}"
        if way == 2:
            url += (
                f"/{pick(generator, _LURES)}?{pick(generator, _KEYS)}={_random(generator, 8, 14)}"
            )
        elif generator.random() < 0.4:
            url += f"?{pick(generator, _KEYS)}={_random(generator, 1, 6)}"
        if split == "validation":
            for _ in range(self.swaps):
                url = _swapped(url, generator)
        return {
            "url": url,
            "category": CATEGORIES[category],
            "phishing": "yes" if trap else "no",
            "split": split,
        }


def _site(name: str, generator: np.random.Generator, *, alike: bool) -> str:
    if alike:
        places = [place for place, letter in enumerate(name) if letter in _ALIKE]
        for place in generator.permutation(places)[:2]:
            name = name[:place] + _ALIKE[name[place]] + name[place + 1 :]
    elif generator.random() < 0.2:
        name += str(generator.integers(2, 100))
    return f"{name}.{pick(generator, _ENDS)}"


def _path(words: Sequence[str], generator: np.random.Generator) -> str:
    drawn = _some(words, 2, 5, generator) + _some(_PLAIN, 0, 1, generator)
    if generator.random() < 0.1:
        drawn.append(pick(generator, _LURES))
    order = [drawn[place] for place in generator.permutation(len(drawn))]
    marks = [*_some("//-_", len(order) - 1, len(order) - 1, generator), ""]
    return "".join(f"{word}{mark}" for word, mark in zip(order, marks, strict=True))


def _some(items: Sequence[str], least: int, most: int, generator: np.random.Generator) -> list[str]:
    drawn = generator.integers(len(items), size=generator.integers(least, most + 1))
    return [items[number] for number in drawn]


def _random(generator: np.random.Generator, least: int, most: int) -> str:
    return "".join(_some(_LETTERS, least, most, generator))


def _query(generator: np.random.Generator, least: int, most: int) -> str:
    return f"?{pick(generator, _KEYS)}={_random(generator, least, most)}"


def _swapped(url: str, generator: np.random.Generator) -> str:
    """Let two neighbouring letters or digits that differ, behind the scheme, change places."""
    start = url.index("://") + 3
    places = [
        place
        for place in range(start, len(url) - 1)
        if url[place : place + 2].isalnum() and url[place] != url[place + 1]
    ]
    place = pick(generator, places)
    return url[:place] + url[place + 1] + url[place] + url[place + 2 :]


@cache
def _vocabulary() -> tuple[list[list[str]], tuple[list[str], list[str]]]:
    """Return the words of each category, and the names of training and validation rows."""
    generator = np.random.default_rng(20240217)
    made: dict[str, None] = {}  # in order, each once
    count = len(CATEGORIES)
    while len(made) < count * (OWN + SHARED) + sum(BRANDS):
        syllables = generator.integers(2, 4)
        made["".join(_syllable(generator) for _ in range(syllables))] = None
    words = iter(made)
    own = [list(islice(words, OWN)) for _ in range(count)]
    shared = [list(islice(words, SHARED)) for _ in range(count)]
    paths = [[*own[c], *shared[c], *shared[c - 1]] for c in range(count)]
    seen, unseen = (list(islice(words, number)) for number in BRANDS)
    return paths, (seen, unseen)


def _syllable(generator: np.random.Generator) -> str:
    letters = ("bcdfghklmnprstvw", "aeiou", ("", "", "l", "n", "r", "s"))
    return "".join(pick(generator, each) for each in letters)
