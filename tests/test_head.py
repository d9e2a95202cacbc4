"""Linear heads: the formula, the file, the change of prior, and the projection onto the agent's labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np
import numpy.typing as npt
import pytest

from agent.fusion.arrays import HeadError
from engines.head import FLOOR, Head, Projection

HEAD = Head(
    mean=np.array([1.0, 0.0]),
    scale=np.array([2.0, 1.0]),
    weight=np.array([[1.0, 0.0, -1.0], [0.0, 1.0, 0.0]]),
    bias=np.array([0.5, 0.0, 0.0]),
    temperature=2.0,
    prior=np.array([0.5, 0.3, 0.2]),
    labels=("glad", "angry", "meh"),
)
AGENT = ("neutral", "happy", "angry", "surprised")


def test_posterior_is_what_a_hand_computes() -> None:
    # x = (3, 1): standardised (1, 1); logits (1 + .5, 1, -1) / 2 = (.75, .5, -.5)
    odds = np.exp([0.75, 0.5, -0.5])
    probs = HEAD.posterior(np.array([[3.0, 1.0], [1.0, 0.0]]))
    np.testing.assert_allclose(probs[0], odds / odds.sum(), rtol=1e-12)
    np.testing.assert_allclose(probs.sum(axis=1), 1, rtol=1e-12)
    assert probs.dtype == np.float64


def test_posterior_of_huge_features_stays_finite() -> None:
    assert np.isfinite(HEAD.posterior(np.array([[1e9, -1e9]], dtype=np.float32))).all()


def test_the_file_gives_back_the_head_and_the_same_bytes(tmp_path: Path) -> None:
    HEAD.save(tmp_path / "a.npz")
    HEAD.save(tmp_path / "b.npz")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    back = Head.load(tmp_path / "a.npz")
    x = np.array([[0.3, -2.0]])
    np.testing.assert_array_equal(back.posterior(x), HEAD.posterior(x))
    assert (back.labels, back.temperature) == (HEAD.labels, HEAD.temperature)


def test_another_prior_is_bayes_rule() -> None:
    x, prior = np.array([[0.3, -2.0]]), np.array([0.2, 0.2, 0.6])
    wanted = HEAD.posterior(x) * prior / HEAD.prior
    np.testing.assert_allclose(HEAD.under(prior).posterior(x), wanted / wanted.sum(), rtol=1e-12)


def test_projection_reorders_adds_up_and_leaves_the_unknown_neutral() -> None:
    projection = Projection(("meh", "joy", "love", "angry"), AGENT, {"meh": "neutral", "joy": "happy", "love": "happy"})
    probs = projection.posterior(np.array([[0.1, 0.2, 0.3, 0.4]]))[0]
    np.testing.assert_allclose(probs, [0.1 * (1 - FLOOR), 0.5 * (1 - FLOOR), 0.4 * (1 - FLOOR), FLOOR])
    prior = projection.prior(np.array([0.25, 0.25, 0.25, 0.25]))
    assert probs[3] == prior[3], "the model says nothing for or against a label it does not know"


def test_projection_conditions_on_the_labels_the_agent_has() -> None:
    head = HEAD.onto(AGENT, {"glad": "happy"})  # "meh" is nobody's
    raw, probs = HEAD.posterior(np.array([[3.0, 1.0]]))[0], head.posterior(np.array([[3.0, 1.0]]))[0]
    assert probs.sum() == pytest.approx(1)
    assert head.prior.sum() == pytest.approx(1)
    assert probs[1] / probs[2] == pytest.approx(raw[0] / raw[1])
    assert head.prior[1] / head.prior[2] == pytest.approx(0.5 / 0.3)
    assert probs.min() > 0


def test_certain_posterior_never_vetoes() -> None:
    assert Projection(("happy", "angry"), ("happy", "angry")).posterior(np.array([[1.0, 0.0]])).min() > 0


@pytest.mark.parametrize(("mapping", "named"), [({"gald": "happy"}, "gald"), ({"glad": "hapy"}, "hapy")])
def test_mapping_of_unknown_names_is_an_error(mapping: dict[str, str], named: str) -> None:
    with pytest.raises(HeadError, match=named):
        HEAD.onto(AGENT, mapping)


def test_labels_without_overlap_are_an_error() -> None:
    with pytest.raises(HeadError, match="share none"):
        Projection(("x", "y"), AGENT)


def test_misfits_are_named(tmp_path: Path) -> None:
    with pytest.raises(HeadError, match=r"\(N, 2\).*\(1, 3\)"):
        HEAD.posterior(np.zeros((1, 3)))
    with pytest.raises(HeadError, match="bias"):
        replace(HEAD, bias=np.zeros(2))
    with pytest.raises(HeadError, match="prior"):
        replace(HEAD, prior=np.array([0.5, 0.5, 0.5]))
    for content in (b"", b"no numbers"):
        (tmp_path / "text.npz").write_bytes(content)
        with pytest.raises(HeadError, match=r"text\.npz"):
            Head.load(tmp_path / "text.npz")
    with pytest.raises(HeadError, match=r"none\.npz"):
        Head.load(tmp_path / "none.npz")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"bias": np.array(["a", "b", "c"])}, "bias must hold numbers; found <U1"),
        ({"bias": np.zeros(2)}, r"bias has the shape \(2,\); 2 features and 3 labels want \(3,\)"),
        ({"temperature": np.ones(2)}, "only .* arrays"),
    ],
)
def test_what_does_not_fit_in_a_file_is_said_with_its_name(
    tmp_path: Path, changed: dict[str, npt.NDArray[Any]], said: str
) -> None:
    arrays = {name: np.asarray(getattr(HEAD, name)) for name in Head.__slots__} | changed
    np.savez(tmp_path / "head.npz", allow_pickle=False, **arrays)
    with pytest.raises(HeadError, match=rf"head\.npz: not a head .*: ({said})"):
        Head.load(tmp_path / "head.npz")


DIRECTORY = b"PK\x01\x02"
"""Before what a zip file says at its end of each member: flags and method of compression 8 and 10 bytes behind it."""


def zipped(path: Path, members: Mapping[str, bytes]) -> bytes:
    with ZipFile(path, "w", ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path.read_bytes()


def overwritten(content: bytes, at: int, by: bytes) -> bytes:
    return content[:at] + by + content[at + len(by) :]


def test_whatever_is_damaged_in_a_file_is_said_with_its_name(tmp_path: Path) -> None:
    path = tmp_path / "head.npz"
    HEAD.save(path)
    with ZipFile(path) as file:
        members = {name: file.read(name) for name in file.namelist()}
    whole, bias = zipped(path, members), members["bias.npy"]
    np.testing.assert_array_equal(Head.load(path).bias, HEAD.bias)
    assert b"(3,)" in bias
    for content, said in (
        (zipped(path, members | {"bias.npy": b"3 numbers"}), "bias must be"),
        (zipped(path, members | {"bias.npy": bias.replace(b"(3,)", b"(3,(")}), ""),
        (overwritten(whole, whole.index(b".npy") + 4, b"\xff" * 8), "decompressing"),
        (overwritten(whole, whole.index(DIRECTORY) + 8, b"\x01"), "encrypted"),
        (overwritten(whole, whole.index(DIRECTORY) + 10, b"\x63"), "compression"),
    ):
        path.write_bytes(content)
        with pytest.raises(HeadError, match=rf"head\.npz: not a head .*{said}"):
            Head.load(path)


def test_pickled_arrays_are_refused(tmp_path: Path) -> None:
    fields = ("mean", "scale", "weight", "bias", "temperature", "prior", "labels")
    arrays = {name: np.array([{"an": "object"}], dtype=object) for name in fields}
    np.savez(tmp_path / "evil.npz", **arrays)  # type: ignore[arg-type]
    with pytest.raises(HeadError, match=r"evil\.npz"):
        Head.load(tmp_path / "evil.npz")
