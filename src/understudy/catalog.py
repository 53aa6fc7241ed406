"""The models a client can name: slug, parameters, engine, price by size, licence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .errors import NotFound
from .parameters import Parameters, parameters_schema

REFERENCE_SLUG = "consistent-character-AI-neolemon-v3"
"""The hosted model that the service answers in place of."""


@dataclass(frozen=True, kw_only=True)
class EngineFacts:
    """What a person should know of an engine before using it."""

    title: str
    licence: str
    licence_url: str
    warnings: tuple[str, ...] = ()
    price_microcredits: int = 0


SIZES = ((512 * 512, 1, 2), (1024 * 1024, 1, 1), (1536 * 1536, 2, 1), (2048 * 2048, 4, 1))
"""Most pixels of a picture, and its price as a fraction of that of one with 1024 x 1024."""

ENGINES: dict[str, EngineFacts] = {
    "toon": EngineFacts(
        title="Understudy Toon",
        licence="Apache-2.0",
        licence_url="https://www.apache.org/licenses/LICENSE-2.0",
        warnings=("A small model of cartoon characters in one style; it draws nothing else well.",),
        price_microcredits=20_000,
    ),
    "sdxl": EngineFacts(
        title="SDXL with IP-Adapter and ControlNet",
        licence="CreativeML Open RAIL++-M",
        licence_url="https://huggingface.co/stabilityai/stable-diffusion-xl-base-1.0/blob/main/LICENSE.md",
        warnings=("Needs a GPU; on a CPU one picture takes many minutes.",),
        price_microcredits=580_000,
    ),
    "null": EngineFacts(
        title="Null",
        licence="Apache-2.0",
        licence_url="https://www.apache.org/licenses/LICENSE-2.0",
        warnings=("Answers at once with a flat picture; for benchmarks and tests.",),
        price_microcredits=2_000,
    ),
}


@dataclass(frozen=True, kw_only=True)
class Model:
    """One slug of the catalogue; `price_microcredits` is for a picture of up to 1024 x 1024 pixels."""

    slug: str
    title: str
    engine: str
    price_microcredits: int
    facts: EngineFacts

    def price(self, parameters: Parameters) -> int:
        """What a request costs, in micro-credits: the price of its size for each of its pictures."""
        return self._price_of(parameters.width * parameters.height) * parameters.picture_count

    @property
    def least_price(self) -> int:
        """What the cheapest request costs, in micro-credits."""
        return self._price_of(0)

    def _price_of(self, pixels: int) -> int:
        numerator, denominator = next(price for most, *price in SIZES if pixels <= most)
        # Half a micro-credit is nobody's.
        return self.price_microcredits * numerator // denominator

    def to_body(self) -> dict[str, Any]:
        """The model as the catalogue's routes show it."""
        return {
            "slug": self.slug,
            "title": self.title,
            "description": "One reference, any pose: the same character in the pose that is asked for.",
            "engine": self.engine,
            "engine_title": self.facts.title,
            "price": self.price_microcredits / 1_000_000,
            "prices": [
                {"most_pixels": most, "price": self._price_of(most) / 1_000_000} for most, *_ in SIZES
            ],
            "licence": self.facts.licence,
            "licence_url": self.facts.licence_url,
            "warnings": list(self.facts.warnings),
            "parameters": parameters_schema(),
        }


def list_slugs() -> list[str]:
    """The slug of every model that a service can have, whichever engine it runs."""
    return [REFERENCE_SLUG, *(f"understudy-{engine}" for engine in ENGINES)]


class Catalog:
    """The models that this service serves."""

    def __init__(self, engine: str, price_microcredits: int | None = None) -> None:
        facts = ENGINES.get(engine) or EngineFacts(title=engine, licence="unknown", licence_url="")
        price = facts.price_microcredits if price_microcredits is None else price_microcredits
        self._models = {
            slug: Model(slug=slug, title=title, engine=engine, price_microcredits=price, facts=facts)
            for slug, title in (
                (REFERENCE_SLUG, "Consistent Character"),
                (f"understudy-{engine}", facts.title),
            )
        }

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
