"""Training time: what counts, of the wall and of the processor."""

import time

from scaled_ig.callbacks.clock import TrainingClock


def work(until: float) -> None:
    """Keep the processor busy for so many of its seconds."""
    end = time.process_time() + until
    while time.process_time() < end:
        pass


def test_the_processor_counts_work_and_no_waiting_and_a_pause_counts_nothing():
    clock = TrainingClock()
    clock.on_fit_start(None, None)
    time.sleep(0.3)
    work(0.1)
    with clock.paused():
        paused = clock.seconds, clock.processor_seconds
        work(0.1)
        assert (clock.seconds, clock.processor_seconds) == paused
    clock.on_train_end(None, None)
    assert 0.1 <= clock.processor_seconds <= clock.seconds - 0.2
    ended = clock.state_dict()
    work(0.1)
    assert clock.state_dict() == ended == {"seconds": clock.seconds, "processor_seconds": clock.processor_seconds}


def test_a_clock_goes_on_from_what_was_saved():
    clock = TrainingClock()
    clock.load_state_dict({"seconds": 10.0, "processor_seconds": 8.0})
    clock.on_fit_start(None, None)
    work(0.1)
    clock.on_train_end(None, None)
    assert clock.seconds > 10.0
    assert clock.processor_seconds >= 8.1
    clock.load_state_dict({"seconds": 10.0})  # of earlier versions
    assert clock.processor_seconds == 10.0
