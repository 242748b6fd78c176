import dataclasses

import numpy as np
import torch

from affetto.generators.voice.controls import WIDTH
from affetto.generators.voice.residual_data import PairExample, draw_batch, example_batch
from affetto.generators.voice.residual_net import ResidualConfig, sound_features, unit_shares
from affetto.generators.voice.speaker import STATISTICS
from affetto.generators.voice.train_residual import ResidualTrainer, content_units, slow_noise

TINY = ResidualConfig(width=16, style=16, code=8, blocks=2)


def _examples(count=6, frames=90):
    """Residuals that follow the source's own pitch column."""
    rng = np.random.default_rng(0)
    found = []
    for index in range(count):
        source = np.cumsum(rng.standard_normal((frames, WIDTH)), axis=0).astype(np.float32) / 5
        residual = np.repeat(source[:, :1], WIDTH, axis=1)
        found.append(
            PairExample(
                source=source,
                residual=residual,
                trust=np.ones((frames, 5), np.float32),
                mean=np.zeros((frames, WIDTH), np.float32),
                speaker=np.zeros(STATISTICS, np.float32),
                place=rng.standard_normal(256).astype(np.float32),
                taken=np.ones(256, np.float32),
                known=np.ones(256, np.float32),
                kind=("neutral", ("angry", "sad")[index % 2]),
            )
        )
    return found


def test_batches_are_padded_with_frames_that_do_not_count():
    batch = example_batch(_examples(), frames=120)
    assert batch.residual.shape == (6, 120, WIDTH)
    assert not batch.trust[:, 90:].any()
    drawn = draw_batch(_examples(), np.random.default_rng(0), clips=3, frames=64)
    again = draw_batch(_examples(), np.random.default_rng(0), clips=3, frames=64)
    assert torch.equal(drawn.residual, again.residual)
    assert drawn.told()["mean"].shape == (3, 16, WIDTH)


def test_noise_of_training_is_slow_and_of_unit_variance():
    noise = slow_noise((4, 400, WIDTH), torch.Generator().manual_seed(0))
    assert abs(float(noise.std()) - 1.0) < 0.05
    assert float((noise[:, 1:] - noise[:, :-1]).std()) < 0.3


def test_some_clips_are_drawn_without_their_prior_mean():
    examples = [dataclasses.replace(each, mean=each.mean + 1) for each in _examples()]
    batch = draw_batch(examples, np.random.default_rng(1), clips=40, frames=64)
    told = batch.told()["mean"].abs().amax(dim=(1, 2))
    assert 8 < int((told == 0).sum()) < 32
    assert torch.equal(told == 0, batch.hint == 0)
    assert not example_batch(examples).told()["mean"].any()


def test_no_content_unit_stands_for_two_sounds():
    rng = np.random.default_rng(0)
    sounds = rng.normal(0, 1, (3, WIDTH))
    order = rng.integers(3, size=300)
    source = (sounds[order] + 0.05 * rng.normal(size=(300, WIDTH))).astype(np.float32)
    examples = [dataclasses.replace(_examples(1, frames=300)[0], source=source)]
    centres = content_units(examples, 12, seed=1)
    assert torch.equal(centres, content_units(examples, 12, seed=1))
    frames = torch.from_numpy(source)[None]
    assert sound_features(frames).shape[-1] == centres.shape[1]
    shares = unit_shares(frames, centres)[0]
    torch.testing.assert_close(shares.sum(-1), torch.ones(300))
    found = shares.argmax(-1).numpy()
    assert all(len(set(order[found == unit])) == 1 for unit in set(found.tolist()))


def test_a_network_with_units_is_trained_and_resumed():
    config = dataclasses.replace(TINY, units=5)
    trainer = ResidualTrainer(_examples(), _examples(), seed=0, device=torch.device("cpu"), config=config)
    assert trainer.net.unit_centres.abs().sum() > 0
    other = ResidualTrainer(_examples(), _examples(), seed=3, device=torch.device("cpu"), config=config)
    other.start_from(trainer.best)
    assert torch.equal(other.net.unit_centres, trainer.best.unit_centres)


def test_training_learns_what_the_source_tells():
    trainer = ResidualTrainer(_examples(), _examples(), seed=0, device=torch.device("cpu"), config=TINY)
    before = trainer.validation_loss(trainer.best)
    trainer.train(1.0, rate=5e-3)
    assert trainer.best_loss < before
    scores = trainer.scores()
    assert scores.steps > 2
    assert set(scores.explained) == {"pitch", "energy", "envelope", "noise", "rate"}
    other = ResidualTrainer(_examples(), _examples(), seed=1, device=torch.device("cpu"), config=TINY)
    other.start_from(trainer.best)
    assert other.best_loss == trainer.validation_loss(trainer.best)
