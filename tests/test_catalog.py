"""What the catalogue tells of a model: whose licence, which price, and what does not act."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from understudy.catalog import ENGINES, REFERENCE_SLUG, Catalog, find_engine, list_slugs
from understudy.errors import NotFound
from understudy.licences import LICENCES, OPEN_RAIL, explain_unaccepted, find_licence, find_weakest
from understudy.settings import Settings

KLEIN_9B = "black-forest-labs/FLUX.2-klein-9B"


def tell(engine: str, **settings) -> dict:
    """An engine's own model as the catalogue's route tells it."""
    catalog = Catalog(Settings(engine=engine, credits="on", **settings))
    return catalog.find_model(f"understudy-{engine}").to_body()


def test_the_reference_slug_is_bound_to_the_first_engine():
    catalog = Catalog(Settings(engine="sdxl", engines="toon, null,toon"))
    assert catalog.engines == {
        REFERENCE_SLUG: "sdxl",
        "understudy-sdxl": "sdxl",
        "understudy-toon": "toon",
        "understudy-null": "null",
    }
    with pytest.raises(NotFound, match="this service has consistent-character"):
        catalog.find_model("understudy-qwen-edit")
    assert {*Catalog(Settings(engines=",".join(ENGINES))).engines} == {*list_slugs()}


def test_an_engine_that_there_is_not_is_no_setting():
    with pytest.raises(ValueError, match="There is no engine 'oil'; there are toon, sdxl"):
        Settings(engines="toon,oil")


def test_drawing_without_a_service_takes_the_engine_of_the_model():
    assert find_engine(Settings(engine="null"), REFERENCE_SLUG) == "null"
    assert find_engine(Settings(engine="null"), "understudy-sdxl") == "sdxl"
    with pytest.raises(NotFound):
        find_engine(Settings(), "understudy-oil")


@pytest.mark.parametrize(
    ("engine", "settings", "price"),
    [
        ("sdxl", {}, 0.58),
        # 8 forwards of 9.78 TFLOP and 10.5 for the picture, where SDXL as it is has 206 in all.
        ("sdxl", {"sdxl_preset": "lightning"}, 0.25),
        ("flux2-klein", {}, 1.05),
        ("flux2-klein", {"flux2_klein_preset": "base"}, 5.05),
        ("qwen-edit", {"qwen_edit_lora": "lightx2v/Qwen-Image-Edit-2511-Lightning"}, 4.45),
        ("qwen-edit", {}, 22.02),
    ],
)
def test_a_price_is_in_proportion_to_the_work(engine, settings, price):
    assert tell(engine, **settings)["price"] == pytest.approx(price, abs=0.005)


def test_the_page_of_the_engines_has_their_prices():
    page = (Path(__file__).parents[1] / "docs" / "engines" / "README.md").read_text()
    (row,) = re.findall(r"^\| credits a picture \| (.*) \|$", page, re.MULTILINE)
    told = [[float(price) for price in re.findall(r"\d+\.\d+", cell)] for cell in row.split(" | ")]
    fast_lora = "lightx2v/Qwen-Image-Edit-2511-Lightning"
    assert told == [
        [tell("toon")["price"]],
        [tell("sdxl", sdxl_preset=preset)["price"] for preset in ("quality", "hyper", "lightning")],
        [tell("qwen-edit", qwen_edit_lora=lora)["price"] for lora in ("", fast_lora)],
        [tell("flux2-klein", flux2_klein_preset=preset)["price"] for preset in ("distilled", "base")],
    ]


def test_an_operators_price_is_the_first_engines_and_moves_the_others():
    settings = Settings(engine="toon", engines="sdxl", price_credits="0.1", credits="on")
    prices = [model.price_microcredits for model in Catalog(settings).list_models()]
    assert prices == [100_000, 100_000, 2_900_000]
    free = Catalog(settings.model_copy(update={"credits": "off"}))
    assert {model.price_microcredits for model in free.list_models()} == {0}


def test_what_never_acts_is_declared_with_its_reason():
    told = tell("flux2-klein")
    properties = told["parameters"]["properties"]
    idle = {name for name, schema in properties.items() if schema.get("acts") is False}
    assert idle == {"guidance_scale", "negative_prompt", "ip_scale", "pose_scale"}
    assert "distilled" in properties["guidance_scale"]["reason"]
    assert (
        "guidance_scale does not act: this model is distilled and draws without guidance." in told["warnings"]
    )
    assert "steps does not act above 4." in told["warnings"]
    for engine in ("toon", "sdxl", "null"):
        assert not any("acts" in schema for schema in tell(engine)["parameters"]["properties"].values())


def test_a_licence_is_that_of_the_weakest_part_and_each_is_named():
    told = tell("sdxl")
    assert told["licence"] == OPEN_RAIL.name
    assert {one["weights"]: one["licence"] for one in told["licences"]} == {
        "stabilityai/stable-diffusion-xl-base-1.0": OPEN_RAIL.name,
        "xinsir/controlnet-openpose-sdxl-1.0": "Apache-2.0",
        "h94/IP-Adapter": "Apache-2.0",
        "madebyollin/sdxl-vae-fp16-fix": "MIT",
    }
    assert any("forbids some uses" in warning for warning in told["warnings"])
    assert tell("qwen-edit")["licence"] == tell("toon")["licence"] == "Apache-2.0"
    assert [
        find_weakest(map(find_licence, names)).name for names in ((KLEIN_9B, "mine"), ("mine", *LICENCES))
    ] == ["FLUX Non-Commercial License"] * 2


def test_weights_of_an_operators_own_are_told_as_unknown_and_not_where_they_lie():
    told = tell("sdxl", sdxl_model="/home/somebody/secret/comic-xl")
    assert (told["licence"], told["licence_url"]) == ("unknown", "")
    assert told["licences"][0]["weights"] == "comic-xl"
    assert "secret" not in str(told)
    assert any("unknown licence" in warning for warning in told["warnings"])


@pytest.mark.parametrize("accepted", ["flux non-commercial license", f"MIT, {KLEIN_9B}"])
def test_a_restricted_licence_has_to_be_accepted_by_name_or_by_hub_id(accepted):
    refusal = explain_unaccepted("flux2-klein", [KLEIN_9B], Settings().accepted)
    for words in (KLEIN_9B, "FLUX Non-Commercial License", "https://", "UNDERSTUDY_ACCEPTED_LICENCES"):
        assert words in refusal
    assert (
        explain_unaccepted("flux2-klein", [KLEIN_9B], Settings(accepted_licences="MIT").accepted) == refusal
    )
    assert (
        explain_unaccepted("flux2-klein", [KLEIN_9B], Settings(accepted_licences=accepted).accepted) is None
    )
    assert explain_unaccepted("flux2-klein", [KLEIN_9B.upper()], set()), "the hub finds it in any case"
    assert explain_unaccepted("sdxl", ["stabilityai/stable-diffusion-xl-base-1.0", "mine"], set()) is None
