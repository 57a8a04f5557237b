"""Latent spaces: walks that meet their ends, projections that find what a generator made, and the verbs about them."""

from __future__ import annotations

import itertools
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import untrained
from click.testing import CliRunner, Result
from PIL import Image

from lightning_gen import images, latent
from lightning_gen.cli import latents, main
from lightning_gen.errors import UserError
from lightning_gen.module import ORIGIN, GenerativeModule

SMALL = {
    "vae": {"image_shape": (3, 32, 32), "latent_dim": 4, "widths": (4,), "hidden": (8,), "likelihood": "gaussian"},
    "dcgan": {"image_shape": (3, 32, 32), "latent_dim": 4, "width": 4},
    "cgan": {"image_shape": (3, 32, 32), "num_classes": 3, "latent_dim": 4},
    "vq-vae": {"image_shape": (3, 32, 32), "width": 4, "hidden": 4, "codes": 5, "prior_width": 4, "prior_layers": 1},
    "pixelcnn": {"image_shape": (1, 8, 8), "width": 4, "layers": 1},
    "stylegan2": {"image_shape": (3, 32, 32), "latent_dim": 4, "width": 4, "mapping_layers": 1},
    "gan": {"image_shape": (2, 1, 1), "latent_dim": 4},
    "pix2pix": {"image_shape": (3, 32, 32), "width": 4},
}


SETS = ["--input=shapes", "--having=shapes", "--lacking=shapes"]


def make(name: str) -> GenerativeModule:
    return untrained.model(name, SMALL[name])


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A checkpoint of each small, untrained model, and files of latents."""
    folder = tmp_path_factory.mktemp("checkpoints")
    arrays = {"none": np.zeros((0, 4), np.float32), "one": np.float32(3), "some": np.zeros((2, 4), np.float32)}
    for name, array in arrays.items():
        np.savez(folder / f"{name}.npz", latents=array)
    made = {name: untrained.checkpoint(name, settings, folder) for name, settings in SMALL.items()}
    return made | {name: str(folder / f"{name}.npz") for name in arrays}


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(4):
        pixels = np.random.default_rng(i).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    return folder


def size(path: Path) -> tuple[int, int, int]:
    """Width, height and frames of a picture."""
    with Image.open(path) as picture:
        return (*picture.size, getattr(picture, "n_frames", 1))


def lgen(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in arguments])


def succeed(*arguments: object) -> str:
    done = lgen(*arguments)
    assert done.exit_code == 0, done.output + repr(done.exception)
    return done.stdout


@pytest.mark.parametrize("path", [latent.linear, latent.spherical])
def test_a_walk_meets_its_ends_in_even_steps(path) -> None:
    ends = torch.randn(3, 16)
    places = latent.walk(ends, 5, path)
    assert places.shape == (11, 16)
    torch.testing.assert_close(places[::5], ends)
    if path is latent.linear:
        steps = (places[1:6] - places[:5]).norm(dim=1)
        torch.testing.assert_close(steps, steps[:1].expand(5))


def test_the_spherical_walk_keeps_the_length_and_turns_evenly() -> None:
    a, b = torch.tensor([2.0, 0.0, 0.0]), torch.tensor([0.0, 2.0, 0.0])
    places = [latent.spherical(a, b, t / 4) for t in range(5)]
    torch.testing.assert_close(torch.stack(places).norm(dim=1), torch.full((5,), 2.0))
    turns = [torch.dot(p, q) for p, q in itertools.pairwise(places)]
    torch.testing.assert_close(torch.stack(turns), turns[0].expand(4))
    torch.testing.assert_close(latent.spherical(a, a, 0.3), a)


def test_the_ends_of_an_interpolation_are_the_samples_of_the_stream() -> None:
    model = make("dcgan")
    ends = torch.cat([model.latents(1, seed=5, start=place) for place in (3, 8)])
    frames = latent.images_of(model, latent.walk(ends, 4, latent.spherical), seed=5)
    for frame, place in ((frames[0], 3), (frames[-1], 8)):
        torch.testing.assert_close(frame, model.sample(1, seed=5, start=place)[0], atol=1e-5, rtol=0)


def test_a_traversal_moves_one_dimension_and_no_other() -> None:
    model = make("vae")
    at = torch.randn(4)
    rows = latent.traverse(model, at, [0, 2], 5, 2.0)
    for row, dimension in zip(rows, (0, 2), strict=True):
        others = [d for d in range(4) if d != dimension]
        assert torch.equal(row[:, others], at[others].expand(5, 3))
        assert (row[1:, dimension] > row[:-1, dimension]).all()
        assert row[-1, dimension].item() == pytest.approx(2, abs=0.3)  # deviations of a standard normal


def test_a_projection_finds_what_the_generator_made() -> None:
    model = make("dcgan")
    with torch.no_grad():
        for weights in model.generator.parameters():
            weights *= 8 if weights.ndim == 4 else 1  # an untrained one draws grey
    targets = model.sample(3, seed=11)
    flags = [parameter.requires_grad for parameter in model.parameters()]
    weights = {key: value.clone() for key, value in model.state_dict().items() if isinstance(value, torch.Tensor)}
    _, before = latent.project(model, targets, steps=0)
    found, after = latent.project(model, targets, steps=150)
    assert (after < before / 4).all()
    torch.testing.assert_close(
        (latent.images_of(model, found) - targets).square().flatten(1).mean(1), after, atol=1e-4, rtol=1e-2
    )
    assert flags == [parameter.requires_grad for parameter in model.parameters()]
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in weights.items())


def test_a_direction_is_the_difference_of_mean_latents() -> None:
    model = make("vae").eval()
    a, b = torch.rand(5, 3, 32, 32), torch.rand(3, 3, 32, 32)
    with torch.no_grad():
        expected = model.encode(a).mean(0) - model.encode(b).mean(0)
    torch.testing.assert_close(latent.direction(model, a, b), expected)


def test_principal_components_are_those_of_the_covariance() -> None:
    points = torch.randn(200, 3) * torch.tensor([5.0, 1.0, 0.1]) + 7
    places, share = latent.principal(points)
    values = torch.linalg.eigvalsh(points.double().T.cov()).flip(0)
    torch.testing.assert_close(places.var(0), values[:2], rtol=1e-5, atol=0)
    torch.testing.assert_close(share, values[:2] / values.sum(), rtol=1e-5, atol=0)


def test_a_model_without_a_latent_space_says_so() -> None:
    with pytest.raises(UserError, match="pixelcnn has no latent space"):
        latent.require(make("pixelcnn"), "pixelcnn")
    with pytest.raises(UserError, match="lgen project"):
        latent.latents_of(make("dcgan"), torch.zeros(1, 3, 32, 32))


@pytest.mark.parametrize("name", ["vae", "dcgan", "cgan"])
def test_interpolate_and_traverse_write_pictures(name: str, checkpoints: dict[str, str], tmp_path: Path) -> None:
    strip, film, rows = tmp_path / "strip.png", tmp_path / "film.gif", tmp_path / "rows.png"
    succeed("interpolate", checkpoints[name], "--between", "0,4,2", "--steps", 3, "--png", strip, "--gif", film)
    assert size(film)[2] == 12  # 7 there, 5 back
    width, height, _ = size(strip)
    assert width / height == pytest.approx((4 * 34 - 2) / (2 * 34 - 2))
    succeed("traverse", checkpoints[name], "--dimensions", "0,3", "--steps", 5, "--png", rows)
    width, height, _ = size(rows)
    assert width / height == pytest.approx((5 * 34 - 2) / (2 * 34 - 2))


def test_truncation_goes_to_models_that_have_it(checkpoints: dict[str, str], tmp_path: Path) -> None:
    sheets = {}
    for truncation in (0, 0.5, 1):
        sheets[truncation] = tmp_path / f"{truncation}.png"
        arguments = ["--n", 4, "--truncation", truncation, "--grid", sheets[truncation]]
        succeed("sample", checkpoints["stylegan2"], *arguments)
    assert len({sheet.read_bytes() for sheet in sheets.values()}) == 3
    strip = tmp_path / "strip.png"
    succeed(
        "interpolate", checkpoints["stylegan2"], "--truncation", 0, "--between", "0,1", "--steps", 2, "--png", strip
    )
    for verb in (["sample"], ["interpolate"]):
        done = lgen(
            *verb, checkpoints["vae"], "--truncation", 0.5, "--grid" if verb == ["sample"] else "--png", "x.png"
        )
        assert (done.exit_code, "--truncation: vae does not offer it" in done.output) == (2, True)


def test_a_film_shows_the_walk_there_and_back(checkpoints: dict[str, str], tmp_path: Path) -> None:
    encoder = pytest.importorskip("imageio_ffmpeg", reason="the extra `video` is not installed")
    film = tmp_path / "film.mp4"
    succeed("interpolate", checkpoints["vae"], "--between", "0,4", "--steps", 3, "--mp4", film)
    assert encoder.count_frames_and_secs(str(film))[0] == 6
    assert [path.name for path in tmp_path.iterdir()] == ["film.mp4"]


@pytest.mark.parametrize(
    ("package", "arguments", "extra"),
    [
        ("imageio_ffmpeg", ["interpolate", "{vae}", "--mp4", "x.mp4"], "video"),
        ("umap", ["encode", "{vae}", "--input", "shapes", "--n", "9", "--plot", "x.png", "--map", "umap"], "umap"),
    ],
)
def test_a_missing_extra_is_named(
    package: str, arguments: list[str], extra: str, checkpoints: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    done = lgen(*(word.format(**checkpoints) for word in arguments))
    assert (done.exit_code, f"lightning-gen[{extra}]" in done.output) == (2, True)


def test_interpolate_between_images_of_the_user(checkpoints: dict[str, str], pictures: Path, tmp_path: Path) -> None:
    files = ["--image", pictures / "0.png", "--image", pictures / "1.png"]
    succeed("interpolate", checkpoints["vae"], *files, "--png", tmp_path / "strip.png")
    done = lgen("interpolate", checkpoints["dcgan"], *files, "--png", tmp_path / "none.png")
    assert (done.exit_code, "no encoder" in done.output) == (2, True)
    assert not (tmp_path / "none.png").exists()


def test_any_kind_of_picture_and_a_folder_of_an_archive_are_encoded(
    checkpoints: dict[str, str], pictures: Path, tmp_path: Path
) -> None:
    found = []
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as packed:
        packed.write(pictures / "0.png", "a/0.png")
        packed.write(pictures / "1.png", "b/1.png")
    Image.open(pictures / "0.png").save(tmp_path / "0.TIFF")
    for given in (pictures / "0.png", tmp_path / "0.TIFF", tmp_path / "set.zip" / "a"):
        succeed("encode", checkpoints["vae"], "--input", given, "--out", tmp_path / "codes.npz")
        with np.load(tmp_path / "codes.npz") as content:
            found.append(content["latents"])
    for other in found[1:]:
        np.testing.assert_allclose(other, found[0], rtol=1e-5, atol=1e-6)
    done = lgen("encode", checkpoints["vae"], "--input", checkpoints["some"], "--out", tmp_path / "codes.npz")
    assert (done.exit_code, "some.npz: neither a folder nor an archive" in done.output) == (2, True)
    assert "--data.root" not in done.output


@pytest.mark.parametrize("name", ["vae", "vq-vae"])
def test_encode_and_decode_are_the_model_s_reconstruction(
    name: str, checkpoints: dict[str, str], pictures: Path, tmp_path: Path
) -> None:
    codes = tmp_path / "codes.npz"
    succeed("encode", checkpoints[name], "--input", pictures, "--out", codes)
    with np.load(codes) as content:
        assert len(content["latents"]) == 4
    succeed("decode", checkpoints[name], codes, "--out", tmp_path / "again", "--grid", tmp_path / "grid.png")
    model = make(name).eval()
    pixels = torch.from_numpy(np.asarray(Image.open(pictures / "2.png")).transpose(2, 0, 1).copy())[None]
    with torch.no_grad():
        again = model.decode(model.encode(pixels / 127.5 - 1))
    shown = torch.from_numpy(np.asarray(Image.open(tmp_path / "again" / "000002.png")).transpose(2, 0, 1).copy())
    torch.testing.assert_close(shown / 127.5 - 1, again[0].clamp(-1, 1), atol=1.01 / 127.5, rtol=0)


def test_latents_that_became_double_by_arithmetic_are_decoded_as_they_were(
    checkpoints: dict[str, str], tmp_path: Path
) -> None:
    z = make("vae").latents(2, seed=0, start=0).numpy()
    grids = []
    for name, array in (("single", z), ("double", z.astype(np.float64))):
        np.savez(tmp_path / f"{name}.npz", latents=array)
        succeed("decode", checkpoints["vae"], tmp_path / f"{name}.npz", "--grid", tmp_path / f"{name}.png")
        grids.append((tmp_path / f"{name}.png").read_bytes())
    assert grids[0] == grids[1]


def test_points_that_are_decoded_are_those_of_the_latents(
    checkpoints: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = torch.load(checkpoints["gan"])
    content[ORIGIN]["kind"] = "points"
    torch.save(content, tmp_path / "points.ckpt")
    z = make("gan").latents(70, seed=0, start=0)
    np.savez(tmp_path / "z.npz", latents=z.numpy())
    drawn: list[torch.Tensor] = []
    monkeypatch.setattr(images, "scatter", lambda points: drawn.append(points) or torch.zeros(3, 8, 8).byte())
    succeed("decode", tmp_path / "points.ckpt", tmp_path / "z.npz", "--grid", tmp_path / "grid.png")
    with torch.no_grad():
        torch.testing.assert_close(drawn[0], make("gan").eval().generate(z))
    done = lgen("decode", tmp_path / "points.ckpt", tmp_path / "z.npz", "--out", tmp_path / "out")
    assert (done.exit_code, "points of the plane" in done.output) == (2, True)
    assert not (tmp_path / "out").exists()


def test_a_volume_is_projected_and_shown_from_the_side(
    checkpoints: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    solid = torch.full((2, 3, 32, 32), 255, dtype=torch.uint8)
    monkeypatch.setattr(latents, "pixels", lambda *_: {"image": solid})
    monkeypatch.setattr(latents, "kind", lambda _: "volume")
    monkeypatch.setattr(images, "shown", lambda stored, kind: stored[:, :1] if kind == "volume" else stored)
    arguments = ["--input", "x", "--steps", 1, "--png", tmp_path / "p.png"]
    assert "2 volumes after 1 steps" in succeed("project", checkpoints["dcgan"], *arguments)
    with Image.open(tmp_path / "p.png") as picture:
        assert picture.mode == "L"


def test_encode_plots_and_edit_and_project_write(checkpoints: dict[str, str], pictures: Path, tmp_path: Path) -> None:
    assert "two principal components" in succeed(
        "encode", checkpoints["vae"], "--input", "shapes", "--n", 20, "--plot", tmp_path / "pca.png"
    )
    assert size(tmp_path / "pca.png")[0] > 100
    sets = ["--having", pictures, "--lacking", pictures / "0.png"]
    succeed("edit", checkpoints["vae"], "--input", pictures, *sets, "--n", 2, "--png", tmp_path / "edit.png")
    width, height, _ = size(tmp_path / "edit.png")
    assert width / height == pytest.approx((4 * 34 - 2) / (2 * 34 - 2))
    arguments = ["--input", pictures, "--n", 2, "--steps", 2, "--png", tmp_path / "p.png", "--out", tmp_path / "p.npz"]
    assert "PSNR" in succeed("project", checkpoints["dcgan"], *arguments)
    succeed("decode", checkpoints["dcgan"], tmp_path / "p.npz", "--grid", tmp_path / "g.png")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["interpolate", "{pixelcnn}", "--png", "x.png"], "no latent space"),
        (["interpolate", "{vae}"], "where to?"),
        (["interpolate", "{vae}", "--between", "0,b", "--png", "x.png"], "numbers with commas"),
        (["interpolate", "{vae}", "--between", "3", "--png", "x.png"], "two images"),
        (["traverse", "{vae}", "--dimensions", "0,4", "--png", "x.png"], "dimensions 0 to 3"),
        (["traverse", "{vae}", "--label", "1", "--png", "x.png"], "not conditional"),
        (["encode", "{vae}", "--input", "shape", "--out", "x.npz"], "did you mean 'shapes'"),
        (["encode", "{dcgan}", "--input", "shapes", "--n", "2", "--out", "x.npz"], "no encoder"),
        (["encode", "{vq-vae}", "--input", "shapes", "--n", "5", "--plot", "x.png"], "are codes"),
        (["decode", "{vae}", "{vae}", "--grid", "x.png"], "no array `latents`"),
        (["decode", "{dcgan}", "{none}", "--grid", "x.png"], "its array is empty"),
        (["decode", "{dcgan}", "{one}", "--grid", "x.png"], "its array is a single number"),
        (["decode", "{cgan}", "{some}", "--grid", "x.png"], "--label CLASS"),
        (["decode", "{pix2pix}", "{some}", "--grid", "x.png"], "lgen translate"),
        (["decode", "{dcgan}", "{some}", "--out", "{some}"], "cannot write"),
        (["interpolate", "{vae}", "--seed", str(2**64), "--png", "x.png"], "not in the range"),
        (["traverse", "{vae}", "--seed", str(2**64), "--png", "x.png"], "not in the range"),
        (["project", "{dcgan}", "--input", "shapes", "--seed", str(2**64), "--out", "x.npz"], "not in the range"),
        (["project", "{dcgan}", "--input", "shapes", "--lr", "nan", "--out", "x.npz"], "--lr nan"),
        (["sample", "{stylegan2}", "--truncation", "nan", "--grid", "x.png"], "--truncation nan"),
        (["interpolate", "{stylegan2}", "--truncation", "inf", "--png", "x.png"], "--truncation inf"),
        (["traverse", "{vae}", "--reach", "nan", "--png", "x.png"], "--reach nan"),
        (["edit", "{vae}", *SETS, "--amounts=0,nan", "--png", "x.png"], "--amounts 0,nan"),
        (["project", "{cgan}", "--input", "shapes", "--out", "x.npz"], "--label CLASS"),
        (["project", "{vq-vae}", "--input", "shapes", "--out", "x.npz"], "no latent space"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(
    arguments: list[str], said: str, checkpoints: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = lgen(*(word.format(**checkpoints) for word in arguments))
    assert done.exit_code == 2, done.output + repr(done.exception)
    assert said in done.output
    assert len(done.output.strip().splitlines()) <= 2
    assert not list(tmp_path.iterdir())
