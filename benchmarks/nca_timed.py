"""network-config-analyzer's seconds to load a folder's `cluster` and `policies`, and to answer.

Run by a Python that has it. Prints JSON: for each of the two, [seconds of the clock, of the
processor]. The answer is its plainest text, without the firewall rules that it can also make.
"""

import json
import sys
import time
from itertools import pairwise
from pathlib import Path

from nca.NetworkConfig.NetworkConfigQueryRunner import NetworkConfigQueryRunner
from nca.NetworkConfig.ResourcesHandler import ResourcesHandler
from nca.Utils.OutputConfiguration import OutputConfiguration


def main() -> None:
    folder = Path(sys.argv[1])
    policies, cluster = [[f"{folder / name}**"] for name in ("policies", "cluster")]
    out, sys.stdout = sys.stdout, sys.stderr
    times = [now()]
    config = ResourcesHandler().get_network_config(policies, cluster, list(cluster), None)
    times.append(now())
    output = OutputConfiguration({"outputFormat": "txt_no_fw_rules"})
    NetworkConfigQueryRunner("connectivityMap", [config], None, output).run_query()
    times.append(now())
    load, answer = ([b - a for a, b in zip(*pair, strict=True)] for pair in pairwise(times))
    print(json.dumps({"load": load, "answer": answer}), file=out)


def now() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


if __name__ == "__main__":
    main()
