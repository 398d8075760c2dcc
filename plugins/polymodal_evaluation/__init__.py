"""evaluation: what a frozen encoder's vectors are good for, beside what chance would score."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from polymodal import hookimpl

if TYPE_CHECKING:
    from polymodal import Registry
    from polymodal.testing import Example

polymodal_interface = 1


@hookimpl
def polymodal_register(registry: "Registry") -> None:
    """Name the evaluations, and a control for them."""
    registry.evaluation(
        "linear_probe",
        "polymodal_evaluation.linear_probe:LinearProbe",
        "read a label off the vectors with logistic regression",
    )
    registry.evaluation(
        "linear_regression",
        "polymodal_evaluation.linear_regression:LinearRegression",
        "read a number off the vectors with ridge regression",
    )
    registry.evaluation(
        "knn",
        "polymodal_evaluation.knn:NearestNeighbors",
        "label a sample like the training samples with the nearest vectors",
    )
    registry.evaluation(
        "retrieval",
        "polymodal_evaluation.retrieval:Retrieval",
        "find each sample's partner in another stream, both ways",
    )
    registry.evaluation(
        "zero_shot",
        "polymodal_evaluation.zero_shot:ZeroShot",
        "choose among classes described in words, without training",
    )
    registry.evaluation(
        "held_out",
        "polymodal_evaluation.held_out:HeldOut",
        "an objective's own loss and metrics on samples it was not trained on",
    )
    registry.evaluation(
        "clustering",
        "polymodal_evaluation.clustering:Clustering",
        "group the vectors without labels and compare the groups with the classes",
    )
    registry.evaluation(
        "links",
        "polymodal_evaluation.links:Links",
        "tell pairs of tokens that are joined (edges of a graph) from random ones",
    )
    registry.evaluation(
        "classes",
        "polymodal_evaluation.classes:Classes",
        "classes that an objective predicts: accuracy and macro F1",
    )
    registry.evaluation(
        "texts",
        "polymodal_evaluation.texts:Texts",
        "texts that an objective writes: exact match and BLEU",
    )
    registry.evaluation(
        "effect",
        "polymodal_evaluation.effect:Effect",
        "how much a concept changes what a classifier says (CausaLM)",
    )
    registry.encoder(
        "raw",
        "polymodal_evaluation.raw:Raw",
        "the tokens' values as they are: what a trained encoder has to beat",
    )


@hookimpl
def polymodal_examples() -> "Iterable[Example]":
    """Return a small case of each component, for the conformance kit."""
    from polymodal_evaluation.examples import examples

    return examples()
