"""What is said of a file of weights that only unrestricted unpickling could read. Loads nothing."""

import re
from pathlib import Path

# Under which training scripts keep weights.
WRAPPERS = ("state_dict", "model", "encoder", "vae")


def refusal(path: Path, error: Exception) -> tuple[str, str]:
    """Message and remedy: a pickle can run any code when it is read; a file that one trusts can be made safe."""
    safe = path.with_suffix(".safetensors").name
    # torch's text is long, and advises to read the file all the same.
    found = re.search(r"GLOBAL ([\w.]+)", str(error))
    message = (
        f"{path} is a pickle that holds more than tensors{f' ({found[1]})' if found else ''}, or a damaged one, and is "
        "not read: reading it could run any code."
    )
    remedy = (
        'If you trust where it is from, convert it where that code may run:\n  python -c "import torch; from '
        f"safetensors.torch import save_file; s = torch.load('{path.name}', map_location='cpu', weights_only=False); "
        f"s = next((s[k] for k in {WRAPPERS!r} if isinstance(s.get(k), dict)), s); save_file({{k: "
        f"v.clone().contiguous() for k, v in s.items() if torch.is_tensor(v)}}, '{safe}')\""
    )
    return message, remedy
