"""Schemathesis makes histories of the whole API with one account, and another asks for all of it."""

from __future__ import annotations

import importlib
from collections import Counter
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from tenants import Tenant, draw_picture, find_marks, make_word, read_operations

from receiver import receive
from service_client import SLUG, open_client

HISTORIES = 60
STEPS = 10
LINKED = {
    "DELETE /v1/characters/{name}",
    "DELETE /v1/keys/{key_id}",
    "DELETE /v1/requests/{request_id}",
    "GET /v1/characters/{name}",
    "GET /v1/requests/{request_id}",
    "GET /v1/webhooks/deliveries/{webhook_id}",
    "PATCH /v1/characters/{name}",
    "POST /v1/webhooks/deliveries/{webhook_id}/replay",
}
"""Routes to things that one answer names and a later step asks for: Schemathesis finds these links itself."""


def fill(tenant: Tenant, webhooks: str) -> None:
    """Some of each kind of thing, so that its histories have something to begin with."""
    for _ in range(2):
        word = make_word()
        picture = draw_picture(word)
        tenant.make("/v1/characters", {"name": word, "ip_image": picture})
        fields = {"prompt": word, "ip_image": picture, "width": 256, "height": 256}
        tenant.make(f"/v2/{SLUG}", {**fields, "webhook_url": f"{webhooks}/{word}"})
    tenant.settle()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_stranger_sees_nothing_of_any_history(billing_service, admin, picture_path, monkeypatch):
    monkeypatch.setenv("UNDERSTUDY_TEST_PICTURE", str(picture_path))
    importlib.import_module("schemathesis_hooks")
    description = admin.get("/openapi.json").json()
    operations = {str(operation): operation for operation in read_operations(description)}
    public = ("/openapi.json", "/v1/models", "/v1/poses")
    common = set().union(*(find_marks(admin.get(path).text) for path in public))
    told: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    with receive() as receiver, open_client(billing_service) as first:

        def trespass(stranger: Tenant, case: schemathesis.Case) -> None:
            operation = operations[f"{case.method} {case.path}"]
            name = next(iter(case.path_parameters.values())) if operation.is_owned else ""
            if operation.is_admin or not (operation.is_owned or case.method == "GET"):
                return
            body = case.body if isinstance(case.body, dict) and case.media_type == "application/json" else {}
            answer = stranger.ask(case.method, case.formatted_path, asks_for=name, json=body)
            if operation.is_owned:
                assert answer.status_code in (400, 404), (operation, answer.status_code)
                refused[str(operation)] += answer.status_code == 404

        class Histories(schemathesis.openapi.from_dict(description).as_state_machine()):
            def setup(self) -> None:
                """Two new accounts, so that a history does not depend on those before it."""
                self.owner, self.stranger = (Tenant(billing_service, first, common) for _ in range(2))
                self.stranger.strangers.append(self.owner)
                for tenant in (self.owner, self.stranger):
                    fill(tenant, receiver.url)

            def teardown(self) -> None:
                for tenant in (self.owner, self.stranger):
                    tenant.http.close()

            def get_call_kwargs(self, case: schemathesis.Case) -> dict[str, Any]:
                return {
                    "base_url": billing_service.url,
                    "headers": {"x-api-key": self.owner.http.headers["x-api-key"]},
                }

            def before_call(self, case: schemathesis.Case) -> None:
                """The stranger asks first, while what is asked for is still there."""
                trespass(self.stranger, case)

            def after_call(self, response: schemathesis.Response, case: schemathesis.Case) -> None:
                text = response.text if response.content else ""
                self.owner.marks.update(find_marks(text) - common - self.stranger.marks)
                told[f"{case.method} {case.path}"] += response.status_code < 400

            def validate_response(
                self, response: schemathesis.Response, case: schemathesis.Case, **values: Any
            ) -> None:
                assert response.status_code < 500

        Histories.run(
            settings=settings(
                max_examples=HISTORIES,
                stateful_step_count=STEPS,
                deadline=None,
                database=None,
                derandomize=True,
                phases=(Phase.generate,),
                suppress_health_check=list(HealthCheck),
            )
        )
    reached = {route for route in LINKED if told[route] and refused[route]}
    # Which of them is by chance: names of things are others in every run.
    assert len(reached) > len(LINKED) / 2, (told, refused)
