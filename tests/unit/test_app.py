"""Faults that stop the server before its engine is started."""

import asyncio
import gc
import socket

import pytest
from vllm.entrypoints.launchers.cli_args import make_arg_parser
from vllm.utils.argparse_utils import FlexibleArgumentParser

from steersman.app import serve
from steersman.arguments import ArgumentError
from steersman.ending import Starting
from steersman.options import Limits, Options


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # vLLM leaves its socket to the collector
def test_a_port_that_is_taken_is_one_clear_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        parser = make_arg_parser(FlexibleArgumentParser())
        args = parser.parse_args(["--host", "127.0.0.1", "--port", str(port)])
        with pytest.raises(ArgumentError) as caught:
            asyncio.run(serve(args, Options((), Limits(), None), Starting()))
    told = str(caught.value)
    del caught
    gc.collect()
    assert told == f"cannot listen on port {port}: Address already in use"
