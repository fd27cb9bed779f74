"""Stop a search or a halving after some batches, as an error in the middle of it would."""

from momentax.sweeps._run._outputs import Outputs


class StoppedError(Exception):
    """An error in the middle of a search or a halving."""


def stop_after(monkeypatch, batches):
    add, left = Outputs.add, [batches]

    def stopping(self, index, out):
        if not left[0]:
            raise StoppedError
        left[0] -= 1
        return add(self, index, out)

    monkeypatch.setattr(Outputs, "add", stopping)
