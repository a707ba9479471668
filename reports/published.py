"""Numbers printed in papers: they can stand beside one's own and enter no fit.

Other data, networks, seeds and protocols stand behind each, so a correlation or a model over both kinds would say
nothing. Tables that hold them carry the column `origin`, which every fit refuses.
"""

from pathlib import Path

import pandas as pd

from vaebench.core.errors import MismatchError

OWN, PUBLISHED = "own", "published"
COLUMNS = ("source", "table", "tokenizer", "network", "epochs", "guidance", "variant", "metric", "value", "n", "note")


def published() -> pd.DataFrame:
    """Every shipped number as printed: `COLUMNS` and origin = 'published'.

    source is the paper, table where in it, network the diffusion model, guidance 'none' or 'cfg', variant the setting
    of an ablation or the data of a probe; an empty text means 'does not apply or not printed'. Values of the metrics
    'pearson', 'absolute_pearson' and 'r_squared' are relations over n tokenizers, not scores of one.
    """
    text = {name: "str" for name in COLUMNS if name not in ("epochs", "value", "n")}
    types = {**text, "epochs": "Int64", "value": "float64", "n": "Int64"}
    table = pd.read_csv(Path(__file__).with_name("published.csv"), dtype=types, keep_default_na=False, na_values={
        "epochs": [""], "n": [""], "value": [""],
    })  # fmt: skip
    return table.assign(origin=PUBLISHED)


def beside(comparison: pd.DataFrame, metrics: tuple[str, ...] = ("psnr", "ssim", "rfid", "gfid")) -> pd.DataFrame:
    """One's own means and the published values of these metrics in one table, told apart by `origin`.

    Columns: origin, metric, tokenizer, setting, value, low, high, source. Published values have no interval.
    """
    own = comparison[(comparison["attribute"] == "") & comparison["metric"].isin(metrics)]
    own = own.assign(origin=OWN, tokenizer=own["label"], setting=own["budget"], source=own["study"])
    printed = published()
    printed = printed[printed["metric"].isin(metrics)]
    epochs = printed["epochs"].map(lambda n: "" if pd.isna(n) else f"{n} epochs")
    guidance = printed["guidance"].map({"none": "no guidance", "cfg": "with guidance"}).fillna("")
    notes = pd.concat([printed["network"], epochs, guidance, printed["variant"], printed["note"]], axis=1)
    setting = notes.apply(lambda row: ", ".join(filter(None, row)), axis=1)
    source = printed["source"] + ", " + printed["table"]
    missing = pd.Series(pd.NA, index=printed.index, dtype="Float64")
    printed = printed.assign(setting=setting, source=source, low=missing, high=missing)
    columns = ["origin", "metric", "tokenizer", "setting", "value", "low", "high", "source"]
    both = pd.concat([own[columns], printed[columns]], ignore_index=True)
    return both.sort_values(["metric", "origin"], kind="stable", ignore_index=True)


def refuse_published(table: pd.DataFrame) -> None:
    """Refuse to fit anything to a table that holds published numbers.

    Raises:
        MismatchError: the table has a column `origin`.
    """
    if "origin" in table.columns:
        raise MismatchError(
            "Published numbers do not enter correlations, models or curves: other data and protocols are behind them.",
            "Give the table of `reports.comparison.compare` or `reports.collect.collect` as it is.",
        )
