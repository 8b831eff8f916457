"""Panels of the dashboard: titles, units and queries."""

from deploy.dashboards.queries import (
    SELECTED,
    Panel,
    Query,
    Row,
    different,
    quantile,
    quantiles,
    rate,
    share,
    total,
)

_TOKENS = "steersman_tokens_total"

ROWS = (
    Row(
        "Requests",
        (
            Panel(
                "Replicas up",
                "Servers that Prometheus reaches.",
                (Query(f"sum (up{{{SELECTED}}})", "up"),),
                kind="number",
            ),
            Panel(
                "Waiting in the engines",
                "Engine requests in vLLM's queues; the autoscaler follows it.",
                (Query(total("vllm:num_requests_waiting"), "waiting"),),
                kind="number",
            ),
            Panel(
                "Faults in the last hour",
                "Controlled requests that the engine ended because of a fault of their own.",
                (Query(f"sum (increase(steersman_faults_total{{{SELECTED}}}[1h]))", "faults"),),
                kind="number",
            ),
            Panel(
                "Controlled requests by method",
                "Controlled requests that ended.",
                (Query(rate("steersman_requests_total", "method"), "{{method}}"),),
                "reqps",
                stacked=True,
            ),
            Panel(
                "Controlled requests by outcome",
                "ok, error, disconnected (the client hung up), or refused by vLLM: a 4xx, or the "
                "503 of a full queue. Refused by the control: a 4xx before anything ran.",
                (
                    Query(rate("steersman_requests_total", "outcome"), "{{outcome}}"),
                    Query(rate("steersman_refused_total"), "refused by the control"),
                ),
                "reqps",
            ),
            Panel(
                "Over a key's limit",
                "Requests answered with 429, by the limit and the name of the key.",
                (Query(rate("steersman_limited_total", "key", "limit"), "{{key}}: {{limit}}"),),
                "reqps",
            ),
            Panel(
                "Without a key that opens the route",
                "Requests answered with 401 or 403.",
                (Query(rate("steersman_unauthorized_total", "status"), "{{status}}"),),
                "reqps",
            ),
            Panel(
                "Engine requests by end",
                "What ended engine requests; each branch and fork is one.",
                (
                    Query(
                        rate("vllm:request_success_total", "finished_reason"),
                        "{{finished_reason}}",
                    ),
                    Query(
                        rate("vllm:admission_rejections_total", "reason"), "rejected: {{reason}}"
                    ),
                ),
                "reqps",
            ),
        ),
    ),
    Row(
        "Latency",
        (
            Panel(
                "Duration of controlled requests, p95",
                "From the end of planning, a wait for steering rows included, to the last byte.",
                (Query(quantile(0.95, "steersman_request_seconds", "method"), "{{method}}"),),
                "s",
            ),
            Panel(
                "Time to the first token of the answer, p95",
                "Streams of controlled requests: to the first token, and to the first one after "
                "the thinking.",
                (
                    Query(quantile(0.95, "steersman_first_token_seconds", "method"), "{{method}}"),
                    Query(
                        quantile(0.95, "steersman_first_answer_token_seconds", "method"),
                        "{{method}}, answer",
                    ),
                ),
                "s",
            ),
            Panel(
                "Time to first token",
                "Of engine requests, queue and prompt included.",
                quantiles("vllm:time_to_first_token_seconds"),
                "s",
            ),
            Panel(
                "Time between tokens",
                "Of engine requests.",
                quantiles("vllm:inter_token_latency_seconds"),
                "s",
            ),
            Panel(
                "Time in the queue",
                "Of engine requests.",
                quantiles("vllm:request_queue_time_seconds"),
                "s",
            ),
        ),
    ),
    Row(
        "Engine",
        (
            Panel(
                "Running and waiting",
                "Engine requests in the batch and in the queue.",
                (
                    Query(total("vllm:num_requests_running"), "running"),
                    Query(
                        total("vllm:num_requests_waiting_by_reason", "reason"),
                        "waiting: {{reason}}",
                    ),
                ),
            ),
            Panel(
                "KV cache in use",
                "Share of the blocks; at 1 requests are preempted.",
                (
                    Query(
                        f"max by (instance) (vllm:kv_cache_usage_perc{{{SELECTED}}})",
                        "{{instance}}",
                    ),
                ),
                "percentunit",
            ),
            Panel(
                "Prefix cache hits",
                "Share of prompt tokens; branches of one request hit, too.",
                (
                    Query(
                        share(
                            rate("vllm:prefix_cache_hits_total"),
                            rate("vllm:prefix_cache_queries_total"),
                        ),
                        "hits",
                    ),
                ),
                "percentunit",
            ),
            Panel(
                "Preemptions",
                "Engine requests that lost their blocks and are computed again.",
                (Query(rate("vllm:num_preemptions_total"), "preemptions"),),
                "ops",
            ),
            Panel(
                "Tokens of the engine",
                "Prompt and generated tokens of all requests, controlled or not.",
                (
                    Query(rate("vllm:prompt_tokens_total"), "prompt"),
                    Query(rate("vllm:generation_tokens_total"), "generated"),
                ),
                "cps",
            ),
        ),
    ),
    Row(
        "Branches and tokens",
        (
            Panel(
                "Branches",
                "Branches of controlled requests: launched, finished by themselves, cancelled.",
                (Query(rate("steersman_branches_total", "event"), "{{event}}"),),
                "ops",
            ),
            Panel(
                "Tokens of controlled requests by kind",
                "Returned, cancelled (of aborted branches), and lost (of branches that finished "
                "unused, and of forks). Together they are all that were sampled.",
                (Query(rate(_TOKENS, "kind", where='kind!="sampled"'), "{{kind}}"),),
                "cps",
                stacked=True,
            ),
            Panel(
                "Returned share of sampled tokens",
                "What is left is the price of the search.",
                (
                    Query(
                        share(
                            rate(_TOKENS, "method", where='kind="returned"'),
                            rate(_TOKENS, "method", where='kind="sampled"'),
                        ),
                        "{{method}}",
                    ),
                ),
                "percentunit",
            ),
            Panel(
                "Sequential share of sampled tokens",
                "Tokens that waited for one another; the rest was sampled beside them.",
                (
                    Query(
                        share(
                            rate("steersman_sequential_tokens_total", "method"),
                            rate(_TOKENS, "method", where='kind="sampled"'),
                        ),
                        "{{method}}",
                    ),
                ),
                "percentunit",
            ),
            Panel(
                "Searches",
                "Steps of chains by what became of them, and prompts whose branches met no "
                "condition of their search.",
                (
                    Query(rate("steersman_search_steps_total", "result"), "steps, {{result}}"),
                    Query(
                        rate("steersman_search_fallbacks_total", "method"), "fallbacks, {{method}}"
                    ),
                ),
                "ops",
            ),
            Panel(
                "Branch points of samplers",
                "Tokens at which a sampler drew trials; degraded: the engine refused them.",
                (
                    Query(
                        rate("steersman_sampler_branch_points_total", "method"),
                        "{{method}}",
                    ),
                    Query(
                        rate("steersman_sampler_degraded_total", "method"),
                        "{{method}}, degraded",
                    ),
                ),
                "ops",
            ),
            Panel(
                "Trials of samplers",
                "Trials, and the tokens of those that are in no response.",
                (
                    Query(rate("steersman_sampler_trials_total", "method"), "{{method}}, trials"),
                    Query(
                        rate("steersman_sampler_lost_tokens_total", "method"),
                        "{{method}}, lost tokens",
                    ),
                ),
                "ops",
            ),
            Panel(
                "Rewards",
                "Responses given to rewards, and their tokens.",
                (
                    Query(rate("steersman_reward_calls_total", "method"), "{{method}}, responses"),
                    Query(rate("steersman_reward_tokens_total", "method"), "{{method}}, tokens"),
                ),
                "ops",
            ),
            Panel(
                "Duration of rewards, p95",
                "Of a batch of responses, by reward.",
                (Query(quantile(0.95, "steersman_reward_seconds", "reward"), "{{reward}}"),),
                "s",
            ),
            Panel(
                "Rewards without usable scores",
                "Batches by fault.",
                (
                    Query(
                        rate("steersman_reward_errors_total", "reward", "fault"),
                        "{{reward}}: {{fault}}",
                    ),
                ),
                "ops",
            ),
        ),
    ),
    Row(
        "Thinking",
        (
            Panel(
                "Who closed the thinking",
                "Of returned choices of governed requests.",
                (Query(rate("steersman_thinking_closed_total", "closed_by"), "{{closed_by}}"),),
                "ops",
                stacked=True,
            ),
            Panel(
                "Thinking tokens",
                "In returned choices of governed requests; forced ones were put there.",
                (
                    Query(rate("steersman_thinking_tokens_total"), "thinking"),
                    Query(rate("steersman_forced_tokens_total"), "forced"),
                ),
                "cps",
            ),
            Panel(
                "Probes",
                "Forks that were asked for their answer in the middle of a thought.",
                (Query(rate("steersman_probes_total"), "probes"),),
                "ops",
            ),
            Panel(
                "Entropy by phase",
                "Median and 95th percentile of the tokens of monitored requests, in nats.",
                tuple(
                    Query(
                        quantile(q, "steersman_token_entropy_nats", "phase"),
                        f"{{{{phase}}}}, p{q * 100:g}",
                    )
                    for q in (0.5, 0.95)
                ),
            ),
        ),
    ),
    Row(
        "Steering and edits",
        (
            Panel(
                "Steering rows",
                "Distinct sums of vectors in use, of those that there is room for; and requests "
                "that wait for one.",
                (
                    Query(total("steersman_steering_rows_in_use"), "in use"),
                    Query(total("steersman_steering_rows"), "room"),
                    Query(total("steersman_steering_waiting"), "waiting"),
                ),
            ),
            Panel(
                "Waits for a steering row, p95",
                "By end: admitted, refused with 429, or left by the client.",
                (Query(quantile(0.95, "steersman_steering_wait_seconds", "end"), "{{end}}"),),
                "s",
            ),
            Panel(
                "Self-test",
                "Servers whose steering proved itself at the start; 0 with --no-steering.",
                (Query(total("steersman_self_test_passed", "instance"), "{{instance}}"),),
                kind="number",
            ),
            Panel(
                "Steered and edited tokens",
                "Steered ones by segment of the response.",
                (
                    Query(rate("steersman_steered_tokens_total", "segment"), "{{segment}}"),
                    Query(rate("steersman_edited_tokens_total"), "edited"),
                ),
                "cps",
            ),
            Panel(
                "Vectors and edits by replica",
                "Replicas that follow the same files differ here for seconds at most.",
                (
                    Query(total("steersman_vectors", "instance"), "{{instance}}, vectors"),
                    Query(total("steersman_edits_live", "instance"), "{{instance}}, live edits"),
                    Query(
                        total("steersman_edits_offered", "instance"),
                        "{{instance}}, edits on offer",
                    ),
                ),
            ),
            Panel(
                "Different digests",
                "Of all replicas, by kind. More than 1: they have not loaded the same.",
                (Query(different("steersman_digest", "kind"), "{{kind}}"),),
            ),
            Panel(
                "Files that cannot be used",
                "Of those that replicas follow, by kind; the log has each with the reason.",
                (
                    Query(
                        total("steersman_unusable_files", "instance", "kind"),
                        "{{instance}}, {{kind}}",
                    ),
                ),
            ),
            Panel(
                "Age of what is known of files",
                "Since all files that a replica follows were last looked at.",
                (Query(total("steersman_follow_age_seconds", "instance"), "{{instance}}"),),
                "s",
            ),
        ),
    ),
)
