import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from affetto.conditioning.directions import DirectionalLatents, isotonic, principal_axes
from affetto.conditioning.mixtures import fit_mixture
from affetto.runtime.errors import InvalidInputError, UsageError

WIDTH = 24


def _latents(seed=0, each=40):
    """Three emotions of four speakers: speaker places far apart, emotion shifts shared."""
    generator = torch.Generator().manual_seed(seed)
    places = 6.0 * torch.randn(4, WIDTH, generator=generator)
    shifts = {
        "neutral": torch.zeros(WIDTH),
        "happy": torch.eye(WIDTH)[0] * 3,
        "sad": torch.eye(WIDTH)[1] * -2,
    }
    rows, labels = [], []
    for name, shift in shifts.items():
        for index in range(each):
            rows.append(places[index % 4] + shift + 0.3 * torch.randn(WIDTH, generator=generator))
            labels.append(name)
    return torch.stack(rows), labels


def _fitted(method):
    x, labels = _latents()
    if method == "means":
        return DirectionalLatents.from_means(x, labels)
    if method == "whitened":
        return DirectionalLatents.from_means(x, labels, whiten=True)
    if method == "local":
        return DirectionalLatents.from_local_means(x, labels)
    if method == "vad":
        generator = torch.Generator().manual_seed(2)
        vad, slopes = (
            torch.rand(len(x), 3, generator=generator) * 2 - 1,
            torch.randn(3, WIDTH, generator=generator),
        )
        return DirectionalLatents.from_vad(x + vad @ slopes, vad)
    if method == "components":
        return DirectionalLatents.from_components(x, 3)
    return DirectionalLatents.from_weights(
        torch.randn(50, WIDTH, generator=torch.Generator().manual_seed(1)), 3
    )


METHODS = ["means", "whitened", "local", "vad", "components", "sefa"]


@pytest.mark.parametrize("method", METHODS)
def test_every_method_gives_unit_directions(method):
    model = _fitted(method)
    assert torch.allclose(model.directions.norm(dim=-1), torch.ones(len(model.names)), atol=1e-5)
    assert (model.scale >= 0).all()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("intensity", [0.3, 1.0, 1.5])
def test_applying_the_negative_intensity_undoes_a_move(method, intensity):
    model, (x, _) = _fitted(method), _latents(3)
    asked = {name: 0.5 + 0.25 * row for row, name in enumerate(model.names)}
    moved = model.apply(x, asked, intensity)
    assert (moved - x).abs().max() > 0.05
    assert (model.apply(moved, asked, -intensity) - x).abs().max() < 1e-4


@pytest.mark.parametrize("method", METHODS)
def test_intensity_zero_is_identity_bit_for_bit(method):
    model, (x, _) = _fitted(method), _latents(3)
    assert torch.equal(model.apply(x, model.names[0], 0.0), x)


def test_the_mean_direction_points_from_neutral_to_the_emotion():
    model = _fitted("means")
    assert model.names == ("happy", "sad")
    assert (model.displacement("happy") - torch.eye(WIDTH)[0] * 3).norm() < 0.8


def test_whitening_ignores_axes_on_which_classes_scatter():
    x, labels = _latents()
    offset = torch.tensor([0.5 if label == "happy" else 0.0 for label in labels])
    noisy = x.clone()
    noisy[:, 5] = 20 * torch.randn(len(x), generator=torch.Generator().manual_seed(2)) + offset
    plain = DirectionalLatents.from_means(noisy, labels)
    white = DirectionalLatents.from_means(noisy, labels, whiten=True)
    assert abs(white.directions[0, 5]) < 0.05 < abs(plain.directions[0, 5])


def test_local_means_move_each_speaker_by_its_own_shift_and_keep_its_place():
    generator = torch.Generator().manual_seed(4)
    places = torch.zeros(2, WIDTH)
    places[0, 2], places[1, 2] = 8.0, -8.0
    own = torch.zeros(2, WIDTH)
    own[0, 0], own[1, 1] = 2.0, 2.0  # the two speakers are happy in different ways
    rows, labels = [], []
    for index in range(120):
        speaker, happy = index % 2, index % 4 < 2
        rows.append(places[speaker] + own[speaker] * happy + 0.1 * torch.randn(WIDTH, generator=generator))
        labels.append("happy" if happy else "neutral")
    model = DirectionalLatents.from_local_means(torch.stack(rows), labels, parts=2)
    moved = model.apply(places, "happy") - places
    assert (moved - own).abs().max() < 0.15


def test_vad_regression_recovers_the_slopes():
    generator = torch.Generator().manual_seed(0)
    vad, slopes = torch.rand(400, 3, generator=generator) * 2 - 1, torch.randn(3, WIDTH, generator=generator)
    model = DirectionalLatents.from_vad(
        vad @ slopes + 0.01 * torch.randn(400, WIDTH, generator=generator), vad
    )
    assert model.names == ("valence", "arousal", "dominance")
    assert torch.allclose(model.scale[:, None] * model.directions, slopes, atol=0.05)


def test_sefa_finds_the_direction_a_layer_magnifies_most():
    weight = torch.randn(30, WIDTH, generator=torch.Generator().manual_seed(1)) * 0.1
    weight[:, 7] += 3.0
    model = DirectionalLatents.from_weights(weight, 2)
    assert model.directions[0].abs().argmax() == 7
    assert model.directions[0, 7] > 0.9


@pytest.mark.parametrize("method", ["gram-schmidt", "lowdin"])
@given(seed=st.integers(0, 1000), count=st.integers(2, 8))
@settings(max_examples=20, deadline=None)
def test_orthogonalised_directions_are_perpendicular(method, seed, count):
    shifts = torch.randn(count, WIDTH, generator=torch.Generator().manual_seed(seed))
    units = shifts / shifts.norm(dim=-1, keepdim=True)
    names = tuple(f"d{index}" for index in range(count))
    model = DirectionalLatents(
        names=names, directions=units, scale=torch.ones(count), neutral=torch.zeros(WIDTH)
    )
    turned = model.orthogonalised(method).directions
    assert (turned @ turned.T - torch.eye(count)).abs().max() < 1e-5
    assert ((turned * units).sum(-1) > 0).all()


def test_gram_schmidt_keeps_the_direction_of_the_highest_priority():
    model = _fitted("vad")
    turned = model.orthogonalised("gram-schmidt", priority=["dominance"])
    assert torch.allclose(turned.directions[2], model.directions[2], atol=1e-5)


def test_dependent_directions_are_not_orthogonalised():
    row = torch.eye(WIDTH)[:1]
    model = DirectionalLatents(
        names=("a", "b"), directions=row.repeat(2, 1), scale=torch.ones(2), neutral=torch.zeros(WIDTH)
    )
    with pytest.raises(UsageError, match="depend on each other"):
        model.orthogonalised()


def test_projecting_out_leaves_nothing_along_the_directions():
    model, (x, _) = _fitted("means"), _latents(5)
    left = model.project_out(x)
    assert ((left - model.neutral) @ model.directions.T).abs().max() < 1e-3
    assert torch.allclose(model.project_out(left), left, atol=1e-4)
    assert torch.equal(model.project_out(x, []), x)


def test_preserving_the_norm_keeps_every_length():
    model, (x, _) = _fitted("means"), _latents(5)
    moved = model.apply(x, "happy", 1.0, preserve_norm=True)
    assert torch.allclose(moved.norm(dim=-1), x.norm(dim=-1), rtol=1e-5)


def test_calibration_makes_a_saturating_probe_linear_and_reports_leakage():
    model, (x, _) = _fitted("means"), _latents(6)

    def probe(latents):
        return torch.stack([torch.tanh(0.8 * latents[:, 0]), torch.sigmoid(-latents[:, 1])], dim=-1)

    still = x[:40] * torch.tensor([0.0, 0.0, *[1.0] * (WIDTH - 2)])
    fitted = model.calibrated(still, probe)
    report = fitted.calibration
    assert report.linearity_before[0] < 0.93
    assert min(report.linearity_after) > 0.99
    assert max(report.leakage) < 0.4
    full = probe(fitted.apply(still, "happy", 1.0))[:, 0].mean()
    assert full.item() == pytest.approx(probe(model.apply(still, "happy", 1.0))[:, 0].mean().item(), abs=2e-3)
    moved = fitted.apply(still, "happy", 0.7)
    assert (fitted.apply(moved, "happy", -0.7) - still).abs().max() < 1e-4


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=40))
@settings(deadline=None)
def test_an_isotonic_fit_rises_and_keeps_the_mean(values):
    fitted = isotonic(np.array(values))
    assert (np.diff(fitted) >= -1e-12).all()
    assert fitted.mean() == pytest.approx(np.mean(values), abs=1e-9)
    assert np.allclose(isotonic(fitted), fitted)


@pytest.mark.parametrize("method", ["means", "local"])
def test_saved_directions_load_and_act_the_same(tmp_path, method):
    x, _ = _latents(7)
    model = _fitted(method).calibrated(x, lambda latents: latents[:, :2])
    loaded = DirectionalLatents.load(model.save(tmp_path / "dirs.safetensors"))
    assert loaded.names == model.names
    assert loaded.calibration.linearity_after == model.calibration.linearity_after
    assert torch.equal(
        loaded.apply(x, {"happy": 0.5, "sad": 0.2}, 0.8), model.apply(x, {"happy": 0.5, "sad": 0.2}, 0.8)
    )


def test_saving_twice_gives_the_same_bytes(tmp_path):
    model = _fitted("local")
    first, second = model.save(tmp_path / "a.safetensors"), model.save(tmp_path / "b.safetensors")
    assert first.read_bytes() == second.read_bytes()


def test_other_files_and_bad_requests_are_refused(tmp_path):
    model = _fitted("means")
    with pytest.raises(UsageError, match="unknown direction 'joy': there are happy, sad"):
        model.apply(torch.zeros(1, WIDTH), "joy")
    with pytest.raises(UsageError, match="as many distinct names"):
        dataclasses.replace(model, names=("happy",))
    with pytest.raises(UsageError, match="of 'calm' and of another label"):
        DirectionalLatents.from_means(torch.zeros(2, WIDTH), ["happy", "sad"], neutral="calm")
    from affetto.weights.store import save_tensors

    with pytest.raises(InvalidInputError, match="holds no directions"):
        DirectionalLatents.load(save_tensors(tmp_path / "x.safetensors", {"a": np.zeros(2, np.float32)}, {}))


def test_a_mixture_finds_well_separated_parts():
    generator = torch.Generator().manual_seed(0)
    centres = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    points = (centres.repeat(50, 1) + torch.randn(150, 2, generator=generator)).float()
    mixture = fit_mixture(points, 3, seed=1)
    nearest = torch.cdist(centres.double(), mixture.mean).amin(-1)
    assert nearest.max() < 0.6
    assert mixture.responsibilities(points).sum(-1).sub(1).abs().max() < 1e-5


def test_kept_variance_confines_the_directions_to_the_principal_axes():
    generator = torch.Generator().manual_seed(3)
    latents = 0.1 * torch.randn(200, 8, generator=generator)
    latents[:, :2] += 3 * torch.randn(200, 2, generator=generator)
    labels = ["neutral"] * 100 + ["happy"] * 100
    latents[100:, :2] += 2.0
    axes = principal_axes(latents, 0.95)
    assert axes.shape == (2, 8)
    for fitted in (
        DirectionalLatents.from_means(latents, labels, keep=0.95),
        DirectionalLatents.from_local_means(latents, labels, parts=1, keep=0.95),
    ):
        shift = fitted.displacement("happy").double()
        torch.testing.assert_close(shift @ axes.T @ axes, shift, atol=1e-4, rtol=0)
