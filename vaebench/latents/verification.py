"""Is a latent file sound? Reads every byte."""

import hashlib
from pathlib import Path

import numpy as np

from vaebench.latents.file import LatentFile
from vaebench.latents.schema import LATENTS
from vaebench.latents.statistics import LatentStatistics
from vaebench.latents.writer import content_id

_CHUNK_ROWS = 1024


def verify(path: Path | str) -> list[str]:
    """Check a latent file and say what is wrong with its content; an empty list means sound.

    Checked: every byte against the file's id; NaN, infinity and negative standard deviations; constant channels;
    the stored statistics; pairing of flipped rows; labels against the data's classes.

    Raises:
        MissingPath: there is no such file.
        LatentFileError: truncated, foreign, incomplete or of another schema.
    """
    latents = LatentFile(path)
    info = latents.info
    digests = {name: hashlib.sha256() for name in latents.extents}
    statistics = LatentStatistics(info.shape[0])
    unusable = np.zeros(info.shape[0], bool)
    for start in range(0, len(latents), _CHUNK_ROWS):
        rows = slice(start, start + _CHUNK_ROWS)
        pair = [np.ascontiguousarray(latents.as_stored(name)[rows]) for name in LATENTS]
        for name, values in zip(LATENTS, pair, strict=True):
            digests[name].update(values.data)
            bad = ~np.isfinite(values) | (values < 0 if name == "std" else False)
            unusable |= bad.any(axis=(0, 2, 3))
        if not unusable.any():
            statistics.update(*pair)
    for name in set(digests) - set(LATENTS):
        digests[name].update(np.ascontiguousarray(latents.as_stored(name)).data)

    problems = []
    if content_id(info, {name: digest.hexdigest() for name, digest in digests.items()}) != info.id:
        problems.append("the stored bytes do not belong to the file's id: something changed them after writing")
    if unusable.any():
        problems.append(f"channels {np.flatnonzero(unusable).tolist()} hold NaN, infinity or a negative std")
    else:
        found = statistics.result()
        constant = [channel for channel, spread in enumerate(found.std_of_means) if spread == 0]
        if constant:
            problems.append(f"channels {constant} are constant: their posterior mean never changes")
        here, stored = (np.array(list(s.model_dump().values())) for s in (found, info.statistics))
        if not np.allclose(here, stored, rtol=1e-6, atol=1e-12):
            problems.append("the stored statistics are not those of the stored latents")
    return problems + _column_problems(latents)


def _column_problems(latents: LatentFile) -> list[str]:
    problems = []
    plain = np.sort(latents.ids[~latents.flipped])
    if (np.diff(plain) == 0).any():
        problems.append("sample ids repeat")
    wanted = plain if latents.info.transform.flip == "both" else plain[:0]
    if not np.array_equal(np.sort(latents.ids[latents.flipped]), wanted):
        problems.append("flipped rows do not pair with the rows as they are")
    classes = len(latents.data.classes)
    if latents.labels is not None and classes and not ((latents.labels >= 0) & (latents.labels < classes)).all():
        problems.append(f"labels lie outside the {classes} classes of the data")
    return problems
