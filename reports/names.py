"""How scores are called, grouped and printed. A score that is not listed here is shown under its own name."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass

MINUS = "\N{MINUS SIGN}"
ARROWS = {"higher": "\N{UPWARDS ARROW}", "lower": "\N{DOWNWARDS ARROW}", "none": ""}
BUDGET_KEYS = ("steps", "cfg", "nfe")


@dataclass(frozen=True)
class MetricName:
    """Label, table group, digits after the point, one line that says what it is, and whether the main table has it."""

    label: str
    group: str
    digits: int
    meaning: str
    leading: bool = True


RECONSTRUCTION, PROBES, GENERATION, OTHER = "Reconstruction", "Attribute probes", "Generation", "Other scores"
READABILITY, DISENTANGLEMENT, SEPARABILITY = "Attribute readability", "Disentanglement", "Separability"
DIFFUSABILITY = "Structure of latents"
GROUPS = (
    RECONSTRUCTION, PROBES, READABILITY, DISENTANGLEMENT, SEPARABILITY, DIFFUSABILITY, GENERATION, OTHER,
)  # fmt: skip

METRICS: dict[str, MetricName] = {
    "psnr": MetricName("PSNR", RECONSTRUCTION, 2, "Peak signal-to-noise ratio of reconstructions, in dB."),
    "ssim": MetricName("SSIM", RECONSTRUCTION, 3, "Structural similarity of reconstructions."),
    "rfid": MetricName("rFID", RECONSTRUCTION, 2, "Fréchet distance between reconstructions and real images."),
    "probe_macro_f1": MetricName(
        "Probe macro-F1", PROBES, 3, "F1 of a linear probe that reads attributes off the latents, mean over attributes."
    ),
    "probe_average_precision": MetricName(
        "Probe average precision", PROBES, 3, "Area under precision and recall of the probe, mean over attributes."
    ),
    "probe_balanced_accuracy": MetricName(
        "Probe balanced accuracy", PROBES, 3, "Mean of the recall on both values, mean over attributes.", leading=False
    ),
    "probe_top5_recall": MetricName(
        "Probe top-5 recall", PROBES, 3, "Share of an image's attributes among the probe's top five.", leading=False
    ),
    "attribute_macro_f1": MetricName(
        "Readability: macro-F1", READABILITY, 3, "As the probe's, with a wider choice of penalties.", leading=False
    ),
    "attribute_average_precision": MetricName(
        "Readability: average precision",
        READABILITY,
        3,
        "As the probe's, with a wider choice of penalties.",
        leading=False,
    ),
    "attribute_balanced_accuracy": MetricName(
        "Readability: balanced accuracy",
        READABILITY,
        3,
        "As the probe's, with a wider choice of penalties.",
        leading=False,
    ),
    "attribute_top5_recall": MetricName(
        "Readability: top-5 recall", READABILITY, 3, "As the probe's, with a wider choice of penalties.", leading=False
    ),
    "sample_efficiency_average_precision": MetricName(
        "Sample efficiency, average precision",
        READABILITY,
        3,
        "Mean height of the probe's average precision over the logarithm of the number of training images.",
        leading=False,
    ),
    "sample_efficiency_balanced_accuracy": MetricName(
        "Sample efficiency, balanced accuracy",
        READABILITY,
        3,
        "Mean height of the probe's balanced accuracy over the logarithm of the number of training images.",
        leading=False,
    ),
    "mdl_bits": MetricName(
        "Description length",
        READABILITY,
        4,
        "Bits per attribute and image that code the attributes given the latents, probes learned on the way.",
        leading=False,
    ),
    "mdl_compression": MetricName(
        "Compression",
        READABILITY,
        3,
        "Entropy of the attributes over their description length; 1 where latents tell nothing.",
        leading=False,
    ),
    "nonlinear_gap_average_precision": MetricName(
        "Nonlinear gap, average precision",
        READABILITY,
        3,
        "Of neighbours or a small network less that of the linear probe: what is there but not linear.",
        leading=False,
    ),
    "nonlinear_gap_balanced_accuracy": MetricName(
        "Nonlinear gap, balanced accuracy",
        READABILITY,
        3,
        "Of neighbours or a small network less that of the linear probe: what is there but not linear.",
        leading=False,
    ),
    "direction_cosine": MetricName(
        "Overlap of directions",
        READABILITY,
        3,
        "Mean absolute cosine of attribute directions in whitened space; the baseline is their co-occurrence.",
        leading=False,
    ),
    "direction_excess": MetricName(
        "Excess overlap of directions",
        READABILITY,
        3,
        "Overlap of attribute directions beyond their co-occurrence; 0 where attributes are held exactly.",
        leading=False,
    ),
    "attribute_leakage": MetricName(
        "Leakage",
        READABILITY,
        4,
        "Squared rank association of one attribute's probe with another attribute, the first attribute held fixed.",
        leading=False,
    ),
    "mig": MetricName(
        "MIG", DISENTANGLEMENT, 3, "Gap between the two codes that know most of a factor, as a share of its entropy."
    ),
    "sap": MetricName(
        "SAP", DISENTANGLEMENT, 3, "Gap between the two codes that predict a factor best.", leading=False
    ),
    "sap_r2": MetricName(
        "SAP, squared correlation",
        DISENTANGLEMENT,
        3,
        "Gap between the two codes that explain most of a continuous factor.",
        leading=False,
    ),
    "dci_disentanglement": MetricName(
        "DCI disentanglement", DISENTANGLEMENT, 3, "Whether a code matters to one factor only, by importances."
    ),
    "dci_completeness": MetricName(
        "DCI completeness",
        DISENTANGLEMENT,
        3,
        "Whether a factor matters to one code only, by importances.",
        leading=False,
    ),
    "dci_informativeness": MetricName(
        "DCI informativeness",
        DISENTANGLEMENT,
        3,
        "How well factors are predicted from all codes together.",
        leading=False,
    ),
    "modularity": MetricName(
        "Modularity",
        DISENTANGLEMENT,
        3,
        "Whether a code knows of one factor only, by mutual information.",
        leading=False,
    ),
    "explicitness": MetricName(
        "Explicitness", DISENTANGLEMENT, 3, "Area under ROC of linear classifiers of factors.", leading=False
    ),
    "infom": MetricName(
        "InfoM",
        DISENTANGLEMENT,
        3,
        "Modularity by nearest-neighbour information; read it where InfoE is high.",
        leading=False,
    ),
    "infoc": MetricName(
        "InfoC",
        DISENTANGLEMENT,
        3,
        "Compactness by nearest-neighbour information; read it where InfoE is high.",
        leading=False,
    ),
    "infoe": MetricName(
        "InfoE",
        DISENTANGLEMENT,
        3,
        "How much a readout knows of the factors, as a share of the log of their number of values.",
        leading=False,
    ),
    "beta_vae": MetricName(
        "Beta-VAE score",
        DISENTANGLEMENT,
        3,
        "Telling which factor pairs of images share from the differences of their codes.",
        leading=False,
    ),
    "beta_vae_resampled": MetricName(
        "Beta-VAE score, resampled",
        DISENTANGLEMENT,
        3,
        "As the beta-VAE score, on data without a grid of factors.",
        leading=False,
    ),
    "factor_vae": MetricName(
        "FactorVAE score",
        DISENTANGLEMENT,
        3,
        "Majority vote of the code that varies least while a factor is held.",
        leading=False,
    ),
    "factor_vae_resampled": MetricName(
        "FactorVAE score, resampled",
        DISENTANGLEMENT,
        3,
        "As the FactorVAE score, on data without a grid of factors.",
        leading=False,
    ),
    "irs": MetricName(
        "IRS", DISENTANGLEMENT, 3, "How little codes move while their factor is held and others change.", leading=False
    ),
    "irs_observed": MetricName(
        "IRS, observed", DISENTANGLEMENT, 3, "As IRS, on data without a grid of factors.", leading=False
    ),
    "class_linear_accuracy": MetricName(
        "Class accuracy, linear", SEPARABILITY, 3, "Of a linear classifier of the class labels."
    ),
    "class_neighbour_accuracy": MetricName(
        "Class accuracy, neighbours", SEPARABILITY, 3, "Of nearest neighbours' class labels.", leading=False
    ),
    "class_nonlinear_gap": MetricName(
        "Class nonlinear gap",
        SEPARABILITY,
        3,
        "Class accuracy of neighbours less that of the linear classifier.",
        leading=False,
    ),
    "lnc": MetricName(
        "LNC",
        SEPARABILITY,
        3,
        "Share of nearest neighbours of the same class, by the mean vector of each image's foreground.",
    ),
    "lnc_whole_image": MetricName(
        "LNC, whole image",
        SEPARABILITY,
        3,
        "Share of nearest neighbours of the same class, by each image's mean vector.",
        leading=False,
    ),
    "gmm_nll": MetricName(
        "GMM negative log likelihood",
        SEPARABILITY,
        3,
        "Of held-out latents under a mixture of Gaussians.",
        leading=False,
    ),
    "ifid": MetricName(
        "iFID", SEPARABILITY, 3, "Fréchet distance of images decoded halfway between neighbouring latents."
    ),
    "density_cv": MetricName(
        "Density, variation",
        SEPARABILITY,
        3,
        "Standard deviation over mean of the densities at the latents.",
        leading=False,
    ),
    "density_gini": MetricName(
        "Density, Gini", SEPARABILITY, 3, "How unequal the densities at the latents are.", leading=False
    ),
    "density_entropy": MetricName(
        "Density, entropy",
        SEPARABILITY,
        3,
        "Normalised entropy of the densities at the latents; 1 is even.",
        leading=False,
    ),
    "lds": MetricName("LDS", DIFFUSABILITY, 3, "Similarity of neighbouring positions less that of distant ones."),
    "lds_half": MetricName(
        "LDS, paper's distance",
        DIFFUSABILITY,
        3,
        "LDS with near and far parted at half the side of the grid.",
        leading=False,
    ),
    "cds": MetricName(
        "CDS", DIFFUSABILITY, 3, "How fast similarity falls with the distance of positions.", leading=False
    ),
    "srss": MetricName(
        "SRSS", DIFFUSABILITY, 3, "Similarity within the foreground less that to the background.", leading=False
    ),
    "rmsc": MetricName(
        "RMSC", DIFFUSABILITY, 3, "How diverse the positions of an image are; 1 for white noise.", leading=False
    ),
    "sec": MetricName("SEC", DIFFUSABILITY, 3, "Share of energy at high spatial frequencies."),
    "spectral_slope": MetricName(
        "Spectral slope", DIFFUSABILITY, 3, "Of the energy over the frequency, both as logarithms.", leading=False
    ),
    "spectral_slope_gap": MetricName(
        "Spectral slope, gap",
        DIFFUSABILITY,
        3,
        "Slope of the latents' spectrum less that of the images' own.",
        leading=False,
    ),
    "viv": MetricName(
        "VIV", DIFFUSABILITY, 3, "Variance of the velocity that no network can predict, Gaussian classes."
    ),
    "viv_marginal": MetricName(
        "VIV, marginal",
        DIFFUSABILITY,
        3,
        "Variance of the velocity that no network can predict, the classes taken together.",
        leading=False,
    ),
    "viv_unconditional": MetricName(
        "VIV, unconditional",
        DIFFUSABILITY,
        3,
        "Variance of the velocity that no network can predict, one Gaussian for all.",
    ),
    "scale_equivariance_error": MetricName(
        "Scale equivariance error",
        DIFFUSABILITY,
        3,
        "Of latents of smaller images, or of what smaller latents decode to.",
    ),
    "rotation_equivariance_error": MetricName(
        "Rotation equivariance error",
        DIFFUSABILITY,
        3,
        "Of latents of turned images, or of what turned latents decode to.",
        leading=False,
    ),
    "effective_rank": MetricName(
        "Effective rank", DIFFUSABILITY, 3, "How many dimensions the latents fill, from the entropy of their spectrum."
    ),
    "participation_ratio": MetricName(
        "Participation ratio",
        DIFFUSABILITY,
        3,
        "How many dimensions the latents fill, from the squares of their spectrum.",
        leading=False,
    ),
    "active_units": MetricName(
        "Active units", DIFFUSABILITY, 3, "Share of latent units whose mean varies with the image.", leading=False
    ),
    "collapsed_units": MetricName(
        "Collapsed units", DIFFUSABILITY, 3, "Share of latent units that stay at the prior.", leading=False
    ),
    "kl_per_unit": MetricName(
        "KL per unit", DIFFUSABILITY, 3, "Nats that a latent unit carries, on average.", leading=False
    ),
    "gfid": MetricName("gFID to real images", GENERATION, 2, "Fréchet distance between samples and real images."),
    "gfid_vs_reconstructions": MetricName(
        "gFID to own reconstructions",
        GENERATION,
        2,
        "Fréchet distance between samples and the tokenizer's own reconstructions: what diffusion alone lost.",
    ),
    "sfid": MetricName(
        "sFID", GENERATION, 2, "Fréchet distance in features that keep positions: layout rather than content."
    ),
    "inception_score": MetricName(
        "Inception Score", GENERATION, 1, "Whether samples are recognisable and varied; looks at no real images."
    ),
    "kid": MetricName("KID", GENERATION, 4, "Kernel distance between samples and real images, unbiased in n."),
    "precision": MetricName("Precision", GENERATION, 3, "Share of samples that lie among real images."),
    "recall": MetricName("Recall", GENERATION, 3, "Share of real images that lie among samples."),
    "density": MetricName("Density", GENERATION, 3, "How densely real images surround the samples."),
    "coverage": MetricName("Coverage", GENERATION, 3, "Share of real images with a sample close by."),
    "attribute_shift": MetricName(
        "Attribute shift",
        GENERATION,
        3,
        "Mean difference of how often samples and real images show an attribute; the trivial value is that of chance.",
    ),
    "attribute_pair_shift": MetricName(
        "Attribute pair shift",
        GENERATION,
        3,
        "Mean difference of the correlations of two attributes in samples and in real images.",
        leading=False,
    ),
}


# Scores that companion networks add under their own names, such as gfid_dinov2. Longer names first.
WITH_NETWORK = ("gfid_vs_reconstructions", "gfid", "rfid")


def metric_name(metric: str) -> MetricName:
    """The catalogue entry of `metric`; that of a companion network's distance; or one made of its own name."""
    known = METRICS.get(metric)
    for base in WITH_NETWORK if known is None else ():
        if metric.startswith(f"{base}_"):
            network, entry = metric.removeprefix(f"{base}_"), METRICS[base]
            label = entry.label.replace("FID", "FD", 1) + f", {network}"
            return MetricName(label, entry.group, entry.digits, f"{entry.meaning} In features of {network}.", False)
    return known or MetricName(metric, OTHER, 3, "")


def metric_order(metric: str) -> tuple[int, str]:
    """Sort key: the order of the catalogue, then strangers by name."""
    known = list(METRICS)
    base = next((base for base in WITH_NETWORK if metric not in METRICS and metric.startswith(f"{base}_")), metric)
    return (known.index(base) if base in METRICS else len(known), metric)


def label_of(metric: str, vectorisation: str | None = None, attribute: str | None = None) -> str:
    """For example 'Probe macro-F1 (flattened)'."""
    notes = [note for note in (vectorisation, attribute) if note]
    return metric_name(metric).label + (f" ({', '.join(notes)})" if notes else "")


def budget_label(budget: Mapping[str, object]) -> str:
    """One canonical string for a sampling and training budget: 'steps=600 cfg=1 nfe=25'; '' for none."""
    ordered = [key for key in BUDGET_KEYS if key in budget] + sorted(set(budget) - set(BUDGET_KEYS))
    return " ".join(f"{key}={_plain(budget[key])}" for key in ordered)


def number(value: float | None, digits: int = 2) -> str:
    """Fixed digits with a real minus sign; a dash for a value that is missing or not finite."""
    if value is None or not math.isfinite(value):
        return "\N{EM DASH}"
    text = f"{value:.{digits}f}"
    if float(text) == 0:
        text = text.lstrip("-")
    return text.replace("-", MINUS)


def coefficient(r: float) -> str:
    """A correlation with two digits, or up to four where fewer would make it look like one; 1 is only for exactly 1."""
    if abs(r) == 1:
        return number(r, 0)
    digits = next((digits for digits in (2, 3, 4) if round(abs(r), digits) < 1), 4)
    return number(math.copysign(min(abs(r), 0.9999), r), digits)


def in_prose(label: str) -> str:
    """A label inside a sentence: 'probe macro-F1', but 'PSNR'."""
    return label[0].lower() + label[1:] if label[:2].istitle() else label


def p_value(p: float) -> str:
    """'p = 0.33', or 'p < 0.001'."""
    return f"p {p_plain(p)}" if p < 0.001 else f"p = {p_plain(p)}"


def p_plain(p: float) -> str:
    """'0.33', or '< 0.001'."""
    return "< 0.001" if p < 0.001 else f"{p:.2f}" if p >= 0.1 else f"{p:.3f}"


def listed(names: list[str]) -> str:
    """'a', 'a and b', 'a, b and c'."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else "none"


def _plain(value: object) -> str:
    if isinstance(value, bool | str):
        return str(value)
    return f"{value:g}" if isinstance(value, int | float) else json.dumps(value, sort_keys=True)
