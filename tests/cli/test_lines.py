"""What the command line says is in its own words, and breaks between words."""

import pytest

from smlmlp_dask.cli.lines import between_words, in_options


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (
            "resume it with resume=True (--resume), or delete it",
            "resume it with --resume, or delete it",
        ),
        ("take frames=slice(0, 9) (--frames 0:9)", "take --frames 0:9"),
        ("take channels=['A'] (--channel A)", "take --channel A"),
        (
            "pass raw_shape=(T, Y, X) and raw_dtype='>u2' (--raw-shape T,Y,X --raw-dtype '>u2')",
            "pass --raw-shape T,Y,X --raw-dtype '>u2'",
        ),
        ("channels_mean_radii_pix (--radius) was 7", "--radius was 7"),
        ("pass baseline=100 (--baseline), or 0", "pass --baseline 100, or 0"),
        (
            "go on by resume=True (smlmlp-dask run ... --resume)",
            "go on by smlmlp-dask run ... --resume",
        ),
        (
            "resume and overwrite (--resume and --overwrite) contradict",
            "--resume and --overwrite contradict",
        ),
        ("of this program, and overwrite=True (--overwrite)", "of this program, and --overwrite"),
        ("choose one by channel (--channel): 0, 1", "choose one by --channel: 0, 1"),
        # words of the sentence stay, with the option that they are about
        ("add signal to outputs (--write signal)", "add signal to outputs (--write signal)"),
        ("for each channel, in order (--variance)", "for each channel, in order (--variance)"),
        ("nothing was run (--dry-run)", "nothing was run (--dry-run)"),
    ],
)
def test_a_message_names_options_and_no_arguments_of_python(message, said):
    assert in_options(message) == said


@pytest.mark.parametrize("width", [9, 20, 33, 80])
@pytest.mark.parametrize(
    "line", ["Error: a bc def " * 9, "ab " + 130 * "x" + " cd", "µµ 細胞 x " * 20, ""]
)
def test_no_row_of_a_terminal_ends_within_a_word_that_fits(line, width):
    padded = between_words(line, width)
    assert padded.split() == line.split(), "the same words on one line"
    rows, row, column = [], "", 0
    for char in padded:
        cells = 2 if char in "細胞" else 1
        if column + cells > width:
            rows, row, column = [*rows, row], "", 0
        row, column = row + char, column + cells
    words = {word for one in [*rows, row] for word in one.split()}
    assert {word for word in line.split() if len(word) < width / 2} <= words
    if max(map(len, line.split()), default=0) < width / 2:
        assert words == set(line.split())
