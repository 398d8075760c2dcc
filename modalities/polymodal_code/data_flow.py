"""Data flow of a function: which occurrence of a variable gets its value from which others.

After Guo et al. (2021), section 3: the syntax tree is walked in the order of execution with the
occurrences at which each name may have got its value. Names are told apart by their text alone,
whatever their scope.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby

from tree_sitter import Node

from polymodal_code.grammars import GRAMMARS, Part, parser_of

COMES_FROM, COMPUTED_FROM = 0, 1
"""Kinds of flow: a read of an earlier definition, or a definition from its initial value (such as
a parameter's default); and what is assigned, from the right side."""

_PLAIN = ("=", ":=")  # operators of an assignment that does not read its target

_ONCE = ("init", "initializer", "initialize")  # fields of a loop that are run once
_LATE = ("update", "increment")  # and those that are run after its body
_ARMS = ("consequence", "alternative")

Definitions = dict[str, frozenset[int]]  # where each name may have got its value, as tokens
Child = tuple[str | None, Node]


@dataclass(frozen=True)
class DataFlow:
    """A function's tokens, and how values flow between those that name or are a value."""

    tokens: tuple[str, ...]  # leaves of the tree and whole strings, comments left out
    edges: tuple[tuple[int, int, int], ...]  # (from token, to token, kind), by the second

    @property
    def nodes(self) -> tuple[int, ...]:
        """The tokens that an edge touches, ascending."""
        return tuple(sorted({end for source, target, _ in self.edges for end in (source, target)}))


# Functions come again each epoch, and extracting takes longer than a step of a small model.
@lru_cache(maxsize=1 << 15)
def data_flow(code: str, language: str) -> DataFlow:
    """Return the tokens and the data flow of code, as far as it parses.

    Comments are left out, and so are Python's docstrings. In an `if` both arms start from the
    same definitions and what they leave is united; a loop's body is walked twice. An assignment
    of as many values as targets pairs them up, and `s += i` in any language reads `s`. Code nested
    too deeply for Python's stack has tokens alone.

    Raises:
        ValueError: a language there is no grammar for.
        ImportError: its grammar is not installed.
    """
    if language not in GRAMMARS:
        raise ValueError(f"no grammar for {language!r}; there are {', '.join(GRAMMARS)}")
    walk = _Walk(code, language)
    try:
        walk.follow(walk.root, {})
    except RecursionError:
        return DataFlow(walk.tokens, ())
    edges = sorted((source, target, kind) for (target, kind), sources in walk.flows.items()
                   for source in sources)  # fmt: skip
    return DataFlow(walk.tokens, tuple(sorted(edges, key=lambda edge: edge[1])))


class _Walk:
    """One walk over a tree. Nodes are known by where they start: every leaf has some text."""

    def __init__(self, code: str, language: str):
        self.grammar = GRAMMARS[language]
        self.root = parser_of(language).parse(code.encode()).root_node
        leaves = list(self._leaves())
        self.tokens = tuple(leaf.text.decode(errors="replace") for leaf in leaves if leaf.text)
        self.place = {leaf.start_byte: number for number, leaf in enumerate(leaves)}
        self.flows: dict[tuple[int, int], set[int]] = {}

    def _leaves(self) -> Iterator[Node]:
        stack = [self.root]
        while stack:
            node = stack.pop()
            if self._silent(node):
                continue
            if self._is_leaf(node):
                if node.text and node.text.strip():
                    yield node
            else:
                stack += reversed(node.children)

    def _is_leaf(self, node: Node) -> bool:
        return node.child_count == 0 or node.type in self.grammar.atoms

    def _silent(self, node: Node) -> bool:
        """Whether it is a comment, or a statement that is nothing but a string."""
        return node.type in self.grammar.comments or (
            node.type in self.grammar.docstrings
            and node.named_child_count == 1
            and node.children[0].type in self.grammar.atoms
        )

    def follow(self, node: Node, known: Definitions) -> Definitions:
        """Note the flows of a node and return the definitions it leaves."""
        if self._silent(node):
            return known
        if self._is_leaf(node):
            return self._read(node, known)
        children = self._children(node)
        if node.type in self.grammar.loops:
            return self._loop(node, children, known)
        if node.type in self.grammar.guards:
            children = [(None, child) for field, child in children if field != "body"]
            known = self._run(node, children, known)
            body = [("consequence", child) for child in node.children_by_field_name("body")]
            return self._run(node, body, known)
        return self._run(node, children, known)

    def _children(self, node: Node) -> list[Child]:
        labels, kind = self.grammar.labels, node.type
        named = [
            (node.field_name_for_child(number), child) for number, child in enumerate(node.children)
        ]
        return [
            (name, child)
            for name, child in named
            if (kind, name) not in labels or child.type == "computed_property_name"
        ]

    def _read(self, leaf: Node, known: Definitions) -> Definitions:
        place = self.place.get(leaf.start_byte)
        if place is None or leaf.type not in self.grammar.names:
            return known
        name = self.tokens[place]
        if name not in known:  # a parameter, or defined elsewhere
            return {**known, name: frozenset({place})}
        self._note(place, COMES_FROM, known[name])
        return known

    def _note(self, place: int, kind: int, sources: frozenset[int] | set[int]) -> None:
        if sources - {place}:
            self.flows.setdefault((place, kind), set()).update(sources - {place})

    def _loop(self, node: Node, children: Sequence[Child], known: Definitions) -> Definitions:
        heads = self.grammar.heads
        children = [
            part
            for child in children
            for part in (self._children(child[1]) if child[1].type in heads else [child])
        ]
        known = self._run(node, [c for c in children if c[0] in _ONCE], known, assigns=False)
        body = [c for c in children if c[0] not in (*_ONCE, *_LATE)]
        body += [c for c in children if c[0] in _LATE]
        run_once = node.type in self.grammar.run_once
        if node.type in self.grammar.guards:  # Ruby's `x while y`; `begin ... end while` is a `do`
            run_once = any(field == "body" and part.type == "begin" for field, part in body)
            body.sort(key=lambda child: (child[0] == "body") != run_once)
        after = known
        for _ in range(2):  # what the first round defines is read in the second
            after = self._run(node, body, after)
        return after if run_once else _united([known, after])

    def _run(
        self, node: Node, children: Sequence[Child], known: Definitions, *, assigns: bool = True
    ) -> Definitions:
        """Follow a node's children in order, arms side by side."""
        if assigns and node.type in self.grammar.assigns:
            known, done = self._assign(node, known)
            children = [child for child in children if child[1].start_byte not in done]
        first = self.grammar.first
        ordered = sorted(children, key=lambda child: child[1].type not in first)
        ordered = [child for child in ordered if child[1].is_named]
        for armed, group in groupby(ordered, key=lambda child: self._is_arm(node, child)):
            if not armed:
                for _, child in group:
                    known = self.follow(child, known)
                continue
            arms = list(group)
            ends = [self.follow(child, known) for _, child in arms]
            if not any(self._closes(arm) for arm in arms):
                ends.append(known)
            known = _united(ends)
        return known

    def _is_arm(self, node: Node, child: Child) -> bool:
        field, part = child
        return (
            field in _ARMS
            or part.type in self.grammar.arms
            or part.type in self.grammar.last_arms
            or (node.type, field) in self.grammar.arm_fields
        )

    def _closes(self, arm: Child) -> bool:
        field, part = arm
        otherwise = field == "alternative" and part.type not in self.grammar.open_arms
        return otherwise or part.type in self.grammar.last_arms

    def _assign(self, node: Node, known: Definitions) -> tuple[Definitions, set[int]]:
        """Follow an assignment; return the definitions, and where the parts done with start."""
        target_part, value_part = self.grammar.assigns[node.type]
        targets = _part(node, target_part)
        values = [] if value_part is None else _part(node, value_part)
        done = {part.start_byte for part in (*targets, *values)}
        for value in values:
            known = self.follow(value, known)
        for target in targets:
            known = self._read_around(target, known)
        new = dict(known)
        kind = COMES_FROM if node.type in self.grammar.definitions else COMPUTED_FROM
        reads = self._reads_target(node)
        for parts, from_parts in self._paired(targets, values):
            sources = {place for part in from_parts for place in self._values(part)}
            for place in (place for part in parts for place in self._written(part)):
                name = self.tokens[place]
                before = known.get(name, frozenset()) if reads else frozenset()
                self._note(place, kind, sources | before)
                new[name] = frozenset({place})
        return new, done

    def _reads_target(self, node: Node) -> bool:
        if node.type in self.grammar.updates:
            return True
        operator = node.child_by_field_name("operator")
        text = (operator.text or b"").decode() if operator is not None else ""
        return text.endswith("=") and text not in _PLAIN

    def _paired(
        self, targets: Sequence[Node], values: Sequence[Node]
    ) -> Iterator[tuple[Sequence[Node], Sequence[Node]]]:
        """Yield targets with the values they get: side by side, as deep as both are lists."""
        left, right = self._side_by_side(targets), self._side_by_side(values)
        if len(left) != len(right):
            yield targets, values
        elif len(left) == 1 and (left, right) == (list(targets), list(values)):
            yield left, right
        else:
            for one, other in zip(left, right, strict=True):
                yield from self._paired([one], [other])

    def _side_by_side(self, parts: Sequence[Node]) -> list[Node]:
        if len(parts) == 1 and parts[0].type in self.grammar.lists:
            if any(child.type == "=>" for child in parts[0].children):
                return list(parts)  # by key, not by place
            items = parts[0].named_children
            wrapped = self.grammar.wrappers
            return [item.named_children[0] if item.type in wrapped else item for item in items]
        return list(parts)

    def _written(self, target: Node) -> list[int]:
        """Return the tokens that a target writes: `a` of a, `b` of a.b, `c` of c[i]."""
        if self._is_leaf(target):
            place = self.place.get(target.start_byte)
            return [place] if place is not None and target.type in self.grammar.names else []
        return [place for part in self._targets(target) for place in self._written(part)]

    def _targets(self, target: Node) -> list[Node]:
        """Return the children of a target that are written; the others are read."""
        parts = [child for _, child in self._children(target) if child.is_named]
        part = self.grammar.members.get(target.type)
        if part is None and target.type in self.grammar.assigns:  # `c = 1` in {b: c = 1}
            part = self.grammar.assigns[target.type][0]
        if part is not None:
            return _part(target, part)
        if target.type in self.grammar.keyed:
            return [child for child in parts if not _is_key(child)]
        return [child for child in parts if child.type != "computed_property_name"]

    def _read_around(self, target: Node, known: Definitions) -> Definitions:
        """Follow what a target reads: `a` of a.b, `i` of c[i], `d` of {b: c = d}."""
        if self._is_leaf(target):
            return known
        written = {part.start_byte for part in self._targets(target)}
        default = self.grammar.assigns.get(target.type, ("", None))[1]
        for _, child in self._children(target):
            if not child.is_named:
                continue
            if child.start_byte not in written:
                known = self.follow(child, known)
            else:
                known = self._read_around(child, known)
        if default is not None and target.type not in self.grammar.members:
            sources = {place for part in _part(target, default) for place in self._values(part)}
            for place in self._written(target):
                self._note(place, COMPUTED_FROM, sources)
        return known

    def _values(self, node: Node) -> Iterator[int]:
        """Yield the tokens of a value that are names or constants."""
        if self._is_leaf(node):
            if node.is_named and node.start_byte in self.place:
                yield self.place[node.start_byte]
            return
        for _, child in self._children(node):
            yield from self._values(child)


def _part(node: Node, part: Part) -> list[Node]:
    if isinstance(part, int):
        return node.named_children[part : part + 1]
    return [child for child in node.children_by_field_name(part) if child.is_named] if part else []


def _is_key(node: Node) -> bool:
    return node.next_sibling is not None and node.next_sibling.type == "=>"


def _united(ends: Sequence[Definitions]) -> Definitions:
    united: Definitions = {}
    for end in ends:
        for name, places in end.items():
            united[name] = united.get(name, frozenset()) | places
    return united
