"""Controls: latents that nobody trained, which tell what a number means."""

from typing import Any, Literal, get_args

Control = Literal["pca-patches", "random-projection", "pixels"]
CONTROLS: tuple[Control, ...] = get_args(Control)


def control_origin(name: Control, f: int, d: int) -> dict[str, Any]:
    """Where a control of these sizes comes from, as a study's entry says it: ``method`` and ``options``, or ``load``.

    Principal components and a random projection of f x f patches have d channels, but no more than a patch has values;
    pixels have all 3 f^2.
    """
    d = min(d, 3 * f**2)
    if name == "pca-patches":
        return {"method": name, "options": {"f": f, "d": d}}
    return {"load": f"pixels?f={f}" if name == "pixels" else f"{name}?f={f}&d={d}"}
