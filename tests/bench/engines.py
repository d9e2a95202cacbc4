"""What each network costs on each back end of this machine: ``python -m tests.bench engines``."""

from rich.console import Console

from engines import EngineError
from engines.benchmark import measure
from engines.models import ModelStore
from engines.platforms import find_platform
from engines.screen import figures_table


def main() -> None:
    out = Console(highlight=False, width=140)
    try:
        platform = find_platform()
    except EngineError as error:
        platform = None
        out.print(str(error))
    out.print(figures_table(measure(ModelStore(), platform, said=out.print)))
