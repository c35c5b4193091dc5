"""Learning-rate schedules against their formulas."""

import math

import pytest

from fsa_base.errors import SettingError
from t5x.optimizers import create_learning_rate_scheduler


@pytest.mark.parametrize(
    ("factors", "expected"),
    [
        ("constant", {0: 0.5, 7: 0.5}),
        ("linear_warmup", {0: 1e-8, 5: 0.5, 10: 1.0, 20: 1.0}),
        ("constant * linear_warmup", {5: 0.25, 30: 0.5}),
        ("rsqrt_decay", {0: 1 / math.sqrt(10), 10: 1 / math.sqrt(10), 40: 1 / math.sqrt(40)}),
        ("rsqrt_normalized_decay", {0: 1.0, 40: 0.5}),
        ("decay_every", {0: 1.0, 3: 1.0, 4: 0.5, 9: 0.25}),
        ("linear_decay", {5: 0.25, 10: 0.5, 11: 0.25, 13: 1e-8}),
        ("cosine_decay", {0: 1.0, 10: 1.0, 60: 0.5, 85: 0.5 * (1 + math.cos(0.75 * math.pi)), 110: 1.0}),
    ],
)
def test_factors_follow_their_formulas(factors, expected):
    learning_rate = create_learning_rate_scheduler(factors, warmup_steps=10, steps_per_decay=4, steps_per_cycle=100)
    for step, value in expected.items():
        assert float(learning_rate(step)) == pytest.approx(value, rel=1e-6), step


def test_offset_moves_the_start():
    learning_rate = create_learning_rate_scheduler("linear_warmup", warmup_steps=10, step_offset=100)
    assert [float(learning_rate(step)) for step in (0, 100, 105)] == pytest.approx([1e-8, 1e-8, 0.5])


def test_rate_never_falls_below_its_minimum():
    learning_rate = create_learning_rate_scheduler("constant", base_learning_rate=0.0, min_learning_rate=1e-3)
    assert float(learning_rate(3)) == pytest.approx(1e-3)


def test_unknown_factor_is_named():
    with pytest.raises(SettingError, match=r"found 'constnat', [^\n]*\n.*factors=\"'constant \* rsqrt_decay'\""):
        create_learning_rate_scheduler("constnat * rsqrt_decay")
