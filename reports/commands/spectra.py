"""`reports spectra`: the update of a run, or of two."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from reports.commands.arguments import report_files
from reports.errors import ReportError


@dataclass(frozen=True)
class SpectraOptions:
    """Show the spectra of a run, or the similarity of two.

    Effective rank and amplification of one run's update, or the similarity of the subspaces of two runs' updates.
    """

    folders: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN [RUN]")]
    """Folder of one run, or folders of two."""
    output: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Also draw the spectra there, as SVG and PNG."""


def spectra(options: SpectraOptions) -> None:
    from reports.records import read_run
    from reports.spectra import similarity_report, spectra_report

    if len(options.folders) not in (1, 2):
        raise ReportError(f"expected the folders of one or two runs, not {len(options.folders)}")
    runs = [read_run(folder) for folder in options.folders]
    print(spectra_report(*runs) if len(runs) == 1 else similarity_report(*runs))
    if options.output is not None:
        from reports.plots.spectra import draw_spectra

        report_files(draw_spectra(runs, options.output), options.output)
