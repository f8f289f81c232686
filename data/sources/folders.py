"""Which files a folder stands for: its own, those of ``save_to_disk``, or those of a clone of a hub data set.

::

    pairs/a.jsonl, b.jsonl                      both
    prefs/state.json, data-00000-of-00001.arrow the files that state.json names
    clone/README.md, data/train-00000-of-00001.parquet   the only split that there is
    clone/data/train-…, data/test-…             an error that says how to name one of the two
"""

from __future__ import annotations

import glob
import json
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from data.sources.raw import SourceError

_FIRST = (".jsonl", ".jsonl.gz", ".json", ".json.gz", ".parquet")
SUFFIXES = (
    *_FIRST,
    ".jsonl.zst",
    ".json.zst",
    *(t + c for t in (".csv", ".tsv") for c in ("", ".gz", ".zst")),
    ".arrow",
)
SUPPORTED = ".jsonl, .json, .csv, .tsv (each also .gz, .zst), .parquet, .arrow"
_ABOUT_THE_DATA = {"dataset_info.json", "dataset_infos.json", "dataset_dict.json"}
_FOR_READERS = {"readme", "license", "licence", "copying", "notice", "citation", "changelog"}
_SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "dev", "val"), "validation"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}
"""Words in the names of files and folders → the split, as `datasets` takes them."""
_SHARD = re.compile(r"(.+)-\d{5}-of-\d{5}\b")


def usable(files: Iterable[Path]) -> list[Path]:
    """Those of the files that hold rows, sorted. CSV, TSV, Arrow and .zst files only where there are no others.

    A table beside JSON or Parquet files, such as statistics about them, is rarely a part of the same data.
    """
    data = sorted((file for file in files if is_data(file)), key=str)
    return [file for file in data if file.name.lower().endswith(_FIRST)] or data


def is_data(file: Path) -> bool:
    """Whether a file found in a folder or by a pattern holds rows, by its name."""
    return file.name.lower().endswith(SUFFIXES) and not _is_about_the_data(file) and file.is_file()


def _is_about_the_data(file: Path) -> bool:
    return (
        file.name.startswith(".")
        or file.name in _ABOUT_THE_DATA
        or (file.name == "state.json" and (file.parent / "dataset_info.json").is_file())
        or re.match(r"cache-.*\.arrow$", file.name) is not None  # `datasets` keeps results of its own there
    )


def files_in(folder: Path) -> list[Path]:
    """The files whose rows are those of a folder: directly in it, else in its sub-folders; none if it has no data files.

    Raises SourceError if the folder has several splits or subsets: which is meant is never guessed.
    """
    if (folder / "dataset_dict.json").is_file():
        splits = {name: _directly(folder / name) for name in _object(folder / "dataset_dict.json").get("splits", [])}
        return _only(folder, splits)
    declared = _declared(folder)
    if declared:
        return _only(folder, declared)
    found = _directly(folder) or usable(_in_sub_folders(folder))
    named = defaultdict(list)
    for file in found:
        named[_split_of(file.relative_to(folder))].append(file)
    return found if named.keys() <= {"", "train"} or len(named) == 1 else _only(folder, named)


def all_data_in(folder: Path) -> list[Path]:
    """Every data file in a folder and its sub-folders, whether or not the folder stands for it."""
    return sorted(filter(is_data, all_in(folder)), key=str)


def all_in(folder: Path) -> Iterator[Path]:
    """Everything in a folder and its sub-folders, except in hidden ones and those of tools."""
    return (file for place in _below(folder) for file in place.iterdir())


def may_be_missed(file: Path) -> bool:
    """Whether a file may hold rows that someone expects to be read: it is not about the data, and not for readers or tools."""
    first, *_ = file.name.lower().split(".")
    return file.is_file() and not (_is_about_the_data(file) or file.name.startswith("_") or first in _FOR_READERS)


def _directly(folder: Path) -> list[Path]:
    """The data files directly in a folder: in one that ``save_to_disk`` has written, those that its state names, in order."""
    state = folder / "state.json"
    if state.is_file() and (folder / "dataset_info.json").is_file():
        return [folder / part["filename"] for part in _object(state).get("_data_files", [])]
    return usable(folder.iterdir()) if folder.is_dir() else []


def _below(folder: Path) -> Iterator[Path]:
    """The folder and its sub-folders, without hidden ones and those of tools, such as ``_delta_log``."""
    for place, folders, _ in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith((".", "_")))
        yield Path(place)


def _in_sub_folders(folder: Path) -> Iterator[Path]:
    """Raises SourceError for a partitioned table: one column is in the names of its folders, not in the files."""
    for place in _below(folder):
        files = _directly(place)
        if files and "=" in place.name and place != folder:
            raise SourceError(
                f"{folder}: is partitioned by {place.name.split('=')[0]!r} (sub-folder {place.name}), a column that the "
                "files do not contain; write the table to one Parquet file, or name the files in path"
            )
        yield from files


def _split_of(file: Path) -> str:
    """The split that a path below a folder names; "" if it names none."""
    shard = _SHARD.match(file.name)
    if shard:
        return shard.group(1)
    words = (word.lower() for part in file.parts for word in re.split(r"[-._ 0-9]+", part))
    return next((_SPLITS[word] for word in words if word in _SPLITS), "")


def _declared(folder: Path) -> dict[str, list[Path]]:
    """The files of each subset and split, as the README of a clone declares them; empty if it does not, or not clearly."""
    readme = folder / "README.md"
    if not readme.is_file():
        return {}
    import yaml
    from huggingface_hub.repocard import metadata_load

    found: dict[str, list[Path]] = {}
    try:
        configs = (metadata_load(readme) or {}).get("configs", [])
        for config in configs:
            subset = f"{config['config_name']}/" if len(configs) > 1 else ""
            for split, patterns in _patterns(config):
                matches = (match for pattern in patterns for match in folder.glob(pattern))
                found[subset + split] = sorted({file for file in matches if is_data(file)}, key=str)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, NotImplementedError, yaml.YAMLError):
        return {}  # a README that is wrong in any way says nothing; the files' names remain
    return found if all(found.values()) else {}


def _patterns(config: Mapping[str, Any]) -> Iterator[tuple[str, list[str]]]:
    """Split and patterns of a README's config: a pattern, a list of them, or a list of splits with theirs."""
    files = config["data_files"]
    parts = files if isinstance(files, list) and isinstance(files[0], dict) else [{"path": files}]
    for part in parts:
        patterns = part["path"] if isinstance(part["path"], list) else [part["path"]]
        yield part.get("split", "train"), [str(Path(config.get("data_dir", "")) / each) for each in patterns]


def _only(folder: Path, groups: Mapping[str, Sequence[Path]]) -> list[Path]:
    """The files of the only group. Raises SourceError, with a path for each, if there are several."""
    if len(groups) == 1:
        return list(next(iter(groups.values())))
    ways = "; ".join(
        f"{name or 'without a split'}: {_path_for(folder, name, files)}" for name, files in sorted(groups.items())
    )
    what = "subsets" if any("/" in name for name in groups) else "splits"
    raise SourceError(
        f"{folder}: holds several {what}, and none of them is chosen for you; write the path of one. {ways}"
    )


def _path_for(folder: Path, name: str, files: Sequence[Path]) -> str:
    """A path that stands for exactly these files, such as ``clone/data/train-*``; else the first of them."""
    if len(files) == 1 and not (files[0].parent / "state.json").is_file():
        return str(files[0])
    parents = {file.parent for file in files}
    if len(parents) == 1 and (parent := parents.pop()) != folder and _directly(parent) == list(files):
        return str(parent)
    common = glob.escape(os.path.commonprefix([str(file) for file in files]))  # noqa: RUF071 (of names, too)
    for pattern in (f"{common}*", f"{glob.escape(str(folder))}/**/{name}*"):
        if usable(map(Path, glob.glob(pattern, recursive=True))) == list(files):  # noqa: PTH207 (takes absolute patterns)
            return pattern
    return f"{files[0]} and {len(files) - 1} more" if files else "no files"


def _object(file: Path) -> dict[str, Any]:
    try:
        value = json.loads(file.read_bytes())
    except ValueError as error:
        raise SourceError(f"{file}: is not JSON ({error}); write the data set with save_to_disk again") from error
    return value if isinstance(value, dict) else {}
