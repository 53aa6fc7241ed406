"""What can be asked for: the catalogue of models and the library of poses."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, Field

from ..pose.library import list_poses
from .access import Caller, Running
from .failures import describe_errors

router = APIRouter(tags=["Catalogue"])


class PriceBody(BaseModel):
    """The price of a picture by its size, in credits."""

    most_pixels: int = Field(description="Width times height, at most.")
    price: float


class LicenceBody(BaseModel):
    """The licence of some of a model's weights."""

    weights: str = Field(description="Their hub id, or the last part of a folder's name.")
    licence: str
    licence_url: str


class ModelBody(BaseModel):
    """A model of the catalogue; `parameters` is JSON Schema."""

    slug: str
    title: str
    description: str
    engine: str
    engine_title: str
    price: float = Field(description="Of a picture of up to 1024 x 1024 pixels, in credits.")
    prices: list[PriceBody]
    licence: str = Field(description="The one of `licences` that allows the least.")
    licence_url: str
    licences: list[LicenceBody]
    warnings: list[str]
    parameters: dict[str, Any] = Field(
        description="A parameter that never acts with this model has `acts` false and a `reason`."
    )


class ModelsBody(BaseModel):
    """The catalogue."""

    models: list[ModelBody]


class PoseBody(BaseModel):
    """A named pose; keypoints are [x, y, confidence] as fractions of a square."""

    name: str
    title: str
    category: str
    description: str
    keypoints: list[tuple[float, float, float]]


class PosesBody(BaseModel):
    """The library of poses."""

    poses: list[PoseBody]


@router.get("/v1/models", summary="The catalogue", responses=describe_errors(401))
async def list_models(service: Running, key: Caller) -> ModelsBody:
    """Every model that this service serves."""
    return ModelsBody(models=[ModelBody(**model.to_body()) for model in service.catalog.list_models()])


@router.get("/v1/models/{slug}", summary="One model", responses=describe_errors(401, 404))
async def read_model(slug: str, service: Running, key: Caller) -> ModelBody:
    """A model's parameters as JSON Schema, its price, engine and licence."""
    return ModelBody(**service.catalog.find_model(slug).to_body())


@router.get("/v1/poses", summary="The library of poses", responses=describe_errors(401))
async def read_poses(key: Caller) -> PosesBody:
    """Every named pose with its keypoints."""
    return PosesBody(
        poses=[
            PoseBody(
                name=pose.name,
                title=pose.title,
                category=pose.category,
                description=pose.description,
                keypoints=[tuple(float(value) for value in point) for point in pose.keypoints],
            )
            for pose in list_poses()
        ]
    )
