"""The reference page's snippets run: with the official SDK as printed, with ours by their import lines."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from urllib.request import urlopen

from PIL import Image

PAGE = Path(__file__).with_name("reference_page.txt").read_text()
PAGE_HOST = "https://segmind-sd-models.s3.amazonaws.com/display_images"
SHOW = "\nimport json\nprint(json.dumps(result))\n"


def with_host(program: str, host: str) -> str:
    """The program with the picture's host replaced, and nothing else."""
    assert program.count(PAGE_HOST) == 2
    # The space before the URL is the page's own.
    assert f'" {PAGE_HOST}/def_ip_image.png"' in program
    return program.replace(PAGE_HOST, host)


def check_output(output: str, service) -> None:
    """What the snippets print is what the page says, and the picture is there."""
    status, url, seconds, request_id, last = output.splitlines()
    assert status == "COMPLETED"
    assert float(seconds) >= 0
    assert len(request_id) == 36
    assert f'"request_id": "{request_id}"' in last
    assert '"status": "COMPLETED"' in last
    assert '"seed": 4898558797' in last
    assert url.startswith(service.url)
    with urlopen(url) as answer, Image.open(BytesIO(answer.read())) as picture:
        assert picture.size == (1024, 1024)
        assert picture.format == "PNG"


def test_the_page_runs_with_the_official_sdk(official, service, picture_host):
    program = with_host(PAGE, picture_host.url)
    program = program.replace(
        "import segmind\n",
        "import segmind\nsegmind._default_client = segmind.SegmindClient(base_url=BASE_URL)\n",
    )
    program = program.replace("SegmindClient()", "SegmindClient(base_url=BASE_URL)")
    check_output(official(program + SHOW), service)


def test_the_page_runs_with_ours_by_its_import_lines(run_program, service, picture_host):
    program = with_host(PAGE, picture_host.url)
    program = program.replace("import segmind\n", "import understudy as segmind\n")
    program = program.replace("from segmind import", "from understudy import")
    output = run_program(
        program + SHOW, UNDERSTUDY_API_KEY=service.key, UNDERSTUDY_BASE_URL=f"{service.url}/v1"
    )
    check_output(output, service)
