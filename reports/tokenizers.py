"""What a study knows of its tokenizers beside their scores: family and latent shape."""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import pandas as pd

from reports.collect import Results, Study
from vaebench.core.files import read_json
from vaebench.study.slim import HEADERS

COLUMNS = {
    "study": "str", "tokenizer": "str", "label": "str", "family": "str", "f": "Int64", "d": "Int64", "height": "Int64",
    "width": "Int64", "latent_dim": "Int64",
}  # fmt: skip


def tokenizer_facts(results: Results) -> pd.DataFrame:
    """One row per compared tokenizer: study, tokenizer, label, family, f, d, height, width, latent_dim = d h w.

    The family is the training method of the study file, or what a ready tokenizer was loaded from, or else the name.
    Shapes are read from the latent files of complete `extract` stages and missing without one.
    """
    rows = []
    for study in results.studies:
        families = _families(study)
        shapes = _shapes(study)
        for (name, tokenizer), label in results.labels.items():
            if name == study.name:
                rows.append({
                    "study": name, "tokenizer": tokenizer, "label": label,
                    "family": families.get(tokenizer, tokenizer), **shapes.get(tokenizer, {}),
                })  # fmt: skip
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)


def _families(study: Study) -> dict[str, str]:
    config = study.index.get("config")
    entries = config.get("tokenizers") if isinstance(config, dict) else None
    known = [entry for entry in entries or [] if isinstance(entry, dict) and entry.get("name")]
    return {str(e["name"]): str(e.get("load") or e.get("method") or e["name"]) for e in known}


def _shapes(study: Study) -> dict[str, dict[str, int]]:
    """Shape per tokenizer from the first latent file that tells it; the study's own extraction comes first."""
    shapes: dict[str, dict[str, int]] = {}
    for stage in study.of_kind("extract"):
        if stage.tokenizer not in shapes:
            found = next(filter(None, map(_shape, _headers(stage.folder))), None)
            shapes |= {stage.tokenizer: found} if found else {}
    return shapes


def _headers(folder: Path) -> Iterator[Mapping[str, Any]]:
    """Attributes of the latent files; a slim copy of a study keeps those of the files that it leaves out."""
    for path in sorted(folder.glob("*.h5")):
        try:
            with h5py.File(path, "r") as file:
                yield dict(file.attrs)
        except OSError:
            continue
    if (folder / HEADERS).is_file():
        yield from read_json(folder / HEADERS).values()


def latent_sizes(results: Results) -> dict[str, float]:
    """Latent numbers per image of every tokenizer of which they are known, by label."""
    sizes = tokenizer_facts(results).set_index("label")["latent_dim"].dropna()
    return {str(label): float(size) for label, size in sizes.items()}


def _shape(attributes: Mapping[str, Any]) -> dict[str, int] | None:
    try:
        d, height, width = json.loads(attributes["shape"])
        spec: dict[str, Any] = json.loads(attributes["tokenizer"])
        return {"d": d, "height": height, "width": width, "latent_dim": math.prod((d, height, width)), "f": spec["f"]}
    except (KeyError, ValueError, TypeError):
        return None
