"""From a component's name to a subject: its options, its example, its made-up inputs."""

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from polymodal.config.shape import Slot
from polymodal.config.spelling import respelled
from polymodal.ground.errors import PluginError, nearest
from polymodal.interfaces.component import StreamInfo
from polymodal.interfaces.example import Example
from polymodal.interfaces.parts import PARTS
from polymodal.packed.spec import TokenSpec
from polymodal.plugins.discovery import Plugins
from polymodal.plugins.options import convert
from polymodal.plugins.registry import Component
from polymodal.plugins.signature import Signature, read_signature
from polymodal.testing.encoders import EncoderSubject
from polymodal.testing.evaluations import EvaluationSubject
from polymodal.testing.fusions import FusionSubject
from polymodal.testing.methods import MethodSubject
from polymodal.testing.objectives import ObjectiveSubject
from polymodal.testing.parts import PartSubject
from polymodal.testing.readers import ReaderSubject
from polymodal.testing.registry import ConformanceError
from polymodal.testing.sources import SourceSubject
from polymodal.testing.tokenizers import TokenizerSubject
from polymodal.testing.toys import LENGTHS, TOY_STREAMS, Modules, toy_info, toy_tokens
from polymodal.testing.trackers import TrackerSubject


def examples_of(plugins: Plugins, name: str, kind: str) -> list[Example]:
    """Return the examples that this component's own plugin gives.

    Raises:
        PluginError: the hook fails, or gives something else.
    """
    owner = name.partition(".")[0]
    plugin = plugins.get(owner)
    implemented = plugins.manager.get_plugin(owner)
    hook = getattr(implemented, "polymodal_examples", None)
    if hook is None:
        return []
    try:
        found = list(hook())
    except Exception as error:
        raise PluginError(
            f"{plugin.name}: polymodal_examples raises {type(error).__name__}: {error}"
        ) from error
    for each in found:
        if not isinstance(each, Example):
            raise PluginError(f"{plugin.name}: polymodal_examples must return Examples, got {each}")
        if (each.kind, each.component) not in plugin.components:
            raise PluginError(
                f"{plugin.name}: polymodal_examples has an example of the {each.kind} "
                f"{each.component!r}, which it does not register"
            )
    return [each for each in found if (each.component, each.kind) == (name, kind)]


class Construction:
    """Builds a component as a run would, from its class, options and what the run gives.

    Options may be spelt in any way that a config may spell them; parts are built with it, afresh
    each time.
    """

    def __init__(self, component: Component, options: Mapping[str, Any], plugins: Plugins):
        slot = {"use": component.name, **options}
        spelt = respelled(slot, component.kind, Slot, plugins)
        component = plugins.find(spelt.pop("use"), component.kind)
        self.name = component.name
        self.plugins = plugins
        self.cls: Callable[..., Any] = component.load()
        self.signature: Signature = read_signature(component.target)
        self.options = {name: self._converted(name, value) for name, value in spelt.items()}

    def _converted(self, name: str, value: Any) -> Any:
        if name not in self.signature.options:
            hint = nearest(name, self.signature.options)
            raise PluginError(f"{self.name} has no option {name!r}.{hint}")
        part = self.signature.options[name].part
        if part is not None and isinstance(value, Mapping) and isinstance(value.get("use"), str):
            options = {key: each for key, each in value.items() if key != "use"}
            return Construction(self.plugins.find(value["use"], part), options, self.plugins)
        try:
            return convert(self.signature.options[name].annotation, value)
        except ValidationError as error:
            raise PluginError(f"{self.name}: {name}: {error.errors()[0]['msg']}") from error

    @property
    def missing(self) -> list[str]:
        """Required options not given."""
        options = self.signature.options.values()
        return [o.name for o in options if o.required and o.name not in self.options]

    def __call__(self, **offered: Any) -> Any:
        """Build it."""
        given = {}
        for name in self.signature.from_run:
            if name not in offered:
                raise PluginError(f"{self.name} asks the run for {name!r}, which it has not")
            given[name] = offered[name]
        options = {
            name: value() if isinstance(value, Construction) else value
            for name, value in self.options.items()
        }
        return self.cls(**given, **options)

    def require_options(self) -> None:
        """Refuse to go on without required options.

        Raises:
            PluginError: which; and where to give them.
        """
        if self.missing:
            raise PluginError(
                f"{self.name} has required options ({', '.join(self.missing)}): give them, or an "
                "Example in the plugin's polymodal_examples"
            )

    def with_streams(self, needs: Callable[[Any], Mapping[str, Any]]) -> None:
        """Fill in required options that name streams with the kit's own, those that will do.

        Raises:
            PluginError: a required option that is neither known nor given, or no stream will do.
        """
        missing = self.missing
        slots = {"stream": 1, "streams": 2}
        for name in missing:
            if name == "fusion":
                self.options[name] = "fusion"
            elif name in ("source", "label"):
                self.options[name] = "toy" if name == "source" else "label"
        wanted = next((name for name in self.missing if name in slots), None)
        if wanted is None:
            self.require_options()
            return
        reasons = []
        for chosen in permutations(TOY_STREAMS, slots[wanted]):
            self.options[wanted] = chosen[0] if wanted == "stream" else list(chosen)
            if self.missing:
                break
            try:
                needed = needs(self(info=toy_info()) if self.signature.from_run else self())
                unmet = [n.unmet(toy_info()[s]) for s, n in needed.items()]
            except (ValueError, KeyError) as error:
                reasons.append(str(error))
                continue
            if not any(unmet):
                return
            reasons += [u for u in unmet if u]
        del self.options[wanted]
        self.require_options()
        raise PluginError(f"{self.name}: none of the kit's streams will do: {reasons[0]}")


def _filled(options: Any, folder: str) -> Any:
    """Put the folder's name in the place of "{folder}"."""
    if isinstance(options, str):
        return options.replace("{folder}", folder)
    if isinstance(options, Mapping):
        return {key: _filled(value, folder) for key, value in options.items()}
    if isinstance(options, list | tuple):
        return [_filled(value, folder) for value in options]
    return options


@contextmanager
def prepared(example: Example) -> Iterator[Example]:
    """Yield the example with its folder written and named in its options and values."""
    with ExitStack() as stack:
        folder = ""
        if example.prepare is not None:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            example.prepare(Path(folder))
        yield replace(
            example,
            options=_filled(example.options, folder),
            tokenizer=_filled(example.tokenizer, folder),
            values=_filled(list(example.values), folder) if example.values else (),
        )


def subject_of(example: Example, plugins: Plugins) -> Any:
    """Return what the checks of this kind examine.

    Raises:
        PluginError: the component can't be found or loaded, or the kit can't make up its options.
        ConformanceError: no inputs were given, and the kit can't make them up.
    """
    component = plugins.find(example.component, example.kind)
    build = Construction(component, example.options, plugins)
    if example.kind == "encoder":
        return _encoder_subject(build, example, plugins)
    if example.kind in ("objective", "fusion"):
        build.with_streams(lambda part: part.needs())

        def from_info(info: Mapping[str, StreamInfo]) -> Any:
            return build(info=info)

        if example.kind == "fusion":
            return FusionSubject(from_info)
        return ObjectiveSubject(from_info, example.raws, _modules(example, plugins))
    if example.kind == "evaluation":
        build.with_streams(lambda part: part.needs())
        return EvaluationSubject(lambda: build(info=toy_info()))
    build.require_options()
    if example.kind == "tokenizer":
        return TokenizerSubject(lambda: build(context={}), example.raws)
    if example.kind == "reader":
        return ReaderSubject(build, example.values)
    if example.kind == "source":
        return SourceSubject(build)
    if example.kind in PARTS:
        return PartSubject(build, example.kind)
    if example.kind == "method":
        return MethodSubject(lambda info: build(info=info))
    return TrackerSubject(build)


def _modules(example: Example, plugins: Plugins) -> Modules | None:
    """Return what makes the modules that an example names."""
    made = {}
    for name, slot in example.modules.items():
        options = {key: value for key, value in slot.items() if key != "use"}
        made[name] = Construction(plugins.find(slot["use"], "fusion"), options, plugins)
    if not made:
        return None
    return lambda info: {name: make(info=info) for name, make in made.items()}


def _encoder_subject(build: Construction, example: Example, plugins: Plugins) -> EncoderSubject:
    def make(spec: TokenSpec) -> Any:
        return build(spec=spec, context={})

    if "size" in build.signature.options and not build.options:
        build.options["size"] = "pico"
    build.require_options()
    if example.tokenizer is not None:
        spec, tokens = tokens_of(example.tokenizer, example.raws, plugins)
        return EncoderSubject(make, spec, tokens)
    reasons = []
    for stream in TOY_STREAMS.values():
        try:
            make(stream.spec)
        except ValueError as error:
            reasons.append(str(error))
            continue
        return EncoderSubject(make, stream.spec, toy_tokens(stream.spec, LENGTHS))
    raise ConformanceError(
        f"none of the kit's own token specs will do for this encoder ({reasons[0]}): name its "
        "tokenizer in an Example"
    )


def tokens_of(
    slot: Mapping[str, Any], raws: Sequence[Any], plugins: Plugins
) -> tuple[TokenSpec, Any]:
    """Return the spec and the tokens of a tokenizer written as in a config.

    Raises:
        PluginError: no raw values are given, and the tokenizer's own example has none.
    """
    options = {key: value for key, value in slot.items() if key != "use"}
    name = str(slot["use"])
    if not raws:
        found = examples_of(plugins, name, "tokenizer")
        raws = found[0].raws if found else ()
        options = options or dict(found[0].options if found else {})
    component = plugins.find(name, "tokenizer")
    build = Construction(component, options, plugins)
    build.require_options()
    subject = TokenizerSubject(lambda: build(context={}), raws)
    return subject.tokenizer.spec, subject.encode(subject.raws)
