import json

import pytest
import torch
from safetensors.torch import load_file
from torch.utils._python_dispatch import TorchDispatchMode

from polymodal import DataError, Loss, PolymodalError, load
from polymodal.config.reading import check_config
from polymodal.config.shape import OptimizerConfig
from polymodal.data.loader import PackedDataset
from polymodal.ground.errors import ConfigError
from polymodal.training.schedule import learning_rate, weight_decay
from polymodal.training.train import Training


def train(values, directory, plugins, **options):
    config = check_config(values, plugins=plugins)
    training = Training(config, directory, plugins=plugins, quiet=True, **options)
    training.run()
    return training


def weights(directory):
    return load_file(directory / "model" / "model.safetensors")


def losses(directory):
    lines = (directory / "metrics.jsonl").read_text().splitlines()
    return {line["step"]: line["loss"] for line in map(json.loads, lines)}


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def test_a_run_leaves_everything_behind(sensor_config, plugins, tmp_path):
    sensor_config["data"]["sources"]["waves"]["broken"] = 3
    train(sensor_config, tmp_path / "run", plugins)
    names = {path.name for path in (tmp_path / "run").iterdir()}
    always = {"config.yaml", "data.json", "metrics.jsonl", "checkpoints", "model", ".lock"}
    assert names == always | ({"skipped.jsonl"} & names)
    run = load(tmp_path / "run", plugins=plugins)
    assert run.embed("signal", [[1.0] * 9, [2.0] * 16]).shape == (2, 64)
    assert run.config.trainer.max_steps == 6


def test_the_same_seed_gives_the_same_weights_bit_for_bit(sensor_config, plugins, tmp_path):
    train(sensor_config, tmp_path / "a", plugins)
    train(sensor_config, tmp_path / "b", plugins)
    assert equal(weights(tmp_path / "a"), weights(tmp_path / "b"))
    sensor_config["seed"] = 1
    train(sensor_config, tmp_path / "c", plugins)
    assert not equal(weights(tmp_path / "a"), weights(tmp_path / "c"))


def own_updates(sensor_config):
    """Add an objective that makes an update of its own."""
    sensor_config["objectives"]["again"] = {
        "use": "masking.simmim", "stream": "signal", "ratio": 0.3, "own_update_rate": 5e-3
    }  # fmt: skip


@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_run_equals_an_uninterrupted_one(sensor_config, plugins, tmp_path, workers):
    sensor_config["trainer"] |= {"checkpoint_every": 2, "ema": 0.9}
    sensor_config["streams"]["signal"]["encoder"] |= {"dropout": 0.1, "drop_path": 0.1}
    sensor_config["data"]["workers"] = workers
    own_updates(sensor_config)
    train(sensor_config, tmp_path / "whole", plugins)
    config = check_config(sensor_config, plugins=plugins)
    stopped = Training(config, tmp_path / "cut", plugins=plugins, quiet=True)
    step = stopped.model.forward

    def stop_at_step_5(batch, *, number, **rest):
        if number == 5:
            raise KeyboardInterrupt
        return step(batch, number=number, **rest)

    stopped.model.forward = stop_at_step_5
    with pytest.raises(KeyboardInterrupt):
        stopped.run()
    assert max(losses(tmp_path / "cut")) == 5
    train(sensor_config, tmp_path / "cut", plugins, resume=True)
    assert equal(weights(tmp_path / "whole"), weights(tmp_path / "cut"))
    assert losses(tmp_path / "whole") == losses(tmp_path / "cut")


def test_a_run_cut_before_its_first_checkpoint_starts_again(sensor_config, plugins, tmp_path):
    config = check_config(sensor_config, plugins=plugins)
    stopped = Training(config, tmp_path / "run", plugins=plugins, quiet=True)
    stopped.total = 3
    stopped.save = lambda: None
    stopped.run()
    train(sensor_config, tmp_path / "run", plugins, resume=True)
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 3, 4, 5, 6]


def test_what_a_kill_at_the_very_start_leaves_is_gone_on_from(sensor_config, plugins, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".writing-config.yaml").write_text("str")
    train(sensor_config, tmp_path / "run", plugins)
    sensor_config["trainer"]["max_steps"] = 7
    (tmp_path / "run" / "model" / "tokenizers" / "signal.json").unlink()  # killed before this one
    train(sensor_config, tmp_path / "run", plugins, resume=True)
    assert load(tmp_path / "run", plugins=plugins).config.trainer.max_steps == 7


def test_a_run_that_is_cut_leaves_the_model_of_its_last_checkpoint(
    sensor_config, plugins, tmp_path
):
    sensor_config["trainer"]["checkpoint_every"] = 2
    config = check_config(sensor_config, plugins=plugins)
    stopped = Training(config, tmp_path / "run", plugins=plugins, quiet=True)
    save, saved = stopped.save, []

    def save_and_stop():
        save()
        saved.append({n: p.clone() for n, p in stopped.model.named_parameters()})
        if len(saved) == 2:
            stopped.model.forward = interrupt

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    stopped.save = save_and_stop
    with pytest.raises(KeyboardInterrupt):
        stopped.run()
    left = dict(load(tmp_path / "run", plugins=plugins).model.named_parameters())
    assert equal(left, saved[1]) and not equal(left, saved[0])


@pytest.mark.parametrize("accumulate", [1, 4])
def test_an_epoch_shows_each_row_once_to_ranks_whose_number_changes(
    sensor_config, plugins, tmp_path, monkeypatch, accumulate
):
    sensor_config["trainer"]["accumulate"] = accumulate
    config = check_config(sensor_config, plugins=plugins)
    training = Training(config, tmp_path / "run", plugins=plugins, quiet=True)
    seen = []
    for ranks in (2, 4, 1, 3, 2, 1):  # a step each: 48 rows in batches of 8
        for number in range(ranks):
            monkeypatch.setattr("polymodal.training.feeding.world_size", lambda ranks=ranks: ranks)
            monkeypatch.setattr("polymodal.training.feeding.rank", lambda number=number: number)
            refs, micro_batches = next(training.batches())
            assert len(micro_batches) == accumulate
            seen += [key for batch in micro_batches for key in batch.keys.tolist()]
        training.step, training.position = training.step + 1, refs.stop
    epoch = training.mixture.draw(0, 48)
    assert len(set(zip(epoch.source, epoch.index, strict=True))) == 48
    dataset = PackedDataset(list(training.sources.values()), training.builder.readings)
    assert sorted(seen) == sorted(dataset[epoch].keys.tolist())


def test_an_update_of_its_own_is_adamw_at_its_own_rate(sensor_config, plugins, tmp_path):
    (slot,) = sensor_config["objectives"].values()
    sensor_config["optimizer"] = {"learning_rate": 1e-3}
    train(sensor_config, tmp_path / "joint", plugins)
    sensor_config["optimizer"] = {"learning_rate": 1e-5}
    slot["own_update_rate"] = 1e-3
    train(sensor_config, tmp_path / "own", plugins)
    assert equal(weights(tmp_path / "joint"), weights(tmp_path / "own"))


def test_an_own_update_and_the_others_move_the_same_weights_in_turn(
    sensor_config, plugins, tmp_path
):
    own_updates(sensor_config)
    sensor_config["trainer"] |= {"max_steps": 1}
    config = check_config(sensor_config, plugins=plugins)
    training = Training(config, tmp_path / "run", plugins=plugins, quiet=True)
    moved = []
    for key, optimizer in training.optimization.optimizers.items():
        original = optimizer.step

        def step(key=key, optimizer=optimizer, original=original):
            given = [p for g in optimizer.param_groups for p in g["params"] if p.grad is not None]
            moved.append((key, {id(p) for p in given}))
            original()

        optimizer.step = step
    training.run()
    model = training.model
    encoder = {id(p) for p in model.encoder("signal").parameters()}
    assert [key for key, _ in moved] == ["again/", "main"]
    for (_, given), own, other in zip(moved, ("again", "rebuild"), ("rebuild", "again")):
        assert encoder <= given
        assert {id(p) for p in model.objective(own).parameters()} <= given
        assert not {id(p) for p in model.objective(other).parameters()} & given


def test_micro_batches_give_the_gradient_of_the_whole_batch(sensor_config, plugins, tmp_path):
    sensor_config["trainer"]["max_steps"] = 2
    # A large epsilon makes AdamW's update proportional to the gradient, which is what we compare.
    sensor_config["optimizer"] = {"epsilon": 1.0, "learning_rate": 1.0, "weight_decay": 0.0}
    train(sensor_config, tmp_path / "whole", plugins)
    sensor_config["trainer"]["accumulate"] = 4
    train(sensor_config, tmp_path / "cut", plugins)
    one, other = weights(tmp_path / "whole"), weights(tmp_path / "cut")
    assert all(torch.allclose(one[name], other[name], atol=1e-5) for name in one)


def test_a_directory_that_holds_another_run_is_left_alone(sensor_config, plugins, tmp_path):
    train(sensor_config, tmp_path / "run", plugins)
    before = weights(tmp_path / "run")
    with pytest.raises(DataError, match="holds another run; pass --resume"):
        train(sensor_config, tmp_path / "run", plugins)
    sensor_config["seed"] = 5
    with pytest.raises(DataError, match="with another 'seed'"):
        train(sensor_config, tmp_path / "run", plugins, resume=True)
    assert equal(before, weights(tmp_path / "run"))


def test_a_directory_with_other_files_is_left_alone(sensor_config, plugins, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(DataError, match="is not empty and holds no run"):
        train(sensor_config, tmp_path, plugins)
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="is a file"):
        train(sensor_config, tmp_path / "file", plugins)


def test_a_loss_that_is_not_finite_stops_the_run_by_name(sensor_config, plugins, tmp_path):
    sensor_config["trainer"]["checkpoint_every"] = 2
    config = check_config(sensor_config, plugins=plugins)
    training = Training(config, tmp_path / "run", plugins=plugins, quiet=True)
    objective = training.model.objective("rebuild")
    forward = objective.forward

    def broken(step):
        loss = forward(step)
        return Loss(loss.total * float("nan"), loss.count) if step.number == 2 else loss

    objective.forward = broken
    with pytest.raises(PolymodalError, match=r"'rebuild' is not finite at step 3. Samples: wav"):
        training.run()
    assert (tmp_path / "run" / "model" / "model.safetensors").exists()


def test_too_many_unreadable_rows_stop_the_run(sensor_config, plugins, tmp_path, sensor_module):
    sensor_config["data"]["sources"]["waves"] = {"use": "sensor.waves", "samples": 2, "broken": 1}
    with pytest.raises(DataError, match="50%, more than data.max_skipped 5%.*cable came off"):
        train(sensor_config, tmp_path / "run", plugins)


def test_a_stream_whose_field_no_source_has_is_refused_before_anything_is_written(
    sensor_config, plugins, tmp_path
):
    sensor_config["streams"]["signal"]["field"] = "signl"
    with pytest.raises(ConfigError, match="has no field 'signl'. Did you mean 'signal'"):
        train(sensor_config, tmp_path / "run", plugins)
    assert not (tmp_path / "run").exists()


def test_impossible_combinations_are_refused_together(sensor_config, plugins, tmp_path):
    sensor_config["objectives"] = {
        "mlm": {"use": "masking.detection", "stream": "signal"},
        "next": {"use": "generation.next_patch", "stream": "signal"},
    }
    with pytest.raises(ConfigError) as caught:
        train(sensor_config, tmp_path / "run", plugins)
    found = str(caught.value)
    assert "objectives.mlm" in found and "ids" in found
    assert "objectives.next" in found and "causal" in found


def test_frozen_parts_stay_and_the_rest_moves(sensor_config, plugins, tmp_path):
    encoder = sensor_config["streams"]["signal"]["encoder"]
    train(sensor_config, tmp_path / "start", plugins)
    encoder |= {"freeze": ["trunk.blocks.0.*"], "initialize": str(tmp_path / "start#signal")}
    train(sensor_config, tmp_path / "run", plugins)
    one, other = weights(tmp_path / "start"), weights(tmp_path / "run")
    for name in one:
        same = torch.equal(one[name], other[name])
        if name.startswith("encoders.signal.trunk.blocks.0."):
            assert same, name
    assert not torch.equal(
        one["encoders.signal.trunk.blocks.1.attention.qkv.weight"],
        other["encoders.signal.trunk.blocks.1.attention.qkv.weight"],
    )
    encoder["freeze"] = ["trnk.*"]
    with pytest.raises(ConfigError, match="matches no parameter"):
        train(sensor_config, tmp_path / "none", plugins)


def test_a_frozen_encoder_is_in_no_group_and_stays_in_evaluation_mode(
    sensor_config, plugins, tmp_path
):
    encoder = sensor_config["streams"]["signal"]["encoder"]
    encoder |= {"freeze": True, "dropout": 0.5}
    config = check_config(sensor_config, plugins=plugins)
    training = Training(config, tmp_path / "run", plugins=plugins, quiet=True)
    frozen = training.model.encoder("signal")
    groups = training.optimization.optimizers["main"].param_groups
    trained = {p for group in groups for p in group["params"]}
    assert not trained & set(frozen.parameters())
    assert trained == set(training.model.objective("rebuild").parameters())
    training.model.train()
    assert not any(part.training for part in frozen.modules())


def test_the_first_layers_can_be_frozen(sensor_config, plugins, tmp_path):
    encoder = sensor_config["streams"]["signal"]["encoder"]
    encoder["freeze_layers"] = 2
    config = check_config(sensor_config, plugins=plugins)
    training = Training(config, tmp_path / "run", plugins=plugins, quiet=True)
    layers = training.model.encoder("signal").layers()
    trained = [any(p.requires_grad for p in layer.parameters()) for layer in layers]
    assert trained == [False, False, *[True] * (len(layers) - 2)] and len(layers) > 2
    encoder["freeze_layers"] = 99
    config = check_config(sensor_config, plugins=plugins)
    with pytest.raises(ConfigError, match="freeze_layers is 99, but it has"):
        Training(config, tmp_path / "none", plugins=plugins, quiet=True)


def test_an_encoder_may_have_its_own_rate(sensor_config, plugins, tmp_path):
    sensor_config["streams"]["signal"]["encoder"] |= {"learning_rate": 5e-5, "layer_decay": 0.5}
    config = check_config(sensor_config, plugins=plugins)
    training = Training(config, tmp_path / "run", plugins=plugins, quiet=True)
    scale = {
        p: g["scale"]
        for g in training.optimization.optimizers["main"].param_groups
        for p in g["params"]
    }
    encoder = training.model.encoder("signal")
    layers = encoder.layers()
    assert scale[next(layers[-1].parameters())] == pytest.approx(0.1)
    assert scale[next(layers[0].parameters())] == pytest.approx(0.1 * 0.5 ** (len(layers) - 1))
    assert scale[next(training.model.objective("rebuild").parameters())] == 1.0


def test_the_gradient_of_an_absent_stream_is_none(sensor_config, plugins, tmp_path):
    encoder = sensor_config["streams"]["signal"]["encoder"]
    tokenizer = sensor_config["streams"]["signal"]["tokenizer"]
    sensor_config["streams"]["other"] = {
        "tokenizer": tokenizer, "encoder": encoder, "field": "label"
    }  # fmt: skip
    config = check_config(sensor_config, plugins=plugins)
    training = Training(config, tmp_path / "run", plugins=plugins, quiet=True)
    model = training.model
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    model.forget_absent(["signal"], ["rebuild"])
    assert all(p.grad is None for p in model.encoder("other").parameters())
    assert all(p.grad is not None for p in model.encoder("signal").parameters())


def test_the_learning_rate_warms_up_and_falls():
    config = OptimizerConfig(learning_rate=1.0, warmup_steps=4, final_share=0.1)
    rates = [learning_rate(step, 104, config) for step in (0, 3, 4, 54, 104)]
    assert rates == pytest.approx([0.25, 1.0, 1.0, 0.55, 0.1])
    linear = OptimizerConfig(learning_rate=1.0, schedule="linear")
    assert learning_rate(25, 100, linear) == pytest.approx(0.75)
    assert learning_rate(99, 100, OptimizerConfig(learning_rate=2.0, schedule="constant")) == 2.0


def test_one_objective_a_step_is_drawn_by_weight(sensor_config, plugins, tmp_path):
    sensor_config["objectives"] = {
        "often": {"use": "masking.simmim", "stream": "signal", "weight": 3.0},
        "seldom": {"use": "masking.simmim", "stream": "signal", "weight": 1.0},
    }
    sensor_config["trainer"] |= {"objectives": "one"}
    config = check_config(sensor_config, plugins=plugins)
    training = Training(config, tmp_path / "run", plugins=plugins, quiet=True)
    drawn = [training.objectives_of(number)[0] for number in range(400)]
    assert 0.68 < drawn.count("often") / 400 < 0.82
    assert drawn == [training.objectives_of(number)[0] for number in range(400)]


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_and_checkpointed_gradients_train(
    sensor_config, plugins, tmp_path, precision
):
    sensor_config["trainer"] |= {"precision": precision, "gradient_checkpointing": True}
    train(sensor_config, tmp_path / "run", plugins)
    assert all(torch.isfinite(weight).all() for weight in weights(tmp_path / "run").values())


def two_objectives(sensor_config):
    sensor_config["objectives"] = {
        "large": {"use": "masking.simmim", "stream": "signal", "weight": 3, "batch_size": 12},
        "small": {"use": "masking.simmim", "stream": "signal"},
    }
    sensor_config["trainer"] |= {"objectives": "one", "max_steps": 20}


def test_with_one_objective_a_step_each_has_its_own_batch_size(sensor_config, plugins, tmp_path):
    two_objectives(sensor_config)
    train(sensor_config, tmp_path / "run", plugins)
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    last, drawn = 0, []
    for line in map(json.loads, lines):
        (name,) = line["loss"]
        assert line["samples"] - last == {"large": 12, "small": 8}[name]
        last = line["samples"]
        drawn.append(name)
    assert 10 <= drawn.count("large") < 20


def test_a_weight_that_says_how_often_an_objective_is_drawn_does_not_scale_its_loss(
    sensor_config, plugins, tmp_path
):
    two_objectives(sensor_config)
    config = check_config(sensor_config, plugins=plugins)
    training = Training(config, tmp_path / "run", plugins=plugins, quiet=True)
    assert training.model.weights == {"large": 1.0, "small": 1.0}


def test_a_batch_size_of_its_own_needs_a_step_of_its_own(sensor_config, plugins):
    two_objectives(sensor_config)
    sensor_config["trainer"]["objectives"] = "all"
    with pytest.raises(ConfigError, match="objectives.large.batch_size: objectives that share"):
        check_config(sensor_config, plugins=plugins)


def test_epochs_count_the_samples_of_unequal_steps(sensor_config, plugins, tmp_path):
    two_objectives(sensor_config)
    sensor_config["trainer"] |= {"epochs": 3, "max_steps": None}
    training = train(sensor_config, tmp_path / "run", plugins)
    assert training.position >= 3 * 48 > training.position - 12


def test_batches_of_one_source_go_on_where_they_stopped(sensor_config, plugins, tmp_path):
    two_objectives(sensor_config)  # of 12 and 8 samples: the blocks are of 12
    sensor_config["data"]["sources"]["few"] = {"use": "sensor.waves"}
    sensor_config["data"] |= {"batches": "one_source", "exponent": 0.5}
    config = check_config(sensor_config, plugins=plugins)
    training = Training(config, tmp_path / "run", plugins=plugins, quiet=True)
    steps = training.batches()
    refs = [next(steps)[0] for _ in range(20)]
    assert all(len(set(each.source)) == 1 for each in refs)
    assert {int(each.source[0]) for each in refs} == {0, 1}
    assert {each.stop // 12 for each in refs if each.stop % 12 == 0} == set(
        range(1, refs[-1].stop // 12 + 1)
    )
    training.step, training.position = 7, refs[6].stop
    again = next(training.batches())[0]
    assert (again.start, again.stop) == (refs[7].start, refs[7].stop)
    assert again.index.tolist() == refs[7].index.tolist()


def test_an_objective_takes_the_weights_it_has_in_common_with_another(
    sensor_config, plugins, tmp_path
):
    train(sensor_config, tmp_path / "first", plugins)
    sensor_config["objectives"] = {
        "again": {
            "use": "masking.simmim", "stream": "signal",
            "initialize": str(tmp_path / "first#rebuild"), "learning_rate": 1e-30,
        }
    }  # fmt: skip
    train(sensor_config, tmp_path / "second", plugins)
    one, other = weights(tmp_path / "first"), weights(tmp_path / "second")
    names = [name for name in one if name.startswith("objectives.")]
    assert names
    for name in names:
        assert torch.equal(one[name], other[name.replace("rebuild", "again")])
    sensor_config["objectives"]["again"]["initialize"] = str(tmp_path / "first#rebild")
    config = check_config(sensor_config, plugins=plugins)
    with pytest.raises(ConfigError, match="objectives.again.initialize.*Did you mean 'rebuild'"):
        Training(config, tmp_path / "third", plugins=plugins, quiet=True)


def test_weight_decay_ends_at_its_final_value():
    config = OptimizerConfig(weight_decay=0.04, final_weight_decay=0.4)
    assert weight_decay(0, 100, config) == pytest.approx(0.04)
    assert weight_decay(50, 100, config) == pytest.approx(0.22)
    assert weight_decay(100, 100, config) == pytest.approx(0.4)
    assert weight_decay(70, 100, OptimizerConfig(weight_decay=0.1)) == 0.1


def test_the_norm_of_the_gradient_is_clipped(sensor_config, plugins, tmp_path):
    sensor_config["optimizer"] = {"clip": 1e-3}
    config = check_config(sensor_config, plugins=plugins)
    training = Training(config, tmp_path / "run", plugins=plugins, quiet=True)
    weight = next(p for p in training.model.parameters() if p.requires_grad)
    weight.grad = torch.ones_like(weight)
    optimization = training.optimization
    norm = optimization._clip(optimization.optimizers["main"])
    assert norm == pytest.approx(weight.numel() ** 0.5)
    assert weight.grad.norm() == pytest.approx(1e-3, rel=1e-2)


def test_the_saved_model_is_the_average_of_the_weights(sensor_config, plugins, tmp_path):
    sensor_config["trainer"] |= {"ema": 0.75, "max_steps": 3}
    config = check_config(sensor_config, plugins=plugins)
    training = Training(config, tmp_path / "run", plugins=plugins, quiet=True)
    name = "encoders.signal.trunk.blocks.1.attention.qkv.weight"
    weight = training.model.get_parameter(name)
    wanted = weight.detach().clone()
    after = training.average.update

    def follow():
        after()
        wanted.mul_(0.75).add_(weight.detach(), alpha=0.25)

    training.average.update = follow
    training.run()
    assert torch.allclose(weights(tmp_path / "run")[name], wanted, atol=1e-6)
    assert not torch.allclose(weight, wanted, atol=1e-6)


def test_an_average_asked_for_on_resuming_starts_from_the_weights_there_are(
    sensor_config, plugins, tmp_path
):
    train(sensor_config, tmp_path / "run", plugins)
    trained = weights(tmp_path / "run")
    sensor_config["trainer"]["ema"] = 0.9
    train(sensor_config, tmp_path / "run", plugins, resume=True)  # no step is left
    assert equal(trained, weights(tmp_path / "run"))


def test_evaluations_run_when_due_and_trackers_hear_of_them(sensor_config, plugins, tmp_path):
    sensor_config["evaluate"] = {
        "kept": {"use": "evaluation.held_out", "objective": "rebuild", "source": "waves"}
    }
    sensor_config["trainer"] |= {"evaluate_every": 2}
    config = check_config(sensor_config, plugins=plugins)
    training = Training(config, tmp_path / "run", plugins=plugins, quiet=True)
    heard = []

    class Ear:
        def begin(self, config, directory): ...
        def end(self): ...
        def log(self, step, values):
            heard.extend((step, name) for name in values)

    training.trackers = {"ear": Ear()}
    training.run()
    assert [step for step, name in heard if name == "kept/loss"] == [2, 4, 6]
    assert [step for step, name in heard if name == "loss/rebuild"] == [1, 2, 3, 4, 5, 6]
    assert {"samples_per_second", "tokens_per_second", "waiting"} <= {name for _, name in heard}
    lines = training.directory.lines("scores.jsonl")
    assert [line["step"] for line in lines] == [2, 4, 6]
    (last,) = (row for row in training.directory.read_json("evaluation.json")["scores"]
               if row["metric"] == "loss")  # fmt: skip
    assert lines[-1]["scores"]["kept/loss"] == last["value"]


def test_a_run_of_grouped_lengths_goes_on_as_it_would_have(sensor_config, plugins, tmp_path):
    sensor_config["optimizer"] = {"schedule": "constant"}
    train(sensor_config, tmp_path / "ungrouped", plugins)
    sensor_config["data"] |= {"group_by_length": 3, "workers": 2}
    train(sensor_config, tmp_path / "whole", plugins)
    sensor_config["trainer"]["max_steps"] = 4  # in the middle of a window
    train(sensor_config, tmp_path / "cut", plugins)
    sensor_config["trainer"]["max_steps"] = 6
    train(sensor_config, tmp_path / "cut", plugins, resume=True)
    assert equal(weights(tmp_path / "whole"), weights(tmp_path / "cut"))
    assert losses(tmp_path / "whole") != losses(tmp_path / "ungrouped")


@pytest.mark.parametrize("policy", ["alternate", "selective"])
def test_the_trainers_checkpointing_reaches_every_block_and_changes_no_loss(
    sensor_config, plugins, tmp_path, policy
):
    sensor_config["trainer"]["precision"] = "bfloat16"
    train(sensor_config, tmp_path / "plain", plugins)
    sensor_config["trainer"]["gradient_checkpointing"] = policy
    run = train(sensor_config, tmp_path / "saving", plugins)
    assert run.model.encoder("signal").trunk.gradient_checkpointing == policy
    assert equal(weights(tmp_path / "plain"), weights(tmp_path / "saving"))


CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, CUDA])])
def test_adamw_is_one_fused_operation_for_each_group_of_weights(
    sensor_config, plugins, tmp_path, device
):
    class Names(TorchDispatchMode):
        def __torch_dispatch__(self, operation, types, inputs=(), options=None):
            called.append(str(operation))
            return operation(*inputs, **(options or {}))

    sensor_config["trainer"]["device"] = device
    config = check_config(sensor_config, plugins=plugins)
    run = Training(config, tmp_path / "run", plugins=plugins, quiet=True)
    optimizer = run.optimization.optimizers["main"]
    for parameter in run.model.parameters():
        parameter.grad = torch.ones_like(parameter)
    called = []
    with Names():
        optimizer.step()
    fused = [name for name in called if "fused_adamw" in name]
    assert len(fused) == len([group for group in optimizer.param_groups if group["params"]])
    assert not [name for name in called if "addcdiv" in name or "sqrt" in name]
