"""What `pq init` can set up: a queue that works as it stands, and what it needs to be installed."""

from __future__ import annotations

import shlex
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pq_daemon.config import notation
from pq_daemon.errors import InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import Mapping

SHELL_WORDS: Final = frozenset({"|", "||", "&&", ";", "&", ">", ">>", "<", "2>&1"})
PICTURES: Final = ("*.jpg", "*.jpeg", "*.png", "*.tif", "*.tiff", "*.webp", "*.bmp")
HANDLERS: Final = "handlers.py"

HANDLERS_TEXT: Final = '''"""What pq-daemon calls for each file. After a change: pq reload"""

import pq_daemon


def process(job: pq_daemon.Job) -> object:
    """Do the work of one job: here its lines are counted. Replace that by your own work.

    What is returned (JSON) is kept with the job as its result. Any exception is a failed attempt,
    which is tried again; pq_daemon.Retry(after=60) tries again without counting the attempt,
    pq_daemon.Discard("why") fails the job for good. What is printed is the job's output.
    """
    print("working on", job.path)
    with job.path.open("rb") as file:
        lines = sum(1 for _ in file)
    job.progress(1.0, "counted")
    return {"lines": lines}
'''


@dataclass(frozen=True, slots=True)
class Recipe:
    """Lines of a [[watch]] and of a [queue.NAME]; `install` is what its program comes with."""

    words: str
    queue: Mapping[str, object]
    watch: Mapping[str, object]
    needs: tuple[str, ...] = ()
    install: str = ""
    remark: str = ""

    @property
    def missing(self) -> str | None:
        """Return the program that is not there."""
        return next((each for each in self.needs if shutil.which(each) is None), None)


HASH: Final = Recipe(
    "note its checksum (sha256sum)", {"command": ["sha256sum", "--", "{path}"]}, {}
)
OCR: Final = Recipe(
    "read the text of scanned pages (tesseract)",
    {
        # tesseract adds .txt to the name it is given; its stdout goes exactly where it should.
        "command": [
            "sh", "-c", 'exec tesseract "$1" stdout -l eng > "$2"', "sh", "{path}", "{output}",
        ],
        "output": "text/{relparent}/{stem}.txt",
        "max_attempts": 2,
    },
    {"include": list(PICTURES)},
    needs=("tesseract",),
    install="apt-get install tesseract-ocr",
    remark="other languages: apt-get install tesseract-ocr-deu, then -l deu",
)  # fmt: skip
PYTHON: Final = Recipe(
    "call a Python function of yours",
    {"python": "handlers:process"},
    {},
    remark=f"the function is in {HANDLERS}, beside this file",
)


def thumbnails() -> Recipe:
    """Return the recipe for the ImageMagick that is here: version 7 is called magick."""
    program = "magick" if shutil.which("magick") else "convert"
    return Recipe(
        "make small pictures of pictures (ImageMagick)",
        {
            "command": [
                program, "{path}[0]", "-auto-orient", "-thumbnail", "512x512>", "jpg:{output}",
            ],
            "output": "thumbnails/{relparent}/{stem}.jpg",
            "max_attempts": 2,
        },
        {"include": list(PICTURES)},
        needs=(program,),
        install="apt-get install imagemagick",
    )  # fmt: skip


def own_command(line: str) -> Recipe:
    """Return the recipe for a command as somebody types it.

    Raises:
        InvalidRequestError: it is none, or one for a shell.

    """
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise InvalidRequestError(f"this is no command: {error}") from None
    if not words:
        raise InvalidRequestError("a command is needed, such as: wc -l {path}")
    for_a_shell = SHELL_WORDS.intersection(words)
    if for_a_shell:
        raise InvalidRequestError(
            f"no shell reads the command, so {min(for_a_shell)} would mean nothing: put the "
            "line into a script that takes the file as its first argument, and name the script"
        )
    if not any("{" in word for word in words):
        words.append("{path}")
    return Recipe(
        "run a command of yours",
        {"command": words},
        {},
        needs=(words[0],),
        remark='for results add output = "results/{stem}.txt" and write to {output}',
    )


KINDS: Final = ("hash", "ocr", "thumbnails", "python", "command")


def recipe(kind: str, line: str = "") -> Recipe:
    if kind == "command":
        return own_command(line)
    if kind == "thumbnails":
        return thumbnails()
    return {"hash": HASH, "ocr": OCR, "python": PYTHON}[kind]


def lines(table: Mapping[str, object]) -> str:
    return "".join(f"{name} = {notation.value(found)}\n" for name, found in table.items())
