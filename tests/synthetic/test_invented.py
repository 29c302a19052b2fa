"""Noise of a known size, and lesions of two predictions that are counted by eye."""

import numpy as np
import pandas as pd
import pytest

from lib.synthetic.invented import add_noise, count_invented, invented_table, noise_sd


def test_the_noise_is_found_in_white_matter_also_where_neighbours_share_it():
    random, shape = np.random.default_rng(0), (40, 40, 40)
    white = np.zeros(shape, bool)
    white[4:-4, 4:-4, 4:-4] = True
    image = np.stack([0.2 * random.standard_normal(shape), random.standard_normal(shape)])
    shared = np.cumsum(image[1], 0)[1:] - np.r_[np.zeros((1, 40, 40)), np.cumsum(image[1], 0)[:-2]]
    image[1, 1:] = 0.3 * shared / np.sqrt(2)  # of two voxels along X: neighbours correlate by one half
    image += 5.0 + 0.001 * np.arange(40)  # anatomy
    image[:, ~white] = 100.0
    image[0, 20:23, 20:23, 20:23] += 9.0  # what is no noise
    np.testing.assert_allclose(noise_sd(image, white), [0.2, 0.3], rtol=0.02)
    assert np.isnan(noise_sd(image, white & False)).all()


def test_noise_has_its_size_and_leaves_air():
    image = np.ones((2, 30, 30, 30), np.float32)
    image[:, :5] = -2  # air of a network's own normalisation
    noisy = add_noise(image, image == 1, np.array([0.1, 0.4]), np.random.default_rng(0))
    assert noisy.dtype == np.float32 and (noisy[:, :5] == -2).all()
    np.testing.assert_allclose(noisy[:, 5:].std(axis=(1, 2, 3)), [0.1, 0.4], rtol=0.02)


def test_a_lesion_is_invented_if_it_has_no_voxel_in_common_with_any_of_the_other_prediction():
    first, second = np.zeros((2, 20, 20, 4), np.int32)
    first[0:2, 0, 0], first[5:8, 5, 0], first[12, 0:6, 0] = 1, 2, 3  # 2, 3 and 6 voxels
    second[1, 0, 0], second[5, 6, 0], second[12, 5:9, 0], second[18, 18, :3] = (
        1,
        2,
        3,
        4,
    )  # touches, beside, touches, alone
    found = count_invented(first, second, 2.0, [4.0, 8.0]).set_index("volume_mm3")
    assert found.to_dict("index") == {
        "all": {"predicted": 7, "invented": 3},
        "up to 4": {"predicted": 3, "invented": 1},
        "4 to 8": {"predicted": 3, "invented": 2},
        "above 8": {"predicted": 1, "invented": 0},
    }
    nothing = count_invented(0 * first, 0 * second, 2.0, [4.0]).set_index("volume_mm3")
    assert nothing.to_numpy().sum() == 0 and list(nothing.index) == ["all", "up to 4", "above 4"]


def test_rates_are_of_sums_with_intervals_over_patients():
    rows = [("a", "a1", 10, 2), ("a", "a2", 10, 4), ("b", "b1", 40, 4)]
    counts = pd.DataFrame(
        [(subject, scan, 0.1, size, *n) for size in ("all", "small") for subject, scan, *n in rows],
        columns=["subject", "scan", "flair_noise", "volume_mm3", "predicted", "invented"],
    )
    counts.loc[counts["volume_mm3"] == "small", ["predicted", "invented"]] = 0
    found = invented_table(counts, n_resamples=500, generator=np.random.default_rng(0))
    each = found[found["scan"] == "a2"].iloc[0]
    assert (each["each"], each["per_100"]) == (2, 40) and np.isnan(each["low_each"])
    total = found[(found["scan"] == "all") & (found["volume_mm3"] == "all")].iloc[0]
    assert (total["predicted"], total["invented"], total["scans"], total["patients"]) == (60, 10, 3, 2)
    assert (total["each"], total["per_100"]) == (pytest.approx(10 / 6), pytest.approx(100 / 6))
    assert (total["low_per_100"], total["high_per_100"]) == (10, 30)  # patient b alone, patient a alone
    assert (total["low_each"], total["high_each"]) == (1.5, 2)
    assert found.iloc[-1][["per_100", "low_per_100"]].isna().all() and found.iloc[-1]["each"] == 0
    assert len(invented_table(counts[:0], n_resamples=5, generator=np.random.default_rng(0))) == 0
    alone = invented_table(counts[counts["subject"] == "b"], n_resamples=5, generator=np.random.default_rng(0))
    assert alone.iloc[-2]["per_100"] == 10 and alone["low_per_100"].isna().all()
