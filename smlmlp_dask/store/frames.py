"""Read an output of a store frame by frame, each chunk once."""

from collections import OrderedDict
from collections.abc import Iterator
from concurrent.futures import Future
from operator import index as as_int
from threading import Lock
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from smlmlp_dask.blocks import frames_per_block
from smlmlp_dask.messages import shown
from smlmlp_dask.movies.stack import Stack

KEPT_BLOCKS = 2
"""Threads that share a reader finish a block while others have begun the next."""


def block_frames(stack: Stack) -> int:
    """Return how many frames are read at a time: whole chunks, near 16 MiB of float32."""
    _, height, width = stack.shape
    return frames_per_block(max(1, height * width), stack.unit[0])


class FrameReader:
    """Frames of a channel, read from disk in blocks; the last two blocks stay in memory.

    ``len(frames)``, ``frames.shape``, ``frames.dtype`` as of an array; ``frames[i]`` is one frame
    (y, x), ``frames[i:j]`` a stack, as new NumPy arrays. Several threads may share a reader.
    """

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._run = block_frames(stack)
        self._blocks: OrderedDict[int, Future[NDArray[Any]]] = OrderedDict()
        self._lock = Lock()
        self.shape = stack.shape
        self.dtype = stack.dtype
        self.ndim = 3

    def __reduce__(self) -> tuple[type["FrameReader"], tuple[Stack]]:
        return FrameReader, (self._stack,)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(shape={self.shape}, dtype={self.dtype.name})"

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, *_: Any, **__: Any) -> NoReturn:
        raise TypeError("a FrameReader is not read as a whole: take frames, such as frames[0:100]")

    def __iter__(self) -> Iterator[NDArray[Any]]:
        return map(self.__getitem__, range(len(self)))

    def __getitem__(self, index: Any) -> NDArray[Any]:
        if isinstance(index, slice):
            numbers = range(len(self))[index]
            stack = np.empty((len(numbers), *self.shape[1:]), self.dtype)
            for place, number in enumerate(numbers):
                stack[place] = self._frame(number)
            return stack
        try:
            number = range(len(self))[as_int(index)]
        except TypeError:
            raise TypeError(
                f"frames[{shown(index)}]: pass a number of a frame or a slice"
            ) from None
        except IndexError:
            raise IndexError(f"frames[{shown(index)}]: there are {len(self):,} frames") from None
        return self._frame(number).copy()

    def _frame(self, number: int) -> NDArray[Any]:
        block, place = divmod(number, self._run)
        with self._lock:
            pixels = self._blocks.get(block)
            mine = pixels is None
            if pixels is None:
                while len(self._blocks) >= KEPT_BLOCKS:
                    self._blocks.popitem(last=False)
                pixels = self._blocks[block] = Future()
            self._blocks.move_to_end(block)
        if mine:  # threads that want the same block wait for it; others go on
            self._read(block, pixels)
        frame: NDArray[Any] = pixels.result()[place]
        return frame

    def _read(self, block: int, pixels: Future[NDArray[Any]]) -> None:
        frames = slice(block * self._run, (block + 1) * self._run)
        try:
            pixels.set_result(self._stack.part((frames, slice(None), slice(None))).read())
        except BaseException as error:
            with self._lock:  # the next one tries again
                if self._blocks.get(block) is pixels:
                    del self._blocks[block]
            pixels.set_exception(error)
