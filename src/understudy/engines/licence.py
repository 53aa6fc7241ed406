"""Under which licence weights come, as far as it is known. Imports no framework."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Licence:
    """A licence of weights.

    `commercial_use` says that it allows pictures for money. `needs_acceptance` says that it binds who
    uses it in more than to name its author, so that it is not taken for accepted.
    """

    name: str
    url: str
    commercial_use: bool
    needs_acceptance: bool


APACHE = Licence(
    name="Apache-2.0",
    url="https://www.apache.org/licenses/LICENSE-2.0",
    commercial_use=True,
    needs_acceptance=False,
)
FLUX_NON_COMMERCIAL = Licence(
    name="FLUX Non-Commercial License",
    url="https://huggingface.co/black-forest-labs/FLUX.2-klein-9B/blob/main/LICENSE.md",
    commercial_use=False,
    needs_acceptance=True,
)
UNKNOWN = Licence(name="unknown", url="", commercial_use=False, needs_acceptance=False)
"""Of weights that are not in the list, those of a folder among them: who named them knows."""

LICENCES = {
    "Qwen/Qwen-Image-Edit-2509": APACHE,
    "Qwen/Qwen-Image-Edit-2511": APACHE,
    "FireRedTeam/FireRed-Image-Edit-1.0": APACHE,
    "FireRedTeam/FireRed-Image-Edit-1.1": APACHE,
    "black-forest-labs/FLUX.2-klein-4B": APACHE,
    "black-forest-labs/FLUX.2-klein-base-4B": APACHE,
    "black-forest-labs/FLUX.2-klein-9B": FLUX_NON_COMMERCIAL,
    "black-forest-labs/FLUX.2-klein-base-9B": FLUX_NON_COMMERCIAL,
}
"""By hub id, as the weights' own pages say."""


def find_licence(model: str) -> Licence:
    """The licence of a model, a hub id or a folder."""
    return LICENCES.get(model, UNKNOWN)
