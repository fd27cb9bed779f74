"""The bars for momentax: ratios of times, and how large each of them may be."""

from __future__ import annotations

from typing import NamedTuple

from tests.benchmarks.suites import LINEAR


class Bar(NamedTuple):
    """A ratio of two contestants' times on one workload, or a fact of one contestant."""

    name: str
    suite: str
    workload: str
    of: tuple[str, ...]  # The contestants; the worst of them counts.
    over: str  # Another contestant, or the name of a fact: "state bytes".
    at_most: float | None = None
    at_least: float | None = None
    platform: str | None = None  # None holds on all platforms.
    figure: str = "seconds"  # Or a fact of both contestants, such as "compile seconds".
    reason: str = ""  # Why it may not be reached: what the program does and what was tried.

    @property
    def target(self) -> str:
        return f"≤ {self.at_most:g}" if self.at_most is not None else f"≥ {self.at_least:g}"

    def worst(self, measured: list[float]) -> float:
        return max(measured) if self.at_most is not None else min(measured)

    def reached(self, measured: float) -> bool:
        if self.at_most is not None:
            return measured <= self.at_most
        return self.at_least is not None and measured >= self.at_least


_PASSES = (
    "XLA:CPU makes two passes: v' from v and g, then θ' from θ, v' and g. They move 28 bytes a "
    "parameter. The second pass of heavy ball does not read g (24 bytes), and C makes one pass (20 "
    "bytes), so that the ratios are at least 1.17 and 1.4. A single pass needs "
    "--xla_backend_extra_options=xla_cpu_use_multi_output_fusion; without that option the same "
    "program copies the velocity and takes five times as long."
)
_SAME = (
    "Both passes run the same instructions on the same bytes as those of Optax. In addition XLA "
    "starts separate operations on counts of a few bytes. The rest above 1 is noise."
)
_FLOOR = "18 of 24 bytes are a ratio of 0.75, and rounding adds about eight instructions an entry."
_GRADIENT = (
    "Each step computes its gradient in two products a layer and writes it, 4 bytes a parameter. "
    "This takes most of the time of both. With a gradient that costs nothing the bar is reached."
)


def at_size(size: str) -> list[Bar]:
    def bar(name, of, over, most=None, least=None, **others):
        return Bar(name, "flat", size, (of,), over, most, least, **others)

    return [
        bar("heavy ball against optax.sgd", "heavy_ball", "optax.sgd", 1.02, reason=_SAME),
        bar("heavy ball against C", "heavy_ball", "C", 1.35, platform="cpu"),
        bar(
            "Nesterov against optax.sgd(nesterov=True)",
            "nesterov",
            "optax.sgd, nesterov",
            1.02,
            reason=_SAME,
        ),
        bar("Nesterov against optax.sgd", "nesterov", "optax.sgd", 1.02, reason=_PASSES),
        bar("Nesterov against C", "nesterov", "C", 1.35, platform="cpu", reason=_PASSES),
        bar(
            "nearest bfloat16 against optax.sgd",
            "heavy_ball + bfloat16, nearest",
            "optax.sgd",
            0.80,
            reason=_FLOOR,
        ),
        bar(
            "nearest bfloat16 against optax.sgd's own",
            "heavy_ball + bfloat16, nearest",
            "optax.sgd, bfloat16 accumulator",
            0.6,
        ),
        bar(
            "bfloat16 against optax.sgd",
            "heavy_ball + bfloat16",
            "optax.sgd",
            1.2,
        ),
        bar("int8's bytes a parameter", "heavy_ball + int8", "state bytes", 1.02),
        bar("int8 against optax.sgd", "heavy_ball + int8", "optax.sgd", 3.0, platform="cpu"),
        bar("int8 against optax.sgd", "heavy_ball + int8", "optax.sgd", 1.0, platform="gpu"),
        bar(
            "bitsandbytes' SGD8bit over int8",
            "bitsandbytes.SGD8bit",
            "heavy_ball + int8",
            least=5.0,
            platform="cpu",
        ),
        bar("optax.lion over lion", "optax.lion", "lion", least=2.5),
    ]


_READING = (
    "A reading is one more pass, over g, v' and θ, between the pass that computes v' and the one "
    "that computes θ'. It moves 12 bytes a parameter, half of those of the step, and goes through "
    "each row six times. The caches no longer hold v' when θ' is computed."
)
_NETWORK = (
    "The gradient of a convolution has another layout than the velocity and the parameters. To "
    "read them together takes about twice as long as in one layout. In addition all gradients are "
    "kept until the end of each step, also where it is not read. XLA:CPU then assigns other "
    "buffers and runs fewer of the convolutions of the backward pass side by side, which makes a "
    "step about 2 % longer."
)
_MUONS = (("orthogonalize",), "optax.contrib.muon")
BARS = [
    *at_size("1e7"),
    *at_size("1e8"),
    Bar(
        "linear methods against heavy ball",
        "methods",
        "1e7",
        tuple(LINEAR),
        "heavy_ball",
        1.10,
        reason=_PASSES,
    ),
    Bar(
        "a monitor every 10 steps against heavy ball",
        "diagnostics",
        "resnet18",
        ("monitor(heavy_ball), every 10 steps",),
        "heavy_ball",
        1.15,
        platform="cpu",
    ),
    Bar(
        "a monitor every step against heavy ball",
        "diagnostics",
        "resnet18",
        ("monitor(heavy_ball)",),
        "heavy_ball",
        2.0,
        platform="cpu",
        reason=_READING,
    ),
    *(
        Bar(
            f"a training step with {name} over one without",
            "network",
            "resnet18",
            (f"step of a network, {name}",),
            "step of a network",
            1.03,
            reason=_NETWORK,
        )
        for name in ("monitor", "monitor every 10 steps")
    ),
    Bar(
        "one step a call over 10",
        "leaves",
        "1,000 leaves",
        ("train_step",),
        "train_step, 10 steps a call",
        at_least=8.0,
    ),
    *(
        Bar(
            f"two programs, not donated, over train_step{on}",
            "train_step",
            "gpt2",
            (f"two programs, not donated{on}",),
            f"train_step{on}",
            at_least=3.0,
            reason=_GRADIENT if on else "",
        )
        for on in ("", " (layers)")
    ),
    *(
        Bar(name, "muon", "gpt2", of, over, most, least, figure=figure, reason=reason)
        for name, of, over, most, least, figure, reason in (
            (
                "optax.contrib.muon over orthogonalize",
                ("optax.contrib.muon",),
                "orthogonalize",
                None,
                1.3,
                "seconds",
                "",
            ),
            ("memory of orthogonalize", *_MUONS, 1.0, None, "temporary", ""),
            ("compilation of orthogonalize", *_MUONS, 0.5, None, "compile seconds", ""),
        )
    ),
]
