"""Formats that are known by the names of their files, and not read: what to do instead.

Nobody should describe such a file as a headerless movie: its header would be taken for pixels.
"""

from pathlib import Path


def _export(program: str) -> str:
    return f"export it from {program} as OME-TIFF"


_TIFF_INSIDE = "a whole one begins as TIFF does: copy it again"
_VIDEO = "its frames are compressed with loss: pass the movie that the camera's program recorded"
_PICTURE = "save the frames as TIFF files in one folder, and pass the folder"
_TABLE = "it holds no frames: pass the movie itself"
_PACKED = "unpack it, and pass the movie in it"
_STORE = "pass the whole folder that the store is, or a zip of it that ends in .zip"
_ARRAY = "save the frames as a TIFF stack"

_KNOWN = (
    # endings of names, what such a file is, and what to do
    (".his", "a HIS movie of Hamamatsu's HiPic", _export("HiPic")),
    (".cxd", "a CXD file of SimplePCI or HCImage", _export("HCImage")),
    (".sld .sldy", "a SlideBook file", _export("SlideBook")),
    (".seq", "a SEQ file, but none of Norpix's StreamPix", _export("the program that wrote it")),
    (".mraw .cih .cihx", "a Photron recording", "export it from Photron's viewer as 16-bit TIFF"),
    (".fli", "an FLI file of Lambert Instruments", _export("LI-FLIM")),
    ("spool.dat", "a part of an Andor spool", "pass the whole folder that Solis wrote"),
    (".oir .poir", "an OIR file of Olympus FluoView", _export("FluoView")),
    (".vsi .ets", "a file of Olympus cellSens", _export("cellSens")),
    (".obf .msr", "an Imspector file of Abberior", _export("Imspector")),
    (".lei", "a Leica LCS file", _export("LAS AF")),
    (".lof .xlef .xlif .xllf .xlcf", "a file of Leica LAS X", _export("LAS X")),
    (".zvi", "a ZVI file of Zeiss AxioVision", _export("ZEN or AxioVision")),
    (".dv .r3d", "a DeltaVision file", _export("softWoRx")),
    (".ids .ics", "an ICS file", _export("the program that wrote it")),
    (".mvd2 .acff .aim", "a Volocity file", _export("Volocity")),
    (".ipw .ipl", "an Image-Pro or IPLab file", _export("the program that wrote it")),
    (".sdt .spc", "a file of Becker & Hickl", _export("SPCImage")),
    (".ptu .ht3", "a file of PicoQuant", _export("SymPhoTime")),
    (".lsm .stk .flex", "a microscope's TIFF", _TIFF_INSIDE),
    (".nd", "a list of MetaMorph's files", "pass the .stk or .tif files that it names"),
    (".mrc .mrcs .rec", "an MRC file", _export("the program that wrote it")),
    (".dm3 .dm4", "a file of Gatan DigitalMicrograph", _export("DigitalMicrograph")),
    (".emd", "an EMD file", _export("Velox")),
    (".ser", "a SER movie", _export("the program that wrote it")),
    (".fits .fit .fts", "a FITS file", _ARRAY),
    (".mat", "a MATLAB file", _ARRAY),
    (".nii .nrrd .mha .mhd .dcm", "a medical image", _ARRAY),
    (".tdms", "a TDMS file of LabVIEW", _ARRAY),
    (".pkl .pickle", "a pickle of Python, which can run code", _ARRAY),
    (".avi .mov .mp4 .m4v .mkv .wmv .mpg .mpeg .webm .gif", "a video", _VIDEO),
    (".jpg .jpeg .jp2 .png .bmp .webp .svg", "a picture", _PICTURE),
    (".csv .tsv .xml .txt .md .json .yaml .yml .toml .ini .inf .log .html .pdf .xls .xlsx",
     "a text or a table", _TABLE),
    (".zarr", "a Zarr store, but a single file", _STORE),
    (".zip .tar .tgz .gz .bz2 .xz .zst .7z .rar", "an archive", _PACKED),
)  # fmt: skip

UNREAD = {ending: known for endings, *known in _KNOWN for ending in endings.split()}
"""For each ending of names, in lower case: what such a file is, and what to do."""


def unread(path: Path) -> str | None:
    """Return what a file is by its name, and what to do; None for a name that says nothing."""
    name = path.name.lower()
    for ending, (what, remedy) in UNREAD.items():
        if name.endswith(ending):
            return f"{what}, which is not read: {remedy}"
    return None
