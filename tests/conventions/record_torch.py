"""Record the steps of torch.optim.SGD: `python -m tests.conventions.record_torch`, torch 2.13.

The script writes torch.json to its own folder. The live tests import its functions.
"""

import numpy as np
import torch

from tests.conventions import trajectories as shared


def run(name):
    """Return θ_0 .. θ_T of a case."""
    options = dict(shared.TORCH[name])
    late = options.pop("late", 0)
    scheduled = {key: value for key, value in options.items() if callable(value)}
    params = {key: torch.nn.Parameter(torch.tensor(start)) for key, start in shared.START.items()}
    initial = {key: value(shared.STEPS) for key, value in scheduled.items()}
    optimizer = torch.optim.SGD(params.values(), **options | initial)
    path = [{key: value.detach().numpy().copy() for key, value in params.items()}]
    for t in range(shared.STEPS):
        for key, value in scheduled.items():
            optimizer.param_groups[0][key] = value(t)
        for key, grad in shared.gradient(**path[-1]).items():
            params[key].grad = None if key == "b" and t < late else torch.from_numpy(grad)
        optimizer.step()
        path.append({key: value.detach().numpy().copy() for key, value in params.items()})
    return {key: np.stack([point[key] for point in path]) for key in params}


class Net(torch.nn.Module):
    """A convolution and a dense layer."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = torch.nn.Conv2d(2, 3, 3, dtype=torch.float64)
        self.out = torch.nn.Linear(27, 4, dtype=torch.float64)

    def forward(self, images):
        return self.out(torch.tanh(self.conv(images)).flatten(1))


def start():
    """Return a model and its optimizer."""
    model = Net()
    return model, torch.optim.SGD(model.parameters(), **shared.SGD)


def train(model, optimizer, first, steps=shared.HANDOVER):
    """Make steps, the first of them at the count `first`."""
    images, labels = torch.from_numpy(shared.IMAGES), torch.from_numpy(shared.LABELS)
    for t in range(first, first + steps):
        optimizer.param_groups[0]["lr"] = shared.model_rate(t)
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(model(images), labels).backward()
        optimizer.step()


def checkpoint(model, optimizer):
    """Return copies of the parameters and of the buffers in NumPy."""
    state = optimizer.state_dict()["state"]
    return {
        "params": {name: value.numpy().copy() for name, value in model.state_dict().items()},
        "buffers": {
            name: state[i]["momentum_buffer"].numpy().copy() for i, name in enumerate(shared.NAMES)
        },
    }


def complex_run():
    """Return parameters and buffers on a complex least-squares loss, after 20 and 40 steps."""
    matrix, target, z = (torch.from_numpy(part) for part in shared.complex_problem())
    z = torch.nn.Parameter(z)
    optimizer = torch.optim.SGD([z], lr=0.02, momentum=0.9)
    points = []
    for _ in range(2):
        for _ in range(shared.HANDOVER):
            optimizer.zero_grad()
            (matrix @ z - target).abs().square().sum().backward()
            optimizer.step()
        b = optimizer.state[z]["momentum_buffer"]
        points.append(
            {
                key: np.stack([part.real, part.imag])
                for key, part in {"z": z.detach().numpy(), "b": b.numpy()}.items()
            }
        )
    return points


def main():
    """Write the recording."""
    model, optimizer = start()
    points = []
    for first in (0, 20, 40):
        train(model, optimizer, first)
        points.append(checkpoint(model, optimizer))
    shared.write(
        "torch.json",
        {
            "versions": {"torch": torch.__version__, "numpy": np.__version__},
            "cases": {
                name: {key: path[shared.RECORDED_STEPS] for key, path in run(name).items()}
                for name in shared.TORCH
            },
            "model": {str(t): point for t, point in zip((20, 40, 60), points, strict=True)},
            "complex": dict(zip(("20", "40"), complex_run(), strict=True)),
        },
    )


if __name__ == "__main__":
    main()
