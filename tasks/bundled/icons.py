"""Six icon sets by artists, with names, to pretrain on: from npm (`npm` is needed to build, never to run).

OpenMoji is not among them: it is the real art that no bundled part has seen.
"""

import json
import re
import subprocess
import tarfile
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

from tasks.cache import cache_folder
from tasks.english import words
from tasks.errors import TaskError


class IconSet(NamedTuple):
    """A package's version, the drawing style that captions name, and the licence, as the package states it (SPDX)."""

    version: str
    style: str
    licence: str


SETS = {
    "noto": IconSet("1.2.9", "shaded", "Apache-2.0"),
    "fluent-emoji-flat": IconSet("1.2.6", "flat", "MIT"),
    "twemoji": IconSet("1.2.5", "flat", "CC-BY-4.0"),
    "emojione": IconSet("1.2.3", "shaded", "CC-BY-4.0"),
    "fxemoji": IconSet("1.2.2", "soft", "Apache-2.0"),
    "flat-color-icons": IconSet("1.2.3", "simple", "MIT"),
}
NAMESPACES = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
# keys of icons that are left out: nearly all of them show no thing; and the word by which captions name the creatures
EXCLUDED = re.compile(
    r"\bskin\b|\btone\d?\b|\bflags?\b|letter|arrow|clock|thirty|button|keycap|regional|squared|latin|\bsign\b"
    r"|symbol|^\w$|^\d+$|\d\d|\bdigit\b|^(no|do-not|not)-|^(up|down|left|right)(-|\d|$)|zodiac|creature"
    r"|\b(family|kiss|couple|holding-hands)\b"
    r"|^(about|approve|disapprove|answers|external|internal|undo|redo|next|previous|info|rules|plus|minus|mms|sms|nook)$"
)
# an ending of a key that another key has without; "police-car-light" is a thing
SKIN_TONE = re.compile(r"(?<!car)-(medium-)?(light|dark)$|-medium$")
# words that tell pictures of one thing apart
VARIANTS = words(
    "a the of with face person man woman men women people facing right left pointing tilted heavy large medium small "
    "red orange yellow green blue purple black white brown pink grey gray"
)
PLURAL = re.compile(r"(?<=ss)es$|(?<=\w\w[^s])s$")
SEX_OR_DIRECTION = re.compile(r"\b(man|woman|men|women) \w|facing right$")  # variants of other names' things
SYNONYMS = {  # one thing under two names
    "egg": "cooking",
    "cricket game": "cricket",
    "spouting whale": "whale",
    "telephone": "phone",
}


@dataclass(frozen=True)
class Icon:
    """An icon: the set that it is from, its name in plain words, its other names in that set, and its SVG."""

    icon_set: str
    name: str
    svg: str
    aliases: tuple[str, ...] = ()

    @property
    def style(self) -> str:
        return SETS[self.icon_set].style

    def things(self) -> set[str]:
        """What another picture of the same thing shares: a name without variants, or the longest outline."""
        outlines = re.findall(r' d="([^"]{60,})"', self.svg)
        longest = {max(outlines, key=len)} if outlines else set()
        return {thing_of(name) for name in (self.name, *self.aliases)} | longest


def thing_of(name: str) -> str:
    """The words of a name that say what the thing is, in a fixed order, in the singular: one key for its variants."""
    name = SYNONYMS.get(name, name)
    kept = [word for word in name.split() if word not in VARIANTS and not word.isdigit()] or name.split()
    return "".join(sorted(PLURAL.sub("", word) for word in kept))


@cache
def icons() -> list[Icon]:
    """The icons of all sets that show a thing, with words for names, in a fixed order."""
    rows = [icon for name in SETS for icon in _icons_of(name)]
    # fxemoji writes its names in one word: those that another set spells out are kept
    spelt = {icon.name.replace(" ", ""): icon.name for icon in rows if icon.icon_set != "fxemoji"}
    return [
        Icon(icon.icon_set, spelt[icon.name.replace(" ", "")], icon.svg, icon.aliases)
        for icon in rows
        if icon.name.replace(" ", "") in spelt
    ]


@cache
def held_out_names() -> frozenset[str]:
    """Names that are kept from all training, with all pictures of the same things: about one in fifteen.

    A tenth of the names, by a hash, without those whose thing is also in a picture of another name.
    """
    chosen = {icon.name for icon in icons() if _is_chosen(icon.name)}
    while True:
        trained = set().union(*(icon.things() for icon in icons() if icon.name not in chosen))
        released = {icon.name for icon in icons() if icon.name in chosen and icon.things() & trained}
        if not released:
            return frozenset(chosen)
        chosen -= released


@cache
def trained_names() -> frozenset[str]:
    """All names but the held-out ones."""
    return frozenset(icon.name for icon in icons()) - held_out_names()


@cache
def unet_names() -> frozenset[str]:
    """The names that the UNet learns to draw: not held out, in two sets at least, without men, women and directions."""
    sets = Counter(name for name, _ in {(icon.name, icon.icon_set) for icon in icons()})
    shared = {name for name, count in sets.items() if count > 1 and not SEX_OR_DIRECTION.search(name)}
    return trained_names() & shared


def _is_chosen(name: str) -> bool:
    """By its words alone; any change changes what is held out, and the bundled parts have to be built again."""
    kept = sorted(word.rstrip("s") for word in name.split() if word not in ("face", "with", "of", "the"))
    return crc32(" ".join(kept).encode()) % 10 == 0


def _icons_of(name: str) -> Iterator[Icon]:
    data = json.loads(_package(name))
    aliases: dict[str, list[str]] = {}
    for alias, target in data.get("aliases", {}).items():
        aliases.setdefault(target["parent"], []).append(_words(alias))
    for key, icon in data["icons"].items():
        person = SKIN_TONE.sub("", key)
        if EXCLUDED.search(key) or icon.get("hidden") or (person != key and person in data["icons"]):
            continue
        sides = {side: icon.get(side, data.get(side, 0)) for side in ("left", "top", "width", "height")}
        box = "{left} {top} {width} {height}".format(**sides)
        svg = f'<svg {NAMESPACES} viewBox="{box}">{icon["body"]}</svg>'
        yield Icon(name, _words(key), svg, tuple(aliases.get(key, ())))


def _words(key: str) -> str:
    """A key as words: "woman-red-hair" as "woman with red hair", "man-bald" as "bald man"."""
    name = key.replace("-", " ")
    name = re.sub(r"^(man|woman|person) (bald|deaf)$", r"\2 \1", name)
    return re.sub(r"^(man|woman|person) (red|white|blonde|blond|curly) hair(ed)?$", r"\1 with \2 hair", name)


def _package(name: str) -> bytes:
    """The set's icons.json, from its package, which is fetched once. Raises TaskError if its licence is another one."""
    file = _fetched(f"@iconify-json/{name}", SETS[name].version)
    with tarfile.open(file) as package:
        info, drawings = (_content(package, f"package/{part}.json") for part in ("info", "icons"))
    licence = json.loads(info)["license"]["spdx"]
    if licence != SETS[name].licence:
        raise TaskError(f"{file} is under {licence}, not under {SETS[name].licence} as the card says")
    return drawings


def _content(package: tarfile.TarFile, name: str) -> bytes:
    member = package.extractfile(name)
    assert member is not None, "the file is regular"
    return member.read()


def _fetched(package: str, version: str) -> Path:
    """The npm package's archive, in the cache."""
    folder = cache_folder() / "icons"
    file = folder / f"{package.removeprefix('@').replace('/', '-')}-{version}.tgz"
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as temporary:
            command = ["npm", "pack", f"{package}@{version}", "--silent", "--pack-destination", temporary]
            try:
                subprocess.run(command, check=True)
            except (OSError, subprocess.CalledProcessError) as failed:
                raise TaskError(
                    f"the icons come from npm: `npm pack {package}@{version}` failed ({failed}); install npm, or put "
                    f"{file} there"
                ) from None
            (Path(temporary) / file.name).replace(file)
    return file
