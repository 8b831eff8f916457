"""All of Steersman that hooks into vLLM, or depends on its version or on its model runner.

`contract` lists every name that is relied on; `python -m steersman.engine.compat` looks for them in
the vLLM that is installed. Nothing is imported here: an unknown vLLM can still be asked.
"""
