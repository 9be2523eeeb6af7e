"""Is every call into CuPy one that the installed CuPy has? No device is needed, and none used.

The calls are read from the source: what `device.py` does with the module (`xp`) and with names
annotated as CuPy's (`stream: cupy.cuda.Stream`), and what dask-image and Dask do on our path.
"""

import ast
import inspect
import re
import subprocess
import sys
from pathlib import Path

import dask.array as da
import dask.array.backends
import dask_image.dispatch._dispatch_ndfilters
import dask_image.ndfilters._conv
import pytest

import smlmlp_dask
from smlmlp_dask.filters import device

cupy = pytest.importorskip("cupy", reason="CuPy is not installed: its calls are not checked")

PACKAGE = Path(smlmlp_dask.__file__).parent
BENCHMARK = Path(__file__).parents[1] / "benchmarks" / "device.py"


def chain(node):
    """Return the names of `a.b.c`, or None for other expressions."""
    if isinstance(node, ast.Name):
        return [node.id]
    if isinstance(node, ast.Attribute) and (front := chain(node.value)):
        return [*front, node.attr]
    return None


def annotated(function):
    """Return the CuPy class that each annotated name of a function has."""
    arguments = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    pairs = [(argument.arg, argument.annotation) for argument in arguments]
    pairs += [
        (node.target.id, node.annotation)
        for node in ast.walk(function)
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    ]
    classes = {}
    for name, annotation in pairs:
        if annotation is None:
            continue
        if isinstance(annotation, ast.Constant):
            annotation = ast.parse(annotation.value, mode="eval").body
        for node in ast.walk(annotation) if isinstance(annotation, ast.BinOp) else [annotation]:
            names = chain(node)
            if names and names[0] == "cupy" and len(names) > 1:
                classes[name] = names
    return classes


def uses(function, roots):
    """Yield each use of a root's attributes: its names, and its call where it is called."""
    called = {id(node.func): node for node in ast.walk(function) if isinstance(node, ast.Call)}
    for node in ast.walk(function):
        names = chain(node)
        if names and len(names) > 1 and names[0] in roots:
            yield [*roots[names[0]], *names[1:]], called.get(id(node))
        if isinstance(node, ast.With):
            for item in node.items:
                if (names := chain(item.context_expr)) and names[0] in roots and len(names) == 1:
                    yield [*roots[names[0]], "__enter__"], None


def our_uses():
    for path in [*sorted(PACKAGE.rglob("*.py")), BENCHMARK]:
        for function in ast.walk(ast.parse(path.read_text())):
            if isinstance(function, ast.FunctionDef):
                classes = annotated(function)
                opened = {
                    target.id
                    for node in ast.walk(function)
                    if isinstance(node, ast.Assign)
                    and isinstance(node.value, ast.Call)
                    and chain(node.value.func) == ["_cupy"]
                    for target in node.targets
                }
                roots = classes | {name: ["cupy"] for name in opened}
                if path == BENCHMARK:
                    roots |= {"cupy": ["cupy"]}
                for names, call in uses(function, roots):
                    yield f"{path.name}:{function.name}", names, call


def their_uses():
    """What Dask and dask-image look up in CuPy where they meet its first array."""
    for module, name in [
        (dask.array.backends, "register_cupy"),
        (dask_image.dispatch._dispatch_ndfilters, "register_cupy_correlate"),
    ]:
        tree = ast.parse(Path(module.__file__).read_text())
        for function in ast.walk(tree):
            if isinstance(function, ast.FunctionDef) and function.name == name:
                for names, _ in uses(function, {"cupy": ["cupy"], "cupyx": ["cupyx"]}):
                    yield f"{module.__name__}:{name}", names, None


def found(names):
    __import__("cupyx.scipy.ndimage")
    thing = sys.modules[names[0]]
    for name in names[1:]:
        thing = getattr(thing, name)
    return thing


def signature(thing, names):
    """Return a signature, for compiled functions the one that Cython writes in the docstring."""
    try:
        return inspect.signature(thing)
    except ValueError:
        line = thing.__doc__.splitlines()[0].split(" -> ")[0]
        scope = {}
        text = re.sub(r"\w+ (\w+)", r"\1", line[line.index("(") :])  # without C's types
        types = ast.parse(f"def f{text}: pass").body[0]
        for argument in [*types.args.args, *types.args.kwonlyargs]:
            argument.annotation = None
        exec(compile(ast.unparse(types), "docstring", "exec"), scope)
        return inspect.signature(scope["f"])


def bind(thing, names, call):
    """Raise `TypeError` where the signature does not take such a call."""
    is_method = inspect.isclass(found(names[:-1])) and not inspect.isclass(thing)
    assert not any(isinstance(argument, ast.Starred) for argument in call.args), names
    positional = [None] * (is_method + len(call.args))
    signature(thing, names).bind(*positional, **{k.arg: None for k in call.keywords})


OURS, THEIRS = list(our_uses()), list(their_uses())


@pytest.mark.parametrize(
    ("names", "call"),
    [(names, call) for _, names, call in [*OURS, *THEIRS]],
    ids=[f"{where}-{'.'.join(names)}" for where, names, _ in [*OURS, *THEIRS]],
)
def test_cupy_has_it(names, call):
    thing = found(names)
    if call is not None:
        bind(thing, names, call)


def test_the_source_was_understood():
    """The calls that matter are among those found, so that none is checked by finding none."""
    ours = {".".join(names) for _, names, call in OURS if call is not None}
    assert {
        "cupy.asarray",
        "cupy.empty",
        "cupy.ndarray.astype",
        "cupy.ndarray.get",
        "cupy.cuda.Stream",
        "cupy.cuda.Stream.synchronize",
        "cupy.cuda.runtime.memGetInfo",
        "cupy.cuda.MemoryPool.free_bytes",
    } <= ours
    assert "cupyx.scipy.ndimage.correlate" in {".".join(names) for _, names, _ in THEIRS}


@pytest.mark.parametrize(
    ("names", "source"),
    [
        (["cupy", "asarray"], "f(a, dtyp=1)"),
        (["cupy", "ndarray", "get"], "f(1, 2, 3, 4, 5)"),
        (["cupy", "cuda", "MemoryPool", "free_bytes"], "f(1)"),
    ],
)
def test_a_wrong_call_would_be_found(names, source):
    with pytest.raises(TypeError):
        bind(found(names), names, ast.parse(source, mode="eval").body)
    with pytest.raises(AttributeError):
        found([*names[:-1], "no_such_thing"])


def test_dask_images_call_of_correlate():
    """`map_overlap` passes on to the filter what is not its own."""
    tree = ast.parse(Path(dask_image.ndfilters._conv.__file__).read_text())
    [correlate] = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.name == "correlate"
    ]
    [call] = [
        node
        for node in ast.walk(correlate)
        if isinstance(node, ast.Call) and (chain(node.func) or [])[-1:] == ["map_overlap"]
    ]
    own = {*inspect.signature(da.map_overlap).parameters, "dtype", "meta"}
    passed = {keyword.arg for keyword in call.keywords} - own
    assert "weights" in passed
    inspect.signature(found(["cupyx", "scipy", "ndimage", "correlate"])).bind(
        None, **dict.fromkeys(passed)
    )


def test_the_cpu_needs_no_driver(tmp_path):
    """Import, filter and job on NumPy, in a process of its own, whatever CuPy finds."""
    code = (
        "import numpy, smlmlp_dask\n"
        "[b], _, _ = smlmlp_dask.bkgd_spatial_mean([numpy.ones((2, 3, 4))])\n"
        "assert b.compute().shape == (2, 3, 4)\n"
        "numpy.ones((2, 3, 4), 'u1').tofile('m.raw')\n"
        "smlmlp_dask.run_spatial_mean('m.raw', 'b.zarr', raw_shape=(2, 3, 4), raw_dtype='u1')\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_without_a_device_the_wheel_is_refused_in_one_line(tmp_path):
    try:
        device.require_device()
    except RuntimeError as error:
        message = str(error)
    else:
        pytest.skip("there is a device")
    (tmp_path / "m.raw").write_bytes(bytes(24))
    command = "run m.raw -o b.zarr --raw-shape 2,3,4 --raw-dtype u1 --cuda"
    done = subprocess.run(
        [sys.executable, "-m", "smlmlp_dask", *command.split()],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert message.split(":")[0] in done.stderr
    assert "cuda12" in done.stderr
    assert not (tmp_path / "b.zarr").exists()
