"""Laws of the trainer: what a run computes, what survives, and what it says when it cannot go on."""

import itertools
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from deblur_cli import nets, trainer
from deblur_cli.errors import DeblurError, InputError, UsageError, WeightsError
from deblur_cli.files import checkpoint
from deblur_cli.nets.unet import UNet, UNetConfig
from deblur_cli.pixels.losses import Losses
from deblur_cli.trainer import state
from deblur_cli.trainer.crew import Crew
from deblur_cli.trainer.events import Saved, Started, Step, Stopped, Unsaved, Validated
from deblur_cli.trainer.learner import Learner
from deblur_cli.trainer.profile import profile

pytestmark = pytest.mark.usefixtures("one_thread")

CONFIG = UNetConfig(width=4, blocks=(1, 1, 1), stem=2)
WIDE = UNetConfig(width=16, blocks=(1, 1, 1), stem=2)
"""Wide enough to have filters that are muon's."""
CPU = Crew(torch.device("cpu"))


class Chequers:
    """Pairs made of noise and its local mean, a pure function of the step."""

    threads = 1
    on_device = False

    def __init__(self, *, kinds: int = 10**9, threads: int = 1) -> None:
        self.kinds = kinds
        self.threads = threads

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        luck = np.random.default_rng((7, step % self.kinds))
        sharp = torch.from_numpy(luck.random((2, 3, 16, 16), dtype=np.float32))
        return nn.functional.avg_pool2d(sharp, 3, 1, 1), sharp

    def close(self) -> None:
        """Nothing to end."""


def l1(net: nn.Module, blurred: Tensor, sharp: Tensor) -> Losses:
    total = (net(blurred)[0] - sharp).abs().mean()
    return Losses(total, {"reconstruction": total.detach()})


def label(config: UNetConfig = CONFIG) -> checkpoint.Label:
    return checkpoint.Label(
        net="unet", config=nets.to_mapping(config), made_with="a test", licence="none", trained_on="noise"
    )


def fresh(config: UNetConfig = CONFIG) -> UNet:
    torch.manual_seed(0)
    return UNet(config)


def plan(**dials) -> trainer.Plan:
    return trainer.Plan(**{"steps": 12, "batch": 2, "rate": 1e-3, "log_every": 1, "validate_every": 5, **dials})


def fit(
    out: Path, net: nn.Module | None = None, *, source=None, objective=l1, dials=None, config=CONFIG, **more
) -> Iterator[object]:
    return trainer.fit(
        net or fresh(config),
        source or Chequers(),
        objective=objective,
        plan=plan(**(dials or {})),
        out=out,
        label=label(config),
        crew=CPU,
        **more,
    )


def curve(events: list[object]) -> list[float]:
    return [event.losses["total"] for event in events if isinstance(event, Step)]


def lines(out: Path, kind: str) -> list[dict]:
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [row for row in rows if row["event"] == kind]


def stopped_at(events: Iterator[object], step: int, *, times: int = 1) -> list[object]:
    """The events of a run that gets Ctrl-C after it took ``step``."""
    seen: list[object] = []
    for event in events:
        seen.append(event)
        if isinstance(event, Step) and event.step == step:
            for _ in range(times):
                os.kill(os.getpid(), signal.SIGINT)
    return seen


def test_a_net_learns_one_pair_by_heart(tmp_path: Path) -> None:
    losses = curve(list(fit(tmp_path, source=Chequers(kinds=1), dials={"steps": 60, "rate": 1e-2})))
    assert losses[-1] < 0.6 * losses[0]


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_every_precision_learns(tmp_path: Path, precision: str) -> None:
    losses = curve(
        list(fit(tmp_path, source=Chequers(kinds=1), dials={"steps": 40, "precision": precision, "rate": 3e-3}))
    )
    assert losses[-1] < 0.95 * losses[0]


def test_the_loss_curve_is_the_one_of_the_golden_file(tmp_path: Path, golden) -> None:
    events = list(fit(tmp_path, dials={"steps": 20, "warmup": 4, "clip": 0.5}))
    golden("trainer-curve", {"losses": torch.tensor(curve(events))})


@pytest.mark.parametrize(("threads", "optimiser"), [(0, "adamw"), (3, "adamw"), (1, "adam"), (1, "muon")])
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(tmp_path: Path, threads: int, optimiser: str) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    dials = {"precision": "bf16", "clip": 0.3, "log_every": 3, "optimiser": optimiser}
    config = WIDE if optimiser == "muon" else CONFIG
    list(fit(whole, dials=dials, config=config))
    first = stopped_at(fit(parts, dials=dials, config=config), 6)
    assert isinstance(first[-1], Stopped)
    assert first[-1].reason == "SIGINT"
    torch.manual_seed(99)
    rest = list(fit(parts, UNet(config), source=Chequers(threads=threads), dials=dials, config=config, resume=True))
    assert isinstance(rest[0], Started)
    assert 6 <= rest[0].step < 12
    assert [line["losses"] for line in lines(whole, "step")] == [line["losses"] for line in lines(parts, "step")]
    ours, theirs = (checkpoint.load(folder / "last.safetensors").tensors for folder in (whole, parts))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_the_log_forgets_what_a_kill_undid(tmp_path: Path) -> None:
    stopped_at(fit(tmp_path), 4)
    saved = lines(tmp_path, "stopped")[0]["step"]
    with (tmp_path / "log.jsonl").open("a") as log:
        log.write(json.dumps({"event": "step", "step": saved + 1, "losses": {}}) + '\n{"event": "st')
    list(fit(tmp_path, resume=True))
    assert [line["step"] for line in lines(tmp_path, "step")] == list(range(1, 13))


def test_a_deadline_ends_the_run_in_time_and_saved(tmp_path: Path) -> None:
    events = list(fit(tmp_path, dials={"steps": 10**6, "log_every": 1000}, deadline=time.monotonic() + 1.5))
    assert isinstance(events[-1], Stopped)
    assert events[-1].reason == "time"
    assert isinstance(events[-2], Saved)
    assert events[-2].step == events[-1].step == state.load(tmp_path, net="unet", config=nets.to_mapping(CONFIG)).step


def test_the_handlers_of_signals_are_given_back(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    stopped_at(fit(tmp_path), 2)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_a_second_signal_interrupts_at_once(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        stopped_at(fit(tmp_path), 1, times=2)


def test_a_run_is_not_begun_where_another_one_lies(tmp_path: Path) -> None:
    list(fit(tmp_path))
    with pytest.raises(UsageError, match="holds a run already"):
        list(fit(tmp_path))


def test_nothing_is_resumed_where_nothing_lies(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no run to resume"):
        list(fit(tmp_path, resume=True))


def test_a_run_of_another_net_is_not_resumed(tmp_path: Path) -> None:
    list(fit(tmp_path, dials={"steps": 1}))
    other = UNetConfig(width=8, blocks=(1, 1, 1), stem=2)
    with pytest.raises(WeightsError, match="width is 4 there and 8 here"):
        list(
            trainer.fit(
                fresh(other),
                Chequers(),
                objective=l1,
                plan=plan(),
                out=tmp_path,
                label=label(other),
                crew=CPU,
                resume=True,
            )
        )


def test_a_torn_state_is_told_apart(tmp_path: Path) -> None:
    list(fit(tmp_path, dials={"steps": 1}))
    path = state.path_in(tmp_path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(WeightsError, match="not the state of a run"):
        list(fit(tmp_path, resume=True))


def test_changed_dials_are_told_when_a_run_goes_on(tmp_path: Path) -> None:
    list(fit(tmp_path, dials={"steps": 2}))
    started = next(iter(fit(tmp_path, dials={"steps": 3, "rate": 5e-4}, resume=True)))
    assert isinstance(started, Started)
    assert started.changed == {"steps": ("2", "3"), "rate": ("0.001", "0.0005")}


class Breaking:
    """An objective without a finite gradient at some of its calls."""

    def __init__(self, *calls: int) -> None:
        self.calls = calls
        self.call = 0

    def __call__(self, net: nn.Module, blurred: Tensor, sharp: Tensor) -> Losses:
        self.call += 1
        losses = l1(net, blurred, sharp)
        return Losses(losses.total * float("nan"), losses.terms) if self.call in self.calls else losses


@pytest.mark.parametrize("optimiser", ["adamw", "adam", "muon"])
def test_a_step_without_a_finite_gradient_changes_nothing_but_the_count(optimiser: str) -> None:
    learner = Learner(fresh(WIDE), Breaking(2), plan(clip=0.1, optimiser=optimiser), CPU)
    pair = Chequers().batch(0)
    learner.step(pair, 0)
    before = [value.clone() for value in learner.net.state_dict().values()]
    learner.step(pair, 1)
    assert all(torch.equal(old, new) for old, new in zip(before, learner.net.state_dict().values(), strict=True))
    learner.step(pair, 2)
    losses, skipped, row = learner.read()
    assert (skipped, row) == (1, 0)
    assert np.isfinite(losses["total"])
    assert np.isfinite(losses["gradient"])
    assert not torch.equal(before[0], next(iter(learner.net.state_dict().values())))


def test_gradients_that_stay_broken_end_the_run_and_name_the_last_good_state(tmp_path: Path) -> None:
    objective = Breaking(*range(4, 100))
    with pytest.raises(DeblurError, match=r"last \d+ steps had no finite gradient.*Nothing was saved before") as caught:
        list(fit(tmp_path, objective=objective, dials={"steps": 50, "patience": 5}))
    assert "--clip" in caught.value.hint
    assert "--resume" not in caught.value.hint
    with pytest.raises(DeblurError, match=r"The state of step 7 in .* is the last good one") as caught:
        list(fit(tmp_path, objective=Breaking(*range(4, 100)), dials={"steps": 50, "patience": 5, "save_minutes": 0}))
    assert "--resume" in caught.value.hint


def test_a_state_survives_a_disk_that_is_full(tmp_path: Path) -> None:
    stopped_at(fit(tmp_path), 3)
    before = {name: (tmp_path / name).read_bytes() for name in ("state.pt", "last.safetensors")}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
        seen: list[object] = []
        with pytest.raises(InputError, match="could not be saved at step 12") as caught:
            seen.extend(fit(tmp_path, resume=True))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert isinstance(seen[-1], Unsaved)
    assert "is whole" in caught.value.message
    assert {name: (tmp_path / name).read_bytes() for name in before} == before
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".part"] == []
    assert list(fit(tmp_path, resume=True))[-1] == Stopped(step=12, steps=12, reason="finished", path=tmp_path)


_SAVES_FOR_EVER = """
import itertools, sys, torch
from pathlib import Path
from deblur_cli.trainer import state
for step in itertools.count():
    tensors = {"weight": torch.full((1_000_000,), float(step))}
    state.save(state.State(step=step, net="", config={}, dials={}, best=None, learner=tensors), Path(sys.argv[1]))
"""


def test_a_kill_while_saving_leaves_a_whole_state(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", _SAVES_FOR_EVER, tmp_path], cwd=Path(__file__).parent.parent)
    until = time.monotonic() + 60
    while not state.path_in(tmp_path).exists() and time.monotonic() < until:
        time.sleep(0.01)
    time.sleep(0.137)
    child.kill()
    child.wait()
    found = state.load(tmp_path, net="", config={})
    assert torch.equal(found.learner["weight"], torch.full((1_000_000,), float(found.step)))


def test_what_is_kept_is_the_average_and_nothing_but_the_net(tmp_path: Path) -> None:
    net = fresh()
    list(fit(tmp_path, net, dials={"average": 0.5}))
    kept = checkpoint.load(tmp_path / "last.safetensors")
    assert set(kept.tensors) == set(UNet(CONFIG).state_dict())
    assert not torch.equal(kept.tensors["out.weight"], net.state_dict()["out.weight"])
    assert "12 steps" in kept.label.notes


def test_without_averaging_the_last_weights_are_kept(tmp_path: Path) -> None:
    net = fresh()
    list(fit(tmp_path, net, dials={"average": 0.0}))
    kept = checkpoint.load(tmp_path / "last.safetensors").tensors
    assert all(torch.equal(kept[name], value) for name, value in net.state_dict().items())


def test_the_best_checkpoint_is_that_of_the_best_score(tmp_path: Path) -> None:
    scores = iter([1.0, 3.0, 2.0])
    events = list(fit(tmp_path, validation=lambda _net: {"psnr": next(scores)}))
    assert [(event.step, event.best) for event in events if isinstance(event, Validated)] == [
        (5, True),
        (10, True),
        (12, False),
    ]
    best, last = (checkpoint.read_label(tmp_path / f"{name}.safetensors") for name in ("best", "last"))
    assert (best.scores, last.scores) == ({"psnr": 3.0}, {"psnr": 2.0})
    assert "10 steps" in best.notes


def test_the_best_score_is_remembered_by_a_resumed_run(tmp_path: Path) -> None:
    list(fit(tmp_path, dials={"steps": 5}, validation=lambda _net: {"psnr": 9.0}))
    events = list(fit(tmp_path, resume=True, validation=lambda _net: {"psnr": 8.0}))
    assert [event.best for event in events if isinstance(event, Validated)] == [False, False]


@pytest.mark.parametrize("dial", ["val", "max_blur", "data", "noise"])
def test_a_best_score_on_other_images_is_forgotten(tmp_path: Path, dial: str) -> None:
    list(fit(tmp_path, dials={"steps": 5}, validation=lambda _net: {"psnr": 9.0}, described={dial: "these"}))
    more = {"resume": True, "validation": lambda _net: {"psnr": 8.0}, "described": {dial: "those"}}
    events = list(fit(tmp_path, **more))
    assert [event.best for event in events if isinstance(event, Validated)] == [True, False]


@pytest.mark.parametrize("optimiser", ["adamw", "muon"])
def test_a_resumed_run_keeps_the_rates_that_it_began_with(tmp_path: Path, optimiser: str) -> None:
    def slow(name: str) -> float:
        return 0.1 if name.startswith("enc") else 1.0

    whole, parts = tmp_path / "whole", tmp_path / "parts"
    dials = {"optimiser": optimiser}
    list(fit(whole, config=WIDE, dials=dials, rate_of=slow))
    stopped_at(fit(parts, config=WIDE, dials=dials, rate_of=slow), 6)
    list(fit(parts, config=WIDE, dials=dials, resume=True))
    ours, theirs = (checkpoint.load(folder / "last.safetensors").tensors for folder in (whole, parts))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("optimiser", ["adamw", "muon"])
def test_a_resumed_run_takes_the_weight_decay_that_it_is_told(tmp_path: Path, optimiser: str) -> None:
    def shrunk(decay: float) -> float:
        """By how much all weights shrink where there is nothing to learn."""
        net = fresh(WIDE)
        learner = Learner(net, lambda net, blurred, _: Losses(0 * net(blurred)[0].sum(), {}), told(decay), CPU)
        learner.restore(saved)
        before = torch.cat([each.detach().flatten() for each in net.parameters()]).norm()
        learner.step((torch.rand(1, 3, 32, 32), torch.rand(1, 3, 32, 32)), 0)
        return float(1 - torch.cat([each.detach().flatten() for each in net.parameters()]).norm() / before)

    def told(decay: float) -> trainer.Plan:
        return plan(optimiser=optimiser, weight_decay=decay, warmup=0, rate=1e-2)

    saved = Learner(fresh(WIDE), l1, told(0.0), CPU).state()
    assert shrunk(0.0) == pytest.approx(0.0, abs=1e-5)
    assert shrunk(0.5) == pytest.approx(5e-3, rel=0.05)


def test_a_run_is_not_resumed_with_another_optimiser_or_other_parameters(tmp_path: Path) -> None:
    list(fit(tmp_path, config=WIDE, dials={"steps": 1}))
    with pytest.raises(UsageError, match="another optimiser than muon"):
        list(fit(tmp_path, config=WIDE, dials={"optimiser": "muon"}, resume=True))
    frozen = fresh(WIDE)
    frozen.enc1.requires_grad_(requires_grad=False)
    with pytest.raises(UsageError, match="other parameters"):
        list(fit(tmp_path, frozen, config=WIDE, resume=True))


def test_a_state_without_rates_goes_on_at_its_own(tmp_path: Path) -> None:
    list(fit(tmp_path, dials={"steps": 3}))
    path = state.path_in(tmp_path)
    fields = torch.load(path, weights_only=True)
    del fields["learner"]["factors"]  # as the first runs were saved
    torch.save(fields, path)
    assert list(fit(tmp_path, resume=True))[-1].reason == "finished"


def test_the_rate_warms_up_holds_and_falls_to_the_last() -> None:
    dials = plan(steps=100, rate=1.0, final_rate=0.01, warmup=10, hold=40)
    rates = [dials.rate_at(step) for step in range(100)]
    assert rates[:10] == pytest.approx([0.1 * step for step in range(1, 11)])
    assert rates[10:40] == [1.0] * 30
    assert all(later < earlier for earlier, later in itertools.pairwise(rates[40:]))
    assert rates[-1] == pytest.approx(0.01)


def test_parameters_learn_at_their_own_rates() -> None:
    learner = Learner(fresh(), l1, plan(weight_decay=0.0), CPU, lambda name: 0.0 if name.startswith("enc") else 1.0)
    before = {name: value.clone() for name, value in learner.net.state_dict().items()}
    learner.step(Chequers().batch(0), 0)
    moved = {name: not torch.equal(before[name], value) for name, value in learner.net.state_dict().items()}
    assert all(moved[name] == (not name.startswith("enc")) for name in moved)


def test_frozen_parameters_stay_as_they_are() -> None:
    net = fresh()
    net.enc1.requires_grad_(requires_grad=False)
    before = net.enc1[0].c1.weight.clone()
    learner = Learner(net, l1, plan(), CPU)
    learner.step(Chequers().batch(0), 0)
    assert torch.equal(net.enc1[0].c1.weight, before)
    assert torch.equal(learner.average.get_submodule("enc1.0.c1").weight, before)


def test_a_profile_says_how_fast_it_went() -> None:
    told = profile(fresh(), Chequers(), objective=l1, plan=plan(steps=30), crew=CPU)
    assert told.crops_per_second > 0
    assert told.plain_crops_per_second > 0
    assert 0 <= told.waiting <= 1


def test_tensorboard_gets_the_losses(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    list(fit(tmp_path, dials={"steps": 2}, tensorboard=True))
    assert list((tmp_path / "tensorboard").glob("events.*"))


def test_an_out_that_is_a_file_is_refused_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(InputError, match="cannot be made"):
        list(fit(tmp_path / "out"))
