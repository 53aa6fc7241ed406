"""Under which licence weights come, as far as it is known."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Licence:
    """A licence of weights.

    `commercial_use` says that it allows pictures for money. `restricts_use` says that it forbids some
    purposes, which it lists. `needs_acceptance` says that it forbids what people commonly do, so that it
    is not taken for accepted.
    """

    name: str
    url: str
    commercial_use: bool
    restricts_use: bool = False
    needs_acceptance: bool = False


APACHE = Licence(name="Apache-2.0", url="https://www.apache.org/licenses/LICENSE-2.0", commercial_use=True)
MIT = Licence(name="MIT", url="https://opensource.org/license/mit", commercial_use=True)
OPEN_RAIL = Licence(
    name="CreativeML Open RAIL++-M",
    url="https://huggingface.co/stabilityai/stable-diffusion-xl-base-1.0/blob/main/LICENSE.md",
    commercial_use=True,
    restricts_use=True,
)
FLUX_NON_COMMERCIAL = Licence(
    name="FLUX Non-Commercial License",
    url="https://huggingface.co/black-forest-labs/FLUX.2-klein-9B/blob/main/LICENSE.md",
    commercial_use=False,
    restricts_use=True,
    needs_acceptance=True,
)
CC_BY_NC = Licence(
    name="CC-BY-NC-4.0",
    url="https://creativecommons.org/licenses/by-nc/4.0/",
    commercial_use=False,
    needs_acceptance=True,
)
UNKNOWN = Licence(name="unknown", url="", commercial_use=False)
"""Of weights that are not in the list, those of a folder among them: who named them knows."""

LICENCES = {
    "stabilityai/stable-diffusion-xl-base-1.0": OPEN_RAIL,
    "SG161222/RealVisXL_V5.0": OPEN_RAIL,
    "xinsir/controlnet-openpose-sdxl-1.0": APACHE,
    "h94/IP-Adapter": APACHE,
    "madebyollin/sdxl-vae-fp16-fix": MIT,
    "ByteDance/SDXL-Lightning": OPEN_RAIL,
    "tianweiy/DMD2": CC_BY_NC,
    "Qwen/Qwen-Image-Edit-2509": APACHE,
    "Qwen/Qwen-Image-Edit-2511": APACHE,
    "FireRedTeam/FireRed-Image-Edit-1.0": APACHE,
    "FireRedTeam/FireRed-Image-Edit-1.1": APACHE,
    "lightx2v/Qwen-Image-Edit-2511-Lightning": APACHE,
    "black-forest-labs/FLUX.2-klein-4B": APACHE,
    "black-forest-labs/FLUX.2-klein-base-4B": APACHE,
    "black-forest-labs/FLUX.2-klein-9B": FLUX_NON_COMMERCIAL,
    "black-forest-labs/FLUX.2-klein-base-9B": FLUX_NON_COMMERCIAL,
    "Falconsai/nsfw_image_detection": APACHE,
}
"""By hub id, as the weights' own pages say; those of ByteDance/Hyper-SD declare none."""

_BY_LOWER_CASE = {weights.lower(): licence for weights, licence in LICENCES.items()}


def find_licence(weights: str) -> Licence:
    """The licence of weights, a hub id or a folder."""
    # The hub finds a repository in any case.
    return _BY_LOWER_CASE.get(weights.lower(), UNKNOWN)


def find_weakest(licences: Iterable[Licence]) -> Licence:
    """The licence that allows the least: what is made of several parts may be used as it says."""

    def rank(licence: Licence) -> tuple[bool, ...]:
        unknown = licence is UNKNOWN
        return licence.needs_acceptance, unknown, not licence.commercial_use, licence.restricts_use

    return max(licences, key=rank)


def explain_unaccepted(engine: str, weights: Iterable[str], accepted: Collection[str]) -> str | None:
    """A sentence when weights of an engine are under a licence that has to be accepted and is not.

    `accepted` has names of licences and hub ids of weights, in lower case.
    """
    for place in weights:
        licence = find_licence(place)
        if licence.needs_acceptance and not {place.lower(), licence.name.lower()} & set(accepted):
            return (
                f"The weights {place} of the engine {engine} are under the {licence.name} ({licence.url}), "
                f"which does not allow commercial use; to accept it set UNDERSTUDY_ACCEPTED_LICENCES to "
                f"{licence.name!r}."
            )
    return None
