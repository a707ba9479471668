"""``vaebench tokenizers``."""

from typing import Annotated

import typer

from vaebench.cli import options as opt


def tokenizers(
    check: Annotated[str | None, typer.Option(help="Test a tokenizer against the contract instead of listing.")] = None,
    image_size: Annotated[int, typer.Option(help="Side of the images for --check.")] = 64,
    device: opt.Device = "auto",
) -> None:
    """List the tokenizers and methods that are registered, with the package each comes from.

    Example: vaebench tokenizers
    """
    from vaebench.tokenizers import TOKENIZERS

    if check is None:
        rows = []
        for entry in TOKENIZERS.entries():
            target = entry.load()
            kind = "method" if getattr(target, "trainable", False) else "ready"
            rows.append((entry.name, kind, entry.package, getattr(target, "summary", "") or entry.summary))
        widths = [max(len(row[i]) for row in rows) for i in range(3)]
        for row in rows:
            print("  ".join([*(text.ljust(width) for text, width in zip(row, widths, strict=False)), row[3]]))
        return
    from vaebench.core.config import dump_yaml
    from vaebench.core.errors import DataError
    from vaebench.tokenizers import load_tokenizer
    from vaebench.tokenizers.check import check_tokenizer

    tokenizer = load_tokenizer(check, device=opt.context(device).torch_device())
    problems = check_tokenizer(tokenizer, image_size, opt.context(device).torch_device())
    print(dump_yaml(tokenizer.spec), end="")
    if problems:
        raise DataError("The tokenizer does not keep the contract: " + "; ".join(problems) + ".")
    print("keeps the contract")
