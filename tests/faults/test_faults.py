"""A few seconds of the campaign; `nox -s faults` runs all of it."""

import os
from itertools import islice

import pytest

from tests.faults import kills, mutated, places
from tests.faults.campaign import Campaign
from tests.faults.trials import Answer, judge

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs fork and signals")


def test_a_part_of_the_campaign_finds_nothing():
    with Campaign(seed=1) as campaign:
        killing = [job for job in kills.jobs(1, campaign.ground, 0.2) if "crash" not in job.kind]
        hostile = [job for job in places.jobs(1, campaign.ground, 0.2) if job.kind == "hostile server"]
        campaign.do([*killing, *hostile, *mutated.jobs(1, campaign.ground, 2)])
        assert not campaign.findings, "\n".join(campaign.findings)
        counts = campaign.counts
        assert set(mutated.KINDS) | {"kill -9", "2 processes", "4 processes", "hostile server"} == set(counts)
        assert sum(found["refused"] for found in counts.values()) > 20
        assert sum(found["accepted"] for found in counts.values()) > 10
        assert f"| all | {sum(sum(found.values()) for found in counts.values())} |" in campaign.table()


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        (Answer(0, "", ""), "accepted"),
        (Answer(2, "", "WARNING: x\nerror: no\n"), "refused"),
        (Answer(2, "", "error: no\nerror: no\n"), "wrong"),
        (Answer(2, "half a table", "error: no\n"), "wrong"),
        (Answer(1, "", "error: no\n"), "wrong"),
        (Answer(1, "", "Traceback (most recent call last):\nValueError: x\n"), "traceback"),
        (Answer(-11, "", ""), "crash"),
    ],
)
def test_verdicts(answer, verdict):
    assert judge(answer)[0] == verdict


def test_verdicts_on_json():
    assert judge(Answer(0, '{"a": 1}', ""), as_json=True)[0] == "accepted"
    assert judge(Answer(0, '{"a": NaN}', ""), as_json=True)[0] == "wrong"
    assert judge(Answer(2, '{"error": "no"}', ""), as_json=True)[0] == "refused"
    assert judge(Answer(2, "{}", ""), as_json=True)[0] == "wrong"


def test_the_same_seed_gives_the_same_damage(tmp_path):
    import numpy as np

    for one, other in zip(*(islice(_damage(np.random.default_rng(5)), 50) for _ in range(2)), strict=True):
        assert one == other


def _damage(rng):
    while True:
        yield mutated.damaged(b'{"a": [1, 2, 3]}' * 20, rng)
