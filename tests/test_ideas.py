"""The code on the pages of ideas prints what they say, and each number in their text is computed.

`CLAIMS` has for each page the fragments of sentences with their numbers filled in by the theory, by
closed forms or from the outputs of a notebook. What no fragment covers may hold no number besides
settings, such as β = 0.9, and formulas.
"""

import json
import re
from functools import cache
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

import momentax
from momentax import memory, theory

ROOT = Path(__file__).parents[1]
PAGES = {
    path.stem: path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs/ideas").glob("*"))
}
FENCE = re.compile(r"^```([\w{}]+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
CODE = [
    (name, match.start(), match[2])
    for name, page in PAGES.items()
    for match in FENCE.finditer(page)
    if match[1] == "python"
]
# Numbers that a reader chooses, in a formula or a name, or that only count things.
SETTING = re.compile(
    r"[αβκλμνσωρtkLBn|)'] ?[=≈] ?[\d.,]+|arXiv:[\d.]+|100x²|\bbfloat16\b|\bfloat32\b|\d\(1|/\d|½"
)


def heavy_ball(learning_rate, beta):
    """Return the recurrence as a system, which is cheaper than reading it from the code."""
    α, β = learning_rate, beta
    return theory.StateSpace(np.array([[1, -α * β], [0, β]]), np.array([-α, 1]), np.eye(2)[0])


def nesterov(learning_rate, beta):
    α, β = learning_rate, beta
    A, B = np.array([[1, -α * β**2], [0, β]]), np.array([-α * (1 + β), 1])
    return theory.StateSpace(A, B, np.eye(2)[0])


def ball_kernel(β):
    """Return the kernel with the weights βᵏ."""
    return memory.Kernel.from_exponentials([(β, 1 / (1 - β))])


def steps_per_digit(rate):
    return np.log(10) / -np.log(rate)


def velocity():
    """Yield the claims of a page: a fragment of its text with gaps, and what belongs into them."""
    ball = ball_kernel(0.9)
    ahead = memory.Kernel.from_exponentials([(0.0, 1.0), (0.9, 0.9 / (1 - 0.9))])
    first, second = ahead.weights(2)
    yield "by α, then by {:g} α, then by {:g} α", *ball.weights(3)[1:]
    yield "which is {:.0f} at β = 0.9 and {:.0f} at β = 0.99", ball.total, 1 / (1 - 0.99)
    yield "up to {:.0f} or {:.0f} times as far", ball.total, 1 / (1 - 0.99)
    for β in (0.9, 0.99):
        yield "β = {:g} the last {:.0f}", β, np.ceil(theory.effective_window(β, 0.9))
    yield "gradients have 90 % of the weight"
    yield "rate of {:.0f} makes the steps of the sum with a learning rate of 0.1", 0.1 * ball.total
    yield "the steps of a sum up to {:.0f} times as long", (1 - 0.9) / (1 - 0.99)
    yield "falls from 0.1 to 0.01 at step 60"
    outside, inside = (steps_after_a_drop(units) for units in ("gradient", "parameter"))
    yield "the next step is {:.1f}, at once a tenth", outside[1]
    yield (
        "the next step is {:.2f}. It takes {} steps until 90 %",
        inside[1],
        np.argmax(inside <= 0.19),
    )
    yield "Going from 0.9 to 0.99"
    yield "the weight {:g} in place of {:g}", first, ball.weights(1)[0]
    yield "every older one {:g} times its weight", second / ball.weights(2)[1]
    yield "The sum of the weights is the same, {:.0f}", ahead.total
    yield "the mean age falls from {:.0f} to {:.1f} steps", ball.mean_age, ahead.mean_age


@cache
def steps_after_a_drop(units):
    """Return the steps under a gradient of 1 from the last one before α falls from 0.1 to 0.01."""

    def schedule(count):
        return jnp.where(count < 199, 0.1, 0.01)

    tx = momentax.sgd(schedule, momentax.heavy_ball(0.9), velocity_units=units)
    run = momentax.rollout(jnp.sum, jnp.zeros(1), tx, 240, record="step")
    return -np.asarray(run.history["step"])[198:, 0]


def memory_page():
    for β in (0.5, 0.9, 0.99):
        kernel, unit = ball_kernel(β), "step" if β == 0.5 else "steps"
        row = β, kernel.total, kernel.mean_age, unit, kernel.half_life
        row = *row, theory.effective_window(β, 0.9)
        yield "| {:g} | {:.0f} | {:.0f} {} | {:.1f} steps | {:.1f} steps |", *row
    average, ball = memory.Kernel.from_exponentials([(0.9, 1.0)]), ball_kernel(0.9)
    yield "lies on the newest {:.1f} gradients", average.half_life
    yield "| 90 % of the weight |"
    yield "From 0.9 to 0.99 every time is about ten times as long, and from 0.99 to 0.999 again"
    yield "1/{:.0f} for a gradient that changes its sign at every step", 1 / average.alternating
    period = 2 * np.pi / np.arccos((4 * 0.9 - 1 - 0.9**2) / (2 * 0.9))
    np.testing.assert_allclose(abs(average.frequency_response(1 / period)) ** 2, 0.5)
    yield "period of {:.0f} steps half of the power is left, which is {:.2f} of", period, 0.5**0.5
    total, alternating = ball.total, ball.alternating
    yield "filter times {:.0f}, an alternating gradient has {:.2f} of", total, alternating
    yield "multiplies by {:.0f} what stays the same", total
    yield "as good as 19 gradients at β = 0.9"
    samples = [ball_kernel(β).effective_samples for β in (0.9, 0.99)]
    yield "n = (1+β)/(1−β): {:.0f} at β = 0.9 and {:.0f} at β = 0.99", *samples
    window = memory.Kernel.from_weights(np.full(19, 1 / 19))
    delay = memory.Kernel.from_weights(np.eye(10)[9])
    np.testing.assert_allclose(window.effective_samples, samples[0])
    yield "mean of the last {:.0f} gradients also", window.effective_samples
    yield "one buffer and not {:.0f}", window.effective_samples
    yield "whose mean age is {:.0f} steps", delay.mean_age
    np.testing.assert_allclose([average.mean_age, window.mean_age], delay.mean_age)
    yield "window of 19 gradients"
    yield "up to αλ = {:.3f}, the window up to {:.3f}", delay.edge, window.edge
    yield "the average up to {:.0f}", average.edge
    yield "W(−1) is 1/{:.0f}, which gives {:.0f}", 1 / average.alternating, 2 / average.alternating
    yield "the same edge is {:.1f}", ball.edge
    yield "the same W(−1), 1/{:.0f}, and yet its edge is {:.3f}", 19, window.edge
    np.testing.assert_allclose(window.alternating, average.alternating)
    start, space = (1 - 0.9**0.5) / (1 + 0.9**0.5), average.state_space
    assert theory.damping(space, -start * 1.001).kind == "under"
    assert theory.damping(space, -start * 0.999).kind == "over"
    np.testing.assert_allclose(theory.rate_at(space, [-0.1, -30.0]), 0.9**0.5)
    yield "From αλ = {:.4f} on", start
    yield "the factor √β = {:.3f} per step", 0.9**0.5
    mixture = memory.Kernel.from_exponentials([(0.85, 0.44), (0.98, 0.56)])
    single = memory.Kernel.from_exponentials([(0.95, 1.0)])
    yield "with the shares 0.44 and 0.56"
    yield "a mean age of {:.1f} steps, against {:.0f}", mixture.mean_age, single.mean_age
    samples = mixture.effective_samples, single.effective_samples
    yield "{:.1f} effective samples against {:.0f}", *samples


def edge():
    limit = theory.sharpness_limit
    yield (
        "the edge is {:.1f}/λ, and plain descent's is {:.0f}/λ",
        *theory.stability_edge([0.9, 0.0]),
    )
    yield "not multiply it by 10, and it does not divide it by 10"
    best = (1 - 0.1**0.5) ** 2
    factors = [theory.rate_at(heavy_ball(0.1, β), 1.0) for β in (best, 0.0, 0.9)]
    yield (
        "β = {:.3f}, and the error falls by {:.3f} per step in place of {:.1f}",
        best,
        *factors[:2],
    )
    yield "at β = 0.9 the factor is {:.3f}", factors[2]
    for κ in (10, 100, 1000, 10_000):
        tuned = theory.optimal_heavy_ball(1, κ)
        np.testing.assert_allclose(tuned.beta, ((κ**0.5 - 1) / (κ**0.5 + 1)) ** 2)
        np.testing.assert_allclose(tuned.learning_rate, (1 + tuned.beta**0.5) ** 2 / κ)
        steps = map(steps_per_digit, (tuned.rate, theory.gradient_descent_rate(κ)))
        yield "| {:,} | {:.3f} | {:.1f} | {:,.1f} |", κ, tuned.beta, *steps
    yield "best at κ = {:.0f}", ((1 + 0.9**0.5) / (1 - 0.9**0.5)) ** 2
    tuned = theory.optimal_heavy_ball(1, 100)
    share = tuned.learning_rate * 100 / theory.stability_edge(tuned.beta)
    yield "its α is {:.0f} % of the largest", 100 * share
    assert 1.02 * share > 1
    yield "measured 2 % too small"
    yield "2 for β = 0, {:.2f} for β = 0.9, and towards 4/3", limit(nesterov(1.0, 0.9))
    np.testing.assert_allclose(limit(nesterov(1.0, 1 - 1e-9)), 4 / 3)
    ahead, ball = (theory.rate_at(make(0.5, 0.9), 1.0) for make in (nesterov, heavy_ball))
    np.testing.assert_allclose(ahead, (0.9 * (1 - 0.5)) ** 0.5)
    yield "αλ = 0.5 the factor is {:.3f} for Nesterov and {:.3f} for heavy ball", ahead, ball
    yield "{:.1f} times too large", limit(heavy_ball(1.0, 0.9)) / limit(nesterov(1.0, 0.9))
    usual = limit(heavy_ball(0.1, 0.9))  # The code on the page reads both decays.
    yield "the edge is {:.0f}. Even an enormous decay of 1 lowers it", usual
    yield "only to {:.0f} or to {:.1f}", usual - 1, usual - 1.9
    yield (
        "three curvatures, {:.1f}, {:.0f} and {:.1f}",
        *theory.stability_edge([0.0, 0.5, 0.9]) / 0.3,
    )


def noise():
    gains = [theory.signal_to_noise_gain(make(1.0, 0.9)) for make in (heavy_ball, nesterov)]
    np.testing.assert_allclose(gains[0], (1 + 0.9) / (1 - 0.9))
    yield "in a gradient: {:.0f} times at β = 0.9", gains[0]
    yield "it is {:.1f} times", gains[1]
    settings = ((0.1, 0.0), (0.1, 0.9), (0.01, 0.9), (1.0, 0.0))
    values = [theory.stationary_variance(heavy_ball(*each), 1.0, 1.0) for each in settings]
    for (α, β), value in zip(settings, values, strict=True):
        np.testing.assert_allclose(value, α * (1 + β) / ((1 - β) * (2 * (1 + β) - α)))
    yield "has the variance {:.4f}", values[0]
    yield "raises it to {:.3f}, almost ten times as much", values[1]
    yield "Lowering α to 0.01, so that α/(1−β) is 0.1 again, gives {:.4f}", values[2]
    yield "has the variance {:.0f}, and heavy ball with β = 0.9 has {:.3f}", values[3], values[1]
    yield "Heavy ball is stable up to {:.0f}", theory.stability_edge(0.9) / (1 - 0.9)
    for ρ, name in ((99 / 101, ", the best of plain descent"), (0.99, ""), (0.999, "")):
        plain, ball = heavy_ball(1 - ρ, 0.0), heavy_ball((1 - ρ) ** 2, ρ**2)
        np.testing.assert_allclose([theory.rate(tx, 1.0, 100.0) for tx in (plain, ball)], ρ)
        floors = [theory.noise_floor(tx, [1.0, 100.0], 1.0) for tx in (plain, ball)]
        ratio = floors[0] / floors[1]
        assert ratio > 2
        gain = f"{ratio:.0f}" if ratio > 10 else f"{ratio:.1f}"
        yield "| {:.3f}{} | {:#.3g} | {:#.3g} | {} |", ρ, name, *floors, gain
    yield "a noise 20 times as large as the mean gradient"
    cosines = [1 / np.sqrt(1 + share * 20**2 / B) for B in (1, 4096) for share in (1, 1 / 19)]
    yield "{:.3f} for one gradient and {:.3f} for the velocity at B = 1", *cosines[:2]
    yield "At B = 4096 it is {:.3f} and {:.3f}", *cosines[2:]
    yield "with curvatures from 0.01 to 1, each"
    yield "At B = 1 the speed-up is {:.2f}", speed_ups()[1]
    yield "At B = 1024 it is {:.2f}", speed_ups()[1024]


def when():
    best, plain = theory.heavy_ball_rate(100), theory.gradient_descent_rate(100)
    steps = steps_per_digit(best), steps_per_digit(plain)
    yield "{:.0f} times fewer steps at κ = 100", steps[1] / steps[0]
    yield "these are {:.3f} and {:.3f}: {:.1f} steps per digit", best, plain, steps[0]
    yield "of accuracy in place of {:.1f}", steps[1]
    tx = momentax.sgd(0.1, momentax.heavy_ball(0.9))
    run = momentax.rollout(jnp.sum, jnp.zeros(1), tx, 100)
    yield "{:.0f} times at β = 0.9", 1 / (1 - 0.9)
    yield "{:.1f} after 100 steps", -run.params[0]
    yield "rate is {:.0f} steps ahead", 100 + run.params[0]
    edges = [theory.sharpness_limit(heavy_ball(α, β)) for α, β in ((10.0, 0.0), (1.0, 0.9))]
    yield "at 10 α has the edge {:.1f}/α, and heavy ball at α has {:.1f}/α", *edges
    escape = [theory.escape_rate(heavy_ball(0.1, β), -1.0) for β in (0.0, 0.9, 1 - 1e-12)]
    many = [np.log(1000) / np.log(rate) for rate in escape]
    yield "{:.0f} steps in place of {:.0f}", many[1], many[0]
    yield "{:.2f} for β = 0, {:.3f} for β = 0.9, and below {:.4f} for every β", *escape
    yield "1000 times as large in {:.1f} steps for β = 0 and in {:.1f} for", *many[:2]
    yield "predict a factor of {:.0f} for β = 0.9", 1 + 0.1 / (1 - 0.9)
    settings = (0.1, 0.0), (0.01, 0.9)
    variance = [theory.stationary_variance(heavy_ball(*each), 1.0, 1.0) for each in settings]
    yield "{:.4f} for α = 0.1 and β = 0, and {:.4f} for α = 0.01 and β = 0.9", *variance
    yield "up to {:.1f} times fewer steps", max(speed_ups().values())
    yield "from {:.2f} at a batch of 1 to {:.2f} at 1024", speed_ups()[1], speed_ups()[1024]
    # The code on the page reads the same from the optimizer.
    rare, usual = 2 * (1 + 0.9**40) * 0.1 / (1 - 0.9**40), edges[1]
    yield "edge {:.3f} in place of {:.1f}", rare, usual
    yield "it is {:.3f}, and {:.1f} for a row", rare, usual
    yield "its edge is {:.1f} again", usual
    yield from drift()
    yield from overshoot()


def drift():
    """Yield the claims on the error at the worst period of a moving optimum."""
    f = np.geomspace(1 / 2000, 1 / 4, 4000)
    z, worst = np.exp(-2j * np.pi * f), {}
    for β in (0.0, 0.9, 0.99):
        H = theory.frequency_response(heavy_ball(0.1 * (1 - β), β), f)
        error = abs((1 - z) / (1 - z - z * H))
        worst[β] = error.max(), 1 / f[error.argmax()]
    assert worst[0.99][1] == pytest.approx(2 * np.pi / np.sqrt(0.001), rel=0.05)
    yield "errors up to {:.1f} times the change", worst[0.99][0]
    yield "at most {:.2f} times the motion", worst[0.0][0]
    yield "up to {:.2f}, at a period of {:.0f} steps", *worst[0.9]
    yield "up to {:.2f}, at {:.0f}.", *worst[0.99]


def overshoot():
    """Yield the claims on the share of the first distance with which a parameter returns."""
    returns = {}
    for β in (0.9, 0.99):
        α = 0.1 * (1 - β)
        φ = np.arccos((1 + β - α) / (2 * np.sqrt(β)))
        returns[β] = 100 * β ** (np.pi / (2 * φ))
        path = theory.quadratic_path([[1.0]], [1.0], 400, α, β).params[:, 0]
        assert -100 * path.min() == pytest.approx(returns[β], rel=0.01)
    yield "overshoots by up to {:.0f} % of the distance", returns[0.99]
    yield "this is {:.0f} % for β = 0.9 and {:.0f} % for β = 0.99", *returns.values()
    critical = theory.quadratic_path([[1.0]], [1.0], 400, 0.1, (1 - 0.1**0.5) ** 2)
    assert critical.params.min() > 0


def folklore():
    limit = theory.sharpness_limit
    best = [theory.optimal_heavy_ball(1, κ).beta for κ in (100, 1442)]
    yield "At κ = 100 this is {:.3f}, and β = {:.1f} is the best at κ = 1442", *best
    yield "condition numbers around 100"
    yield "curvature {:.0f}, and heavy ball", theory.stability_edge(0.0) / 0.1
    yield "with β = 0.9 up to {:.0f}", theory.stability_edge(0.9) / 0.1
    yield "stable up to αλ = {:.3f} in place", limit(nesterov(1.0, 0.9))
    yield "of {:.1f}.", limit(heavy_ball(1.0, 0.9))
    kernel = ball_kernel(0.9)
    yield "the sum of the weights, {:.0f} at β = 0.9", kernel.total
    yield "is {:.0f} steps, half of the weight is on the newest", kernel.mean_age
    yield "{:.1f} gradients, and 90 % is on", kernel.half_life
    yield "the newest {:.1f}.", theory.effective_window(0.9, 0.9)
    outside, inside = (steps_after_a_drop(units) for units in ("gradient", "parameter"))
    yield "is {:.1f} of the last one if α is outside", outside[1] / outside[0]
    yield "and {:.2f} of it if α is inside", inside[1] / inside[0]
    escape = [theory.escape_rate(heavy_ball(0.1, β), -1.0) for β in (0.0, 0.9, 1 - 1e-12)]
    yield "{:.2f} for plain descent and {:.3f} for β = 0.9, and stays below {:.4f}", *escape
    edges = [limit(heavy_ball(α, β)) for α, β in ((0.01, 0.9), (0.1, 0.0))]
    yield "it is {:.0f} for β = 0.9, and {:.0f} for plain descent", *edges
    yield "curvature along x is {:.0f}", momentax.problems.ravine(100).curvatures.max()
    yield "error shrinks by {:.2f} per step", theory.rate_at(heavy_ball(0.005, 0.0), 2.0)
    yield "1−1/√κ = {:.1f}", theory.triple_momentum(1.0, 25.0).rate
    yield "cleaner: {:.0f} times", theory.signal_to_noise_gain(heavy_ball(1.0, 0.9))
    settings = (0.01, 0.9), (0.1, 0.0)
    variance = [theory.stationary_variance(heavy_ball(*each), 1.0, 1.0) for each in settings]
    yield "the variance is {:.4f} in place of {:.4f} at 0.1", *variance
    yield "has {} bits of precision, and 0.999 becomes {:.0f}", 8, float(jnp.bfloat16(0.999))
    assert jnp.finfo(jnp.bfloat16).nmant + 1 == 8
    yield "as `jnp.bfloat16(0.999)` shows"


@cache
def speed_ups():
    """Return how many times fewer steps heavy ball needs at each batch size, from notebook 8."""
    path = ROOT / "notebooks" / "08_when_momentum_hurts.ipynb"
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    text = "".join("".join(o.get("text", "")) for cell in cells for o in cell.get("outputs", []))
    pattern = r"^ +(\d+) +\d\.\d{3} +\d+ +\d\.\d{4} +\d\.\d{2} +\d+ +(\d\.\d{2})$"
    return {int(B): float(gain) for B, gain in re.findall(pattern, text, re.MULTILINE)}


CLAIMS = {
    "velocity": velocity,
    "memory": memory_page,
    "edge": edge,
    "noise": noise,
    "when": when,
    "folklore": folklore,
}


def plain(text):
    """Return a text without code, pictures and the addresses of links, on one line."""
    text = re.sub(r"!\[[^\]]*\]\([^)]*\)", "", FENCE.sub("", text))
    return " ".join(re.sub(r"\]\([^)]*\)", "]", text).split())


@pytest.mark.parametrize("name", CLAIMS)
def test_each_number_of_the_text_is_computed(name):
    text = rest = plain(PAGES[name])
    for claim in CLAIMS[name]():
        template, *values = (claim,) if isinstance(claim, str) else claim
        stated = template.format(*values)
        assert stated in text, stated
        rest = rest.replace(stated, "")
    left = re.findall(r".{0,30}(?<![\w.])\d[\d.,]*\d.{0,20}", SETTING.sub("", rest))
    assert not left


@pytest.mark.parametrize(("name", "at", "code"), CODE, ids=[f"{name}-{at}" for name, at, _ in CODE])
def test_the_code_prints_what_the_page_says(name, at, code, capsys):
    exec(compile(code, name, "exec"), {})
    after = PAGES[name][at:].split("```", 2)[2].lstrip("\n")
    if after.startswith("```text\n"):
        stated = after.removeprefix("```text\n").partition("```")[0].splitlines()
    else:
        comment = re.findall(r"print\(.*\)  # (.*)$", code, re.MULTILINE)[-1]
        stated = comment.split(", then ")
    assert capsys.readouterr().out.splitlines() == stated
    assert len(code.splitlines()) <= 12


def test_every_page_is_in_the_contents_and_each_picture_is_used():
    pages = set(PAGES) - {"index"}
    assert pages == set(CLAIMS)
    assert all(f"({name}.md)" in PAGES["index"] for name in pages)
    text = "".join(PAGES.values())
    pictures = {path.name for path in (ROOT / "docs/images/ideas").glob("*.png")}
    assert set(re.findall(r"\(\.\./images/ideas/(\w+\.png)\)", text)) == pictures
    script = (ROOT / "docs/make_ideas.py").read_text(encoding="utf-8")
    assert {f"{name}.png" for name in re.findall(r"^    \w+\.(\w+),$", script, re.M)} == pictures
    for name, page in PAGES.items():
        for link in re.findall(r"\]\((?!http)([^)#]+)\)", page):
            assert (ROOT / "docs/ideas" / link).exists(), (name, link)
