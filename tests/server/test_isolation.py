"""Nothing of one account is ever seen, or changed, by another: random histories of two accounts.

Every route that names something is found in the API's description and asked by who does not own it:
its answer must be, word for word, that for a name that never was. `ISOLATION_HISTORIES` is how many there
are, four if it is not set.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import httpx2
import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from tenants import (
    NOBODYS,
    OPEN,
    OWNED,
    Operation,
    Tenant,
    draw_picture,
    find_marks,
    make_word,
    read_operations,
)

from receiver import receive
from service_client import SLUG, open_client

WHO = st.sampled_from((0, 1))
HISTORIES = int(os.environ.get("ISOLATION_HISTORIES", "4"))
STEPS = 10
KEPT = 2
"""Of each kind of thing so many are asked for at the end, the newest."""


@pytest.fixture
def operations(admin) -> list[Operation]:
    return read_operations(admin.get("/openapi.json").json())


def test_it_is_known_whose_is_what_a_path_names(operations):
    nouns = {operation.noun for operation in operations if operation.noun is not None}
    assert nouns <= OWNED | NOBODYS.keys(), "say in tenants.py whose these are, and make some in the machine"
    assert nouns == OWNED | NOBODYS.keys()


def test_every_route_but_the_open_ones_wants_a_key(operations, billing_service):
    asked = [operation for operation in operations if operation.path not in OPEN]
    assert {operation.path for operation in operations} - {operation.path for operation in asked} == OPEN
    with open_client(billing_service) as nobody:
        del nobody.headers["x-api-key"]
        for operation in asked:
            answer = nobody.request(operation.method, operation.address("x"), json={})
            assert (answer.status_code, answer.json()["code"]) == (401, "not_authenticated"), operation


class TwoAccounts(RuleBasedStateMachine):
    """Two accounts that do what they like, beside one another."""

    service: ClassVar[Any]
    admin: ClassVar[httpx2.Client]
    operations: ClassVar[list[Operation]]
    webhooks: ClassVar[str]
    common: ClassVar[set[str]]
    refused: ClassVar[set[Operation]]

    def __init__(self) -> None:
        super().__init__()
        self.tenants = [Tenant(self.service, self.admin, self.common) for _ in range(2)]
        for one, other in (self.tenants, reversed(self.tenants)):
            one.strangers.append(other)

    @initialize()
    def settle_in(self) -> None:
        """Both have something of each kind."""
        for tenant in self.tenants:
            self.make_some(tenant)

    def make_some(self, tenant: Tenant) -> None:
        """Make one of each kind of thing."""
        tenant.make("/v1/keys", {"name": make_word()})
        self.generate(self.tenants.index(tenant), "character", waits=False, tells=True, once=True)

    @property
    def makers(self) -> list[Operation]:
        """Routes of an account's own that make something, or replace it, without naming a thing."""
        return [
            operation
            for operation in self.operations
            if operation.method == "POST" and not operation.is_owned and not operation.is_admin
        ]

    @rule(
        who=WHO,
        reference=st.sampled_from(("inline", "uploaded", "character")),
        waits=st.booleans(),
        tells=st.booleans(),
        once=st.booleans(),
    )
    def generate(self, who: int, reference: str, waits: bool, tells: bool, once: bool) -> None:
        """Ask for a picture; a repetition under an idempotency key is the same job."""
        tenant, word = self.tenants[who], make_word()
        picture = draw_picture(word)
        if reference == "uploaded":
            picture = tenant.make("/upload-asset", {"data_urls": [picture]}).json()["urls"][0]
        elif reference == "character":
            tenant.make("/v1/characters", {"name": word, "ip_image": picture, "prompt": word})
            picture = f"character:{word}"
        fields = {"prompt": f"a hero called {word}", "ip_image": picture, "width": 256, "height": 256}
        if tells:
            fields["webhook_url"] = f"{self.webhooks}/{word}"
        path = f"/{'v1' if waits else 'v2'}/{SLUG}"
        made = tenant.make(path, fields, word if once else None)
        if once:
            again = tenant.make(path, fields, word)
            assert again.content == made.content
            assert again.headers["x-request-id"] == made.headers["x-request-id"] or not waits

    @rule(who=WHO, data=st.data())
    def use(self, who: int, data: st.DataObject) -> None:
        """Do something with a thing of one's own: read it, cancel it, delete it, replay it."""
        tenant = self.tenants[who]
        possible = [
            (operation, name)
            for operation in self.operations
            if operation.is_owned and not operation.is_admin
            for name in tenant.things[operation.noun][-KEPT:]
        ]
        if possible:
            operation, name = data.draw(st.sampled_from(possible))
            tenant.ask(operation.method, operation.address(name), json={})

    @rule(data=st.data(), shared=st.integers(min_value=0, max_value=10**9))
    def ask_alike(self, data: st.DataObject, shared: int) -> None:
        """Both send the very same request under the same idempotency key: each has an answer of its own."""
        operation = data.draw(st.sampled_from(self.makers))
        fields = fill_form(operation, f"shared {shared}")
        once = f"{operation.path}-{shared}"
        ask = partial(Tenant.ask, method="POST", path=operation.address(""), json=fields)
        answers = [ask(tenant, headers={"idempotency-key": once}) for tenant in self.tenants]
        assert [answer.status_code for answer in answers] in ([200, 200], [201, 201], [409, 409]), operation
        for tenant, answer in zip(self.tenants, answers, strict=True):
            if answer.is_success:
                tenant.keep(operation.path, answer)

    @rule(who=WHO)
    def borrow(self, who: int) -> None:
        """Another's character is none."""
        tenant, other = self.tenants[who], self.tenants[1 - who]
        theirs = [name for name in other.things["characters"] if name not in tenant.things["characters"]]
        for name in theirs[-1:]:
            words = set()
            for one in (name, make_word()):
                fields = {"prompt": "a hero", "ip_image": f"character:{one}"}
                answer = tenant.ask("POST", f"/v2/{SLUG}", json=fields, asks_for=one)
                assert (answer.status_code, answer.json()["code"]) == (400, "character_not_found")
                words.add(answer.json()["error"].replace(one, "?"))
            assert len(words) == 1

    @rule(who=WHO, data=st.data())
    def trespass(self, who: int, data: st.DataObject) -> None:
        """Ask for something of the other's."""
        other = self.tenants[1 - who]
        possible = [
            (operation, name)
            for operation in self.operations
            if operation.is_owned
            for name in other.things[operation.noun][-KEPT:]
        ]
        operation, name = data.draw(st.sampled_from(possible))
        self.check_refusal(self.tenants[who], operation, name)

    def check_refusal(self, stranger: Tenant, operation: Operation, name: str) -> None:
        """What a stranger is told of a thing is what he is told of one that never was."""
        if name in stranger.things[operation.noun]:
            # Both have one of this name.
            return
        self.refused.add(operation)
        told = self.ask_for(stranger, operation, operation.address, name)
        assert told == (403 if operation.is_admin else 404), (operation, told)

    def check_cursors(self, stranger: Tenant, name: str) -> None:
        """No list goes on from a thing of another's, or tells that there is one."""
        for operation in self.operations:
            if "cursor" in operation.query and not operation.is_admin:
                self.ask_for(stranger, operation, f"{operation.path}?cursor={{}}".format, name)

    def ask_for(
        self, stranger: Tenant, operation: Operation, address: Callable[[str], str], name: str
    ) -> int:
        """Ask for something and for what never was: the status of both answers, which are the same."""
        told = []
        for one in (name, str(uuid.uuid4())):
            answer = stranger.ask(
                operation.method, address(one), asks_for=one, json=fill_form(operation, "taken")
            )
            words = answer.text.replace(answer.headers["x-request-id"], "?").replace(one, "?")
            told.append((answer.status_code, answer.headers.keys(), words))
        assert told[0] == told[1], operation
        return told[0][0]

    def look(self, tenant: Tenant) -> dict[str, str]:
        """Everything that an account can read of its own."""
        seen = {}
        for operation in self.operations:
            if operation.method != "GET" or operation.is_admin or operation.path in OPEN:
                continue
            names = tenant.things[operation.noun] if operation.is_owned else [""]
            for path in map(operation.address, names[-KEPT:]):
                answer = tenant.ask("GET", path)
                seen[path] = answer.text.replace(answer.headers["x-request-id"], "?")
                if "cursor" in operation.query:
                    # From the end of what there is of everybody.
                    tenant.ask("GET", path, params={"cursor": "999999999", "limit": "200"})
        return seen

    def teardown(self) -> None:
        """At the end everybody is refused everything of the other's, and it stays as it was.

        Whatever one does changes nothing that the other reads: not its usage or its credits either.
        """
        for tenant in self.tenants:
            tenant.settle()
        before = [self.look(tenant) for tenant in self.tenants]
        for who, tenant in enumerate(self.tenants):
            for operation in self.operations:
                if operation.is_owned:
                    for name in self.tenants[1 - who].things[operation.noun][-KEPT:]:
                        self.check_refusal(tenant, operation, name)
            for names in self.tenants[1 - who].things.values():
                for name in names[-1:]:
                    self.check_cursors(tenant, name)
        assert [self.look(tenant) for tenant in self.tenants] == before
        one, other = self.tenants
        self.make_some(one)
        one.settle()
        assert self.look(other) == before[1]
        assert self.look(one) != before[0]
        with httpx2.Client(base_url=self.service.url, trust_env=False) as nobody:
            for path in sorted(OPEN - {"/files/{name}"}):
                text = nobody.get(path).text
                assert not {mark for tenant in self.tenants for mark in tenant.marks if mark in text}, path
        for tenant in self.tenants:
            tenant.http.close()


def fill_form(operation: Operation, words: str) -> dict[str, Any]:
    """A body that every route finds what it needs in, and nothing that it refuses."""
    picture = draw_picture("w777777")
    fields = {
        "name": words,
        "prompt": words,
        "ip_image": picture,
        "data_urls": [picture],
        "width": 256,
        "height": 256,
        "disabled": True,
        "credits": 1,
    }
    return {name: value for name, value in fields.items() if name in (operation.fields or fields)}


def test_two_accounts_see_nothing_of_each_other(billing_service, admin, operations):
    machine = type("Machine", (TwoAccounts,), {})
    with receive() as receiver, open_client(billing_service) as first:
        machine.service = billing_service
        machine.admin = first
        machine.operations = operations
        machine.refused = set()
        machine.webhooks = receiver.url
        public = ("/openapi.json", "/v1/models", "/v1/poses")
        machine.common = set().union(*(find_marks(admin.get(path).text) for path in public))
        run_state_machine_as_test(
            machine,
            # A history that fails is short enough to be read; each attempt at a shorter one costs seconds.
            settings=settings(
                max_examples=HISTORIES,
                stateful_step_count=STEPS,
                derandomize="ISOLATION_HISTORIES" not in os.environ,
                database=None,
                phases=(Phase.generate,),
            ),
        )
    unasked = {str(operation) for operation in operations if operation.is_owned} - set(
        map(str, machine.refused)
    )
    assert not unasked, "no history had anything that these could name"
