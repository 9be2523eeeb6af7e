"""A stand-in for CuPy on machines without a device. No GPU code runs here.

`installed` puts modules `cupy` and `cupyx.scipy.ndimage` in the place of the real ones, so that
the package, Dask and dask-image run their own code for CuPy unmodified. The arrays are as strict
as CuPy's: no implicit conversion to NumPy, no NumPy operands, no dtypes that devices do not have.
Every transfer, stream and byte of "device" memory is on record.
"""

import sys
import threading
import weakref
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace

import dask.array.backends
import dask.array.chunk_types
import dask.array.dispatch
import numpy as np
import scipy.ndimage
from dask.utils import Dispatch
from dask_image.dispatch import _dispatch_ndfilters

DTYPES = "?bhilqBHILQefdFD"


@dataclass
class Device:
    """What happened on the make-believe device."""

    up: list = field(default_factory=list)  #: (shape, dtype) of each transfer to it
    down: list = field(default_factory=list)  #: (shape, dtype) of each transfer from it
    streams: set = field(default_factory=set)  #: streams on which something was done
    live_bytes: int = 0
    peak_bytes: int = 0
    memory_bytes: int = 2**40
    lock: threading.RLock = field(default_factory=threading.RLock)
    here: threading.local = field(default_factory=threading.local)
    epoch: object = field(default_factory=object)  #: arrays of an earlier test may end late

    @property
    def frames_up(self):
        """Transfers of frames; kernels are 3-D as well, and (1, n, 1) or (1, 1, n)."""
        return [(shape, dtype) for shape, dtype in self.up if not is_kernel(shape)]

    def allocate(self, array):
        nbytes = array.nbytes
        with self.lock:
            if self.live_bytes + nbytes > self.memory_bytes:
                raise OutOfMemoryError(f"Out of memory allocating {nbytes:,} bytes")
            self.live_bytes += nbytes
            self.peak_bytes = max(self.peak_bytes, self.live_bytes)
            return self.epoch

    def free(self, nbytes, epoch):
        with self.lock:
            if epoch is self.epoch:
                self.live_bytes -= nbytes

    def work(self, waits=False):
        """Note that the current thread's stream did something."""
        stack = getattr(self.here, "streams", [])
        stream = stack[-1] if stack else None
        if stream is None:
            return
        with self.lock:
            self.streams.add(stream.number)
            assert stream.thread == threading.get_ident(), "two threads work on one stream"
            stream.pending = not waits


def is_kernel(shape):
    return len(shape) == 3 and shape[0] == 1 and (shape[1] == 1) != (shape[2] == 1)


DEVICE = Device()


class OutOfMemoryError(MemoryError):
    pass


class Stream:
    made = 0

    def __init__(self, null=False, non_blocking=False, ptds=False, priority=None):
        assert not non_blocking, "would not wait for the default stream"
        assert not ptds, "the memory pool would keep what each thread has freed"
        Stream.made += 1
        self.number = Stream.made
        self.device = current_device()
        self.pending = False
        self.thread = None

    def __enter__(self):
        assert self.device == current_device(), "a stream works on the device it was made on"
        assert self.thread is None, "a stream is used by one block at a time"
        self.thread = threading.get_ident()
        DEVICE.here.streams = [*getattr(DEVICE.here, "streams", []), self]
        return self

    def __exit__(self, *args):
        assert not self.pending, "left before its work had ended"
        assert DEVICE.here.streams.pop() is self
        self.thread = None

    def synchronize(self):
        self.pending = False


def current_device():
    return (getattr(DEVICE.here, "devices", None) or [0])[-1]


class CurrentDevice:
    """One of two devices, without access to each other's memory."""

    def __init__(self, device=None):
        self.id = current_device() if device is None else int(device)

    def __enter__(self):
        DEVICE.here.devices = [*getattr(DEVICE.here, "devices", []), self.id]
        return self

    def __exit__(self, *args):
        DEVICE.here.devices.pop()

    def synchronize(self):
        pass


class ndarray:
    """A NumPy array that only the functions of this module may touch."""

    __module__ = "cupy"

    def __init__(self, hidden, owns=True):
        assert type(hidden) is np.ndarray
        assert hidden.dtype.isnative
        self._hidden = hidden
        self._device = current_device()
        DEVICE.work()
        if owns:
            weakref.finalize(self, DEVICE.free, hidden.nbytes, DEVICE.allocate(hidden))
        self._base = None

    dtype = property(lambda self: self._hidden.dtype)
    shape = property(lambda self: self._hidden.shape)
    ndim = property(lambda self: self._hidden.ndim)
    size = property(lambda self: self._hidden.size)
    nbytes = property(lambda self: self._hidden.nbytes)
    itemsize = property(lambda self: self._hidden.itemsize)
    strides = property(lambda self: self._hidden.strides)
    device = property(lambda self: CurrentDevice(self._device))
    __cuda_array_interface__ = property(lambda self: {"version": 3})

    def __len__(self):
        return len(self._hidden)

    def __array__(self, *args, **kwargs):
        raise TypeError("Implicit conversion to a NumPy array is not allowed: use `.get()`")

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        assert method == "__call__"
        assert not kwargs
        return ndarray(ufunc(*map(_bare, inputs)))

    def __array_function__(self, function, types, args, kwargs):
        if not hasattr(CUPY, function.__name__) or not all(issubclass(t, ndarray) for t in types):
            return NotImplemented
        return getattr(CUPY, function.__name__)(*args, **kwargs)

    def __getitem__(self, index):
        view = ndarray(np.asarray(self._hidden[index]), owns=False)
        view._base, view._device = self, self._device
        return view

    def __setitem__(self, index, value):
        DEVICE.work()
        self._hidden[index] = _bare(value)

    def __sub__(self, other):
        return ndarray(np.asarray(self._hidden - _bare(other)))

    def __add__(self, other):
        return ndarray(np.asarray(self._hidden + _bare(other)))

    def __mul__(self, other):
        return ndarray(np.asarray(self._hidden * _bare(other)))

    def __gt__(self, other):
        return ndarray(np.asarray(self._hidden > _bare(other)))

    def astype(self, dtype, order="K", casting=None, subok=None, copy=True):
        if not copy and self.dtype == dtype:
            return self
        return ndarray(self._hidden.astype(dtype))

    def copy(self, order="C"):
        return ndarray(self._hidden.copy())

    def reshape(self, *shape):
        view = ndarray(self._hidden.reshape(*shape), owns=False)
        view._base = self
        return view

    def get(self, stream=None, order="C", out=None, blocking=True):
        if self.size:  # else nothing travels
            with DEVICE.lock:
                DEVICE.down.append((self.shape, self.dtype))
        DEVICE.work(waits=blocking)
        return np.array(self._hidden, order=order)

    def __reduce__(self):
        return asarray, (self.get(),)  # as CuPy: by way of the host


def _bare(value):
    if isinstance(value, ndarray):
        assert value._device == current_device() or not value.size, "no access to that device"
        return value._hidden
    if isinstance(value, np.ndarray) and value.ndim:
        raise TypeError("Unsupported type <class 'numpy.ndarray'>")
    return value


def asarray(a, dtype=None, order=None, *, copy=None, blocking=False):
    if isinstance(a, ndarray):
        return a
    host = np.asarray(a, dtype)
    assert host.dtype.isnative, "CuPy would turn it around on the host, in another copy"
    if host.dtype.char not in DTYPES:
        raise ValueError(f"Unsupported dtype {host.dtype}")
    if host.size:  # else nothing travels
        with DEVICE.lock:
            DEVICE.up.append((host.shape, host.dtype))
    return ndarray(np.array(host))


def empty(shape, dtype=float, order="C"):
    return ndarray(np.full(shape, 77, dtype))


def empty_like(prototype, dtype=None, order="K", subok=None, shape=None):
    return empty(prototype.shape if shape is None else shape, dtype or prototype.dtype)


def concatenate(tup, axis=0, out=None, *, dtype=None, casting="same_kind"):
    return ndarray(np.concatenate([_bare(one) for one in map(_device_only, tup)], axis))


def asnumpy(a, stream=None, order="C", out=None, *, blocking=True):
    return a.get()


def may_share_memory(a, b, max_work=None):
    return np.may_share_memory(_device_only(a)._hidden, _device_only(b)._hidden)


def sort(a, axis=-1):
    return ndarray(np.sort(_device_only(a)._hidden, axis))


def isnan(x):
    return ndarray(np.asarray(np.isnan(_device_only(x)._hidden)))


def where(condition, x, y):
    return ndarray(np.asarray(np.where(_device_only(condition)._hidden, _bare(x), _bare(y))))


def _device_only(array):
    if not isinstance(array, ndarray):
        raise TypeError(f"Unsupported type {type(array)}")
    return array


def correlate(
    input,
    weights,
    output=None,
    mode="reflect",
    cval=0.0,
    origin=0,
    *,
    axes=None,
):
    """Correlate as cupyx's kernel does: taps in order, in the dtype of the frames.

    cupyx casts the weights to it, and CUDA multiplies and adds at once.
    """
    x, w = _bare(_device_only(input)), _bare(_device_only(weights))
    assert mode == "nearest"
    assert output is None
    assert axes is None
    assert not any(np.atleast_1d(origin))
    assert w.dtype == np.float32
    assert x.dtype in (np.float32, np.float64)
    axis = int(np.argmax(w.shape))
    taps = w.reshape(-1).astype(float)
    places = np.arange(x.shape[axis]) - len(taps) // 2
    total = np.zeros(x.shape, x.dtype)
    for tap, weight in enumerate(taps):
        pixels = np.take(x, np.clip(places + tap, 0, x.shape[axis] - 1), axis)
        # the product of float32 is exact in float64: rounded once, as by a fused multiply-add
        total = (pixels.astype(float) * weight + total).astype(x.dtype)
    return ndarray(total)


def correlate1d(input, weights, axis=-1, output=None, mode="reflect", cval=0.0, origin=0):
    shape = [-1 if i == axis else 1 for i in range(input.ndim)]
    return correlate(input, weights.reshape(*shape), output, mode, cval, origin)


def _under_footprint(function, input, footprint, mode, cval, origin):
    assert mode == "nearest"
    assert not any(np.atleast_1d(origin))
    assert isinstance(footprint, np.ndarray), "cupyx copies it to the device"
    host = _device_only(input)._hidden
    return ndarray(function(host, footprint=footprint, mode=mode))


def minimum_filter(
    input, size=None, footprint=None, output=None, mode="reflect", cval=0.0, origin=0
):
    return _under_footprint(scipy.ndimage.minimum_filter, input, footprint, mode, cval, origin)


def maximum_filter(
    input, size=None, footprint=None, output=None, mode="reflect", cval=0.0, origin=0
):
    return _under_footprint(scipy.ndimage.maximum_filter, input, footprint, mode, cval, origin)


def _not_here(*args, **kwargs):
    raise AssertionError("nothing on our path calls this")


def _modules():
    cupy = ModuleType("cupy")
    functions = (
        asarray, empty, empty_like, concatenate, asnumpy, may_share_memory, sort, isnan, where,
    )  # fmt: skip
    vars(cupy).update({function.__name__: function for function in functions})
    cupy.__version__ = "0 (a stand-in)"
    cupy.ndarray = ndarray
    cupy.take = cupy.tensordot = cupy.einsum = _not_here
    pool = SimpleNamespace(
        free_bytes=lambda: 0, get_limit=lambda: 0, used_bytes=lambda: DEVICE.live_bytes
    )
    cupy.get_default_memory_pool = lambda: pool
    cupy.cuda = SimpleNamespace(
        Device=CurrentDevice,
        Stream=Stream,
        memory=SimpleNamespace(OutOfMemoryError=OutOfMemoryError),
        nvrtc=SimpleNamespace(getVersion=lambda: (12, 8)),
        runtime=SimpleNamespace(
            getDeviceCount=lambda: 1,
            getDeviceProperties=lambda device: {"name": b"no device: a stand-in"},
            memGetInfo=lambda: (DEVICE.memory_bytes - DEVICE.live_bytes, DEVICE.memory_bytes),
        ),
    )
    cupyx, scipy_ = ModuleType("cupyx"), ModuleType("cupyx.scipy")
    ndimage = ModuleType("cupyx.scipy.ndimage")
    ndimage.correlate, ndimage.correlate1d = correlate, correlate1d
    ndimage.minimum_filter, ndimage.maximum_filter = minimum_filter, maximum_filter
    cupyx.scipy, scipy_.ndimage = scipy_, ndimage
    return {
        "cupy": cupy,
        "cupyx": cupyx,
        "cupyx.scipy": scipy_,
        "cupyx.scipy.ndimage": ndimage,
    }


MODULES = _modules()
CUPY = MODULES["cupy"]


@contextmanager
def installed(memory_bytes=2**40):
    """Let `import cupy` find the stand-in; yield the record of what it does."""
    from smlmlp_dask.filters import dask_image
    from smlmlp_dask.filters import device as backend

    dispatchers = [
        dispatcher
        for module in (dask.array.dispatch, _dispatch_ndfilters)
        for dispatcher in vars(module).values()
        if isinstance(dispatcher, Dispatch)
    ]
    tables = [(d, dict(d._lookup), dict(d._lazy)) for d in dispatchers]
    chunk_types = dask.array.chunk_types._HANDLED_CHUNK_TYPES
    modules = {name: sys.modules.get(name) for name in MODULES}
    sys.modules.update(MODULES)
    caches = (backend._cupy, backend._streams, dask_image._graph)
    for cached in caches:
        cached.cache_clear()
    # What Dask and dask-image do when they meet CuPy's first array, whether or not they have met
    # the real one's: their own code, on these modules.
    dask.array.backends.register_cupy()
    _dispatch_ndfilters.register_cupy_correlate()
    _dispatch_ndfilters.register_cupy_minimum_filter()
    _dispatch_ndfilters.register_cupy_maximum_filter()
    chunk_types.append(ndarray)
    fresh = Device(memory_bytes=memory_bytes)
    vars(DEVICE).update(vars(fresh))
    try:
        yield DEVICE
    finally:
        chunk_types.remove(ndarray)
        for dispatcher, lookup, lazy in tables:
            dispatcher._lookup.clear()
            dispatcher._lookup.update(lookup)
            dispatcher._lazy.clear()
            dispatcher._lazy.update(lazy)
        for name, module in modules.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module
        for cached in caches:
            cached.cache_clear()
