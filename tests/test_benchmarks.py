"""The benchmarks' own tools: a load counts answers as they are, and a run rewrites its section alone."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parent.parent / "benchmarks"))

import bench
from load import LoadFailed, build_request, run_load


async def load_from(answers: list[bytes], requests: int, clients: int, received: list[bytes]):
    """A load on a server that answers each request with these pieces, one after the other."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readline():
            await reader.readuntil(b"\r\n\r\n")
            for piece in answers:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0.001)
            if not answers:
                break
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/some/path?x=1"
        asked = [build_request("GET", url)] * requests
        return await run_load(url, asked, clients, receive=received.append)


async def test_load_reads_answers_that_come_in_pieces():
    received: list[bytes] = []
    pieces = [b"HTTP/1.1 200 OK\r\nContent-", b"Length: 5\r\n\r", b"\nhell", b"o"]
    load = await load_from(pieces, requests=10, clients=3, received=received)
    assert received == [b"hello"] * 10
    assert len(load.latencies) == 10
    assert 0 < min(load.latencies) <= load.percentile_ms(50) / 1000 <= load.percentile_ms(99) / 1000
    assert sum(load.latencies) > load.seconds > max(load.latencies)


@pytest.mark.parametrize(
    "answers",
    [
        [b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\n\r\n"],
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"],
        [],
    ],
    ids=["another status", "no length", "connection lost"],
)
async def test_load_counts_no_failure_as_an_answer(answers: list[bytes]):
    with pytest.raises(LoadFailed):
        await asyncio.wait_for(load_from(answers, requests=4, clients=2, received=[]), 30)


def test_a_section_is_rewritten_alone_and_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(bench, "RESULTS", tmp_path / "RESULTS.md")
    first, second = (section.title for section in list(bench.SECTIONS.values())[:2])
    bench.write_section(second, [f"## {second}", "", "old"])
    bench.write_section(first, [f"## {first}", "", "one"])
    bench.write_section(second, [f"## {second}", "", "new"])
    text = (tmp_path / "RESULTS.md").read_text()
    assert text == f"# Measurements\n\n## {first}\n\none\n\n## {second}\n\nnew\n"


@pytest.mark.slow
def test_the_gpu_benchmark_runs_on_a_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "compiled"))
    import gpu

    text = gpu.run(["sdxl", "klein", "qwen"], tiny=True, out=tmp_path)
    found = json.loads((tmp_path / "gpu.json").read_text())
    for part in ("sdxl", "klein", "qwen"):
        one = found[part]
        assert min(one["stock"]["seconds"] + one["ours"]["seconds"]) > 0
        assert one["stock"]["blank_pictures"] == one["ours"]["blank_pictures"] == 0
        assert {"text", "denoising", "decoding", "PNG"} <= set(one["parts"]["ours"])
        assert one["tflop"] > 0
    assert (tmp_path / "gpu.md").read_text() == text
    assert all(title in text for title in ("SDXL, one picture", "FLUX.2-klein 4B", "Qwen-Image-Edit"))


def test_the_memory_profiles_count_the_parameters_of_the_true_sizes():
    import torch
    from random_weights import count_parameters

    from understudy.engines.memory_profile import FOOTPRINTS

    for engine, footprint in FOOTPRINTS.items():
        with torch.device("meta"):
            counted = count_parameters(engine)
        told = (footprint.denoiser, footprint.encoders, footprint.autoencoder, footprint.largest_layer)
        assert told == pytest.approx(counted, rel=0.01)
