"""The first signal asks a run to stop, the second one ends the process, and afterwards all is as before."""

import signal
import subprocess
import sys
import threading

import pytest

from dlfn.train import signals
from dlfn.train.signals import stopping

BOTH = (signal.SIGTERM, signal.SIGINT)


@pytest.fixture(autouse=True)
def handlers():
    """A shell that runs this in its background has SIGINT ignored."""
    before = {number: signal.getsignal(number) for number in BOTH}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield {number: signal.getsignal(number) for number in BOTH}
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", BOTH)
def test_the_first_signal_is_a_request_and_the_handlers_come_back(number, handlers):
    with stopping() as stop:
        assert not stop.requested
        signal.raise_signal(number)
        assert stop.requested
        assert stop.number == number
        assert {each: signal.getsignal(each) for each in BOTH} == dict.fromkeys(BOTH, signal.SIG_DFL)
    assert {each: signal.getsignal(each) for each in BOTH} == handlers


def test_the_handlers_come_back_after_an_error(handlers):
    with pytest.raises(ZeroDivisionError), stopping():
        raise ZeroDivisionError
    assert {each: signal.getsignal(each) for each in BOTH} == handlers


@pytest.mark.parametrize("second", BOTH)
def test_the_second_signal_ends_the_process_at_once(second):
    code = f"""
import runpy, signal
stopping = runpy.run_path({signals.__file__!r})["stopping"]  # without the package, which loads JAX
with stopping() as stop:
    try:
        signal.raise_signal(signal.SIGINT)
        print(stop.number, flush=True)
        signal.raise_signal({int(second)})
    finally:
        print("not at once", flush=True)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (-second, f"{int(signal.SIGINT)}\n", "")


def test_a_signal_that_is_ignored_stays_so():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with stopping() as stop:
        signal.raise_signal(signal.SIGINT)
        assert not stop.requested
        signal.raise_signal(signal.SIGTERM)
        assert stop.requested
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_outside_of_the_main_thread_nothing_is_set(handlers):
    seen = []

    def work():
        with stopping() as stop:
            seen.append((stop.requested, {each: signal.getsignal(each) for each in BOTH}))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(False, handlers)]
