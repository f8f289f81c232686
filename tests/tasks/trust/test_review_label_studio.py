"""A review in Label Studio: its own SDK checks what is exported, answers it, and its answers come back.

Needs label-studio-sdk, without its requirements: ``make test-label-studio`` installs it into a folder of its own, which
GRAM_R2_LABEL_STUDIO then names; the tests are skipped without it.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from tasks.trust.review_answers import read_answers
from tasks.trust.review_formats import write_for_people
from tests.support.reviewing import queue_line

# The SDK's own use of pydantic.
pytestmark = pytest.mark.filterwarnings("ignore:The `dict` method is deprecated")

FOLDER = os.environ.get("GRAM_R2_LABEL_STUDIO")
LINES = [queue_line(1), queue_line(2, "ba", response_1='<b>"bold"</b> & $prompt', prompt=[
    {"role": "user", "content": "Why?"}, {"role": "assistant", "content": "How?"}, {"role": "user", "content": "So."},
])]  # fmt: skip


@pytest.fixture
def sdk(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The SDK's modules of labeling interfaces."""
    if FOLDER:
        # After everything else: what is installed here as well stays as it is.
        monkeypatch.setattr(sys, "path", [*sys.path, str(Path(FOLDER).resolve())])
    if importlib.util.find_spec("label_studio_sdk") is None:
        pytest.skip("label-studio-sdk is not installed; `make test-label-studio` runs this test")
    return importlib.import_module("label_studio_sdk.label_interface")


@pytest.mark.parametrize("show_labels", [False, True])
def test_the_sdk_accepts_the_interface_and_every_task(sdk: Any, tmp_path: Path, show_labels: bool) -> None:
    config, tasks = write_for_people(LINES, "label-studio", tmp_path / "out", show_labels)
    interface = sdk.LabelInterface(config.read_text(encoding="utf-8"))
    interface.validate()
    written = json.loads(tasks.read_text(encoding="utf-8"))
    assert [task["data"]["id"] for task in written] == [line["id"] for line in LINES]
    assert all(interface.validate_task(task) for task in written)
    shown = {"prompt", "response_1", "response_2"} | ({"judge"} if show_labels else set())
    assert {tag.value_name for tag in interface.objects} == shown
    (control,) = interface.controls
    assert (control.tag, control.name, control.labels) == ("Choices", "answer", ["A", "B", "tie", "skip"])
    assert control.attr["choice"] == "single"
    del written[0]["data"]["response_2"]
    assert not interface.validate_task(written[0]), "the check checks something"


def test_what_the_sdk_answers_is_read(sdk: Any, tmp_path: Path) -> None:
    objects = importlib.import_module("label_studio_sdk.label_interface.objects")
    config, tasks = write_for_people(LINES, "label-studio", tmp_path / "out", show_labels=False)
    interface = sdk.LabelInterface(config.read_text(encoding="utf-8"))
    answered = []
    for task, answers in zip(json.loads(tasks.read_text(encoding="utf-8")), (("A", "tie"), ("B", "skip")), strict=True):
        made = [
            objects.AnnotationValue(completed_by=who, result=[interface.get_control("answer").label(answer)])
            for who, answer in enumerate(answers, start=1)
        ]
        assert all(interface.validate_annotation(one.model_dump()) for one in made)
        answered.append(objects.TaskValue(data=task["data"], annotations=made).model_dump())
    file = tmp_path / "export.json"
    file.write_text(json.dumps(answered), encoding="utf-8")
    found, still_open = read_answers(file)
    first, second = (line["id"] for line in LINES)
    assert [(one.item, one.annotator, one.answer) for one in found] == [
        (first, "1", "A"),
        (first, "2", "tie"),
        (second, "1", "B"),
        (second, "2", "skip"),
    ]
    assert still_open == 0
