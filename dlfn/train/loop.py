"""The loop of a run: dispatches of several steps, and between them evaluations, checkpoints and records."""

import json
import math
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dlfn import nn
from dlfn.core import InputError
from dlfn.train.checkpoints import Checkpoints
from dlfn.train.data import Dataset
from dlfn.train.diagnosis import TrainingError, compare_gradients, explanation, first_bad_step
from dlfn.train.evaluation import Evaluation
from dlfn.train.explaining import explained
from dlfn.train.foreign import foreign
from dlfn.train.placement import Placement
from dlfn.train.plan import Plan
from dlfn.train.programs import Programs
from dlfn.train.progress import progress, results
from dlfn.train.recording import Recorder, matmul_peak, shown
from dlfn.train.run import RunFolder
from dlfn.train.signals import stopping
from dlfn.train.step import Carry, Learner, Metrics, make_dispatch
from dlfn.train.tasks import not_finite
from dlfn.weights.paths import by_path

__all__ = ["Loop", "Standing"]


@dataclass
class Standing:
    """How a run stands after some step, as its checkpoints keep it beside the arrays.

    Attributes:
        metrics: of the last evaluation, or of the last training steps where there is none.
        best: the lowest loss on the test data, and ``waited``, how many evaluations ago that was.
        stopped: why the run ended before its last step; None if it did not.
        position: of the data, if they are a stream.
    """

    step: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    best: float | None = None
    waited: int = 0
    stopped: str | None = None
    position: dict[str, Any] | None = None


class Loop:
    """A run of a learner on data, by a plan; :func:`dlfn.train.fit` says what the arguments are."""

    def __init__(
        self,
        learner: Learner,
        data: Dataset,
        plan: Plan,
        placement: Placement,
        seed: int,
        given: tuple[Any, Any] | None,
        params_dtype: Any,
        learning_rate: Callable[[int], Any] | None,
        quiet: bool,
    ):
        self.learner, self.data, self.plan, self.placement, self.seed = learner, data, plan, placement, seed
        self.profile: str | Path | None = None
        self.given, self.params_dtype, self.learning_rate, self.quiet = given, params_dtype, learning_rate, quiet
        if plan.batch_size % (plan.accumulate * placement.parts):
            raise InputError(
                f"train.batch_size = {plan.batch_size}: must be a multiple of {plan.accumulate * placement.parts}, "
                f"which is train.accumulate = {plan.accumulate} times the {placement.parts} devices that share a batch"
            )
        # On every device, as a restored one is.
        keys = jax.jit(lambda seed: tuple(jax.random.split(jax.random.key(seed))), out_shardings=placement.whole)
        self.init_key, self.key = keys(np.uint32(seed))
        self._first = first = self._draw(0, 1)  # refuses a batch that is larger than the data
        self.resident = placement.put(data.train.resident())
        self.batch = jax.eval_shape(data.train.take, self.resident, jax.tree.map(lambda a: a[0], first))
        self.inputs = jax.eval_shape(learner.task.inputs, self.batch)
        if plan.patience and data.test is None:
            raise InputError(
                f"train.patience = {plan.patience}: there is no test part, whose loss it is about; give one, for "
                "example by data.test_fraction = 0.1, or set it to 0"
            )
        self.evaluation = data.test and Evaluation(learner, data.test, plan.eval_batch, plan.eval_batches, placement)

    def say(self, text: Any) -> None:
        if not self.quiet:
            print(text, flush=True)

    def begin(self) -> Carry:
        """The first carry, each parameter and its moments where they belong.

        Raises:
            InputError: where model, task and data do not fit.
        """

        def init(key: jax.Array, given: Any) -> Any:
            zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), self.inputs)
            params, state = given or self.learner.model.init(key, zeros)
            if self.params_dtype is not None:
                cast = lambda a: a.astype(self.params_dtype) if jnp.issubdtype(a.dtype, jnp.floating) else a  # noqa: E731
                params, state = jax.tree.map(cast, (params, state))
            return params, state

        with foreign("the model's init fails"):
            shapes, state_shapes = jax.eval_shape(init, self.init_key, self.given)
        self._require_fit(shapes, state_shapes)
        places = self.placement.by_rules(shapes), self.placement.everywhere(state_shapes)
        params, state = jax.jit(init, out_shardings=places)(self.init_key, self.given)
        moments = self.placement.by_rules(jax.eval_shape(self.learner.optimizer.init, shapes))
        carried = Carry(*places, moments, places[0] if self.learner.ema else (), self.placement.whole)
        carry = jax.jit(self.learner.start, out_shardings=carried)(params, state)
        self._dispatch = make_dispatch(self.learner, self.data.train, carried)
        with foreign("a step fails"):
            self._dispatch.trace(*self._arguments(carry, *self.plan.chunks(0)[0]))  # which is not traced once more
        return carry

    def _require_fit(self, params: Any, state: Any) -> None:
        """Refuses a model, a task and data that are not for each other, as far as shapes and the first batch tell."""
        learner = self.learner
        with foreign("the model fails"):
            self.outputs = learner.outputs(params, state, self.batch)
        learner.task.require_fit(self._batch_of(0), self.outputs)
        if self.evaluation is not None:
            with foreign("the model fails on the test data"):
                self.evaluation.require_fit(params, state)

    def run(
        self,
        carry: Carry,
        standing: Standing | None = None,
        folder: RunFolder | None = None,
        checkpoints: Checkpoints | None = None,
    ) -> tuple[Carry, Standing]:
        """Takes the steps that are left, and returns where that leads.

        Raises:
            TrainingError: see :func:`dlfn.train.fit`.
        """
        plan, standing = self.plan, standing or Standing()
        start = standing.step
        if plan.compare and start == 0:
            self.compare(carry)
        paths = list(by_path(carry.params))
        recorder = Recorder(plan, paths, *self.learner.task.unit(self.batch), self._utilisation(), self.learning_rate)
        programs = Programs(self._dispatch, recorder, self.say)
        in_flight: list[tuple[int, Metrics]] = []
        chunks = [] if standing.stopped else plan.chunks(start)
        with progress(plan.steps, start, self.quiet) as bar, stopping() as stop:

            def record(step: int, metrics: Mapping[str, float]) -> None:
                if folder is not None:
                    folder.log(step, metrics)
                bar.report(step, shown(metrics))

            drawn = self._put(*chunks[0]) if chunks else None
            recorder.resume_clock()
            for index, (first, step) in enumerate(chunks):
                profiled = self.profile is not None and index == min(1, len(chunks) - 1)
                if profiled:
                    jax.profiler.start_trace(str(self.profile))
                # Cast before the dispatch, so that it is counted by the time that the dispatch before has ended.
                vote = self.placement.largest(stop.number) if jax.process_count() > 1 else None
                carry, metrics = programs(step - first, carry, self.resident, self.key, np.int32(first), drawn)
                if profiled:
                    jax.block_until_ready(metrics)
                    jax.profiler.stop_trace()
                in_flight.append((first, metrics))
                standing.step, standing.position = step, self.data.train.position()
                if index + 1 < len(chunks):  # while the device computes
                    drawn = self._put(*chunks[index + 1])
                evaluates = self.evaluation is not None and plan.is_due(plan.eval_every, step)
                saves = checkpoints is not None and plan.is_due(plan.save_every, step)
                # Whether to stop is looked at once, so that what is saved has been waited for; of several processes all
                # stop after the same step, whichever of them is asked to.
                asked = stop.number if vote is None else int(vote)
                # The metrics of a dispatch are waited for while the next one runs, unless something else is due.
                explains = folder is not None and plan.explain_every and step % plan.explain_every == 0
                wait = evaluates or saves or asked or explains or step == plan.steps
                for begin, metrics in in_flight[: None if wait else -1]:
                    metrics = jax.device_get(metrics)
                    self._require_finite(begin, metrics, paths, carry)
                    for at, measured in recorder.add(begin, metrics):
                        record(at, measured)
                        if self.evaluation is None:
                            standing.metrics = {name: v for name, v in measured.items() if name.startswith("train/")}
                    bar.advance(begin + len(metrics.loss))
                del in_flight[: None if wait else -1]
                recorder.stop_clock()
                if evaluates:
                    self._evaluate(carry, standing)
                    record(step, standing.metrics)
                if explains and folder is not None:
                    self._explain(carry, step, folder)
                if asked and standing.stopped is None:
                    standing.stopped = signal.Signals(asked).name
                if checkpoints is not None and (saves or standing.stopped):
                    score = standing.metrics["test/loss"] if evaluates else None
                    checkpoints.save(step, {"carry": carry, "key": self.key}, asdict(standing), score)
                recorder.resume_clock()
                if standing.stopped:
                    break
            recorder.stop_clock()
        rate = (standing.step - start) / recorder.total if recorder.total else math.nan
        self.say(f"trained to step {standing.step} in {recorder.total:.2f} s")
        self.say(results({**standing.metrics, "steps/s": rate}))
        if plan.compare and not standing.stopped:
            self.compare(carry)
        return carry, standing

    def try_out(self) -> tuple[int, float, float]:
        """Compiles a dispatch of one step and runs it: the bytes that it takes on a device, the loss, and the seconds
        of compilation."""
        arguments = self._arguments(self.begin(), 0, 1)
        started = time.perf_counter()
        program = self._dispatch.lower(*arguments).compile()
        seconds, memory = time.perf_counter() - started, program.memory_analysis()
        taken = memory.argument_size_in_bytes + memory.temp_size_in_bytes
        return taken, float(program(*arguments)[1].loss[0]), seconds

    def known(self) -> str:
        """What a model is made from beside the configuration: what is known of the data, as far as JSON can hold it,
        and shapes."""
        info = {name: value for name, value in self.data.info.items() if _is_json(value)}
        return json.dumps({"info": info, "inputs": jax.tree.map(lambda s: [s.shape, s.dtype.name], self.inputs)})

    def compare(self, carry: Carry) -> None:
        """Prints the comparison of the three gradients, and raises where they disagree."""
        self.say(compare_gradients(self.learner, carry, self._batch_of(0), self.key))

    def _explain(self, carry: Carry, step: int, folder: RunFolder) -> None:
        """Writes the page about the step that comes next, on the first batch."""
        params, state = self.placement.fetch((carry.params, carry.state))
        if jax.process_index() == 0:
            key = jax.random.fold_in(self.key, step)
            found = explained(self.learner, params, state, self._batch_of(0), key, f"step {step}")
            found.to_html(folder.page_about(step))

    def params(self, carry: Carry) -> Any:
        """Those that are evaluated: the moving average, if there is one."""
        return carry.average if self.learner.ema else carry.params

    def _evaluate(self, carry: Carry, standing: Standing) -> None:
        assert self.evaluation is not None
        measured = self.evaluation(self.params(carry), carry.state)
        standing.metrics = {f"test/{name}": value for name, value in measured.items()}
        if measured["loss"] < (math.inf if standing.best is None else standing.best):  # nan is not
            standing.best, standing.waited = measured["loss"], 0
        else:
            standing.waited += 1
        if self.plan.patience and standing.waited >= self.plan.patience:
            standing.stopped = "patience"

    def _draw(self, start: int, stop: int) -> Any:
        """What the steps draw; with ``overfit`` that of the first few, again and again."""
        source, cycle, size = self.data.train, self.plan.overfit, self.plan.batch_size
        if not cycle:
            return source.draw(self.seed, start, stop, size)
        drawn = source.draw(self.seed, 0, cycle, size)
        return jax.tree.map(lambda a: a[np.arange(start, stop) % cycle], drawn)

    def _arguments(self, carry: Carry, start: int, stop: int) -> tuple[Any, ...]:
        """Of a dispatch of these steps."""
        return carry, self.resident, self.key, np.int32(start), self._put(start, stop)

    def _put(self, start: int, stop: int) -> Any:
        return self.placement.put(self._draw(start, stop), axis=1)

    def first_batch(self) -> Any:
        """That of the first step."""
        return self._batch_of(0)

    def _batch_of(self, step: int) -> Any:
        # The first one is kept, as a stream has it once.
        drawn = self._draw(step, step + 1) if step else self._first
        return self.data.train.take(self.resident, jax.tree.map(lambda a: a[0], self.placement.put(drawn, axis=1)))

    def _utilisation(self) -> float | None:
        """The share of what the devices can do that one step per second takes, by the layers' own counts: the backward
        pass takes twice the forward pass."""
        if self.quiet or not isinstance(self.learner.model, nn.Layer):
            return None
        peak = matmul_peak(self.learner.compute or jnp.float32, self.placement.mesh.size)
        return 3 * nn.count_flops(self.learner.model, self.inputs) / peak

    def _require_finite(self, start: int, metrics: Metrics, paths: list[str], carry: Carry) -> None:
        """Raises at the first step whose loss or gradient is not finite; the carry is what it began with."""
        if bad := first_bad_step(start, metrics, paths):
            step, message = bad
            if self.data.train.position() is None:  # a stream has gone on
                key, batch = jax.random.fold_in(self.key, step), self._batch_of(step)
                try:
                    self.learner.task.require_fit(batch, self.outputs)
                except InputError as error:
                    raise InputError(f"step {step + 1}: {error}") from None
                # Which may be meant, as where a model leaves out what is missing, and is said only where a step fails.
                if (found := not_finite(self.learner.task.inputs(batch))) is not None:
                    message += f"; an input of the data is {found}"
                message += f"\n{explanation(self.learner, carry, batch, key)}"
            raise TrainingError(message)


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return True
