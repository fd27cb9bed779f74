"""The command line: `momentax sweep` trains on a grid, `analyze` prints theory, `race` compares."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence

from momentax._cli._interruption import STATUS, Interruption
from momentax._cli._parser import make_parser
from momentax._cli._usage import UsageError


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line.

    Args:
        arguments: What follows the name of the program; None reads `sys.argv`, and nothing prints
            the help.

    Returns:
        None. A mistake in the arguments prints a sentence and exits with status 2. A result
        that could not be printed or written to its file prints one and exits with status 1. An
        interrupt prints what is kept and exits with status 130.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        # An output without Greek letters, such as an ASCII terminal, gets question marks.
        sys.stdout.reconfigure(errors="replace")
    given = sys.argv[1:] if arguments is None else arguments
    parser = make_parser()
    if not given:
        parser.print_help()
        return
    options = parser.parse_args(given)
    with Interruption() as options.interruption:
        try:
            if not options.run(options):
                sys.exit(1)
        except UsageError as error:
            options.parser.error(str(error))
        except KeyboardInterrupt:  # Where the signal arrives in another way.
            options.interruption.report()
            sys.exit(STATUS)


if __name__ == "__main__":
    main()
