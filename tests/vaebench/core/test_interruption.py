"""An interruption that Python drops is raised all the same."""

import os
import signal

import pytest

from vaebench.core.interruption import Interruptible


class StruckWhileDestroyed:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interruption_within_a_destructor_is_not_lost():
    before = signal.getsignal(signal.SIGINT)
    reached = []
    with pytest.raises(KeyboardInterrupt), Interruptible() as interruption:
        StruckWhileDestroyed()
        reached.append("dropped by Python")
        interruption.check()
        reached.append("dropped for good")
    assert reached == ["dropped by Python"]
    with pytest.raises(KeyboardInterrupt), Interruptible():
        StruckWhileDestroyed()
    assert signal.getsignal(signal.SIGINT) is before


def test_others_pass_through():
    with pytest.raises(KeyboardInterrupt, match="at once"), Interruptible():
        raise KeyboardInterrupt("at once")
    with Interruptible() as interruption:
        interruption.check()
