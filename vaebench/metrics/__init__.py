"""Floor 3: scores as pure functions on arrays, and the registry of latent scores.

``METRICS`` names every latent score that ``vaebench score`` computes; a package of yours adds its own through the
entry-point group ``vaebench.metrics``. Importing this package loads nothing heavy.
"""

from vaebench.core.registry import Registry

METRICS = Registry("metric", "vaebench.metrics", "vaebench.metrics.base:Metric", ["name"])

_SHIPPED = {
    "active-units": (
        "diffusability.manifold:ActiveUnits",
        "share of active and of collapsed latent units, KL per unit",
    ),
    "attribute-directions": (
        "readability.directions:AttributeDirections",
        "cosines of probe directions of different attributes, beside their co-occurrence",
    ),
    "attribute-probe": ("readability.probe:AttributeProbe", "linear probes of attributes: F1, AP, top-5 recall"),
    "beta-vae": (
        "disentanglement.interventional:BetaVAE",
        "which factor two images share, from their codes' differences",
    ),
    "class-probe": ("separability.classes:ClassProbe", "linear and nearest-neighbour classification of class labels"),
    "dci": ("disentanglement.dci:DCI", "disentanglement, completeness and informativeness from importances"),
    "effective-rank": ("diffusability.manifold:EffectiveRank", "how many dimensions the latents fill"),
    "equivariance": ("diffusability.equivariance:Equivariance", "errors of scale and rotation"),
    "explicitness": ("disentanglement.explicitness:Explicitness", "area under ROC of linear classifiers for factors"),
    "factor-vae": ("disentanglement.interventional:FactorVAE", "majority vote of the least varying code"),
    "gmm": ("separability.gmm:GMM", "held-out likelihood of Gaussian mixtures of growing size (MAETok)"),
    "ifid": ("separability.ifid:IFID", "Fréchet distance of decoded interpolations between neighbours"),
    "infomec": ("disentanglement.scores:InfoMECMetric", "InfoM, InfoC and InfoE by nearest-neighbour information"),
    "irs": ("disentanglement.interventional:IRS", "how little a code moves while its factor is held fixed"),
    "leakage": ("readability.leakage:AttributeLeakage", "what one attribute's probe tells about another"),
    "lnc": ("separability.consistency:LNC", "share of nearest latents of the same class"),
    "mig": ("disentanglement.scores:MIG", "gap between the two codes that know most of a factor"),
    "modularity": ("disentanglement.scores:Modularity", "whether a code knows of one factor only"),
    "nonlinear-gap": (
        "readability.gap:NonlinearGap",
        "neighbours and a small network against the linear probe: what is there but not linear",
    ),
    "sample-efficiency": (
        "readability.efficiency:SampleEfficiency",
        "probe score against training images, and online description length",
    ),
    "sap": ("disentanglement.scores:SAP", "gap between the two codes that predict a factor best"),
    "spatial-structure": (
        "diffusability.spatial:SpatialStructure",
        "local against distant self-similarity: LDS, CDS, RMSC",
    ),
    "spectrum": (
        "diffusability.spectrum:Spectrum",
        "share of energy at high frequencies (SEC), and the spectrum's slope",
    ),
    "srss": ("diffusability.spatial:SRSS", "similarity of the foreground against the background"),
    "uniformity": ("separability.uniformity:Uniformity", "how evenly latents are spread: density CV, Gini, entropy"),
    "viv": ("diffusability.velocity:VIV", "velocity irreducible variance of a Kronecker-Gaussian fit per class"),
}
for _name, (_target, _summary) in _SHIPPED.items():
    METRICS.register(_name, f"vaebench.metrics.{_target}", summary=_summary)
