"""A queue as people answer it: neutral JSONL, a Label Studio project, or a Potato task.

A line of neutral JSONL; who answers fills in `answer` (A: response_1 is better, B: response_2, tie, or skip) and `annotator`::

    {"id": "demo-3f0c81d2-0001", "prompt": [{"role": "user", "content": "Why?"}], "response_1": "…", "response_2": "…",
     "reasons": ["orders_disagree"], "run": "demo", "round": 1, "pair": "9f31…", "order": "ba", "answer": null,
     "annotator": null}

What the judge said is in none of them unless that is asked for: people agree with what they are shown.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal
from xml.sax.saxutils import quoteattr

from data.files import write_jsonl, write_text
from data.records import parse_messages
from prompts.template import render_conversation
from tasks.trust.review_files import ReviewError

ReviewFormat = Literal["jsonl", "label-studio", "potato"]
ANSWERS = ("A", "B", "tie", "skip")
QUESTION = "Which response is better? Skip what you cannot judge."
FIELD = "answer"
"""The name of the question in every format."""
JUDGE = ("judge_label", "confidence")
_SHOWN = ("id", "prompt", "response_1", "response_2", "reasons", "run", "round", "pair", "order")


def write_for_people(
    lines: Sequence[Mapping[str, Any]], format: ReviewFormat, out: Path, show_labels: bool
) -> list[Path]:
    """Writes a queue to a file, or to a folder for the other two formats; returns the files.

    Raises ReviewError if there is something at `out` already: it may hold answers.
    """
    if out.exists():
        raise ReviewError(f"{out} is there already, and may hold answers: name another file or folder with --out")
    if format == "jsonl":
        unanswered = {"answer": None, "annotator": None}
        names = _SHOWN + (JUDGE if show_labels else ())
        write_jsonl(out, ({**{name: line[name] for name in names}, **unanswered} for line in lines))
        return [out]
    tasks = [_as_texts(line, show_labels) for line in lines]
    if format == "label-studio":
        write_text(out / "config.xml", label_studio_config(show_labels))
        write_text(out / "tasks.json", json.dumps([{"data": task} for task in tasks], indent=1, ensure_ascii=False))
        return [out / "config.xml", out / "tasks.json"]
    write_text(out / "config.yaml", potato_config(str(lines[0]["run"]), show_labels))
    write_jsonl(out / "data" / "pairs.jsonl", tasks)
    return [out / "config.yaml", out / "data" / "pairs.jsonl"]


def _as_texts(line: Mapping[str, Any], show_labels: bool) -> dict[str, str]:
    """A line with the fields that an annotation tool shows, all of them texts."""
    label, confidence = (line[name] for name in JUDGE)
    said = f"{label} ({confidence:.3f})" if label and confidence is not None else "no label"
    judge = {"judge": said} if show_labels else {}
    return {
        "id": line["id"],
        "prompt": render_conversation(parse_messages(line["prompt"])),
        "response_1": line["response_1"],
        "response_2": line["response_2"],
        "reasons": ", ".join(line["reasons"]),
        **judge,
    }


def label_studio_config(show_labels: bool) -> str:
    """The labeling interface of a Label Studio project, checked with label-studio-sdk 2.1.2."""
    judge = '  <Header value="The judge"/><Text name="judge" value="$judge"/>\n' if show_labels else ""
    choices = "".join(f'    <Choice value="{one}" hotkey="{key}"/>\n' for key, one in enumerate(ANSWERS, start=1))
    return f"""<View>
  <Header value="Prompt"/>
  <Text name="prompt" value="$prompt"/>
  <View style="display: flex; gap: 1.5rem">
    <View style="flex: 1"><Header value="Response A"/><Text name="response_1" value="$response_1"/></View>
    <View style="flex: 1"><Header value="Response B"/><Text name="response_2" value="$response_2"/></View>
  </View>
{judge}  <Header value={quoteattr(QUESTION)}/>
  <Choices name="{FIELD}" toName="prompt" choice="single" required="true" showInline="true">
{choices}  </Choices>
</View>
"""


def potato_config(run: str, show_labels: bool) -> str:
    """The configuration of a Potato task.

    Keys as in docs/configuration and docs/annotation-types/instance_display.md of github.com/davidjurgens/potato, version
    2.8.0, commit f5ed5d481516ad01cb1ec8041ce64b71db19d15f; answered with potato-annotation 2.12.1.
    """
    import yaml

    titles = {"prompt": "Prompt", "response_1": "Response A", "response_2": "Response B"}
    titles |= {"judge": "The judge"} if show_labels else {}
    config = {
        "annotation_task_name": f"Review of {run}",
        "task_dir": ".",
        "output_annotation_dir": "annotation_output",
        "export_annotation_format": "jsonl",
        "data_files": ["data/pairs.jsonl"],
        "item_properties": {"id_key": "id", "text_key": "prompt"},
        "user_config": {"allow_all_users": True, "users": []},
        "instance_display": {
            "layout": {"direction": "vertical"},
            "fields": [{"key": key, "type": "text", "label": title} for key, title in titles.items()],
        },
        "annotation_schemes": [
            {
                "annotation_type": "radio",
                "name": FIELD,
                "description": QUESTION,
                "labels": list(ANSWERS),
                "sequential_key_binding": True,
                "label_requirement": {"required": True},
            }
        ],
        "site_dir": "default",
    }
    return yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
