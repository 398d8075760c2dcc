import subprocess
import sys

import pytest

from polymodal import PluginError, Plugins
from polymodal.plugins.signature import read_signature

COMPONENTS = Plugins().get("text").components


@pytest.mark.parametrize("name", COMPONENTS)
def test_every_component_loads_and_every_option_has_a_type_and_a_summary(name):
    component = COMPONENTS[name]
    assert component.load().__doc__
    assert component.summary
    if component.target.startswith("polymodal."):
        return  # the core's own
    for option in read_signature(component.target).options.values():
        assert option.annotation is not None
        assert option.shown != "Any"
        assert option.summary, f"{name} does not say what {option.name} is"


def test_listing_components_imports_nothing_heavy():
    code = (
        "import sys; from polymodal.plugins.discovery import Plugins; "
        "assert Plugins().get('text').status == 'ok'; "
        "print({'torch', 'tokenizers', 'open_clip', 'dnaio'} & set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"


def test_a_package_with_an_extra_of_its_own_is_asked_for_by_that_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    monkeypatch.delitem(sys.modules, "polymodal_text.transformers_encoder", raising=False)
    with pytest.raises(PluginError, match=r'pip install "polymodal\[transformers\]"'):
        COMPONENTS["encoder", "text.transformers"].load()


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_worker_encodes_like_the_process_that_learned(capfd):
    from torch.utils.data import DataLoader

    from polymodal_text.wordpiece import WordPiece

    texts = [f"a photo of {number} cats" for number in range(40)]
    tokenizer = WordPiece(vocabulary_size=100)
    tokenizer.fit(texts)
    wanted = tokenizer.encode(texts)
    loader = DataLoader(
        texts, batch_size=40, num_workers=1, collate_fn=tokenizer.encode,
        multiprocessing_context="fork",
    )  # fmt: skip
    [found] = list(loader)
    assert found.ids.tolist() == wanted.ids.tolist()
    assert capfd.readouterr().err == ""


def test_text_goes_through_the_transformer_with_samples_missing():
    import torch

    from polymodal import TransformerEncoder
    from polymodal_text.byte_pairs import BytePairs

    tokenizer = BytePairs(vocabulary_size=270)
    tokenizer.fit(["a cat", "a dog"])
    encoder = TransformerEncoder(tokenizer.spec, size="pico", positions="learned")
    encoded = encoder(tokenizer.encode(["a cat", None, ""]))
    assert encoded.pooled[0].any()
    assert not encoded.pooled[1:].any()
    encoded = encoder(tokenizer.encode([None, ""]))
    assert torch.equal(encoded.pooled, torch.zeros(2, 64))
    encoded.pooled.sum().backward()
