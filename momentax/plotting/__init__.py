"""Pictures of sweeps and of runs.

Of sweeps: heat maps, histories, parallel coordinates, and the theory over them. Of runs: paths over
contours and on surfaces, phase portraits, errors along eigenvectors, losses and other records.

Every function draws on matplotlib axes and returns them, so that `ax.figure.savefig(path)`
writes the picture and further calls on `ax` change it. This is the only part of momentax that
needs matplotlib, which `pip install 'momentax[plot]'` installs.
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
    from momentax.plotting._animate import animate as animate
    from momentax.plotting._components import components as components
    from momentax.plotting._curves import curves as curves
    from momentax.plotting._heatmap import heatmap as heatmap
    from momentax.plotting._history import history as history
    from momentax.plotting._parallel import parallel as parallel
    from momentax.plotting._phase_portrait import phase_portrait as phase_portrait
    from momentax.plotting._race import race as race
    from momentax.plotting._surface import surface as surface
    from momentax.plotting._theory_overlay import theory_overlay as theory_overlay
    from momentax.plotting._trajectory import trajectory as trajectory

__getattr__, __dir__, __all__ = lazy_exports(__name__)
