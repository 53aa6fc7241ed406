"""The models a client can name: slug, parameters, engine, price by size, licences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .engines.presets import Preset, choose_preset
from .errors import NotFound
from .licences import APACHE, Licence, find_licence, find_weakest
from .parameters import Parameters, parameters_schema
from .weights import list_parts

if TYPE_CHECKING:
    from .settings import Settings

REFERENCE_SLUG = "consistent-character-AI-neolemon-v3"
"""The hosted model that the service answers in place of."""

SIZES = ((512 * 512, 1, 2), (1024 * 1024, 1, 1), (1536 * 1536, 2, 1), (2048 * 2048, 4, 1))
"""Most pixels of a picture, and its price as a fraction of that of one with 1024 x 1024."""

MICROCREDITS = 1_000_000

MICROCREDITS_PER_TERAFLOP = 580_000 / 206.0
"""What work costs: that of a picture of SDXL is 206 TFLOP, and such a picture costs 0.58 credits."""


@dataclass(frozen=True, kw_only=True)
class EngineFacts:
    """What a person should know of an engine before using it, whatever its settings."""

    title: str
    warnings: tuple[str, ...] = ()


ENGINES: dict[str, EngineFacts] = {
    "toon": EngineFacts(
        title="Understudy Toon",
        warnings=("A small model of cartoon characters in one style; it draws nothing else well.",),
    ),
    "sdxl": EngineFacts(
        title="SDXL with IP-Adapter and ControlNet",
        warnings=("Needs a GPU; on a CPU one picture takes many minutes.",),
    ),
    "qwen-edit": EngineFacts(
        title="Qwen-Image-Edit",
        warnings=(
            "Needs a GPU with much memory; on a CPU one picture takes hours.",
            "Follows the pose as well as it can; SDXL has a network for it.",
        ),
    ),
    "flux2-klein": EngineFacts(
        title="FLUX.2-klein",
        warnings=(
            "Needs a GPU; on a CPU one picture takes many minutes.",
            "Follows the pose as well as it can; SDXL has a network for it.",
        ),
    ),
    "null": EngineFacts(
        title="Null", warnings=("Answers at once with a flat picture; for benchmarks and tests.",)
    ),
}


WORK = {
    "sdxl": (6.76 + 3.02, 10.5),
    "qwen-edit": (390.0, 10.5 + 2 * 4.9),
    "flux2-klein": (88.8, 10.5 + 1.25 * 4.9),
}
"""TFLOP (2 x multiply-adds, batch 1, 1024 x 1024) of one forward of an engine's networks, and of what is
done once for a picture: 10.5 to decode it, 4.9 for each megapixel that is encoded. SDXL: UNet and
ControlNet. Qwen-Image-Edit: character and skeleton, a megapixel each. FLUX.2-klein: the skeleton a quarter
of one, between the 76.7 of one picture and the 128.9 of two as the tokens' attention grows."""


def find_price(settings: Settings, engine: str) -> int:
    """What a picture of 1024 x 1024 costs with an engine, in micro-credits, before an operator's own price.

    It is in proportion to the work of the usual steps, two forwards each under guidance, or of the few
    of a distilled model. The embedded model and the null engine do next to none and have prices of
    their own.
    """
    preset = choose_preset(settings, engine)
    if preset is None:
        return {"toon": 20_000, "null": 2_000}[engine]
    forward, once = WORK[engine]
    usual_steps = Parameters.model_fields["steps"].default
    forwards = preset.count_steps(usual_steps) * (2 if preset.guided else 1)
    # A price has two digits after the point: the work is counted no better.
    return round(MICROCREDITS_PER_TERAFLOP * (forwards * forward + once), -4)


@dataclass(frozen=True, kw_only=True)
class Model:
    """One slug of the catalogue; `price_microcredits` is for a picture of up to 1024 x 1024 pixels.

    `preset` is how its engine is used, where that can be chosen. `licences` has that of each of the weights
    by the name that they are known by.
    """

    slug: str
    title: str
    engine: str
    price_microcredits: int
    facts: EngineFacts
    preset: Preset | None
    licences: Mapping[str, Licence]

    def price(self, parameters: Parameters) -> int:
        """What a request costs, in micro-credits: the price of its size for each of its pictures."""
        return self._price_of(parameters.width * parameters.height) * parameters.picture_count

    @property
    def least_price(self) -> int:
        """What the cheapest request costs, in micro-credits."""
        return self._price_of(0)

    @property
    def idle(self) -> Mapping[str, str]:
        """The parameters that never act, and why."""
        return self.preset.idle if self.preset else {}

    @property
    def licence(self) -> Licence:
        """The licence that allows the least of those of its weights."""
        return find_weakest(self.licences.values())

    def list_warnings(self) -> list[str]:
        """What a person should know before using it."""
        licence = self.licence
        warnings = [*self.facts.warnings]
        warnings += [f"{name} does not act: {reason}." for name, reason in self.idle.items()]
        if self.preset and self.preset.most_steps:
            warnings.append(f"steps does not act above {self.preset.most_steps}.")
        if not licence.commercial_use and licence.url:
            warnings.append(f"Its licence, {licence.name}, does not allow commercial use.")
        elif licence.restricts_use:
            warnings.append(f"Its licence, {licence.name}, forbids some uses, which it lists.")
        elif not licence.url:
            warnings.append("It has weights of an unknown licence; see that it allows your use.")
        return warnings

    def _price_of(self, pixels: int) -> int:
        numerator, denominator = next(price for most, *price in SIZES if pixels <= most)
        # Half a micro-credit is nobody's.
        return self.price_microcredits * numerator // denominator

    def describe_parameters(self) -> dict[str, Any]:
        """JSON Schema of the parameters; one that does not act has `acts` false and a `reason`."""
        schema = parameters_schema()
        for name, reason in self.idle.items():
            schema["properties"][name] |= {"acts": False, "reason": f"{reason[:1].upper()}{reason[1:]}."}
        return schema

    def to_body(self) -> dict[str, Any]:
        """The model as the catalogue's routes show it."""
        return {
            "slug": self.slug,
            "title": self.title,
            "description": "One reference, any pose: the same character in the pose that is asked for.",
            "engine": self.engine,
            "engine_title": self.facts.title,
            "price": self.price_microcredits / MICROCREDITS,
            "prices": [
                {"most_pixels": most, "price": self._price_of(most) / MICROCREDITS} for most, *_ in SIZES
            ],
            "licence": self.licence.name,
            "licence_url": self.licence.url,
            "licences": [
                {"weights": weights, "licence": licence.name, "licence_url": licence.url}
                for weights, licence in self.licences.items()
            ],
            "warnings": self.list_warnings(),
            "parameters": self.describe_parameters(),
        }


def name_slug(engine: str) -> str:
    """The slug of an engine's own."""
    return f"understudy-{engine}"


def list_slugs() -> list[str]:
    """The slug of every model that a service can have, whichever engines it serves."""
    return [REFERENCE_SLUG, *map(name_slug, ENGINES)]


def find_engine(settings: Settings, slug: str) -> str:
    """The engine of a model, whether or not a service with these settings would serve it.

    Raises:
        NotFound: there is no such model.
    """
    return Catalog(settings.model_copy(update={"engines": ",".join(ENGINES)})).find_model(slug).engine


class Catalog:
    """The models that a service serves."""

    def __init__(self, settings: Settings) -> None:
        titles = {REFERENCE_SLUG: ("Consistent Character", settings.engine)}
        for engine in settings.served_engines:
            titles[name_slug(engine)] = (ENGINES[engine].title, engine)
        self._models = {
            slug: Model(
                slug=slug,
                title=title,
                engine=engine,
                price_microcredits=_choose_price(settings, engine),
                facts=ENGINES[engine],
                preset=choose_preset(settings, engine),
                licences=_list_licences(settings, engine),
            )
            for slug, (title, engine) in titles.items()
        }

    @property
    def engines(self) -> dict[str, str]:
        """The engine of each model, by its slug."""
        return {slug: model.engine for slug, model in self._models.items()}

    def list_models(self) -> list[Model]:
        """Every model, the reference slug first."""
        return list(self._models.values())

    def find_model(self, slug: str) -> Model:
        """The model of a slug.

        Raises:
            NotFound: there is none; the message names those there are.
        """
        model = self._models.get(slug)
        if model is None:
            raise NotFound(
                f"There is no model {slug[:100]!r}; this service has {', '.join(self._models)}.",
                code="model_not_found",
            )
        return model


def _choose_price(settings: Settings, engine: str) -> int:
    """Micro-credits for a picture of usual size.

    An operator's own price is that of the first engine; what others cost stays in proportion to it.
    """
    if settings.credits != "on":
        return 0
    own = find_price(settings, engine)
    if settings.price_credits is None:
        return own
    first = int(settings.price_credits * MICROCREDITS)
    return first if engine == settings.engine else round(first * own / find_price(settings, settings.engine))


def _list_licences(settings: Settings, engine: str) -> dict[str, Licence]:
    """The licence of each of an engine's weights; what they are known by tells nothing of this machine."""
    places = [part.place for part in list_parts(settings, engine)]
    if not places:
        return {name_slug(engine): APACHE}
    return {place if find_licence(place).url else Path(place).name: find_licence(place) for place in places}
