"""What drawings depend on, as a pipeline's arguments: prompts, references, faces.

Requests are those of one batch, which agree as `DrawRequest` says.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch

from . import DrawRequest
from .cores import Cores
from .embeddings import AdapterInput, Embeddings, ReferenceEmbedding, TextEmbedding


class Conditions:
    """Turns requests into arguments, with embeddings that are kept."""

    def __init__(self, embeddings: Embeddings, cores: Cores) -> None:
        self._embeddings = embeddings
        self._cores = cores

    def group_alike(self, requests: Sequence[DrawRequest]) -> list[list[int]]:
        """The places of requests that can be drawn together: with as many faces in their references.

        One that has none would otherwise be drawn with something in a face's place.
        """
        if not self._embeddings.reads_faces:
            return [list(range(len(requests)))]
        groups: dict[int, list[int]] = {}
        for place, request in enumerate(requests):
            groups.setdefault(self.count_faces(request), []).append(place)
        return list(groups.values())

    def count_faces(self, request: DrawRequest) -> int:
        """How many of a request's references show a face that an adapter reads."""
        return sum(one.shows_face for one in map(self._embeddings.encode_reference, request.references))

    def encode(self, requests: Sequence[DrawRequest], guided: bool) -> dict[str, Any]:
        """The arguments for prompts, negative prompts where the drawing is `guided`, and references."""

        def encode_texts() -> tuple[list[TextEmbedding], list[TextEmbedding]]:
            prompts = [self._embeddings.encode_text(request.prompt) for request in requests]
            if not guided:
                return prompts, []
            return prompts, [
                self._embeddings.encode_negative(request.negative_prompt) for request in requests
            ]

        def encode_references() -> list[list[ReferenceEmbedding]]:
            return [
                [self._embeddings.encode_reference(reference) for reference in request.references]
                for request in requests
            ]

        references, (prompts, negatives) = self._cores.do([encode_references, encode_texts])
        arguments: dict[str, Any] = {
            "prompt_embeds": torch.cat([prompt.states for prompt in prompts]),
            "pooled_prompt_embeds": torch.cat([prompt.pooled for prompt in prompts]),
        }
        if negatives:
            arguments |= {
                "negative_prompt_embeds": torch.cat([negative.states for negative in negatives]),
                "negative_pooled_prompt_embeds": torch.cat([negative.pooled for negative in negatives]),
            }
        adapters = [[[one.whole for one in several] for several in references]]
        if self._embeddings.reads_faces:
            adapters.append([list(_choose_faces(several)) for several in references])
        return arguments | {"ip_adapter_image_embeds": [_join(rows, guided) for rows in adapters]}


def _choose_faces(references: Sequence[ReferenceEmbedding]) -> Iterable[AdapterInput]:
    """The faces of references that show one; where none does, something that has their form."""
    return [one.face for one in references if one.shows_face] or [references[0].face]


def _join(rows: Sequence[Sequence[AdapterInput]], guided: bool) -> torch.Tensor:
    """An adapter's input (rows, references, tokens, channels), under guidance that for none first.

    An adapter attends to the tokens of all references of a picture together.
    """
    states = [torch.cat([one.states for one in several], dim=1) for several in rows]
    if guided:
        states = [*(torch.cat([one.empty_states for one in several], dim=1) for several in rows), *states]
    return torch.cat(states)
