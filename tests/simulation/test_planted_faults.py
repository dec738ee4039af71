"""A fault planted in any step of a lane's opening or of a flush breaks a law within so many schedules."""

import pytest

from conclave.testing.simulation import simulate
from tests.simulation.faults import FAULTS, Fault


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_a_planted_fault_is_found(fault: Fault) -> None:
    with fault.plant():
        seeds = range(fault.first, fault.first + fault.within)
        assert any(simulate(seed, only=fault.only).violations for seed in seeds), (
            f"{fault.within} schedules broke no law"
        )
