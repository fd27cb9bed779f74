"""The command line: `momentax sweep` trains on a grid, `analyze` prints theory, `race` compares."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence

from momentax._cli._parser import make_parser, protect_negative_numbers
from momentax._cli._usage import UsageError


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line.

    Args:
        arguments: What follows the name of the program; None reads `sys.argv`.

    Returns:
        None. A mistake in the arguments prints a sentence and exits with status 2. A result
        that could not be printed or written to its file prints one and exits with status 1.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        # An output without Greek letters, such as an ASCII terminal, gets question marks.
        sys.stdout.reconfigure(errors="replace")
    given = sys.argv[1:] if arguments is None else arguments
    options = make_parser().parse_args(protect_negative_numbers(given))
    try:
        if not options.run(options):
            sys.exit(1)
    except UsageError as error:
        from momentax._cli._output import shown  # It loads JAX, as the command has by now.

        options.parser.error(shown(str(error)))


if __name__ == "__main__":
    main()
