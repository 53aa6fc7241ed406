"""The statements of the job store, each built once: building one costs as much as running it."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    JSON,
    ColumnElement,
    LargeBinary,
    and_,
    bindparam,
    case,
    func,
    insert,
    literal_column,
    null,
    or_,
    select,
    update,
)
from sqlalchemy.sql.dml import ReturningUpdate

from ..accounts.tables import accounts
from .tables import failed, jobs, processing, queued, unended, waiting

LAST_JOBS = 200
"""The last completed jobs of all models, among which those of each are looked for."""

select_job = select(jobs).where(jobs.c.id == bindparam("job_id"))
count_queued = select(func.count()).where(queued, unended)
count_unended = select(
    func.count().label("of_account"),
    func.count().filter(jobs.c.key_id == bindparam("of_key")).label("of_key"),
).where(jobs.c.account_id == bindparam("of_account"), unended)
count_processing = select(func.count()).where(processing, unended)

_own_last = (
    select(func.max(jobs.c.turn))
    .where(jobs.c.account_id == bindparam("of_account"), unended)
    .scalar_subquery()
)
_served = select(func.min(jobs.c.turn)).where(unended).scalar_subquery()
_own_next, _served_now = func.coalesce(_own_last + 1, 0), func.coalesce(_served, 0)
count_ahead = select(func.count()).where(
    waiting,
    # Follows from what comes next, but shows the planner the range of an index.
    jobs.c.turn <= bindparam("of_turn"),
    or_(
        jobs.c.turn < bindparam("of_turn"),
        and_(jobs.c.turn == bindparam("of_turn"), jobs.c.sequence < bindparam("of_sequence")),
    ),
)
select_order = select(jobs.c.turn, jobs.c.sequence).where(waiting).order_by(jobs.c.turn, jobs.c.sequence)
last_completed = (
    select(jobs.c.model, jobs.c.inference_seconds, jobs.c.steps)
    .where(jobs.c.ended_at.is_not(None), jobs.c.status == "COMPLETED")
    .order_by(jobs.c.ended_at.desc())
    .limit(LAST_JOBS)
)

_next_turn = select(case((_own_next > _served_now, _own_next), else_=_served_now)).scalar_subquery()
insert_job = insert(jobs).values(turn=_next_turn).returning(jobs.c.sequence, jobs.c.turn)

of_status: dict[str, tuple[Any, ...]] = {
    "QUEUED": (queued, unended),
    "PROCESSING": (processing, unended),
    "COMPLETED": (jobs.c.status == "COMPLETED",),
    "FAILED": (failed,),
}

BACK_IN_QUEUE: dict[str, Any] = {
    "status": "QUEUED",
    "stage": "waiting",
    "step": 0,
    "preview": None,
    "lease_expires_at": None,
}


ENDING: dict[str, Any] = {
    "ended_at": bindparam("now"),
    "lease_expires_at": None,
    "preview": None,
    "version": jobs.c.version + 1,
}

# What was drawn of a job that fails is nobody's: it is neither shown nor counted.
FAILING: dict[str, Any] = {"status": "FAILED", "images": null(), "inference_seconds": None, **ENDING}

ended_row = (
    jobs.c.id,
    jobs.c.account_id,
    jobs.c.model,
    jobs.c.status,
    jobs.c.images,
    jobs.c.inference_seconds,
    jobs.c.price_microcredits,
    jobs.c.ended_at,
    jobs.c.webhook,
)
"""What follows from a job's end is told by these columns of its row."""

tell_remaining = (
    update(jobs)
    .where(jobs.c.id == bindparam("of_job"))
    .values(
        remaining_microcredits=select(accounts.c.balance_microcredits)
        .where(accounts.c.id == jobs.c.account_id)
        .scalar_subquery()
    )
)


def _claim(*which: ColumnElement[bool]) -> ReturningUpdate[Any]:
    next_ones = (
        select(jobs.c.sequence)
        .where(waiting, jobs.c.account_id.not_in(bindparam("but_not_of", expanding=True)), *which)
        .order_by(jobs.c.turn, jobs.c.sequence)
        .limit(bindparam("limit"))
        .with_for_update(skip_locked=True)
    )
    return (
        update(jobs)
        .where(jobs.c.sequence.in_(next_ones.scalar_subquery()))
        .values(token=jobs.c.token + 1, lease_expires_at=bindparam("until"))
        .returning(*jobs.c)
    )


claim = _claim()

NEAR_JOBS = 1000
"""How far claims of some models look ahead: in a long queue of other models every row would be read."""

_far_turn = (
    select(jobs.c.turn).where(waiting).order_by(jobs.c.turn, jobs.c.sequence).limit(1).offset(NEAR_JOBS - 1)
)
claim_of_models = _claim(
    jobs.c.model.in_(bindparam("models", expanding=True)),
    jobs.c.turn <= func.coalesce(_far_turn.scalar_subquery(), literal_column(str(2**63 - 1))),
)

# SQLite gives a new row the number of the last one where that was deleted: the id tells them apart.
_held = update(jobs).where(
    jobs.c.sequence == bindparam("held_sequence"),
    jobs.c.id == bindparam("held_id"),
    jobs.c.token == bindparam("held_token"),
    jobs.c.lease_expires_at.is_not(None),
)
extend = _held.values(lease_expires_at=bindparam("until"))
_changed = _held.values(version=jobs.c.version + 1)
begin = _changed.values(
    status="PROCESSING", stage="drawing", started_at=func.coalesce(jobs.c.started_at, bindparam("started"))
)
set_stage = _changed.values(stage=bindparam("new_stage"))
# Whoever tells how far a job is tells that it runs: a picture that is there is never one of a QUEUED job.
set_step = begin.values(step=bindparam("new_step"))
set_preview = set_step.values(preview=bindparam("new_preview"))
set_images = set_step.values(
    images=bindparam("new_images", type_=JSON),
    inference_seconds=bindparam("new_inference_seconds"),
    warnings=bindparam("new_warnings", type_=JSON),
    preview=func.coalesce(bindparam("new_preview", type_=LargeBinary), jobs.c.preview),
)
release = _changed.values(**BACK_IN_QUEUE, attempts=jobs.c.attempts + bindparam("attempt"))
complete = _held.values(
    status="COMPLETED",
    stage="done",
    step=jobs.c.steps,
    images=bindparam("new_images", type_=JSON),
    inference_seconds=bindparam("new_inference_seconds"),
    warnings=bindparam("new_warnings", type_=JSON),
    started_at=func.coalesce(jobs.c.started_at, bindparam("started")),
    **ENDING,
).returning(*ended_row)
fail = _held.values(error_code=bindparam("code"), error=bindparam("words"), **FAILING).returning(*ended_row)
