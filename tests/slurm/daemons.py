"""A real Slurm cluster of two nodes of one CPU each on this machine: python tests/slurm/daemons.py

Says where slurm.conf is once both nodes are idle, starts the slurmd of each node that is then named to it on standard
input, and ends everything when the input ends. Whoever started it need not do more than end, however that comes about:
no process and no folder is left.
"""

import ctypes
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

NODES = ("127.0.0.1", "127.0.0.2")  # names that resolve: processes of a run meet at the name of their first node
TOOLS = {**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin"}  # where the daemons are
SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER of <linux/prctl.h>

# Without accounting and without cgroups, which need more rights and services than a machine for tests has. A job's
# number becomes the port at which its processes meet, so that clusters side by side count from different ones.
CONFIGURATION = """
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
FirstJobId={first_job}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
ReturnToService=2
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmdSpoolDir={folder}/spool-%n
SlurmdLogFile={folder}/slurmd-%n.log
SlurmctldLogFile={folder}/slurmctld.log
StateSaveLocation={folder}/state
SlurmUser={user}
SlurmdUser={user}
SchedulerParameters=batch_sched_delay=0
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
JobRequeue=1
KillWait=20
NodeName={nodes[0]} NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=1 RealMemory=4000
NodeName={nodes[1]} NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=1 RealMemory=4000
PartitionName=main Nodes={nodes[0]},{nodes[1]} Default=YES MaxTime=INFINITE State=UP
"""


def start(folder: Path) -> None:
    """Every daemon."""
    key, configuration = folder / "munge.key", folder / "slurm.conf"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o600)
    for name in ("state", *(f"spool-{node}" for node in NODES)):
        (folder / name).mkdir()
    names = {
        "folder": folder,
        "host": socket.gethostname().partition(".")[0],
        "user": pwd.getpwuid(os.getuid()).pw_name,
    }
    first_job = random.randrange(1000, 9000)
    configuration.write_text(CONFIGURATION.format(**names, nodes=NODES, ports=free_ports(3), first_job=first_job))
    TOOLS["SLURM_CONF"] = str(configuration)
    files = {"socket": "munge.socket", "key-file": "munge.key", "pid-file": "munged.pid", "seed-file": "munged.seed"}
    options = [f"--{option}={folder / file}" for option, file in {**files, "log-file": "munged.log"}.items()]
    daemon(folder, "munged", "--foreground", *options)
    wait_until((folder / "munge.socket").exists, folder)
    daemon(folder, "slurmctld", "-D")
    for node in NODES:
        daemon(folder, "slurmd", "-D", "-N", node)
    wait_until(lambda: states() == ["idle", "idle"], folder)


def wait_until(is_so: Callable[[], bool], folder: Path) -> None:
    """RuntimeError with what the daemons said where it is not so within half a minute."""
    deadline = time.monotonic() + 30
    while not is_so():
        if time.monotonic() > deadline:
            logs = [f"{path.name}:\n{path.read_text(errors='replace')[-1000:]}" for path in folder.glob("*.log")]
            raise RuntimeError("no cluster within 30 seconds:\n" + "\n".join(logs))
        time.sleep(0.1)


def daemon(folder: Path, *command: str) -> None:
    """Start `command` in a session of its own; what it says is in the log files."""
    with (folder / "output.log").open("a") as output:
        subprocess.Popen(
            command,
            env=TOOLS,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            preexec_fn=_wait_for_its_own,
        )


def _wait_for_its_own() -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # of what `main` sets, this alone is inherited


def states() -> list[str]:
    asked = subprocess.run(["sinfo", "-h", "-N", "-o", "%T"], env=TOOLS, capture_output=True, text=True)
    return asked.stdout.split()


def free_ports(number: int) -> list[int]:
    """Ports that nobody listens at, below those that the kernel hands out by itself."""
    with ExitStack() as taken:
        ports: list[int] = []
        for port in random.sample(range(20000, 32000), 200):
            with suppress(OSError):
                taken.enter_context(socket.create_server(("127.0.0.1", port)))
                ports.append(port)
            if len(ports) == number:
                return ports
    raise RuntimeError("no free ports")


def end_all() -> None:
    """Kill every descendant of this process; as their reaper it is handed those whose parents have ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while found := descendants(os.getpid()):
        for pid in found:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)


def descendants(pid: int) -> list[int]:
    """The daemons come before the jobs that they started, so that they start no others."""
    children: list[int] = []
    with suppress(OSError):  # it ended just now
        for thread in os.listdir(f"/proc/{pid}/task"):
            with suppress(OSError):
                children += map(int, Path(f"/proc/{pid}/task/{thread}/children").read_text().split())
    return children + [found for child in children for found in descendants(child)]


def main() -> None:
    """Start a cluster and keep it until standard input ends."""
    ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0)
    folder = Path(tempfile.mkdtemp(prefix="cheapconv-slurm-"))
    folder.chmod(0o755)  # munged insists that its socket can be reached
    try:
        start(folder)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # jobs that have ended are forgotten
        print(TOOLS["SLURM_CONF"], flush=True)
        for line in sys.stdin:
            daemon(folder, "slurmd", "-D", "-N", line.strip())
    finally:
        end_all()
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
