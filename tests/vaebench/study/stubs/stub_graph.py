"""A study and graphs of stub stages, as `vaebench.study.graph` makes them of real ones."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stub_stages import Light, Shared, Stub, StubConfig

from vaebench.stages.base import stage_hash
from vaebench.study.spec import StudySpec

SPEC = StudySpec.model_validate({"study": "stub", "tokenizers": [{"name": "a", "load": "x"}]})


@dataclasses.dataclass(frozen=True)
class StubNode:
    """As `vaebench.study.graph.Node`, of a stage that no registry knows."""

    id: str
    stage: Any
    config: Any
    needs: dict[str, str]
    hash: str
    given: dict[str, str] = dataclasses.field(default_factory=dict)
    kind: str = "stub"
    tokenizer: None = None
    seed: None = None
    budget: dict[str, float] = dataclasses.field(default_factory=dict)

    @property
    def folder_name(self) -> str:
        return f"{self.id}-{self.hash[:10]}"


class StubGraph:
    """Nodes by name; what each needs is given with its settings."""

    def __init__(self, nodes: Mapping[str, Mapping[str, Any]]) -> None:
        self.nodes: dict[str, StubNode] = {}
        for name, given in nodes.items():
            settings = dict(given)
            needs = {need: need for need in settings.pop("needs", ())}
            stage = {"light": Light, "shared": Shared, "": Stub}[settings.pop("as", "")]()
            config = StubConfig(name=name, **settings)
            identity = stage_hash(stage, config, {role: self.nodes[other].hash for role, other in needs.items()})
            self.nodes[name] = StubNode(name, stage, config, needs, identity)

    def folders(self, root: Path) -> dict[str, Path]:
        return {node.id: root / "stages" / node.folder_name for node in self.nodes.values()}

    def inputs(self, node: StubNode, root: Path) -> dict[str, Path]:
        return {role: self.folders(root)[other] for role, other in node.needs.items()}

    def made(self, root: Path) -> dict[str, dict[str, Any]]:
        """What each complete stage noted."""
        return {
            name: json.loads((folder / "made.json").read_text())
            for name, folder in self.folders(root).items()
            if (folder / "stage.json").is_file()
        }
