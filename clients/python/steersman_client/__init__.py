"""Client of a Steersman server: the OpenAI SDK with reasoning controls."""

from steersman_client.client import AsyncSteersman, Steersman
from steersman_client.params import control_body
from steersman_client.receipt import Applied, AppliedSearch, Compute, Leader, Receipt
from steersman_client.results import (
    ControlledChatCompletion,
    ControlledChatCompletionChunk,
    ControlledCompletion,
    ControlledResponse,
    ControlledResponseCompletedEvent,
    ControlledResponseIncompleteEvent,
    receipt_of,
)
from steersman_client.spec import (
    Align,
    Balance,
    BestOf,
    BestOfMajority,
    CautiousSampler,
    ControlSpec,
    EntropyExit,
    FirstFinish,
    Majority,
    Monitor,
    Steer,
    Thinking,
)

__all__ = [
    "Align",
    "Applied",
    "AppliedSearch",
    "AsyncSteersman",
    "Balance",
    "BestOf",
    "BestOfMajority",
    "CautiousSampler",
    "Compute",
    "ControlSpec",
    "ControlledChatCompletion",
    "ControlledChatCompletionChunk",
    "ControlledCompletion",
    "ControlledResponse",
    "ControlledResponseCompletedEvent",
    "ControlledResponseIncompleteEvent",
    "EntropyExit",
    "FirstFinish",
    "Leader",
    "Majority",
    "Monitor",
    "Receipt",
    "Steer",
    "Steersman",
    "Thinking",
    "control_body",
    "receipt_of",
]
