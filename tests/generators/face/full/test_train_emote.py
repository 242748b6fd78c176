"""The recipe of EMOTE on a tiny corpus, its losses, and the layer through which they see the face."""

import json

import numpy as np
import pytest
import torch

from affetto.apps.cli.train import RECIPES
from affetto.generators.face.full.emote_data import EmoteData, derangement, read_index
from affetto.generators.face.full.emote_weights import convert_emote, load_emote
from affetto.generators.face.full.flame_curves import FlameCurves
from affetto.generators.face.full.flame_layer import FlameLayer, rotations
from affetto.generators.face.full.objectives import ExchangeObjective, LossWeights, exchanged, vertex_loss
from affetto.generators.face.full.readers import EmotionReader, LipReader, SpeechMatch
from affetto.generators.face.full.train_emote import EmoteRecipe, start_speech, train_face_emote
from affetto.head.model import HeadModel
from affetto.media.audio import Audio, save_audio
from affetto.runtime.errors import InvalidInputError, MissingResourceError, UsageError
from affetto.weights.store import save_tensors
from tests.head.flame_like import flame_like

from .small import TINY, tiny_emote

LABELS = (("neutral", 1, "ann"), ("happy", 3, "ann"), ("sad", 2, "bob"))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    rng, rows = np.random.default_rng(0), ["audio,flame,emotion,level,person"]
    for number, (emotion, level, person) in enumerate(LABELS):
        sound = 0.1 * rng.standard_normal(16_000 * 2).astype(np.float32)
        save_audio(folder / f"{number}.wav", Audio(samples=sound[None], rate=16_000))
        motion = np.cumsum(rng.normal(0, 0.05, (60, 103)), axis=0).astype(np.float32)
        FlameCurves(fps=30.0, expression=motion[:, :100], jaw=0.1 * motion[:, 100:]).save(
            folder / f"{number}.npz"
        )
        rows.append(f"{number}.wav,{number}.npz,{emotion},{level},{person}")
    (folder / "index.csv").write_text("\n".join(rows) + "\n")
    flame_like()[0].save(folder / "flame.safetensors")
    return folder


@pytest.fixture(scope="module")
def layer():
    return FlameLayer(flame_like()[0], HeadModel.load(), 100)


def test_the_recipe_trains_every_stage_writes_weights_and_goes_on(corpus, tmp_path):
    recipe = EmoteRecipe(
        network=TINY,
        speech="",
        flame=str(corpus / "flame.safetensors"),
        frames=16,
        batch=2,
        steps=2,
        precision="no",
    )
    output = tmp_path / "emote.safetensors"
    report = train_face_emote(corpus, output, seconds=600.0, seed=1, device="cpu", recipe=recipe)
    assert [report[f"{stage}_steps"] for stage in ("prior", "readers", "talk", "exchange")] == [2, 2, 2, 2]
    assert np.isfinite([report[f"{stage}_last"] for stage in ("prior", "readers", "talk", "exchange")]).all()
    network = load_emote(output)
    assert network.config.people == ("ann", "bob")
    assert convert_emote({}, output)[1]["format"] == "emote-1"
    again = train_face_emote(corpus, output, seconds=600.0, seed=1, device="cpu", recipe=recipe, resume=True)
    assert again == {
        "clips": 3,
        "people": 2,
        **{f"{s}_steps": 2 for s in ("prior", "readers", "talk", "exchange")},
    }
    same = load_emote(output).state_dict()
    assert all(torch.equal(value, same[key]) for key, value in network.state_dict().items())


def test_the_layer_agrees_with_the_skinning_of_the_head(layer):
    flame, _ = flame_like()
    rng = np.random.default_rng(3)
    motion = rng.normal(0, 0.1, (1, 4, 103)).astype(np.float32)
    poses = np.zeros((4, 5, 3))
    poses[:, 2] = motion[0, :, 100:]
    skin = flame.weights[:, 3:].sum(axis=1) < 0.5
    expected = 1000 * flame.vertices(expression=motion[0, :, :100], pose=poses)[:, skin]
    assert np.abs(layer(torch.from_numpy(motion))[0].numpy() - expected).max() < 1e-2


def test_gradients_pass_through_the_face_even_at_rest(layer):
    motion = torch.zeros(1, 2, 103, requires_grad=True)
    layer(motion).square().mean().backward()
    assert torch.isfinite(motion.grad).all()
    assert float(motion.grad[..., -3:].abs().max()) > 0
    assert torch.allclose(rotations(torch.zeros(3)), torch.eye(3))


def test_the_exchange_gives_the_donors_emotion_and_keeps_the_person():
    style = torch.arange(2 * 3 * 13, dtype=torch.float32).reshape(2, 3, 13)
    swapped = exchanged(style, torch.tensor([1, 0]))
    assert torch.equal(swapped[0, :, :11], style[1, :, :11])
    assert torch.equal(swapped[0, :, 11:], style[0, :, 11:])


@pytest.mark.parametrize("size", [2, 3, 7])
def test_nobody_gets_their_own_emotion_in_an_exchange(size):
    for seed in range(20):
        order = derangement(size, np.random.default_rng(seed))
        assert sorted(order.tolist()) == list(range(size))
        assert not (order == torch.arange(size)).any()


def test_the_terms_of_the_exchange_vanish_where_they_should(layer):
    network = tiny_emote()
    lips, emotions = LipReader(len(layer.lips)).eval(), EmotionReader(103, 16, 2).eval()
    objective = ExchangeObjective(network, layer, lips, emotions, LossWeights())
    samples, style = torch.randn(2, 16 * 640), torch.zeros(2, 16, TINY.styles)
    with torch.no_grad():
        made = network(samples, style)
        terms = objective.terms(samples, style, made, torch.tensor([1, 0]))
    assert float(terms["vertices"]) < 1e-6
    assert abs(float(terms["lips"])) < 1e-5
    assert float(terms["emotion"]) < 1e-8
    assert abs(float(terms["exchanged_lips"])) < 1e-5  # the same style: nothing was exchanged
    total = objective(samples, style, made + 0.1, torch.tensor([1, 0]))
    assert float(total.detach()) > 0


def test_readers_learn_to_tell_what_they_are_shown():
    torch.manual_seed(0)
    emotions, labels = EmotionReader(6, 16, 2), torch.tensor([1, 2, 1, 2])
    motion = torch.randn(4, 8, 6) + labels[:, None, None]
    lips, match = LipReader(2, 8), SpeechMatch(5, 8)
    states, shapes = torch.randn(2, 8, 5), 10 * torch.randn(2, 8, 2, 3)
    optimiser = torch.optim.Adam([*emotions.parameters(), *lips.parameters(), *match.parameters()], lr=3e-3)
    losses = []
    for _ in range(60):
        loss = emotions(motion, labels, labels) + match(states, lips(shapes))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]


def test_vertex_loss_is_square_millimetres(layer):
    still = torch.zeros(1, 2, 103)
    assert float(vertex_loss(layer, still, still)) == 0
    moved = still.clone()
    moved[..., -3] = 0.1
    assert 0.01 < float(vertex_loss(layer, moved, still)) < 100


def test_pieces_are_cut_with_their_sound_and_short_ones_are_filled_up(corpus):
    data = EmoteData(read_index(corpus), ["ann", "bob"], frames=64, expressions=100)
    samples, motion, style, labels = data.batch(3, np.random.default_rng(0))
    assert (samples.shape, motion.shape, style.shape) == ((3, 64 * 640), (3, 64, 103), (3, 64, 13))
    assert torch.equal(motion[0, 50], motion[0, 63])  # 60 frames at 30 are 50 at 25
    assert labels.shape == (3, 2)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("0.wav,0.npz,joyful,1,ann", "line 2: unknown emotion 'joyful'"),
        ("0.wav,0.npz,sad,4,ann", "line 2: level '4'"),
        ("0.wav,9.npz,sad,1,ann", "line 2: no file"),
        ("0.wav,0.npz,sad,1,", "the person is missing"),
    ],
)
def test_a_wrong_line_of_the_index_is_named(corpus, tmp_path, line, said):
    for name in ("0.wav", "0.npz"):
        (tmp_path / name).write_bytes((corpus / name).read_bytes())
    (tmp_path / "index.csv").write_text(f"audio,flame,emotion,level,person\n{line}\n")
    with pytest.raises(InvalidInputError, match=said):
        read_index(tmp_path)


def test_an_index_that_is_none_and_curves_that_are_none_are_refused(tmp_path):
    with pytest.raises(InvalidInputError, match="cannot be read"):
        read_index(tmp_path)
    (tmp_path / "index.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InvalidInputError, match="needs the columns"):
        read_index(tmp_path)
    np.savez(tmp_path / "a.npz", exp=np.full((3, 5), np.nan), jaw_pose=np.zeros((3, 3)))
    with pytest.raises(InvalidInputError, match="not finite"):
        FlameCurves.load(tmp_path / "a.npz")
    (tmp_path / "b.npz").write_bytes(b"nothing")
    with pytest.raises(InvalidInputError, match="holds no FLAME curves"):
        FlameCurves.load(tmp_path / "b.npz")


def test_the_recipe_file_is_read_strictly(tmp_path):
    assert EmoteRecipe.beside(tmp_path) == EmoteRecipe()
    (tmp_path / "emote.json").write_text(
        json.dumps({"batch": 8, "network": {"width": 64}, "weights": {"lips": 3.0}})
    )
    read = EmoteRecipe.beside(tmp_path)
    assert (read.batch, read.network.width, read.network.heads, read.weights.lips) == (8, 64, 8, 3.0)
    (tmp_path / "emote.json").write_text('{"wings": 2}')
    with pytest.raises(InvalidInputError, match="is no recipe"):
        EmoteRecipe.beside(tmp_path)
    with pytest.raises(UsageError, match="use 2 or more"):
        EmoteRecipe(batch=1)
    with pytest.raises(UsageError, match="multiple of 8"):
        EmoteRecipe(frames=20)


def test_a_published_wav2vec_is_where_it_begins(tmp_path, monkeypatch):
    monkeypatch.setenv("AFFETTO_HOME", str(tmp_path))
    model = tiny_emote(seed=1).audio_model.model
    state = {f"wav2vec2.{key}": value for key, value in model.state_dict().items()}
    save_tensors(tmp_path / "w.safetensors", {**state, "lm_head.weight": torch.ones(2)}, {})
    other = tiny_emote(seed=2).audio_model.model
    start_speech(other, str(tmp_path / "w.safetensors"))
    assert all(torch.equal(value, state[f"wav2vec2.{key}"]) for key, value in other.state_dict().items())
    with pytest.raises(MissingResourceError, match="affetto weights pull wav2vec2-base-960h"):
        start_speech(other, "wav2vec2-base-960h")


def test_the_recipe_is_reached_from_the_command_line():
    assert RECIPES["face-emote"] == ("affetto.generators.face.full.train_emote", "train_face_emote")
