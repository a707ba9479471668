"""A program that runs a study of stubs: FOLDER NODES OPTIONS (both JSON)."""

import json
import sys
from pathlib import Path

from stub_graph import SPEC, StubGraph

from vaebench.stages.base import Context
from vaebench.study.engine import Options, run

root, nodes, options = sys.argv[1:]
run(SPEC, StubGraph(json.loads(nodes)), Path(root), Context(device="cpu"), Options(**json.loads(options)))
