"""A run whose loss climbs though every number is finite is given up, its last good state kept; no other one is."""

import itertools
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from deblur_cli import nets, trainer
from deblur_cli.errors import DeblurError
from deblur_cli.files import checkpoint
from deblur_cli.nets.unet import UNet, UNetConfig
from deblur_cli.pixels.losses import Losses
from deblur_cli.trainer import state
from deblur_cli.trainer.course import Course
from deblur_cli.trainer.crew import Crew
from deblur_cli.trainer.events import Step, Stopped

pytestmark = pytest.mark.usefixtures("one_thread")

CONFIG = UNetConfig(width=4, blocks=(1, 1, 1), stem=2)
LABEL = checkpoint.Label(
    net="unet", config=nets.to_mapping(CONFIG), made_with="a test", licence="none", trained_on="noise"
)


class Noise:
    """Pairs that are a pure function of the step."""

    threads = 1
    on_device = False

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        sharp = torch.from_numpy(np.random.default_rng((7, step)).random((2, 3, 16, 16), dtype=np.float32))
        return nn.functional.avg_pool2d(sharp, 3, 1, 1), sharp

    def close(self) -> None:
        """Nothing to end."""


def course(*means: float) -> Course:
    made = Course()
    for mean in means:
        made.note(mean, 50)
    return made


def test_a_loss_that_climbs_and_stays_is_lost_and_one_peak_is_not() -> None:
    falling = (1.0, 0.5, 0.3, 0.2)
    assert not course(*falling, 0.9, 0.9).lost
    assert course(*falling, 0.9, 0.9).climbing
    assert course(*falling, 0.9, 0.9, 0.9).lost
    assert not course(*falling, 0.9, 0.3, 0.9, 0.3, 0.9).lost
    assert not course(*falling, 0.79, 0.79, 0.79, 0.79).climbing


def test_the_unrest_of_a_loss_near_nothing_is_no_climb() -> None:
    assert not course(1.0, 1e-3, 1e-6, 1e-3, 1e-3, 1e-3).climbing


def test_a_loss_in_decibels_is_lost_by_twelve() -> None:
    assert not course(-20.0, -30.0, -19.0, -19.0, -19.0).climbing
    assert course(-20.0, -30.0, -17.0, -17.0, -17.0).lost


def test_few_steps_at_a_time_make_the_same_means() -> None:
    losses = np.random.default_rng(0).random(400)
    one, ten = Course(), Course()
    for loss in losses:
        one.note(float(loss), 1)
    for group in losses.reshape(-1, 10):
        ten.note(float(group.mean()), 10)
    assert one.best == pytest.approx(min(losses.reshape(-1, 50).mean(axis=1)))
    assert one.best == pytest.approx(ten.best)
    assert Course.restored(one.state()) == one
    assert Course.restored({}) == Course()


def climbing(at: int):
    """A loss that is the net's, and from a step on a hundred times that: finite, and no way back."""
    calls = itertools.count()

    def objective(net: nn.Module, blurred: Tensor, sharp: Tensor) -> Losses:
        total = (net(blurred)[0] - sharp).abs().mean() * (100 if next(calls) >= at else 1)
        return Losses(total, {"reconstruction": total.detach()})

    return objective


def run(out: Path, at: int, *, begun: int = 0, stop: int = 0, **dials) -> list[object]:
    """The events of a run whose loss climbs from step ``at``, which gets Ctrl-C after it took ``stop``."""
    torch.manual_seed(0)
    said = {"steps": 400, "batch": 2, "rate": 1e-4, "log_every": 25, "validate_every": 1000} | dials
    seen: list[object] = []
    for event in trainer.fit(
        UNet(CONFIG),
        Noise(),
        objective=climbing(at - begun),
        plan=trainer.Plan(**said),
        out=out,
        label=LABEL,
        crew=Crew(torch.device("cpu")),
        resume=bool(begun),
    ):
        seen.append(event)
        if isinstance(event, Step) and event.step == stop:
            os.kill(os.getpid(), signal.SIGINT)
    return seen


def test_a_run_that_diverges_stops_and_keeps_the_last_good_state(tmp_path: Path) -> None:
    with pytest.raises(
        DeblurError, match=r"The loss has climbed from .* to .* diverged at step 250\..* step 1\d\d "
    ) as caught:
        run(tmp_path, 100, save_minutes=0)
    assert caught.value.exit_code == 1
    assert "--resume" in caught.value.hint
    kept = state.load(tmp_path, net="unet", config=LABEL.config)
    assert 100 <= kept.step < 150  # the first mean that is too high is that of step 150
    assert f"after {kept.step} steps" in checkpoint.read_label(tmp_path / "last.safetensors").notes


def test_what_the_warm_up_does_is_no_climb(tmp_path: Path) -> None:
    assert len(run(tmp_path, 100, steps=260, warmup=250)) > 2


def test_a_run_that_is_resumed_knows_its_course(tmp_path: Path) -> None:
    last = run(tmp_path, 100, stop=125)[-1]
    assert isinstance(last, Stopped)
    assert last.reason == "SIGINT"
    assert last.step < 150
    with pytest.raises(DeblurError, match=r"The loss has climbed from .* diverged at step 250\."):
        run(tmp_path, 100, begun=last.step)


def test_other_dials_begin_another_course(tmp_path: Path) -> None:
    last = run(tmp_path, 100, stop=125)[-1]
    assert isinstance(last, Stopped)
    assert isinstance(run(tmp_path, 100, begun=last.step, steps=401)[-1], Stopped)


def test_a_state_of_before_is_read_without_its_course(tmp_path: Path) -> None:
    run(tmp_path, 10**6, steps=2)
    path = state.path_in(tmp_path)
    fields = torch.load(path, weights_only=True)
    del fields["course"]
    torch.save(fields, path)
    assert state.load(tmp_path, net="unet", config=LABEL.config).course == {}
