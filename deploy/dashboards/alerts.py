"""Alerts of a Steersman server, as Prometheus rules."""

from dataclasses import dataclass
from typing import Any, Literal

JOB = 'job=~".*steersman.*"'
"""Scrape jobs of Steersman: in compose its name, in a cluster the name of the chart's Service."""
_RELEASE = "namespace, job"
"""Labels of one installation: in compose there is no namespace."""
_REPLICA = f"{_RELEASE}, instance"
_ASKED = f'{JOB}, handler!~"/ready|none"'
"""Requests of clients: probes of readiness are none, and neither is what no route knows."""
_FAILED = f'sum by ({_REPLICA}) (rate(http_requests_total{{{_ASKED}, status="5xx"}}[5m]))'
_REJECTED = f"sum by ({_REPLICA}) (rate(vllm:admission_rejections_total{{{JOB}}}[5m]))"


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert.

    Attributes:
        name: Name, without the product's.
        expression: PromQL; the alert fires while it returns something.
        lasts: Time for which it must do so.
        severity: `page` wakes someone, `ticket` waits for the morning.
        summary: One line for whoever is woken.
        to_do: First thing to look at.

    """

    name: str
    expression: str
    lasts: str
    severity: Literal["page", "ticket"]
    summary: str
    to_do: str

    def rule(self) -> dict[str, Any]:
        """The rule in Prometheus' format."""
        return {
            "alert": f"Steersman{self.name}",
            "expr": self.expression,
            "for": self.lasts,
            "labels": {"severity": self.severity},
            "annotations": {"summary": self.summary, "description": self.to_do},
        }


ALERTS = (
    Alert(
        "Down",
        f"up{{{JOB}}} == 0",
        "2m",
        "page",
        "{{ $labels.instance }} does not answer.",
        "Its engine has died or the process is starting: read the log of its last run.",
    ),
    Alert(
        "Absent",
        f"absent(up{{{JOB}}})",
        "5m",
        "page",
        "Prometheus knows of no Steersman server.",
        "No replica is scheduled, or the scrape configuration finds none.",
    ),
    Alert(
        "Errors",
        f'sum by ({_RELEASE}) (rate(steersman_requests_total{{{JOB}, outcome="error"}}[5m]))'
        f" / sum by ({_RELEASE}) (rate(steersman_requests_total{{{JOB}}}[5m])) > 0.05",
        "5m",
        "page",
        "{{ $value | humanizePercentage }} of controlled requests end with an error.",
        "The log has each error with its request. Rewards that fail count here too.",
    ),
    Alert(
        "ServerErrors",
        f"sum by ({_RELEASE}) (clamp_min({_FAILED} - ({_REJECTED} or 0 * {_FAILED}), 0))"
        f" / sum by ({_RELEASE}) (rate(http_requests_total{{{_ASKED}}}[5m])) > 0.05",
        "5m",
        "page",
        "{{ $value | humanizePercentage }} of all requests are answered with a 5xx.",
        "The log has each. A full queue's 503 does not count: SteersmanRejecting tells of it.",
    ),
    Alert(
        "Faults",
        # A series begins with its first fault, which is no increase.
        f"sum by ({_REPLICA}, method) (increase(steersman_faults_total{{{JOB}}}[15m])) > 0"
        f" or sum by ({_REPLICA}, method) (steersman_faults_total{{{JOB}}}"
        f" unless steersman_faults_total{{{JOB}}} offset 15m) > 0",
        "0m",
        "ticket",
        "The engine ended requests of {{ $labels.method }} because of a fault of their own.",
        "A rank refused them, or their logits were no numbers: check the vectors they used.",
    ),
    Alert(
        "Queue",
        f"sum by ({_REPLICA}) (vllm:num_requests_waiting{{{JOB}}}) > 32",
        "10m",
        "ticket",
        "{{ $value }} requests wait on {{ $labels.instance }}.",
        "The autoscaler is at its maximum, or has no metric: `kubectl describe hpa`.",
    ),
    Alert(
        "Rejecting",
        f"sum by ({_REPLICA}, reason) (increase(vllm:admission_rejections_total{{{JOB}}}[5m])) > 0",
        "5m",
        "page",
        "{{ $labels.instance }} answers requests with 503: {{ $labels.reason }}.",
        "Its queue is full. Add replicas, or lower what one client may ask for.",
    ),
    Alert(
        "FirstToken",
        f"histogram_quantile(0.95, sum by ({_RELEASE}, le)"
        f" (rate(vllm:time_to_first_token_seconds_bucket{{{JOB}}}[5m]))) > 10",
        "10m",
        "ticket",
        "The 95th percentile of the time to first token is {{ $value | humanizeDuration }}.",
        "Look at the queue and at preemptions.",
    ),
    Alert(
        "CacheFull",
        f"max by ({_REPLICA}) (vllm:kv_cache_usage_perc{{{JOB}}}) > 0.95"
        f" and on ({_REPLICA})"
        f" sum by ({_REPLICA}) (rate(vllm:num_preemptions_total{{{JOB}}}[5m])) > 0.1",
        "10m",
        "ticket",
        "{{ $labels.instance }} computes requests anew, because its KV cache is full.",
        "Lower --max-num-seqs or --max-branches, or add memory or replicas.",
    ),
    Alert(
        "RowsTaken",
        f"max by ({_REPLICA}) (steersman_steering_waiting{{{JOB}}}) > 0",
        "5m",
        "ticket",
        "Requests wait for a steering row on {{ $labels.instance }}.",
        "More distinct sums of vectors are in use than --steering-rows has room for.",
    ),
    Alert(
        "ReplicasDiffer",
        f"max by ({_RELEASE}, kind) (steersman_digest{{{JOB}}})"
        f" != min by ({_RELEASE}, kind) (steersman_digest{{{JOB}}})",
        "15m",
        "ticket",
        "Replicas of {{ $labels.job }} have different {{ $labels.kind }}.",
        "One cannot use a file, or has a change of its own: `digests` in /v1/control/capabilities.",
    ),
    Alert(
        "UnusableFiles",
        f"max by ({_RELEASE}, kind) (steersman_unusable_files{{{JOB}}}) > 0",
        "5m",
        "ticket",
        "{{ $value }} files of {{ $labels.kind }} cannot be used by {{ $labels.job }}.",
        "The log has each with the reason. Mend or remove them: new replicas begin without.",
    ),
    Alert(
        "FollowsNoFiles",
        f"max by ({_REPLICA}) (steersman_follow_age_seconds{{{JOB}}}) > 900",
        "5m",
        "ticket",
        "{{ $labels.instance }} does not see changes of its files.",
        "The volume with vectors, edits or profiles does not answer there. Requests are served.",
    ),
)


def document() -> dict[str, Any]:
    """The file of rules that Prometheus loads."""
    return {"groups": [{"name": "steersman", "rules": [alert.rule() for alert in ALERTS]}]}
