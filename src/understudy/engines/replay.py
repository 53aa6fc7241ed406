"""A small network's forward, recorded once and replayed without its modules, shared among the cores.

In a small network most of the time goes into what surrounds the arithmetic: the Python of a thousand
modules, and handing each operation out to the cores and gathering it in again. Here the operations
of one forward are kept as a flat list. What depends on a drawing's conditions alone (the keys and
values of cross attention, the ControlNet's look at the pose) is computed once a drawing, and each
core takes its own rows of the batch from the first operation to the last, without Python where
TorchScript is there: so no core waits for another at Python's lock. The numbers are those of the
forward itself. It knows nothing of pipelines or requests.
"""

from __future__ import annotations

import operator
import re
import sys
import warnings
from collections import OrderedDict
from collections.abc import Callable, Sequence
from enum import IntEnum
from functools import partial
from typing import Any, NamedTuple

import torch
from torch.overrides import TorchFunctionMode

from .cores import Cores

KEPT = 8
"""How many recordings of a network are kept, one for each shape; the least recently used goes first."""

_READS_NUMBERS = {"item", "tolist", "numpy", "__bool__", "__int__", "__float__", "__index__"}
_WRITES_IN_PLACE = re.compile(r"__setitem__|__i(add|sub|mul|truediv|floordiv|mod|pow|and|or|xor)__|.*[^_]_")
"""Names of functions that cannot be replayed; in torch a trailing underscore means "in place"."""

# Later versions of Python are not TorchScript's any more; there Python makes the calls.
_COMPILES = sys.version_info < (3, 14)

_DIVISIONS_AND_PRODUCTS = {"div", "mul"}


class _Stage(IntEnum):
    """How long a value holds: always, for one drawing, or for one step of it."""

    NETWORK = 0
    DRAWING = 1
    STEP = 2


class _Slot(NamedTuple):
    """Stands for the tensor of that number in a structure whose tensors were taken out."""

    number: int


class _Call(NamedTuple):
    """One operation: `values[result] = function(*values[arguments], **keywords)`; then `dead` is let go."""

    function: Callable[..., Any]
    arguments: tuple[int, ...]
    keywords: dict[str, int]
    result: int
    dead: tuple[int, ...] = ()


class _Recorder(TorchFunctionMode):
    """Writes down every operation on tensors while it is the mode."""

    def __init__(self, steady: Sequence[torch.Tensor], changing: Sequence[torch.Tensor]) -> None:
        super().__init__()
        self.values: list[Any] = []
        self.stages: list[_Stage] = []
        self.calls: list[_Call] = []
        # By identity; `values` and `_kept` keep every object alive, so that none takes another's place.
        self._places: dict[int, int] = {}
        self._kept: list[Any] = []
        for tensor in steady:
            self.add(tensor, _Stage.DRAWING)
        for tensor in changing:
            self.add(tensor, _Stage.STEP)

    def add(self, value: Any, stage: _Stage) -> int:
        self.values.append(value)
        self.stages.append(stage)
        self._places[id(value)] = len(self.values) - 1
        return len(self.values) - 1

    def place(self, value: Any) -> int:
        """Where a value is; what no operation has made is the network's own or a constant."""
        found = self._places.get(id(value))
        if found is not None:
            return found
        if isinstance(value, list | tuple) and any(isinstance(part, torch.Tensor) for part in value):
            gather = _gather_tuple if isinstance(value, tuple) else _gather_list
            return self.write(gather, [self.place(part) for part in value], {}, type(value)(value))
        return self.add(value, _Stage.NETWORK)

    def write(
        self, function: Callable[..., Any], arguments: list[int], keywords: dict[str, int], result: Any
    ) -> int:
        used = (*arguments, *keywords.values())
        stage = max((self.stages[place] for place in used), default=_Stage.NETWORK)
        place = self.add(result, stage)
        if stage > _Stage.NETWORK:
            self.calls.append(_Call(function, tuple(arguments), keywords, place))
        return place

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        name = getattr(function, "__name__", "")
        kwargs = kwargs or {}
        in_place = kwargs.get("inplace") or "out" in kwargs or _WRITES_IN_PLACE.fullmatch(name)
        if in_place or name in _READS_NUMBERS:
            raise ValueError(f"{name} cannot be replayed: it reads numbers or changes a tensor in place")
        result = function(*args, **kwargs)
        parts = result if isinstance(result, list | tuple) else (result,)
        if not any(isinstance(part, torch.Tensor) for part in parts) or id(result) in self._places:
            # A size or a type, the same in every replay of this shape; or nothing was done.
            return result
        if (
            name in _DIVISIONS_AND_PRODUCTS
            and not kwargs
            and not isinstance(args[1], torch.Tensor)
            and args[1] == 1
        ):
            # Numbers over 1 are themselves: diffusers' scales are that, for the most part.
            self._kept.append(result)
            self._places[id(result)] = self.place(args[0])
            return result
        place = self.write(
            function,
            [self.place(value) for value in args],
            {name: self.place(value) for name, value in kwargs.items()},
            result,
        )
        if parts is result:
            for index, part in enumerate(parts):
                self.write(operator.getitem, [place, self.place(index)], {}, part)
        return result


class Recording:
    """The operations of `forward(steady, changing)`, two lists of tensors, for one shape of them.

    Replayed with other tensors of that shape it gives the numbers that `forward` gives. `forward`
    must not look at the numbers in its tensors, change one in place or draw random ones.

    Raises:
        ValueError: it does the first or the second.
    """

    def __init__(
        self,
        forward: Callable[[Sequence[torch.Tensor], Sequence[torch.Tensor]], Any],
        steady: Sequence[torch.Tensor],
        changing: Sequence[torch.Tensor],
    ) -> None:
        recorder = _Recorder(steady, changing)
        with recorder:
            result = forward(steady, changing)
        results: list[torch.Tensor] = []
        self._structure = take_tensors(result, results)
        self._results = [recorder.place(tensor) for tensor in results]
        self._steady, self._changing = len(steady), len(changing)
        # Only what holds for the network itself is kept from this one forward.
        self._constants = [
            _detach(value) if stage == _Stage.NETWORK else None
            for value, stage in zip(recorder.values, recorder.stages, strict=True)
        ]
        by_stage = {
            wanted: [call for call in recorder.calls if recorder.stages[call.result] == wanted]
            for wanted in (_Stage.DRAWING, _Stage.STEP)
        }
        self._drawing = by_stage[_Stage.DRAWING]
        self._step = _mark_dead(by_stage[_Stage.STEP], {*self._results}, recorder.stages)
        needed = {place for call in self._step for place in (*call.arguments, *call.keywords.values())}
        self._held = [
            place for place in sorted(needed.union(self._results)) if recorder.stages[place] == _Stage.DRAWING
        ]
        held = [recorder.values[place] for place in self._held]
        takes_tensors = all(isinstance(value, torch.Tensor) for value in held)
        self._compiled = self._compile([*held, *changing]) if _COMPILES and takes_tensors else None

    def prepare(self, steady: Sequence[torch.Tensor]) -> list[Any]:
        """What can be computed once a drawing: the values that `replay` begins with."""
        values = list(self._constants)
        values[: self._steady] = steady
        _perform(self._drawing, values)
        return [values[place] for place in self._held]

    def replay(self, prepared: list[Any], changing: Sequence[torch.Tensor]) -> Any:
        """What the forward gives for `changing`, after `prepare` for the steady tensors."""
        tensors = [*prepared, *changing]
        if self._compiled is None:
            return put_tensors(self._structure, self._perform_step(*tensors))
        # Without it TorchScript would watch the first two replays, and work over the list for seconds.
        with torch.jit.optimized_execution(False):
            return put_tensors(self._structure, self._compiled(*tensors))

    def _perform_step(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        values = list(self._constants)
        for place, tensor in zip(self._held, tensors[: len(self._held)], strict=True):
            values[place] = tensor
        values[self._steady : self._steady + self._changing] = tensors[len(self._held) :]
        _perform(self._step, values)
        return tuple(values[place] for place in self._results)

    def _compile(self, tensors: Sequence[torch.Tensor]) -> Callable[..., tuple[torch.Tensor, ...]]:
        """The step as a function of TorchScript, which runs the same operations one after another."""
        with warnings.catch_warnings(), torch.no_grad():
            # The one says that TorchScript gets nothing new; the other that shapes become constants,
            # which they are: a recording is of one shape.
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.simplefilter("ignore", torch.jit.TracerWarning)
            return torch.jit.trace(
                self._perform_step, tuple(tensor.clone() for tensor in tensors), check_trace=False
            )


class ReplayedForward:
    """Takes the place of a network's `forward`; each core computes an equal share of the rows.

    Arguments by position are other ones at each step of a drawing, and so are those by keyword that
    `changing` names; all other tensors are taken for the same as long as they are the same objects.
    The first dimension of the first argument counts the rows, and every tensor that has as many is
    divided. All arguments are tensors, numbers, None, or lists, tuples and dictionaries of them.

    Under guidance a pipeline gives its ControlNet each picture twice, with the prompt and without.
    `told_apart_by` names the keyword that, besides the first argument, is all that a row's result
    comes from; then a second half of rows equal to the first is not computed.
    """

    def __init__(
        self,
        forward: Callable[..., Any],
        changing: Sequence[str],
        cores: Cores,
        told_apart_by: str | None = None,
    ) -> None:
        self._forward = forward
        self._changing = frozenset(changing)
        self._told_apart_by = told_apart_by
        self._cores = cores
        self._recordings: OrderedDict[Any, Recording] = OrderedDict()
        self._steady: list[torch.Tensor] = []
        self._prepared: tuple[Recording, list[list[Any]]] | None = None

    def forget(self) -> None:
        """Drop what was recorded: the network itself has changed."""
        self._recordings.clear()
        self._prepared = None

    def __call__(self, *positional: Any, **keywords: Any) -> Any:
        """What the network's own forward gives."""
        steady: list[torch.Tensor] = []
        changing: list[torch.Tensor] = []
        moving = {name: value for name, value in keywords.items() if name in self._changing}
        still = {name: value for name, value in keywords.items() if name not in self._changing}
        changing_structure = take_tensors((positional, moving), changing)
        steady_structure = take_tensors(still, steady)
        given = changing[0].shape[0]
        rows = given // 2 if self._is_given_twice(changing[0], keywords) else given
        shares = max(count for count in range(1, min(rows, self._cores.count) + 1) if rows % count == 0)

        def divide(tensor: torch.Tensor) -> Sequence[torch.Tensor]:
            if tensor.dim() and tensor.shape[0] == given:
                return tensor[:rows].tensor_split(shares)
            return [tensor] * shares

        divided = [divide(tensor) for tensor in changing]

        def forward(steady: Sequence[torch.Tensor], changing: Sequence[torch.Tensor]) -> Any:
            positional, moving = put_tensors(changing_structure, changing)
            return self._forward(*positional, **moving, **put_tensors(steady_structure, steady))

        same = len(steady) == len(self._steady) and all(map(operator.is_, steady, self._steady))
        shapes = tuple((tensor.shape, tensor.dtype) for tensor in (*steady, *changing))
        key = (changing_structure, steady_structure, shapes, rows)
        recording = self._recordings.get(key)
        if recording is None:
            first = [divide(tensor)[0] for tensor in steady]
            recording = Recording(forward, first, [shared[0] for shared in divided])
            self._recordings[key] = recording
            if len(self._recordings) > KEPT:
                self._recordings.popitem(last=False)
        self._recordings.move_to_end(key)
        if not same or self._prepared is None or self._prepared[0] is not recording:
            shared_steady = [divide(tensor) for tensor in steady]
            prepared = self._cores.do(
                [partial(recording.prepare, [one[share] for one in shared_steady]) for share in range(shares)]
            )
            self._prepared = (recording, prepared)
            self._steady = steady
        results = self._cores.do(
            [
                partial(recording.replay, one, [tensors[share] for tensors in divided])
                for share, one in enumerate(self._prepared[1])
            ]
        )
        return results[0] if shares == 1 and rows == given else _join(results * (given // rows))

    def _is_given_twice(self, sample: torch.Tensor, keywords: dict[str, Any]) -> bool:
        if self._told_apart_by is None or sample.shape[0] % 2:
            return False
        halves = (both.tensor_split(2) for both in (sample, keywords[self._told_apart_by]))
        return all(torch.equal(first, second) for first, second in halves)


def take_tensors(structure: Any, tensors: list[torch.Tensor]) -> Any:
    """A structure as nested tuples that can be compared; its tensors are appended to `tensors`."""
    if isinstance(structure, torch.Tensor):
        tensors.append(structure)
        return _Slot(len(tensors) - 1)
    if isinstance(structure, dict):
        return dict, tuple((name, take_tensors(part, tensors)) for name, part in structure.items())
    if isinstance(structure, list | tuple):
        return type(structure), tuple(take_tensors(part, tensors) for part in structure)
    return None, structure


def put_tensors(structure: Any, tensors: Sequence[torch.Tensor]) -> Any:
    """The opposite of `take_tensors`."""
    if isinstance(structure, _Slot):
        return tensors[structure.number]
    kind, parts = structure
    if kind is None:
        return parts
    if kind is dict:
        return {name: put_tensors(part, tensors) for name, part in parts}
    return kind(put_tensors(part, tensors) for part in parts)


def _join(results: Sequence[Any]) -> Any:
    """Structures of the same form, their tensors put together along the rows."""
    taken: list[list[torch.Tensor]] = [[] for _ in results]
    structure, *_ = [take_tensors(result, tensors) for result, tensors in zip(results, taken, strict=True)]
    return put_tensors(structure, [torch.cat(parts) for parts in zip(*taken, strict=True)])


def _detach(value: Any) -> Any:
    """A weight without its gradient, which nothing that is replayed needs."""
    return value.detach() if isinstance(value, torch.Tensor) else value


def _mark_dead(calls: Sequence[_Call], wanted: set[int], stages: Sequence[_Stage]) -> list[_Call]:
    """The same calls; each lets go of what no later one needs, so that its memory is used again."""
    marked: list[_Call] = []
    needed = set(wanted)
    for call in reversed(calls):
        used = {*call.arguments, *call.keywords.values(), call.result}
        dead = tuple(place for place in used - needed if stages[place] == _Stage.STEP)
        needed |= used
        marked.append(call._replace(dead=dead))
    return marked[::-1]


def _perform(calls: Sequence[_Call], values: list[Any]) -> None:
    for function, arguments, keywords, result, dead in calls:
        given = [values[place] for place in arguments]
        if keywords:
            values[result] = function(*given, **{name: values[place] for name, place in keywords.items()})
        else:
            values[result] = function(*given)
        for place in dead:
            values[place] = None


def _gather_list(*parts: Any) -> list[Any]:
    return list(parts)


def _gather_tuple(*parts: Any) -> tuple[Any, ...]:
    return parts
