"""The model keeps the contract and learns a person; a person is written, read, and moved by landmarks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from lgen_reenact import cli, reader, scores
from lgen_reenact.film import Procedural
from lgen_reenact.networks import AdaIN, Discriminator, Embedder, pooled
from lgen_reenact.person import Person, met, tune
from lgen_reenact.reenact import Reenact
from PIL import Image

from lightning_gen.errors import UserError
from lightning_gen.testing import check_model

SMALL = {**Reenact.presets["quick"], **Reenact.checked}
MILLIONS = {"embedder": 15, "generator": 38, "discriminator": 20}
"""What section 4 of the paper gives, as far as we remember it; the generator's with the projection of embeddings, the
discriminator's without W."""


def small(seed: int = 0) -> Reenact:
    torch.manual_seed(seed)
    return Reenact(**SMALL)


def test_the_model_keeps_the_contract() -> None:
    check_model("reenact")


def test_adaptive_norm_takes_mean_and_deviation_from_the_person() -> None:
    norm, styles = AdaIN(3, start=2), torch.randn(2, 8)
    out = norm(5 * torch.randn(2, 3, 16, 16) + 2, styles)
    assert out.mean((2, 3)) == pytest.approx(styles[:, 5:8], abs=1e-5)
    assert out.std((2, 3), correction=0) == pytest.approx((1 + styles[:, 2:5]).abs(), abs=1e-3)


def test_a_person_is_the_mean_of_its_frames() -> None:
    torch.manual_seed(0)
    embedder = Embedder(32, 4, 3).eval()
    shots = torch.randn(2, 3, 6, 32, 32)
    with torch.no_grad():
        each = torch.stack([embedder(shots[:, i : i + 1]) for i in range(3)], dim=1)
        assert embedder(shots).allclose(each.mean(1), atol=1e-5)


def test_realism_is_the_projection_of_equation_5() -> None:
    torch.manual_seed(0)
    critic = Discriminator(32, 4, 3, videos=2).eval()
    with torch.no_grad():
        critic.any_video.normal_()
        critic.bias.fill_(0.7)
        seen, person = torch.randn(2, 6, 32, 32), torch.randn(2, critic.any_video.shape[0])
        said, maps = critic(seen, person)
        wanted = [pooled(maps[-1])[i] @ (person[i] + critic.any_video) + 0.7 for i in range(2)]
    assert said == pytest.approx(torch.stack(wanted), abs=1e-5)


def test_tuning_brings_the_frames_nearer_and_leaves_the_model_as_it_was() -> None:
    model = small()
    before = {name: value.clone() for name, value in model.state_dict().items() if isinstance(value, torch.Tensor)}
    shots = Procedural(32, "test", 1, 2).some(0, [0, 1])
    apart = [
        (tune(model, shots, steps).draw(shots[:, 3:]).float() - shots[:, :3]).abs().mean().item() for steps in (0, 30)
    ]
    assert apart[1] < 0.8 * apart[0]
    assert all(model.state_dict()[name].equal(value) for name, value in before.items())
    assert all(p.grad is None for p in model.parameters())


def test_a_person_met_is_what_the_model_samples() -> None:
    model = small()
    shots = Procedural(32, "test", 1, 3).some(0, [0, 1, 2])
    asked = {"landmarks": shots[2:, 3:], "shots": shots[None, :2]}
    person, _ = met(model, shots[:2])
    with torch.no_grad():
        alone = person.eval()(asked["landmarks"].float() / 127.5 - 1)
    assert model.sample(1, condition=asked).allclose(alone, atol=1e-5)


def test_a_person_that_is_saved_draws_the_same(tmp_path: Path) -> None:
    person, _ = met(small(), Procedural(32, "test", 1, 1).some(0, [0]))
    person.save(tmp_path / "new" / "person.safetensors")
    sketches = Procedural(32, "test", 2, 2).some(1, [0, 1])[:, 3:]
    assert Person.load(str(tmp_path / "new" / "person.safetensors")).draw(sketches).equal(person.draw(sketches))


def test_a_file_that_is_no_person_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    other.write_bytes(b"no weights")
    with pytest.raises(UserError, match="is no person"):
        Person.load(str(other))
    with pytest.raises(UserError, match="there is no file"):
        Person.load(str(tmp_path / "none.safetensors"))


def test_the_reader_finds_landmarks_and_people_in_true_frames() -> None:
    found = scores.score(small(), [1], persons=8, steps=0, rate=1.0)
    truth, copied, drawn = found.rows
    assert truth.landmarks < 0.5
    assert truth.identity > 0.95
    assert copied.identity > 0.95, "a copied frame shows the right person"
    assert copied.landmarks > 3 * truth.landmarks, "in another pose"
    assert drawn.landmarks > 2 * truth.landmarks, "an untrained model draws nobody"


def test_the_reader_is_the_size_that_it_should_be() -> None:
    assert sum(p.numel() for p in reader.load().parameters()) < 400_000


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli.main, list(arguments))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> str:
    from lightning_gen.cli import main

    out = str(tmp_path_factory.mktemp("runs") / "run")
    asked = ["--model.width", "4", "--model.blocks", "1", "--data.persons", "4", "--kimg", "0.05"]
    asked += ["--metrics.every_kimg", "0", "--samples.count", "4", "--logger", "none"]
    done = CliRunner().invoke(main, ["fit", "--model", "reenact", "--preset", "quick", *asked, "--out", out])
    assert done.exit_code == 0, done.output
    assert list(Path(out, "samples").glob("*.png"))
    return out


def test_tune_drive_and_score_from_the_command_line(trained: str, tmp_path: Path) -> None:
    people, person = str(tmp_path / "people"), str(tmp_path / "someone.safetensors")
    assert run("faces", "--out", people, "--persons", "2", "--frames", "3").exit_code == 0
    assert run("tune", trained, f"{people}/person-1", "--shots", "2", "--steps", "2", "--out", person).exit_code == 0
    assert run("drive", person, f"{people}/person-0", "--out", str(tmp_path / "a.gif")).exit_code == 0
    with Image.open(tmp_path / "a.gif") as film:
        assert getattr(film, "n_frames", 1) > 1
    assert run("drive", person, "5", "--out", str(tmp_path / "a.png")).exit_code == 0
    with Image.open(tmp_path / "a.png") as sheet:
        assert sheet.height >= 128
    told = run("score", trained, "--shots", "1", "--persons", "2", "--steps", "1", "--json")
    assert [row["name"] for row in json.loads(told.output)] == [
        "the true frame",
        "1-shot, nearest frame copied",
        "1-shot, before tuning",
        "1-shot, tuned",
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["tune", "RUN", "3", "--shots", "17", "--out", "x"], "--shots 17: 3 has 16 frames"),
        (["tune", "RUN", "nowhere", "--out", "x"], "nowhere"),
        (["score", "RUN", "--shots", "1,9"], "--shots 1,9: 1 to 8"),
        (["score", "RUN", "--shots", "few"], "--shots few"),
        (["drive", "nobody.safetensors", "1", "--out", "x.gif"], "there is no file nobody.safetensors"),
        (["faces", "--out", "."], "is there already"),
    ],
)
def test_mistakes_get_one_line_and_exit_code_2(trained: str, arguments: list[str], said: str) -> None:
    done = run(*[trained if word == "RUN" else word for word in arguments])
    assert done.exit_code == 2
    assert said in done.output
    assert len(done.output.strip().splitlines()) <= 2


def test_the_paper_preset_has_the_sizes_that_the_paper_states() -> None:
    with torch.device("meta"):
        model = Reenact(**Reenact.presets["paper"])
    counts = {name: sum(p.numel() for p in network.parameters()) for name, network in model.named_children()}
    counts["generator"] += counts.pop("projection")
    counts["discriminator"] -= model.discriminator.videos.weight.numel()
    assert counts == {"embedder": 14_906_945, "generator": 37_952_261, "discriminator": 19_627_074}
    assert {name: round(count / 1e6) for name, count in counts.items()} == MILLIONS
