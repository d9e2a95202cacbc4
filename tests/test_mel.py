import numpy as np
import pytest

from engines.mel import BINS, HOP, filters, log_mel
from tests.data.make_reference_whisper import tone
from tests.whisper_reference import reference


def test_the_filters_are_openais() -> None:
    np.testing.assert_allclose(filters(), reference()["filters"], atol=1e-7)


def test_the_spectrogram_is_that_of_faster_whisper() -> None:
    np.testing.assert_allclose(log_mel(tone())[:, ::7], reference()["mel"], atol=1e-5)


def test_a_frame_each_ten_milliseconds() -> None:
    assert log_mel(tone()[: 7 * HOP + 3]).shape == (BINS, 7)


def test_loudness_does_not_matter() -> None:
    np.testing.assert_allclose(np.diff(log_mel(tone())), np.diff(log_mel(tone() * np.float32(0.25))), atol=1e-4)


def test_digital_silence_is_flat() -> None:
    assert np.ptp(log_mel(np.zeros(1600, np.float32))) == 0


def test_too_short_for_its_mirror() -> None:
    with pytest.raises(ValueError, match="200 samples; needs at least 201"):
        log_mel(np.zeros(200, np.float32))
