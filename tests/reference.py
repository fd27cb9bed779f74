"""Each recurrence in float64 NumPy, in the letters of its docstring.

A twin is step(v, g, t, **hyperparameters) -> (d, v), with v starting at 0. Every
hyperparameter is a function of the count t. A method that keeps more than a velocity returns
a tuple that starts with the velocity, and gets 0.0 at the start. Nothing here imports momentax.
"""

import numpy as np


def linear(v, g, t, *, gradient_weight, velocity_weight, beta, gain, shift):
    a, b, β, γ = gradient_weight, velocity_weight, beta, gain
    v = β(t) * v + γ(t) * g
    return a(t) * g + b(t) * v, v


def heavy_ball(v, g, t, *, beta, dampening):
    v = beta(t) * v + (1 - dampening(t)) * g
    return v, v


def nesterov(v, g, t, *, beta):
    v = beta(t) * v + g
    return g + beta(t + 1) * v, v


def quasi_hyperbolic(v, g, t, *, beta, nu):
    v = beta(t) * v + (1 - beta(t)) * g
    return (1 - nu(t)) * g + nu(t) * v, v


def average(v, g, t, *, beta):
    v = beta(t) * v + (1 - beta(t)) * g
    kept = np.prod([beta(s) for s in range(t + 1)])
    return v / (1 - kept), v


def plain_average(v, g, t, *, beta):
    v = beta(t) * v + (1 - beta(t)) * g
    return v, v


def sign_average(v, g, t, *, beta):
    v = beta(t) * v + (1 - beta(t)) * g
    return np.sign(v), v


def lion(v, g, t, *, beta1, beta2):
    d = np.sign(beta1(t) * v + (1 - beta1(t)) * g)
    return d, beta2(t) * v + (1 - beta2(t)) * g


# The methods below are written in the sequences of their papers, with the learning rate 1 and
# the start 0: each step subtracts the direction from the parameters.


def synthesized_nesterov(carried, g, t, *, beta1, beta2, delta=None):
    _, y, ξ_before, ξ = carried or (0.0, 0.0, 0.0, 0.0)
    ξ_before, ξ = ξ, ξ + beta1(t) * (ξ - ξ_before) - g
    y_new = ξ + beta2(t + 1) * (ξ - ξ_before)
    return y - y_new, (ξ_before - ξ, y_new, ξ_before, ξ)


def overshoot(carried, g, t, *, beta, gamma):
    return synthesized_nesterov(carried, g, t, beta1=beta, beta2=gamma)


def mass(carried, g, t, *, beta, compensation):
    _, u, w = carried or (0.0, 0.0, 0.0)
    w_new = u - g
    u_new = w_new + beta(t + 1) * (w_new - w) + compensation(t + 1) * g
    return u - u_new, (w_new - u_new, u_new, w_new)


def generalized_primal_averaging(carried, g, t, *, mu_x, mu_y):
    _, x, y, z = carried or (0.0, 0.0, 0.0, 0.0)
    z = z - g
    v, x = x - z, mu_x(t) * x + (1 - mu_x(t)) * z
    y_new = mu_y(t) * x + (1 - mu_y(t)) * z
    return y - y_new, (v, x, y_new, z)


def primal_averaging(carried, g, t, *, c):
    return generalized_primal_averaging(carried, g, t, mu_x=lambda t: 1 - c(t), mu_y=lambda t: 1.0)


def accelerated_sgd(v, g, t, *, kappa, xi, c):
    κ, ξ, c = kappa(t), xi(t), c(t)
    v = (κ - c**2 * ξ) / (κ + c * ξ) * v + g
    return g + c * ξ * (c * ξ - 1) / (κ + c * ξ) * v, v


def pid(v, g, t, *, kp, ki, kd):
    β = kd(t) / (kd(t) - kp(t))
    v = β * v + (1 - β) * g
    return (ki(t) - kp(t) ** 2 / kd(t)) * g + kp(t) ** 2 / kd(t) * v, v


def accelerated(carried, g, t, *, sequence, horizon):
    """Nesterov and FISTA by the iterates x and y; OGM by z, the sum of weighted gradients."""
    _, y, x, z, θ = carried or (0.0, 0.0, 0.0, 0.0, 1.0)
    factor = 8 if t + 1 == horizon else 4
    root = (1 + np.sqrt(1 + factor * θ**2)) / 2
    x_new, z = y - g, z - 2 * θ * g
    if sequence == "ogm":
        y_new = (1 - 1 / root) * x_new + z / root
    else:
        m = t / (t + 3) if sequence == "nesterov" else (θ - 1) / root
        y_new = x_new + m * (x_new - x)
    v = x_new - y_new if sequence == "ogm" else x - x_new
    return y - y_new, (v, y_new, x_new, z, root)


def item(carried, g, t, *, mu, L):
    """ITEM by its three sequences, with gradients in units of L."""
    _, y, z, A = carried or (0.0, 0.0, 0.0, 0.0)
    q = mu(t) / L(t)

    def grown(A):
        return ((1 + q) * A + 2 * (1 + np.sqrt((1 + A) * (1 + q * A)))) / (1 - q) ** 2

    A_new = grown(A)
    δ = ((1 - q) ** 2 * A_new - (1 + q) * A) / (2 * (1 + q + q * A))
    x, z = y - g, (1 - q * δ) * z + q * δ * y - δ * g
    b = A_new / ((1 - q) * grown(A_new))
    y_new = (1 - b) * z + b * x
    return y - y_new, (y_new - z, y_new, z, A_new)


def aggregated(v, g, t, **betas):
    before = v if t else np.zeros(3)
    v = np.stack([β(t) * part + g for β, part in zip(betas.values(), before, strict=True)])
    return v.mean(0), v


def mixture(v, g, t, *, beta1, beta2, weight1, weight2):
    β, w = (
        np.array([first(t), second(t)]) for first, second in ((beta1, beta2), (weight1, weight2))
    )
    before = v if t else np.zeros(2)
    v = np.stack([b * part + (1 - b) * g for b, part in zip(β, before, strict=True)])
    return w[0] * v[0] + w[1] * v[1], v


def weights(carried, g, t):
    before = carried if t else np.zeros((2, *np.shape(g)))
    return 0.5 * g + 0.3 * before[0] + 0.2 * before[1], np.stack([g, before[0]])


def twice(v, g, t):
    first, second = v if t else (0.0, 0.0)
    first = 0.5 * first + g
    second = 0.5 * second + first
    return second, np.stack([first, second])


def proportional_integral_derivative(carried, g, t, *, beta, ki, kd):
    β = beta(t)
    v, D, before = carried or (0.0, 0.0, g)
    v, D = β * v + g, β * D + (1 - β) * (g - before)
    return g + ki(t) * v + kd(t) * D, (v, D, g)


def positive_negative(carried, g, t, *, beta, beta0):
    β, β0 = beta(t), beta0(t)
    m, before = carried or (0.0, 0.0)
    m, before = β**2 * before + (1 - β**2) * g, m
    return ((1 + β0) * m - β0 * before) / np.sqrt((1 + β0) ** 2 + β0**2), (m, before)


def torque_aware(carried, g, t, *, beta, gamma, eps):
    v, s = carried or (np.zeros_like(g), 0.0)
    sizes = np.linalg.norm(v) * np.linalg.norm(g)
    s = gamma(t) * s + (1 - gamma(t)) * (np.sum(v * g) / sizes if sizes else 0.0)
    v = beta(t) * v + (eps(t) + (1 + s) / 2) * g
    return v, (v, s)


def amplified(v, g, t, *, beta, factor):
    v = beta(t) * v + (1 - beta(t)) * g if t else g
    return g + factor(t) * v, v


def debiased(mean, β, t):
    return mean / (1 - np.prod([β(s) for s in range(t + 1)]))


def quasi_hyperbolic_adam(carried, g, t, *, beta1, beta2, nu1, nu2, eps):
    β1, β2, ν1, ν2 = beta1(t), beta2(t), nu1(t), nu2(t)
    v, s = carried or (0.0, 0.0)
    v, s = β1 * v + (1 - β1) * g, β2 * s + (1 - β2) * g**2
    mix = (1 - ν1) * g + ν1 * debiased(v, beta1, t)
    squares = (1 - ν2) * g**2 + ν2 * debiased(s, beta2, t)
    return mix / (np.sqrt(squares) + eps(t)), (v, s)


def adan(carried, g, t, *, beta1, beta2, beta3, eps):
    β1, β2, β3 = beta1(t), beta2(t), beta3(t)
    m, v, n, before = carried or (0.0, 0.0, 0.0, g)
    change = g - before
    m, v = β1 * m + (1 - β1) * g, β2 * v + (1 - β2) * change
    n = β3 * n + (1 - β3) * (g + β2 * change) ** 2
    lead = debiased(m, beta1, t) + β2 * debiased(v, beta2, t)
    return lead / (np.sqrt(debiased(n, beta3, t)) + eps(t)), (m, v, n, g)


def nadam(carried, g, t, *, beta1, beta2, eps, psi):
    def μ(t):
        return beta1(t) * (1 - 0.5 * 0.96 ** ((t + 1) * psi(t)))

    v, s, kept = carried or (0.0, 0.0, 1.0)
    v, s = beta1(t) * v + (1 - beta1(t)) * g, beta2(t) * s + (1 - beta2(t)) * g**2
    kept = kept * μ(t)
    ahead = μ(t + 1) * v / (1 - kept * μ(t + 1)) + (1 - μ(t)) * g / (1 - kept)
    return ahead / (np.sqrt(debiased(s, beta2, t)) + eps(t)), (v, s, kept)


def momentum_polyak(v, g, t, *, beta, c, gamma_max, lower_bound, value):
    α = (1 - beta(t)) * min((value - lower_bound(t)) / (c(t) * np.sum(g**2)), gamma_max(t))
    v = beta(t) * v + α * g
    return v, v


def recursive_momentum(carried, g, t, *, beta, prev_grad):
    (v,) = carried or (None,)
    v = g if v is None else g + beta(t) * (v - prev_grad)
    return v, (v,)


def storm(carried, g, t, *, k, w, c, prev_grad):
    v, squares, a = carried or (0.0, 0.0, 1.0)
    v = g + (1 - a) * (v - prev_grad)
    squares = squares + np.sum(g**2)
    η = k(t) / (w(t) + squares) ** (1 / 3)
    return η * v, (v, squares, min(c(t) * η**2, 1.0))


def mars(carried, g, t, *, beta, gamma, prev_grad=None):
    """With prev_grad the exact form, without it the approximate one."""
    v, before = carried or (0.0, 0.0)
    if prev_grad is not None:
        before = g if t == 0 else prev_grad
    c = g + gamma(t) * beta(t) / (1 - beta(t)) * (g - before)
    if np.linalg.norm(c) > 1:
        c = c / np.linalg.norm(c)
    v = beta(t) * v + (1 - beta(t)) * c
    return v, (v, g)


def hypergradient(carried, g, t, *, learning_rate, beta, learning_rate_step, beta_step=None):
    v, w, α, β = carried or (0.0, 0.0, learning_rate(0), beta(0))
    α = max(α + learning_rate_step(t) * np.sum(g * v), 0)
    if beta_step is not None:
        β = min(max(β + beta_step(t) * np.sum(g * w), 0), np.nextafter(1, 0))
    v, w = β * v + g, α * v
    return α * v, (v, w, α, β)


def single_step(D, C, low, high):
    """SingleStep of YellowFin: the root by bisection."""
    p = D**2 * low**2 / (2 * C) if C > 0 else np.inf
    below, above = 0.0, 1.0
    for _ in range(200):
        x = (below + above) / 2
        below, above = (x, above) if x * p < (1 - x) ** 3 else (below, x)
    root = max(x, (np.sqrt(high) - np.sqrt(low)) / (np.sqrt(high) + np.sqrt(low)))
    return root**2, (1 - root) ** 2 / low


def yellowfin(carried, g, t, *, learning_rate, beta, smoothing, window=20):
    start = (0.0, 0.0, 0.0, (), np.zeros(5), learning_rate(0), beta(0))
    v, mean, weight, last, averages, α, β = carried or start
    s, h = smoothing(t), np.sum(g**2)
    last = (*last, h)[-window:]
    weight, mean = s * weight + (1 - s), s * mean + (1 - s) * g
    low, high, square, norm = s * averages[:4] + (1 - s) * np.array(
        [min(last), max(last), h, np.sqrt(h)]
    )
    distance = s * averages[4] + (1 - s) * norm / square
    variance = max(square / weight - np.sum((mean / weight) ** 2), 0)
    μ, rate = single_step(distance / weight, variance, low / weight, high / weight)
    α, β = s * α + (1 - s) * rate, s * β + (1 - s) * μ
    v = β * v + g
    averages = np.array([low, high, square, norm, distance])
    return α * v, (v, mean, weight, last, averages, α, β)


# The wrappers, around Nesterov's momentum.


def cautious(v, g, t, *, beta):
    d, v = nesterov(v, g, t, beta=beta)
    φ = (d * g > 0).astype(float)
    return d * φ / max(φ.mean(), 1e-3), v


def grams(v, g, t, *, beta):
    d, v = nesterov(v, g, t, beta=beta)
    return np.sign(g) * np.abs(d), v


POLAR_EXPRESS = (
    (8.156554524902461, -22.48329292557795, 15.878769915207462),
    (4.042929935166739, -2.808917465908714, 0.5000178451051316),
    (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
    (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
    (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
)


def newton_schulz(u, rows=POLAR_EXPRESS):
    """Iterate a matrix, or each matrix of a stack, from its Frobenius norm on."""
    norm = np.linalg.norm(u, axis=(-2, -1), keepdims=True)
    x = u / np.where(norm == 0, 1, norm)
    for a, b, c in rows:
        A = x @ np.swapaxes(x, -1, -2).conj()
        x = a * x + b * A @ x + c * A @ A @ x
    return x


def spectral_scale(inputs, outputs):
    return np.sqrt(max(1, outputs / inputs))


def orthogonalize(v, g, t, *, beta):
    u, v = nesterov(v, g, t, beta=beta)
    return spectral_scale(*u.shape) * newton_schulz(u), v


def muon(v, g, t, *, beta, nesterov=True):
    u, v = quasi_hyperbolic(v, g, t, beta=beta, nu=beta if nesterov else lambda t: 1.0)
    inputs, outputs = u.shape
    return np.sqrt(max(1, outputs / inputs)) * newton_schulz(u), v


def normalize_rows(o, w, β=0.95, ε=1e-10):
    """NorMuon's division by the size of each output, with the norm of the matrix kept."""
    w = β * w + (1 - β) * np.mean(np.abs(o) ** 2, axis=-2, keepdims=True)
    u = o / (np.sqrt(w) + ε)
    return u * np.linalg.norm(o) / np.linalg.norm(u), w


def orthogonalize_normuon(carried, g, t, *, beta):
    v, w = carried or (0.0, 0.0)
    u, v = nesterov(v, g, t, beta=beta)
    d, w = normalize_rows(newton_schulz(u, [(1.875, -1.25, 0.375)] * 5), w)
    return spectral_scale(*u.shape) * d, (v, w)


def optimistic(v, g, t, *, beta):
    v, last = v if t else (0.0, None)
    d, v = nesterov(v, g, t, beta=beta)
    last = d if last is None else last
    return 2 * d - last, (v, d)


def guard_with_bounded_velocity(v, g, t, *, beta):
    d, v = nesterov(v, g, t, beta=beta)
    return d, v * min(1, 5 / np.linalg.norm(v))


def guard_with_spikes(v, g, t, *, beta, value):
    return nesterov(v, g, t, beta=beta)


def restart(v, g, t, *, beta):
    v, j = v if t else (0.0, 0)
    d, v = nesterov(v if j else 0.0, g, j, beta=beta)
    if np.sum(g * v) < 0:
        d, v = nesterov(0.0, g, 0, beta=beta)
        return d, (v, 0)  # The next step starts with a velocity of 0.
    return d, (v, j + 1)


def restart_every_4(v, g, t, *, beta):
    return nesterov(v if t % 4 else 0.0, g, t % 4, beta=beta)


def restart_speed(v, g, t, *, beta):
    v, j, speeds = v if t else (0.0 * g, 0, [0.0, 0.0])
    if j >= 2 and speeds[-1] < speeds[-2]:
        v, j, speeds = 0.0 * g, 0, [0.0, 0.0]
    d, v = nesterov(v, g, j, beta=beta)
    return d, (v, j + 1, [*speeds, np.linalg.norm(v)])


def ema_nesterov(carried, g, t, *, beta, gamma):
    """Plain descent with the learning rate 0.1, in the sequences of the paper."""
    m, y, θ = carried or (0.0, 0.0, 0.0)
    θ_new = y - 0.1 * g
    m = gamma(t) * m + (1 - gamma(t)) * (θ_new - θ)
    y_new = θ_new + beta(t + 1) * m
    return y_new - y, (m, y_new, θ_new)


def outer(gradient, θ, steps, *, inner, every, step, inner_state="keep"):
    """Return the parameters and the slow ones after each step.

    inner(g, state, t) -> (u, state) is the inner optimizer, and step(Δ, w, state, t) ->
    (change of w, state) the outer one. Each starts with the state 0.0.
    """
    w, b, s, start, path = θ, 0.0, 0.0, 0, []
    for t in range(steps):
        u, s = inner(gradient(θ), s, t - start)
        θ = θ + u
        if (t + 1) % every == 0:
            change, b = step(w - θ, w, b, t // every)
            θ = w = w + change
            s = s if inner_state == "keep" else 0.0
            start = t + 1 if inner_state == "reset" else start
        path.append((θ, w))
    return tuple(map(np.stack, zip(*path, strict=True)))


def outer_on_workers(
    gradient, θ, steps, *, inner, every, step, takes_part, fragments, inner_state="keep", code=None
):
    """Return the parameters of each worker and the slow ones after each step.

    θ is a list of arrays. gradient(worker, θ) is that of one worker, inner and step are as in
    `outer`, takes_part[t, worker] says who takes part in a round after step t, fragments are the
    numbers of the arrays' fragments, and code(x) is what is left of a vector when it was sent.
    """
    W, n = takes_part.shape[1], max(fragments) + 1
    θ, w = [list(θ) for _ in range(W)], list(θ)
    e = [[0.0 * x for x in w] for _ in range(W)]
    s, b = [[0.0] * len(w) for _ in range(W)], [0.0] * len(w)
    start, path, rounds = 0, [], [0] * len(w)
    for t in range(steps):
        for i in range(W):
            g = gradient(i, θ[i])
            for k in range(len(w)):
                u, s[i][k] = inner(g[k], s[i][k], t - start)
                θ[i][k] = θ[i][k] + u
        present = [i for i in range(W) if takes_part[t, i]]
        for k, fragment in enumerate(fragments):
            if (t + 1 - (fragment + 1) * every // n) % every:
                continue
            Δ = [w[k] - θ[i][k] for i in range(W)]
            if code is not None:
                mean = mean_of_codes(Δ, [e[i][k] for i in range(W)], present, code)
                for i in range(W):
                    e[i][k] = mean[1][i]
            if present:
                Δ = mean[0] if code is not None else sum(Δ[i] for i in present) / len(present)
                change, b[k] = step(Δ, w[k], b[k], rounds[k])
                w[k], rounds[k] = w[k] + change, rounds[k] + 1
            for i in range(W):
                θ[i][k] = w[k]
                s[i][k] = s[i][k] if inner_state == "keep" else 0.0
            start = t + 1 if inner_state == "reset" else start
        path.append((np.stack([np.concatenate(each) for each in θ]), np.concatenate(w)))
    return tuple(map(np.stack, zip(*path, strict=True)))


def mean_of_codes(Δ, e, present, code):
    """Return the mean of vectors that the workers present send in codes, and all residuals."""
    W, size = len(Δ), len(Δ[0])
    length = -(-size // W)  # Worker j averages the entries from j length on.
    parts = [slice(j * length, (j + 1) * length) for j in range(W)]
    e, mean = [x + np.zeros(size) for x in e], np.zeros(size)
    sent = {}
    for i in present:
        owed = Δ[i] + e[i]
        sent[i] = np.concatenate([code(owed[part], length) for part in parts])
        e[i] = owed - sent[i]
    for j, part in enumerate(parts):
        exact = sum((sent[i][part] for i in present), np.zeros(len(mean[part])))
        count = max(len(present), 1)
        mean[part] = code(exact / count, length)
        e[j][part] += exact - count * mean[part]
    return mean, e


def int8(x, length, *, block_size):
    """Return a vector as its codes of 8 bits say; it is filled up with zeros to a length."""
    out = np.zeros(length)
    out[: len(x)] = x
    for at in range(0, length, block_size):
        v = out[at : at + block_size]
        s = np.abs(v).max()
        if s > 0:
            q = np.round(np.sqrt(np.maximum(np.abs(v) / s * 127**2 - 0.25, 0)))
            out[at : at + block_size] = np.sign(v) * s * (q / 127) ** 2
    return out[: len(x)]


def directions(step, gradients, *, extra=lambda g: {}, **hyperparameters):
    """The directions of a sequence of gradients, stacked on the first axis, and the velocity."""
    v, out = 0.0, []
    for t, g in enumerate(gradients):
        d, v = step(v, g, t, **extra(g), **hyperparameters)
        out.append(d)
    return np.stack(out), v[0] if isinstance(v, tuple) else v


def sgd(
    step,
    gradient,
    θ,
    steps,
    *,
    learning_rate,
    weight_decay=lambda t: 0.0,
    velocity_units="gradient",
    decoupled=False,
    decay="uniform",
    peak=None,
    mask=1.0,
    maximize=False,
    **hyperparameters,
):
    """θ_0 .. θ_T under a gradient function of (θ, t); mask holds a 1 where decay applies."""
    v, path = 0.0, [θ]
    for t in range(steps):
        α, λ = learning_rate(t), weight_decay(t) * mask
        λ = λ if peak is None else λ * α / peak
        g = -gradient(θ, t) if maximize else gradient(θ, t)
        shrink = λ * θ
        if not decoupled:
            g = g + shrink
        if velocity_units == "gradient":
            d, v = step(v, g, t, **hyperparameters)
            u = -α * d
        else:
            u, v = step(v, -α * g, t, **hyperparameters)
        if decay == "cautious":
            shrink = shrink * (-u * θ >= 0)
        θ = θ + u - α * shrink if decoupled else θ + u
        path.append(θ)
    return np.stack(path)


def sutskever(gradient, θ, steps, *, learning_rate, beta):
    """Nesterov's momentum as first written: the gradient at the look-ahead point θ + β_t v.

    Returns the look-ahead points, at which libraries keep their parameters.
    """
    v, path = 0.0, [θ]
    for t in range(steps):
        ahead = θ + beta(t) * v
        v = beta(t) * v - learning_rate(t) * gradient(ahead, t)
        θ = θ + v
        path.append(θ + beta(t + 1) * v)
    return np.stack(path)


def hyperball(θ, u, R):
    """The point of norm R in the direction of θ + u."""
    return R * (θ + u) / np.linalg.norm(θ + u)


def on_the_ball(θ, gradients, *, learning_rate, beta):
    """θ_1 .. θ_T of one matrix under Nesterov's momentum, all of the norm of θ_0."""
    v, R, path = 0.0, np.linalg.norm(θ), []
    for t, g in enumerate(gradients):
        d, v = nesterov(v, g, t, beta=beta)
        θ = hyperball(θ, -learning_rate * d, R)
        path.append(θ)
    return np.stack(path)
