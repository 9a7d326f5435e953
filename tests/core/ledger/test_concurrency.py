"""Many processes on one ledger, and processes that are killed."""

import os
import random
import select
import signal
import time
from pathlib import Path

import pytest

from dpfusion_core.errors import BudgetExhaustedError
from dpfusion_core.ledger import PrivacyLedger
from dpfusion_core.privacy.budget import PrivacyBudget
from tests.core.ledger.conftest import KEY
from tests.core.ledger.helpers import fork, loss, wait

PROCESSES, RESERVATIONS = 16, 1_000
TICK = 2.0**-10  # nats; a whole number of 1e-12 nats, so that sums of ticks are exact everywhere


@pytest.mark.parametrize("backend", ["sqlite", "postgresql"])
def test_sixteen_processes_charge_exactly_and_never_too_much(
    backend: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    url = request.getfixturevalue(f"{backend}_url")
    # Each unit is asked for about 2,000 times 2.5 ticks less refunds; the small ones run into their limit.
    budgets = {f"unit-{i}": PrivacyBudget(6.0 if i < 4 else 40.0) for i in range(8)}
    names = list(budgets)
    with PrivacyLedger(url, key=KEY) as ledger:
        for unit, budget in budgets.items():
            ledger.curator.open(unit, budget, order=4.0)

    def work(number: int) -> None:
        chance = random.Random(number)
        charged, refused = dict.fromkeys(names, 0), 0
        with PrivacyLedger(url, key=KEY, timeout=120.0) as ledger:
            for _ in range(RESERVATIONS):
                asked = {
                    unit: chance.randint(1, 4) for unit in chance.sample(names, chance.choice((1, 1, 2)))
                }
                try:
                    held = ledger.reserve({u: loss(n * TICK) for u, n in asked.items()}, order=4.0)
                except BudgetExhaustedError:
                    refused += 1
                    continue
                if chance.random() < 0.25:
                    asked |= {unit: chance.randint(0, n) for unit, n in asked.items()}
                    ledger.settle(held, {u: loss(n * TICK) for u, n in asked.items()})
                for unit, ticks in asked.items():
                    charged[unit] += ticks
        report = [refused, *(charged[unit] for unit in names)]
        (tmp_path / f"report-{number}").write_text(" ".join(map(str, report)))

    children = [fork(lambda number=number: work(number)) for number in range(PROCESSES)]  # type: ignore[misc]
    assert wait(*children) == [0] * PROCESSES
    reports = [
        [int(word) for word in (tmp_path / f"report-{number}").read_text().split()]
        for number in range(PROCESSES)
    ]
    refused, *sums = (sum(column) for column in zip(*reports, strict=True))
    assert refused > 0
    with PrivacyLedger(url, key=KEY) as ledger:
        for unit, ticks in zip(names, sums, strict=True):
            [balance] = ledger.account(unit).balances
            assert balance.spent == ticks * TICK
            assert balance.spent <= balance.budget
        found = ledger.curator.verify()
    assert found.problems == ()
    reservations = PROCESSES * RESERVATIONS
    assert reservations - refused <= found.entries


def test_whenever_a_process_is_killed_it_has_charged_what_it_released(sqlite_url: str) -> None:
    worst, chance = 8, random.Random(1)
    read_end, write_end = os.pipe()
    os.set_blocking(read_end, False)
    with PrivacyLedger(sqlite_url, budget=PrivacyBudget(1e5), key=KEY) as ledger:
        ledger.curator.open("a", order=4.0)

        def work() -> None:
            own = random.Random(os.getpid())
            while True:
                tokens = own.randint(1, worst)
                held = ledger.reserve({"a": loss(worst * TICK)}, order=4.0)
                for _ in range(tokens):
                    os.write(write_end, b".")  # released
                ledger.settle(held, {"a": loss(tokens * TICK)})

        released = unsettled = 0
        for number in range(200):
            child = fork(work)
            if number % 2:  # some die while they open the ledger, some when they are well under way
                assert select.select([read_end], [], [], 60.0)[0]
            time.sleep(chance.uniform(0.0, 0.03))
            os.kill(child, signal.SIGKILL)
            assert wait(child) == [-signal.SIGKILL]
            while select.select([read_end], [], [], 0)[0]:
                released += len(os.read(read_end, 65536))
            charged = ledger.account("a").balances[0].spent / TICK
            unsettled += charged > released
            assert charged >= released
        assert released >= 100  # tokens did come out
        assert unsettled > 0  # and some processes died between reserving and settling
        assert ledger.curator.verify().ok
    os.close(read_end)
    os.close(write_end)
