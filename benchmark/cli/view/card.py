"""The card of a method as text for a terminal of 80 columns."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from benchmark.cli.view.console import console, rows


def card(document: Mapping[str, Any]) -> None:
    """Citation, protocol, the docstring of the method's file, variants, and values of both profiles."""
    out, cited, dataset = console(), document["citation"], document["dataset"]
    doi = f", doi:{cited['doi']}" if cited["doi"] else ""
    out.print(f"{document['title']} ({document['id']}, version {document['version']}, {document['origin']})")
    out.print(f"{cited['paper']}. {cited['venue']} {cited['year']}{doi}", soft_wrap=True)
    out.print(f"\n{document['group']}: {protocol_line(document['protocol'])}\n")
    out.print(document["description"], soft_wrap=True)
    for name, changed in document["variants"].items():
        lines = [
            (
                each["name"] + (f" ({each['dataset']})" if each["dataset"] and not dataset else ""),
                recommended(each["recommended"]),
                _text(each["value"]),
                each["source"],
            )
            for each in changed
        ]
        headers = ("name", "recommended", name, "source")
        rows(headers, lines, f"variant {name}: what --set variant={name} changes")
    said = [(name, facts["meaning"], facts["valid"]) for name, facts in document["settings"].items()]
    if said:
        rows(("name", "meaning", "valid"), said, "hyper-parameters, changed with --set name=value")
    where = f"on {dataset}" if dataset else "on any dataset without values of its own"
    paper, quick = document["recipe"]["paper"], document["recipe"]["quick"]
    given = [(name, _text(value["value"]), value["source"]) for name, value in paper.items()]
    rows(("name", "value", "source"), given, f"paper profile, {where}")
    given = [(n, _text(v["value"]), v["source"]) for n, v in quick.items() if v != paper.get(n)]
    rows(("name", "value", "source"), given, "quick profile, where it differs")


def protocol_line(facts: Mapping[str, Any]) -> str:
    """How a method is run, in words.

    Args:
        facts: As ``protocol`` of a card.
    """
    parts = ["all modalities at once" if facts["modalities"] == "many" else "two modalities"]
    if facts["kinds"]:
        parts[0] += f" ({' and '.join(facts['kinds'])})"
    if facts["modalities"] == "two":
        how = "one model for every two" if facts["pairwise"] else "with --pairwise only"
        parts.append(f"on more: {how}")
    parts.append("uses labels" if facts["supervised"] else "uses no labels")
    parts.append("several labels per item too" if facts["multilabel"] else "one label per item")
    parts.append("trained" if facts["trained"] else "closed form")
    if facts["transductive"]:
        parts.append("transductive: scores depend on all test items")
    return "; ".join(parts)


def recommended(values: Mapping[str, Any]) -> str:
    """The recommended value; those of both profiles where they differ."""
    texts = {profile: "none" if value is None else _text(value) for profile, value in values.items()}
    if len(set(texts.values())) == 1:
        return next(iter(texts.values()))
    return ", ".join(f"{text} ({profile})" for profile, text in texts.items())


def _text(value: Any) -> str:
    return json.dumps(value, default=str)
