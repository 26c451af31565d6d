"""The batcher by itself: what goes together, what is turned away, and that a bad item fails alone."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError

import numpy as np
import pytest

from visionyard.errors import DeadlineError, OverloadedError, ShapeError
from visionyard.serving.batching import BatchItem, DynamicBatcher

WAIT_S = 10.0


class Model:
    """Doubles its input; notes the batches; can be held back, so that a test decides what is queued meanwhile."""

    def __init__(self) -> None:
        self.batches: list[list[float]] = []
        self.started = threading.Semaphore(0)
        self.gate = threading.Event()
        self.gate.set()
        self.running_count = 0
        self.most_running_count = 0
        self._lock = threading.Lock()

    def __call__(self, rows: np.ndarray) -> list[np.ndarray]:
        with self._lock:
            self.batches.append(rows[:, 0].tolist())
            self.running_count += 1
            self.most_running_count = max(self.most_running_count, self.running_count)
        self.started.release()
        assert self.gate.wait(WAIT_S)
        with self._lock:
            self.running_count -= 1
        if (rows < 0).any():
            raise ValueError(f"negative: {rows.min()}")
        return [rows * 2, rows.sum(axis=1)]


def rows(*values: float) -> np.ndarray:
    return np.array([[value, 1.0] for value in values], np.float32)


@pytest.fixture
def model() -> Model:
    return Model()


@pytest.fixture
def make(model: Model) -> Callable[..., DynamicBatcher]:
    made: list[DynamicBatcher] = []

    def build(**options: float) -> DynamicBatcher:
        settings = {"instances": 1, "max_size": 4, "max_delay_s": 0.0, "queue_size": 100, **options}
        made.append(DynamicBatcher(model, name="toy", **settings))
        return made[-1]

    yield build
    model.gate.set()
    for batcher in made:
        batcher.close()


def submit(batcher: DynamicBatcher, *values: float, deadline: float | None = None) -> BatchItem:
    item = BatchItem(rows(*values), deadline)
    batcher.submit(item)
    return item


def hold(batcher: DynamicBatcher, model: Model, count: int = 1) -> list[BatchItem]:
    """Keep all inference threads busy until the gate opens."""
    model.gate.clear()
    items = []
    for number in range(count):
        items.append(submit(batcher, 100.0 + number))
        assert model.started.acquire(timeout=WAIT_S)
    return items


def test_what_queued_while_the_model_was_busy_goes_together(make: Callable, model: Model) -> None:
    batcher = make()
    (first,) = hold(batcher, model)
    others = [submit(batcher, float(value)) for value in range(6)]
    assert batcher.queued_count == 6
    model.gate.set()
    answers = [item.outputs.result(WAIT_S) for item in others]
    assert model.batches == [[100.0], [0.0, 1.0, 2.0, 3.0], [4.0, 5.0]]
    assert [answer[0].tolist() for answer in answers] == [[[2.0 * value, 2.0]] for value in range(6)]
    assert [answer[1].tolist() for answer in answers] == [[value + 1.0] for value in range(6)]
    assert first.outputs.result(WAIT_S)[0].tolist() == [[200.0, 2.0]]
    assert batcher.queued_count == 0


def test_items_of_several_rows_stay_whole(make: Callable, model: Model) -> None:
    batcher = make()
    hold(batcher, model)
    items = [submit(batcher, 1.0, 2.0, 3.0), submit(batcher, 4.0, 5.0), submit(batcher, *range(10, 16))]
    model.gate.set()
    assert [item.outputs.result(WAIT_S)[0][:, 0].tolist() for item in items] == [
        [2.0, 4.0, 6.0],
        [8.0, 10.0],
        [20.0, 22.0, 24.0, 26.0, 28.0, 30.0],
    ]
    assert model.batches[1:] == [[1.0, 2.0, 3.0], [4.0, 5.0], list(range(10, 16))]


def test_items_of_another_shape_are_not_mixed(make: Callable, model: Model) -> None:
    batcher = make()
    hold(batcher, model)
    narrow = submit(batcher, 1.0)
    wide = BatchItem(np.ones((1, 3), np.float32), None)
    batcher.submit(wide)
    model.gate.set()
    assert narrow.outputs.result(WAIT_S)[0].shape == (1, 2)
    assert wide.outputs.result(WAIT_S)[0].shape == (1, 3)


def test_a_delay_waits_for_company_only_until_the_batch_is_full(make: Callable, model: Model) -> None:
    batcher = make(max_delay_s=WAIT_S, max_size=3)
    items = [submit(batcher, float(value)) for value in range(3)]
    for item in items:
        item.outputs.result(WAIT_S / 2)
    assert model.batches == [[0.0, 1.0, 2.0]]


def test_a_delay_ends(make: Callable, model: Model) -> None:
    batcher = make(max_delay_s=0.02, max_size=3)
    timed: list[tuple[float, float]] = []
    item = BatchItem(rows(1.0), None, on_run=lambda waited_s, infer_s: timed.append((waited_s, infer_s)))
    batcher.submit(item)
    item.outputs.result(WAIT_S)
    assert model.batches == [[1.0]]
    assert timed[0][0] >= 0.02
    assert 0 <= timed[0][1] < WAIT_S


def test_instances_run_at_the_same_time(make: Callable, model: Model) -> None:
    batcher = make(instances=3)
    items = hold(batcher, model, 3)
    assert model.running_count == 3
    model.gate.set()
    for item in items:
        item.outputs.result(WAIT_S)


def test_who_submits_runs_it_where_nothing_is_in_the_way(make: Callable, model: Model) -> None:
    batcher = make()
    threads: list[int] = []
    item = BatchItem(rows(1.0), None, on_run=lambda *_: threads.append(threading.get_ident()))
    batcher.submit(item, here=True)
    assert threads == [threading.get_ident()]
    assert item.outputs.done()
    hold(batcher, model)
    item = BatchItem(rows(2.0), None, on_run=lambda *_: threads.append(threading.get_ident()))
    batcher.submit(item, here=True)
    assert not item.outputs.done(), "the only inference is taken"
    model.gate.set()
    assert item.outputs.result(WAIT_S)[0].tolist() == [[4.0, 2.0]]
    assert threads[1] != threading.get_ident()
    assert model.most_running_count == 1


def test_what_queued_while_another_thread_ran_its_own_is_taken_up(make: Callable, model: Model) -> None:
    batcher = make()
    model.gate.clear()
    other = threading.Thread(target=lambda: batcher.submit(BatchItem(rows(1.0), None), here=True))
    other.start()
    assert model.started.acquire(timeout=WAIT_S)
    item = submit(batcher, 2.0)
    time.sleep(0.05)
    assert model.most_running_count == 1
    model.gate.set()
    assert item.outputs.result(WAIT_S)[0].tolist() == [[4.0, 2.0]]
    other.join(WAIT_S)


def test_a_bad_item_fails_alone(make: Callable, model: Model) -> None:
    batcher = make()
    hold(batcher, model)
    good, bad, fine = submit(batcher, 1.0), submit(batcher, -1.0), submit(batcher, 2.0)
    model.gate.set()
    assert good.outputs.result(WAIT_S)[0].tolist() == [[2.0, 2.0]]
    assert fine.outputs.result(WAIT_S)[0].tolist() == [[4.0, 2.0]]
    with pytest.raises(ValueError, match=r"negative: -1\.0"):
        bad.outputs.result(WAIT_S)
    assert model.batches[1:] == [[1.0, -1.0, 2.0], [1.0], [-1.0], [2.0]]
    assert submit(batcher, 3.0).outputs.result(WAIT_S)[0].tolist() == [[6.0, 2.0]]


def test_an_output_with_other_rows_is_an_error() -> None:
    batcher = DynamicBatcher(lambda rows: [rows[:1]], name="toy", instances=1, max_size=4, max_delay_s=0, queue_size=9)
    item = submit(batcher, 1.0, 2.0)
    with pytest.raises(ShapeError, match=r"expected outputs of 2 rows for a batch of 2, got \(1, 2\)"):
        item.outputs.result(WAIT_S)
    batcher.close()


def test_cancelled_items_leave_the_queue_unrun(make: Callable, model: Model) -> None:
    batcher = make()
    hold(batcher, model)
    kept, dropped = submit(batcher, 1.0), submit(batcher, 2.0)
    assert dropped.outputs.cancel()
    model.gate.set()
    kept.outputs.result(WAIT_S)
    assert model.batches == [[100.0], [1.0]]
    with pytest.raises(CancelledError):
        dropped.outputs.result(WAIT_S)


def test_expired_items_leave_the_queue_unrun(make: Callable, model: Model) -> None:
    batcher = make()
    hold(batcher, model)
    expired = submit(batcher, 1.0, deadline=time.monotonic())
    in_time = submit(batcher, 2.0, deadline=time.monotonic() + WAIT_S)
    model.gate.set()
    in_time.outputs.result(WAIT_S)
    with pytest.raises(DeadlineError, match="deadline passed while the image was queued"):
        expired.outputs.result(WAIT_S)
    assert model.batches == [[100.0], [2.0]]


def test_a_batch_of_expired_items_alone_does_not_end_the_thread(make: Callable, model: Model) -> None:
    batcher = make()
    hold(batcher, model)
    expired = submit(batcher, 1.0, deadline=time.monotonic())
    model.gate.set()
    with pytest.raises(DeadlineError):
        expired.outputs.result(WAIT_S)
    assert submit(batcher, 2.0).outputs.result(WAIT_S)[0].tolist() == [[4.0, 2.0]]


def test_admission_is_all_or_nothing(make: Callable) -> None:
    batcher = make(queue_size=4)
    batcher.admit(3)
    with pytest.raises(OverloadedError, match="has 3 images in work, at most 4 are admitted") as caught:
        batcher.admit(2)
    assert 0 < caught.value.retry_after_s <= 30
    assert batcher.admitted_count == 3
    batcher.admit(1)
    batcher.release(4)
    batcher.admit(4)
    batcher.release(4)


def test_retry_after_follows_the_throughput(make: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("visionyard.serving.batching.time.monotonic", lambda: now)
    batcher = make(queue_size=40)
    for _ in range(5):
        batcher.admit(40)
        now += 4.0
        batcher.release(40)  # ten a second
    batcher.admit(40)
    with pytest.raises(OverloadedError) as caught:
        batcher.admit(20)
    assert caught.value.retry_after_s == pytest.approx(2.0)
    batcher.release(40)


def test_closing_finishes_what_was_admitted_and_refuses_the_rest(make: Callable, model: Model) -> None:
    batcher = make()
    batcher.admit(2)
    (running,) = hold(batcher, model)
    queued = submit(batcher, 1.0)
    finished: list[bool] = []
    closing = threading.Thread(target=lambda: finished.append(batcher.close()))
    closing.start()
    while not batcher.is_refusing:
        time.sleep(0.001)
    with pytest.raises(OverloadedError, match="being unloaded"):
        batcher.admit(1)
    model.gate.set()
    running.outputs.result(WAIT_S)
    queued.outputs.result(WAIT_S)
    assert closing.is_alive()
    batcher.release(2)
    closing.join(WAIT_S)
    assert finished == [True]
    with pytest.raises(OverloadedError, match="is unloaded"):
        submit(batcher, 1.0)


def test_what_is_submitted_while_closing_waits_is_run(make: Callable) -> None:
    batcher = make(instances=2)
    batcher.admit(1)
    closing = threading.Thread(target=batcher.close)
    closing.start()
    while not batcher.is_refusing:
        time.sleep(0.001)
    # The threads wait anew behind who closes: it must not take the call that is for them.
    with batcher._condition:
        batcher._condition.notify_all()
    item = submit(batcher, 1.0)
    assert item.outputs.result(WAIT_S)[0].tolist() == [[2.0, 2.0]]
    batcher.release(1)
    closing.join(WAIT_S)
    assert not closing.is_alive()


def test_closing_gives_up_after_its_time(make: Callable, model: Model) -> None:
    batcher = make()
    batcher.admit(2)
    hold(batcher, model)
    queued = submit(batcher, 1.0)
    assert not batcher.close(timeout_s=0.01), "an inference that hangs does not hold the server up"
    with pytest.raises(OverloadedError, match="unloaded before its turn"):
        queued.outputs.result(WAIT_S)
