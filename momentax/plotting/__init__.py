"""Pictures of what momentum does: in theory, in a run, and over a sweep.

    theory          kernel, kernel_fit, frequency_response, spectral_map, rate_vs_condition,
                    analysis
    runs            trajectory, phase_portrait, components, surface, animate, race, history
    comparisons     compare, panels, speed_ups, profile, expected_best, sensitivity
    measurements    spectrum, dashboard
    sweeps          heatmap, curves, parallel, theory_overlay

Every function takes a result, computes nothing that takes long, draws on matplotlib axes and
returns them, so that `ax.figure.savefig(path)` writes the picture and further calls on `ax` change
it. The results have a method `plot` that calls the function for them. This is the only part of
momentax that needs matplotlib, which `pip install 'momentax[plot]'` installs.
"""

from importlib.util import find_spec
from typing import TYPE_CHECKING

from momentax._core.lazy import lazy_exports

if find_spec("matplotlib") is None:
    raise ModuleNotFoundError(
        "momentax.plotting needs matplotlib; install it with `pip install 'momentax[plot]'`",
        name="matplotlib",
    )

if TYPE_CHECKING:  # Each name is imported when it is first used: see lazy_exports.
    from momentax.plotting._analysis import analysis as analysis
    from momentax.plotting._animate import animate as animate
    from momentax.plotting._compare import compare as compare
    from momentax.plotting._components import components as components
    from momentax.plotting._curves import curves as curves
    from momentax.plotting._dashboard import dashboard as dashboard
    from momentax.plotting._expected_best import expected_best as expected_best
    from momentax.plotting._frequency_response import frequency_response as frequency_response
    from momentax.plotting._heatmap import heatmap as heatmap
    from momentax.plotting._history import history as history
    from momentax.plotting._kernel import kernel as kernel
    from momentax.plotting._kernel_fit import kernel_fit as kernel_fit
    from momentax.plotting._panels import panels as panels
    from momentax.plotting._parallel import parallel as parallel
    from momentax.plotting._phase_portrait import phase_portrait as phase_portrait
    from momentax.plotting._profile import profile as profile
    from momentax.plotting._race import race as race
    from momentax.plotting._rate_vs_condition import rate_vs_condition as rate_vs_condition
    from momentax.plotting._sensitivity import sensitivity as sensitivity
    from momentax.plotting._spectral_map import spectral_map as spectral_map
    from momentax.plotting._spectrum import spectrum as spectrum
    from momentax.plotting._speed_ups import speed_ups as speed_ups
    from momentax.plotting._surface import surface as surface
    from momentax.plotting._theory_overlay import theory_overlay as theory_overlay
    from momentax.plotting._trajectory import trajectory as trajectory

__getattr__, __dir__, __all__ = lazy_exports(__name__)
