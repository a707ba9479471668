"""Floor 4: SiT flow transformers on latents, and sampling from them.

``SAMPLERS`` names samplers from outside, beside the four that ship (`SHIPPED`). Importing this package loads nothing
heavy.
"""

from vaebench.core.registry import Registry

SHIPPED = {
    "euler": "Euler's method, order 1, fixed steps",
    "heun": "Heun's method, order 2, fixed steps; two evaluations each",
    "dopri5": "Dormand-Prince 5(4), adaptive steps; needs vaebench[ode]",
    "sde": "Euler-Maruyama on the SDE with the same marginals, as published with SiT",
}

SAMPLERS = Registry("sampler", "vaebench.samplers", "vaebench.generation.samplers:Sampler")
for _name, _summary in SHIPPED.items():
    _target = "euler_maruyama" if _name == "sde" else _name
    SAMPLERS.register(_name, f"vaebench.generation.samplers:{_target}", summary=_summary)
