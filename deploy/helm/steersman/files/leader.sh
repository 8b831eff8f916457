# Ray's head, then the server, once all nodes have joined.
set -eu
ray start --head --port=6379 --disable-usage-stats --include-dashboard=false
python - <<'PYTHON'
import os
import sys
import time

import ray

wanted = int(os.environ["LWS_GROUP_SIZE"])
deadline = time.monotonic() + float(os.environ["STEERSMAN_JOIN_SECONDS"])
ray.init(address="auto", log_to_driver=False)
while (alive := sum(node["Alive"] for node in ray.nodes())) < wanted:
    if time.monotonic() > deadline:
        sys.exit(f"{alive} of {wanted} nodes have joined Ray in time")
    time.sleep(2)
PYTHON
exec steersman serve "$@"
