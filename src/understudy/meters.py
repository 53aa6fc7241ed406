"""What is counted for Prometheus; docs/operations.md tells each meter and what to be alerted by."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60, 120, 300, 600)


class Meters:
    """The meters of one service, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.submitted = Counter(
            "understudy_jobs_submitted", "Jobs accepted.", ["model"], registry=self.registry
        )
        self.ended = Counter(
            "understudy_jobs_ended",
            "Jobs that reached their end; code is empty for COMPLETED.",
            ["status", "code"],
            registry=self.registry,
        )
        self.worker_losses = Counter(
            "understudy_worker_losses",
            "Workers that died, hung or did not start.",
            ["code"],
            registry=self.registry,
        )
        self.attempts_lost = Counter(
            "understudy_job_attempts_lost",
            "Attempts that jobs lost to a worker's death, hang or failed start.",
            ["code"],
            registry=self.registry,
        )
        # From the start at zero, or the first loss would not count as an increase.
        for code in ("worker_died", "worker_hung", "engine_load_failed"):
            self.worker_losses.labels(code)
            self.attempts_lost.labels(code)
        self.engine_loads = Counter(
            "understudy_engine_loads",
            "Loads of an engine that jobs waited for.",
            ["engine"],
            registry=self.registry,
        )
        self.queue_seconds = Histogram(
            "understudy_job_queue_seconds",
            "From submit to a worker's first message.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.inference_seconds = Histogram(
            "understudy_job_inference_seconds",
            "Compute time of completed jobs.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.webhook_attempts = Counter(
            "understudy_webhook_attempts",
            "Attempts to deliver a webhook, by what the delivery is after it.",
            ["state"],
            registry=self.registry,
        )
        for state in ("delivered", "pending", "failed"):
            self.webhook_attempts.labels(state)
        self.jobs = Gauge("understudy_jobs", "Jobs by status.", ["status"], registry=self.registry)
        self.free_bytes = Gauge(
            "understudy_data_dir_free_bytes", "Free space of the data folder's disk.", registry=self.registry
        )
        # Open files and their limit, memory, processor time, start.
        ProcessCollector(registry=self.registry)
        self.workers = Gauge("understudy_workers", "Workers by state.", ["state"], registry=self.registry)
