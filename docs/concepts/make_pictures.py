"""Draws the pictures of docs/concepts/README.md, each from a computation by the bench's own functions.

Run `python docs/concepts/make_pictures.py`, with names of functions below to draw only these. It takes a minute or two
on two idle cores, downloads nothing, and draws the same pictures again: every random number comes from a named seed.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from sklearn.neighbors import KNeighborsClassifier

import vaebench
from vaebench.core.seeds import numpy_generator
from vaebench.data.base import DataInfo, Factor
from vaebench.metrics import METRICS
from vaebench.metrics.base import LatentSplit, MetricInputs
from vaebench.metrics.diffusability.equivariance import errors, turned
from vaebench.metrics.diffusability.manifold import effective_rank, spectrum_of
from vaebench.metrics.diffusability.spatial import distances, structure, unit_vectors
from vaebench.metrics.diffusability.spectrum import energies, high_frequencies, share
from vaebench.metrics.diffusability.velocity import ambiguity_at
from vaebench.metrics.disentanglement.information import counted_information, discretise, mig
from vaebench.metrics.fidelity.frechet import frechet_from_samples
from vaebench.metrics.fidelity.manifold import manifold_scores
from vaebench.metrics.reconstruction.quality import psnr
from vaebench.metrics.separability.consistency import consistency
from vaebench.vision.transforms import to_signed, to_uint8

HERE = Path(__file__).parent
EVIDENCE = HERE.parent / "evidence" / "quickstart" / "wide.csv"
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#777777"  # told apart by colour-blind readers too
IMAGES = 400

plt.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "figure.dpi": 130})


def draw(*key: str) -> np.random.Generator:
    """The generator of one picture."""
    return numpy_generator(0, "concepts", *key)


def save(figure: plt.Figure, name: str) -> None:
    """Write one picture."""
    figure.tight_layout()
    figure.savefig(HERE / f"{name}.png", metadata={"Software": None})
    plt.close(figure)
    print(HERE / f"{name}.png")


def avatars() -> np.ndarray:
    """uint8 (IMAGES, 3, 64, 64)."""
    sizes = {"train": IMAGES, "validation": 8, "test": 8, "image_size": 64}
    folder = vaebench.prepare_data("avatars", options=sizes)
    return vaebench.open_data(folder / "data.h5").split("train").in_memory()


def coded(images: np.ndarray, reference: str) -> tuple[np.ndarray, np.ndarray]:
    """Latents and reconstructions of a ready tokenizer."""
    tokenizer = vaebench.load_tokenizer(reference)
    with torch.inference_mode():
        latents = tokenizer.encode(to_signed(torch.from_numpy(images))).mean
        return latents.numpy(), to_uint8(tokenizer.decode(latents)).numpy()


def reconstruction(images: np.ndarray) -> None:
    """A blur and noise of equal PSNR, and what a feature network says of them."""
    from vaebench.vision import extract, load_network

    _, blurred = coded(images, "dct?f=16&d=60")
    first = torch.from_numpy(images)
    target = float(psnr(first, torch.from_numpy(blurred)).mean())
    noise = draw("noise").standard_normal(images.shape)
    low, high = 0.0, 80.0
    for _ in range(20):  # the strength of noise that gives the same PSNR
        strength = (low + high) / 2
        noisy = np.clip(images + strength * noise, 0, 255).round().astype(np.uint8)
        low, high = (strength, high) if float(psnr(first, torch.from_numpy(noisy)).mean()) > target else (low, strength)
    network = load_network("mobilenetv2")
    pooled = {
        name: extract(network, some.__getitem__, len(some), want=("pooled",))["pooled"]
        for name, some in (("real", images), ("blur", blurred), ("noise", noisy))
    }
    figure, axes = plt.subplots(1, 3, figsize=(6.6, 3.0))
    for axis, name, some in zip(axes, ("real", "blur", "noise"), (images, blurred, noisy), strict=True):
        axis.imshow(some[3].transpose(1, 2, 0))
        axis.axis("off")
        told = "original"
        if name != "real":
            value = float(psnr(first, torch.from_numpy(some)).mean())
            told = f"{name}: PSNR {value:.1f} dB\nrFID {frechet_from_samples(pooled[name], pooled['real']):.0f}"
        axis.set_title(told)
    save(figure, "reconstruction")


def probes() -> None:
    """An attribute that lies along a direction, and one that is there as well but on no side of any line."""
    generator = draw("probes")
    points = generator.standard_normal((1200, 2))
    linear = points @ [1.0, 0.6] + 0.35 * generator.standard_normal(1200) > 0
    crossed = (points[:, 0] * points[:, 1] > 0) ^ (generator.random(1200) < 0.05)
    figure, axes = plt.subplots(1, 2, figsize=(6.6, 3.1))
    for axis, labels, title in zip(
        axes, (linear, crossed), ("along a direction", "present, but not linear"), strict=True
    ):
        train, test = slice(0, 600), slice(600, 1200)
        line = LogisticRegression().fit(points[train], labels[train])
        near = KNeighborsClassifier(25).fit(points[train], labels[train])
        score = average_precision_score(labels[test], line.decision_function(points[test]))
        other = average_precision_score(labels[test], near.predict_proba(points[test])[:, 1])
        for value, colour in ((False, GREY), (True, ORANGE)):
            axis.scatter(
                *points[test][labels[test] == value].T, s=6, color=colour, label="with" if value else "without"
            )
        (a, b), c = line.coef_[0], line.intercept_[0]
        axis.axline((0, -c / b), slope=-a / b, color=BLUE, lw=1.5)
        axis.set(title=f"{title}\nprobe {score:.2f}, neighbours {other:.2f} (AP)", xlim=(-3, 3), ylim=(-3, 3))
    axes[0].legend(loc="lower left", fontsize=7)
    save(figure, "probes")


def disentanglement() -> None:
    """The same information in codes along the axes and turned by 45 degrees: MIG sees one of them."""
    generator = draw("disentanglement")
    factors = generator.integers(0, 6, (6000, 3))
    codes = (factors - 2.5) / 1.7 + 0.1 * generator.standard_normal((6000, 3))
    turn = np.linalg.qr(np.array([[1.0, 1, 0], [-1, 1, 0.4], [0.3, -0.2, 1]]))[0]
    figure, axes = plt.subplots(1, 2, figsize=(6.2, 3.0))
    for axis, some, title in ((axes[0], codes, "codes along factors"), (axes[1], codes @ turn, "the same, turned")):
        found = counted_information(discretise(some), factors)
        gap = mig(found.values, found.entropies).value
        readable = np.mean([
            LogisticRegression(max_iter=300).fit(some[:3000], factors[:3000, k]).score(some[3000:], factors[3000:, k])
            for k in range(3)
        ])  # fmt: skip
        axis.imshow(found.values / found.entropies, cmap="Blues", vmin=0, vmax=1)
        for (row, column), value in np.ndenumerate(found.values / found.entropies):
            axis.text(column, row, f"{value:.2f}", ha="center", va="center", color="white" if value > 0.5 else "black")
        axis.set(xticks=range(3), yticks=range(3), xlabel="factor", ylabel="code")
        axis.set_title(f"{title}\nMIG {gap:.2f}, linear readout {readable:.0%} right")
    save(figure, "disentanglement")


def neighbours() -> None:
    """Consistency of neighbours against the share of the dimensions that know the class."""
    generator, k = draw("neighbours"), 10
    labels = generator.integers(0, 5, 1500)
    centres = generator.standard_normal((5, 64))
    figure, axis = plt.subplots(figsize=(4.6, 3.0))
    for spread, colour in ((1.0, BLUE), (2.0, ORANGE)):
        shares, values = (0, 2, 4, 8, 16, 32, 64), []
        for informed in shares:
            points = spread * generator.standard_normal((1500, 64))
            points[:, :informed] += centres[labels, :informed]
            values.append(float(consistency(points, labels, k).mean()))
        axis.plot(shares, values, "o-", color=colour, label=f"noise {spread:g}")
    axis.axhline(0.2, color=GREY, ls=":", label="chance")
    axis.set(xlabel="of 64 dimensions, how many know the class", ylabel=f"LNC, k = {k}", ylim=(0, 1.05))
    axis.legend(fontsize=7)
    save(figure, "neighbours")


def rank() -> None:
    """Spectra of covariance and the dimension that latents fill."""
    generator = draw("rank")
    figure, axis = plt.subplots(figsize=(4.6, 3.0))
    for decay, colour in ((0.0, BLUE), (0.1, GREEN), (0.5, ORANGE)):
        values, _ = spectrum_of(generator.standard_normal((2000, 32)) * np.exp(-decay * np.arange(32)))
        values = np.sort(values)[::-1]
        axis.semilogy(
            np.arange(1, 33), values / values.sum(), color=colour, label=f"effective rank {effective_rank(values):.1f}"
        )
    axis.set(xlabel="direction", ylabel="share of variance", title="32 channels each")
    axis.legend(fontsize=7)
    save(figure, "rank")


def spatial(images: np.ndarray) -> None:
    """Similarity of latent positions against their distance."""
    figure, axis = plt.subplots(figsize=(4.8, 3.1))
    for reference, name, colour in (
        ("pixels?f=8", "pixels of 8 x 8 patches", BLUE),
        ("dct?f=8&d=16", "DCT, d = 16", GREEN),
        ("random-projection?f=8&d=16", "random projection, d = 16", ORANGE),
    ):
        latents, _ = coded(images, reference)
        units, apart = unit_vectors(latents), distances(*latents.shape[2:])
        similar = np.nanmean(units @ units.transpose(0, 2, 1), axis=0)
        curve = [similar[apart == step].mean() for step in range(1, apart.max() + 1)]
        lds = float(np.nanmean(structure(latents).lds))
        axis.plot(range(1, len(curve) + 1), curve, color=colour, label=f"{name}: LDS {lds:.2f}")
    axis.set(xlabel="distance of two positions", ylabel="mean cosine of their latents")
    axis.legend(fontsize=7)
    save(figure, "spatial")


def spectrum(images: np.ndarray) -> None:
    """Energy by frequency, of images and of latents that a decoder could be given instead."""
    grid = images.reshape(IMAGES, 3, 8, 8, 8, 8).mean((3, 5)) / 127.5 - 1  # images at the size of the latents
    figure, axis = plt.subplots(figsize=(4.8, 3.1))
    latents, _ = coded(images, "random-projection?f=8&d=16")
    white = draw("spectrum").standard_normal(latents.shape)
    for planes, name, colour in (
        (grid, "images, made small", BLUE), (latents, "random projection", GREEN), (white, "white noise", ORANGE),
    ):  # fmt: skip
        energy = energies(planes)
        rings = np.add.outer(np.arange(8), np.arange(8))
        curve = np.array([energy[:, rings == ring].mean() for ring in range(15)])
        sec = share(energy[:, high_frequencies(8, 8, 0.25)].sum(1), energy.sum((1, 2)))
        axis.semilogy(curve / curve.sum(), "o-", ms=3, color=colour, label=f"{name}: SEC {sec:.2f}")
    axis.axvspan(0.25 * 14, 14, color=GREY, alpha=0.12, lw=0)
    axis.set(xlabel="frequency u + v (shaded: counts as high)", ylabel="share of energy")
    axis.legend(fontsize=7)
    save(figure, "spectrum")


def velocity() -> None:
    """Paths from noise to data in one dimension, and how uncertain the velocity is along them."""
    generator = draw("velocity")
    figure, axes = plt.subplots(1, 2, figsize=(6.8, 2.9))
    times = np.linspace(0, 1, 101)
    for std, colour in ((0.3, BLUE), (1.0, GREEN), (2.0, ORANGE)):
        values = [ambiguity_at(np.array([std**2]), t) for t in times]
        area = np.pi / 2 * std
        axes[1].plot(times, values, color=colour, label=f"std {std:g}: VIV {area:.2f}")
    for _ in range(60):
        start, end = generator.standard_normal(), generator.choice([-1.5, 1.5]) + 0.25 * generator.standard_normal()
        axes[0].plot([0, 1], [start, end], color=BLUE if end > 0 else ORANGE, lw=0.6, alpha=0.7)
    axes[0].set(xlabel="t (0 noise, 1 data)", ylabel="x", title="where paths cross,\nthe velocity is ambiguous")
    axes[1].set(xlabel="t", ylabel="variance of the velocity given x", title="Gaussian data", yscale="log")
    axes[1].legend(fontsize=7)
    save(figure, "velocity")


def equivariance(images: np.ndarray) -> None:
    """Latents of a turned image against turned latents."""
    figure, axes = plt.subplots(2, 3, figsize=(5.6, 3.9))
    turn = turned(1)
    for row, (reference, name) in enumerate((("dct?f=8&d=3", "mean colours"), ("dct?f=8&d=16", "DCT"))):
        latents, _ = coded(images[:64], reference)
        expected, _ = coded(turn(images[:64]), reference)
        wrong, size = errors(turn(latents), expected)
        channel = 0 if name == "mean colours" else 3
        shown = {"latents": latents, "latents, turned": turn(latents), "latents of the turned image": expected}
        for axis, (title, planes) in zip(axes[row], shown.items(), strict=True):
            axis.imshow(
                planes[3, channel],
                cmap="RdBu_r",
                vmin=-abs(latents[3, channel]).max(),
                vmax=abs(latents[3, channel]).max(),
            )
            axis.set(xticks=[], yticks=[])
            axis.set_title(title if row == 0 else "", fontsize=8)
        axes[row, 0].set_ylabel(f"{name}, channel {channel}\nerror {wrong.sum() / size.sum():.2f}")
    save(figure, "equivariance")


def two_references() -> None:
    """gFID against both references, from the committed results of the quickstart."""
    table = pd.read_csv(EVIDENCE).set_index("tokenizer")
    table = table[table.filter(regex=r"^gfid \[.*\]$").notna().any(axis=1)]  # nothing is generated from controls
    figure, axis = plt.subplots(figsize=(4.8, 3.0))
    for offset, metric, name, colour in (
        (-0.18, "gfid", "to real images", BLUE), (0.18, "gfid_vs_reconstructions", "to own reconstructions", ORANGE),
    ):  # fmt: skip
        column = next(c for c in table.columns if c.startswith(f"{metric} [") and c.endswith("]"))
        value, low, high = (table[c].to_numpy() for c in (column, f"{column} low", f"{column} high"))
        place = np.arange(len(table)) + offset
        axis.bar(place, value, 0.34, color=colour, label=f"gFID {name}")
        axis.errorbar(place, value, [value - low, high - value], fmt="none", color="black", capsize=2)
    axis.plot(range(len(table)), table["rfid"], "k_", ms=26, mew=1.5, label="rFID of the decoder")
    axis.set_xticks(range(len(table)), table.index)
    axis.legend(fontsize=7, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, markerscale=0.45)
    save(figure, "two-references")


def small_samples() -> None:
    """Fréchet distance of two samples of one law: zero in truth, and what few samples make of it."""
    generator = draw("small")
    counts, width = (200, 500, 1000, 2000, 5000), 128
    values = [
        [frechet_from_samples(*(generator.standard_normal((n, width)) for _ in range(2))) for _ in range(5)]
        for n in counts
    ]
    figure, axis = plt.subplots(figsize=(4.6, 2.9))
    axis.loglog(counts, np.mean(values, 1), "o-", color=BLUE)
    axis.set_xticks(counts, [f"{n:,}" for n in counts])
    axis.set_xticks([], minor=True)
    axis.set(
        xlabel="samples on each side", ylabel="Fréchet distance", title=f"equal laws, {width} features: the truth is 0"
    )
    save(figure, "small-samples")


def measured(name: str, codes: np.ndarray, options: Mapping[str, Any] | None = None, **columns: np.ndarray) -> Any:
    """Scores of a metric on drawn codes (n, d), cut into splits, by metric (and variant, where it has several).

    ``columns`` are labels, attributes or factors of the rows.
    """
    n = len(codes)
    grid = codes.reshape(n, -1, 1, 1).astype(np.float32)
    cuts = (slice(0, int(0.6 * n)), slice(int(0.6 * n), int(0.7 * n)), slice(int(0.7 * n), n))
    splits = [
        LatentSplit(grid[cut], np.full_like(grid[cut], 0.1), **{key: values[cut] for key, values in columns.items()})
        for cut in cuts
    ]
    factors, attributes = columns.get("factors", np.zeros((1, 0), int)), columns.get("attributes", np.zeros((1, 0)))
    info = DataInfo(
        "drawn", 4, classes=tuple("01234"), attributes=tuple(f"a{i}" for i in range(attributes.shape[1])),
        attribute_level="image", fingerprint="drawn",
        factors=tuple(Factor(f"f{k}", tuple(map(str, range(column.max() + 1)))) for k, column in enumerate(factors.T)),
    )  # fmt: skip
    train = grid[cuts[0], :, 0, 0]
    inputs = MetricInputs(splits[0], splits[1], splits[2], info, train.mean(0), 1 / train.std(0))
    found = METRICS.get(name)(options or {}).run(inputs, 0)
    found = [score for score in found if not {"factor", "attribute"} & score.detail.keys()]
    return {(score.metric, score.detail.get("vectorisation"), score.detail.get("variant")): score for score in found}


def disentanglement_scores() -> None:
    """Every disentanglement score of the same factors, written into codes in four ways."""
    generator = draw("disentanglement scores")
    factors = generator.integers(0, 6, (3000, 3))
    clean = (factors - 2.5) / 1.7
    turn = np.linalg.qr(np.array([[1.0, 1, 0], [-1, 1, 0.4], [0.3, -0.2, 1]]))[0]
    ways = {
        "one code each": clean, "turned": clean @ turn, "two codes each": np.repeat(clean, 2, 1),
        "noise": generator.standard_normal(clean.shape),
    }  # fmt: skip
    table: dict[str, dict[str, float]] = {}
    for way, codes in ways.items():
        noisy = codes + 0.1 * generator.standard_normal(codes.shape)
        for name in ("mig", "sap", "modularity", "dci", "infomec", "irs", "factor-vae", "beta-vae", "explicitness"):
            for (metric, kind, _), score in measured(name, noisy, factors=factors).items():
                if kind == "pooled":
                    table.setdefault(metric, {})[way] = score.value
    shown = pd.DataFrame(table).T[list(ways)]
    figure, axis = plt.subplots(figsize=(5.4, 4.4))
    axis.imshow(shown, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for (row, column), value in np.ndenumerate(shown.to_numpy()):
        axis.text(column, row, f"{value:.2f}", ha="center", va="center", color="white" if value > 0.5 else "black")
    axis.set_xticks(range(len(ways)), list(ways))
    axis.set_yticks(range(len(shown)), list(shown.index))
    axis.tick_params(length=0, top=True, labeltop=True, bottom=False, labelbottom=False)
    save(figure, "disentanglement-scores")


def labels_needed() -> None:
    """One attribute along one code and the same spread thinly over all of them: equal in the end, not on the way."""
    generator = draw("labels")
    figure, axis = plt.subplots(figsize=(4.8, 3.1))
    for width, name, colour in ((4, "4 codes", BLUE), (64, "64 codes", ORANGE)):
        codes = generator.standard_normal((3000, width))
        attributes = (codes.sum(1, keepdims=True) / np.sqrt(width) > 0).astype(np.uint8)
        found = {
            metric: score for (metric, *_), score in measured("sample-efficiency", codes, attributes=attributes).items()
        }
        curve = found["sample_efficiency_average_precision"].detail["curve"]
        told = f"{name}: {found['mdl_bits'].value:.2f} bits a label"
        axis.semilogx([int(size) for size in curve], list(curve.values()), "o-", ms=3, color=colour, label=told)
        axis.set_xticks([int(size) for size in curve], list(curve))
    axis.set_xticks([], minor=True)
    axis.set(xlabel="training images", ylabel="average precision of the probe")
    axis.legend(fontsize=7, title="written in", title_fontsize=7)
    save(figure, "labels-needed")


def leakage() -> None:
    """Two attributes of the data: on directions of their own, on one direction, and seldom apart."""
    generator = draw("leakage")
    figure, axes = plt.subplots(1, 3, figsize=(7.2, 2.9))
    for axis, title, angle, together in zip(
        axes, ("apart", "one direction", "apart, but they co-occur"), (90, 25, 90), (0.0, 0.0, 0.8), strict=True
    ):
        first = generator.integers(0, 2, 3000)
        second = np.where(generator.random(3000) < together, first, generator.integers(0, 2, 3000))
        turn = np.deg2rad(angle)
        signs = 2.0 * np.stack([first, second], 1) - 1
        codes = signs @ np.array([[1, 0], [np.cos(turn), np.sin(turn)]]) + 0.45 * generator.standard_normal((3000, 2))
        attributes = np.stack([first, second], 1).astype(np.uint8)
        leak = next(iter(measured("leakage", codes, attributes=attributes).values())).value
        directions = measured("attribute-directions", codes, attributes=attributes)
        cosine = next(score.value for (metric, *_), score in directions.items() if metric == "direction_cosine")
        for value, colour in enumerate((GREY, BLUE, ORANGE, GREEN)):
            axis.scatter(*codes[:800][2 * first[:800] + second[:800] == value].T, s=4, color=colour)
        axis.set(xticks=[], yticks=[])
        axis.set_title(f"{title}\nleakage {leak:.2f}, cosine {cosine:.2f}", fontsize=8)
    save(figure, "leakage")


def spread() -> None:
    """Three clouds: how many Gaussians they look like, and how evenly they cover the plane."""
    generator = draw("spread")
    labels = generator.integers(0, 5, 2500)
    angle = 2 * np.pi * labels / 5
    blobs = 2 * np.stack([np.cos(angle), np.sin(angle)], 1) + 0.25 * generator.standard_normal((2500, 2))
    clouds = {
        "five clusters": blobs, "one Gaussian": generator.standard_normal((2500, 2)),
        "evenly spread": generator.uniform(-1.7, 1.7, (2500, 2)),
    }  # fmt: skip
    figure, axes = plt.subplots(1, 3, figsize=(7.2, 3.1))
    for axis, (title, points) in zip(axes, clouds.items(), strict=True):
        fits = measured("gmm", points, {"components": [1, 5]}, labels=labels)
        gain = fits["gmm_nll", None, "1 components"].value - fits["gmm_nll", None, "5 components"].value
        even = measured("uniformity", points, {"maps": ["pca"]}, labels=labels)
        entropy, gini = (even[name, None, "pca"].value for name in ("density_entropy", "density_gini"))
        axis.scatter(*points.T, s=2, color=BLUE, alpha=0.5)
        axis.set(xticks=[], yticks=[], aspect="equal", xlim=(-3.2, 3.2), ylim=(-3.2, 3.2))
        axis.set_title(f"{title}\n5 Gaussians save {gain:.2f} nats\nentropy {entropy:.3f}, Gini {gini:.2f}", fontsize=8)
    save(figure, "spread")


def interpolation(images: np.ndarray) -> None:
    """Halfway between neighbouring latents, decoded: for pixels a double exposure."""
    figure, axes = plt.subplots(2, 3, figsize=(4.4, 3.4))
    for row, (reference, name) in enumerate((("pixels?f=8", "pixels"), ("dct?f=8&d=12", "DCT, d = 12"))):
        latents, decoded = coded(images, reference)
        flat = latents.reshape(len(latents), -1)
        first = 3
        gaps = np.square(flat - flat[first]).sum(1)
        second = int(np.argsort(gaps)[1])
        tokenizer = vaebench.load_tokenizer(reference)
        with torch.inference_mode():
            half = torch.from_numpy((latents[[first]] + latents[[second]]) / 2)
            middle = to_uint8(tokenizer.decode(half)).numpy()[0]
        for axis, shown, title in zip(
            axes[row], (decoded[first], middle, decoded[second]), ("latents", "halfway", "their neighbour"), strict=True
        ):
            axis.imshow(shown.transpose(1, 2, 0))
            axis.set(xticks=[], yticks=[])
            axis.set_title(title if row == 0 else "", fontsize=8)
        axes[row, 0].set_ylabel(name, fontsize=8)
    save(figure, "interpolation")


def coverage() -> None:
    """Samples of three generators against data of two clusters: what each measure notices."""
    generator = draw("coverage")

    def cloud(sides: np.ndarray, spread: float) -> np.ndarray:
        centres = np.stack([2.0 * sides, np.zeros(len(sides))], 1)
        return np.asarray(centres + spread * generator.standard_normal((len(sides), 2)))

    both = generator.choice([-1, 1], 1000)
    real = cloud(both, 0.6)
    figure, axes = plt.subplots(1, 3, figsize=(7.2, 3.2))
    for axis, (title, fake) in zip(axes, {
        "one cluster missed": cloud(np.ones(1000), 0.6), "too little variety": cloud(both, 0.25),
        "too much": cloud(both, 1.3),
    }.items(), strict=True):  # fmt: skip
        found = {name: float(values.mean()) for name, values in vars(manifold_scores(fake, real)).items()}
        distance = frechet_from_samples(fake, real)
        axis.scatter(*real.T, s=3, color=GREY, alpha=0.6)
        axis.scatter(*fake.T, s=3, color=ORANGE, alpha=0.4)
        axis.set(xticks=[], yticks=[], xlim=(-5, 5), ylim=(-3.5, 3.5))
        told = ", ".join(f"{name} {found[name]:.2f}" for name in ("precision", "recall"))
        more = ", ".join(f"{name} {found[name]:.2f}" for name in ("density", "coverage"))
        axis.set_title(f"{title}\n{told}\n{more}\nFréchet distance {distance:.2f}", fontsize=8)
    save(figure, "coverage")


PICTURES = (
    probes, labels_needed, leakage, disentanglement, disentanglement_scores, neighbours, rank, spread, velocity,
    two_references, small_samples, coverage, reconstruction, spatial, spectrum, equivariance, interpolation,
)  # fmt: skip


def main(names: list[str]) -> None:
    """Draw these, or everything."""
    images = None
    for picture in PICTURES:
        if names and picture.__name__ not in names:
            continue
        if picture.__code__.co_argcount == 0:
            picture()
            continue
        images = avatars() if images is None else images
        picture(images[:160] if picture is reconstruction else images)


if __name__ == "__main__":
    main(sys.argv[1:])
