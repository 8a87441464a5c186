"""The launch examples: formats, mergesmith's command in them, and the Slurm script beside fakes of Slurm and Ray."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from checkout import ROOT

from mergesmith.optimizer.commands import cli
from mergesmith.optimizer.config import load_config, parse_duration

LAUNCH = ROOT / "examples" / "launch"
SLURM, RAY, KUBERNETES = LAUNCH / "slurm.sh", LAUNCH / "ray-cluster.yaml", LAUNCH / "kubernetes.yaml"
# A command ends where the shell's next one begins.
SEARCH_COMMAND = re.compile(r"\bmergesmith (search [^;|&>\n]+)")


@pytest.mark.parametrize("path", [SLURM, RAY, KUBERNETES], ids=lambda path: path.stem)
def test_the_command_starts_and_resumes(path: Path) -> None:
    text = "\n".join(line.partition("#")[0] for line in path.read_text().splitlines())
    (command,) = SEARCH_COMMAND.findall(text)
    name, *arguments = shlex.split(command.replace('"$search"', "/shared/search.yaml"))
    group: Any = typer.main.get_command(cli.app)
    context = group.commands[name].make_context(name, arguments)
    assert context.params["path"] == Path("/shared/search.yaml")
    assert context.params["resume"] is True


def test_the_search_file() -> None:
    config = load_config(LAUNCH / "search.yaml")
    workers = config.workers.model_dump()
    assert workers | {"pool": "ray", "address": "auto", "count": 8} == workers
    named = [config.base_model, *config.models, config.output]
    assert all(name.startswith("/shared/") for name in named)  # the same on every node


def grace() -> float:
    """Seconds that a search waits for candidates in flight."""
    return parse_duration(yaml.safe_load((LAUNCH / "search.yaml").read_text())["workers"]["grace"])


def test_the_ray_cluster() -> None:
    pytest.importorskip("ray")
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = yaml.safe_load(RAY.read_text())
    prepared = prepare_config(config)
    validate_config(prepared)
    workers = yaml.safe_load((LAUNCH / "search.yaml").read_text())["workers"]
    gpu = prepared["available_node_types"]["gpu"]
    assert gpu["min_workers"] == 0
    assert gpu["max_workers"] == config["max_workers"] >= workers["count"]
    assert gpu["node_config"]["BlockDeviceMappings"] == [
        {"DeviceName": "/dev/sda1", "Ebs": {"VolumeSize": 200, "VolumeType": "gp3"}}
    ]
    for key in ("head_start_ray_commands", "worker_start_ray_commands"):
        commands = prepared[key]
        for command in commands:
            assert subprocess.run(["bash", "-n", "-c", command]).returncode == 0, command
        (start,) = (command for command in commands if "ray start" in command)
        assert "RAY_USAGE_STATS_ENABLED=0" in start
        check_ray_start(start.partition("ray start")[2])
        assert "--head" not in start or "--include-dashboard=false" in start


def check_ray_start(options: str) -> None:
    """The options of `ray start` are those that it knows."""
    scripts = pytest.importorskip("ray.scripts.scripts")
    scripts.start.make_context("start", shlex.split(options))


def documents() -> dict[str, Any]:
    """The manifest's documents by kind."""
    return {document["kind"]: document for document in yaml.safe_load_all(KUBERNETES.read_text())}


def test_the_kubernetes_cluster() -> None:
    found = documents()
    assert list(found) == ["PersistentVolumeClaim", "ConfigMap", "RayCluster", "Job"]
    cluster = found["RayCluster"]
    assert cluster["apiVersion"] == "ray.io/v1"
    spec = cluster["spec"]
    assert spec["enableInTreeAutoscaling"] is True
    head, (group,) = spec["headGroupSpec"], spec["workerGroupSpecs"]
    for part in (head, group):  # KubeRay hands these to `ray start` as text
        assert all(isinstance(value, str) for value in part["rayStartParams"].values())
        check_ray_start(" ".join(f"--{key}={value}" for key, value in part["rayStartParams"].items()))
    assert head["rayStartParams"]["include-dashboard"] == "false"
    assert group["replicas"] == group["minReplicas"] == 0
    assert group["maxReplicas"] >= yaml.safe_load((LAUNCH / "search.yaml").read_text())["workers"]["count"]
    assert re.fullmatch(r"[a-z][a-z0-9-]*", group["groupName"])
    (worker,) = group["template"]["spec"]["containers"]
    assert worker["resources"]["limits"]["nvidia.com/gpu"] == "1"
    (driver,) = found["Job"]["spec"]["template"]["spec"]["containers"]
    (leader,) = head["template"]["spec"]["containers"]
    # One image and one environment: the same program, Ray and token everywhere.
    assert leader["image"] == worker["image"] == driver["image"]
    environment = spec["autoscalerOptions"]["envFrom"]
    assert leader["envFrom"] == worker["envFrom"] == driver["envFrom"] == environment
    assert environment[0]["configMapRef"]["name"] == found["ConfigMap"]["metadata"]["name"]
    assert (
        found["ConfigMap"]["data"] | {"RAY_AUTH_MODE": "token", "RAY_USAGE_STATS_ENABLED": "0"}
        == (found["ConfigMap"]["data"])
    )
    assert f"{cluster['metadata']['name']}-head-svc:6379" in driver["args"][0]
    # KubeRay's own probes need the dashboard.
    assert all(probe in pod for pod in (leader, worker) for probe in ("readinessProbe", "livenessProbe"))


def test_the_kubernetes_job() -> None:
    found = documents()
    job, group = found["Job"]["spec"], found["RayCluster"]["spec"]["workerGroupSpecs"][0]
    pod = job["template"]["spec"]
    (driver,) = pod["containers"]
    assert pod["restartPolicy"] == "Never"  # podFailurePolicy asks for it
    assert pod["terminationGracePeriodSeconds"] > 2 * grace()
    claim = {"claimName": found["PersistentVolumeClaim"]["metadata"]["name"]}
    for spec in (pod, group["template"]["spec"]):
        assert spec["volumes"] == [{"name": "shared", "persistentVolumeClaim": claim}]
        assert spec["containers"][0]["volumeMounts"] == [{"name": "shared", "mountPath": "/shared"}]
    rules = job["podFailurePolicy"]["rules"]
    actions = {code: rule["action"] for rule in rules for code in rule.get("onExitCodes", {}).get("values", [])}
    assert actions == {2: "FailJob", 143: "Ignore"}
    assert {r["onExitCodes"]["containerName"] for r in rules if "onExitCodes" in r} == {driver["name"]}
    script = driver["args"][0]
    assert subprocess.run(["bash", "-n", "-c", script]).returncode == 0
    assert script.strip().splitlines()[-1].startswith("exec mergesmith ")  # the pod's TERM is for it
    check_ray_start(script.partition("ray start")[2].partition(";")[0])


# Slurm and Ray as far as the script sees them; each notes how it was called.
FAKE = """#!{python}
import json, os, pathlib, signal, sys, time
name, arguments, folder = pathlib.Path(sys.argv[0]).name, sys.argv[1:], pathlib.Path({folder!r})
ray = {{key: value for key, value in os.environ.items() if key.startswith("RAY_")}}

def note(**more):
    with (folder / "calls").open("a") as file:
        file.write(json.dumps({{"name": name, "arguments": arguments, "ray": ray, **more}}) + "\\n")

def until_signal(delay, codes):
    def stop(number, _):
        note(signal=number)
        time.sleep(delay)
        sys.exit(codes[number])
    for number in codes:
        signal.signal(number, stop)
    note()
    time.sleep(60)

def nodes_started():
    return (folder / "calls").read_text().count('"name": "ray", "arguments": ["start"')

if name == "mergesmith":  # which finds no cluster before
    while nodes_started() < int(os.environ["SLURM_JOB_NUM_NODES"]):
        time.sleep(0.02)
if name == "srun":
    note()
    command = arguments[next(i for i, word in enumerate(arguments) if not word.startswith("--")):]
    os.execvp(command[0], command)
if name == "hostname":
    print("10.0.0.7 fe80::1")
elif name == "scontrol" and arguments[0] == "show":
    print("node1\\nnode2")
elif name == "ray" and arguments[0] == "start":
    until_signal(0, {{signal.SIGTERM: 0}})
elif name == "mergesmith" and "FAKE_CODE" not in os.environ:
    until_signal(0.3, {{signal.SIGTERM: 143, signal.SIGINT: 130}})
else:
    note()
    sys.exit(int(os.environ.get("FAKE_CODE", 0)) if name == "mergesmith" else 0)
"""


@dataclass
class Slurm:
    """The script in a cluster of fakes."""

    folder: Path

    def __post_init__(self) -> None:
        for name in ("srun", "scontrol", "sbatch", "hostname", "ray", "mergesmith"):
            path = self.folder / "bin" / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(FAKE.format(python=sys.executable, folder=str(self.folder)))
            path.chmod(0o755)

    def start(self, nodes: int = 2, code: int | None = None) -> subprocess.Popen[str]:
        """Run it as a job of so many nodes; mergesmith ends with `code` at once, or waits for a signal."""
        job = {"JOB_ID": "31234", "JOB_NODELIST": "node[1-2]", "JOB_NUM_NODES": str(nodes), "CPUS_PER_TASK": "16"}
        environment = {
            "PATH": f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
            **{f"SLURM_{key}": value for key, value in job.items()},
            **({} if code is None else {"FAKE_CODE": str(code)}),
        }
        return subprocess.Popen(
            ["bash", str(SLURM), "/shared/own.yaml"],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
            # A shell cannot trap what was ignored when it began, as SIGINT is in what was started in the background.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    @property
    def notes(self) -> list[dict[str, Any]]:
        """What the fakes wrote, in order."""
        file = self.folder / "calls"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []

    def calls(self, name: str, *first: str) -> list[dict[str, Any]]:
        """How a program was called, with these first arguments."""
        own = [note for note in self.notes if note["name"] == name and "signal" not in note]
        return [call for call in own if call["arguments"][: len(first)] == [*first]]

    @property
    def signals(self) -> list[tuple[str, int]]:
        """Which programs got which signals, in order."""
        return [(note["name"], note["signal"]) for note in self.notes if "signal" in note]

    def wait_for(self, name: str) -> None:
        """Until a program has been called."""
        deadline = time.monotonic() + 30
        while not self.calls(name):
            assert time.monotonic() < deadline, f"{name} was not called"
            time.sleep(0.02)


@pytest.fixture
def slurm(tmp_path: Path) -> Slurm:
    return Slurm(tmp_path)


def ended(job: subprocess.Popen[str]) -> int:
    with job:
        try:
            job.communicate(timeout=20)
        finally:
            job.kill()
        return job.returncode


def test_the_slurm_options() -> None:
    assert subprocess.run(["bash", "-n", str(SLURM)]).returncode == 0
    options = re.findall(r"^#SBATCH --([a-z-]+)(?:=(\S+))?$", SLURM.read_text(), re.MULTILINE)
    found = dict(options)
    assert len(found) == len(options)
    assert found["requeue"] == ""
    assert found["open-mode"] == "append"  # a requeued job goes on in the same log
    match = re.fullmatch(r"B:TERM@(\d+)", found["signal"])
    assert match is not None
    assert int(match[1]) > 2 * grace()


def test_a_slurm_job(slurm: Slurm) -> None:
    job = slurm.start(code=0)
    assert ended(job) == 0
    (search,) = slurm.calls("mergesmith")
    assert search["arguments"] == ["search", "/shared/own.yaml", "--resume"]
    assert search["ray"]["RAY_ADDRESS"] == "10.0.0.7:21234"
    head, other = sorted(slurm.calls("ray", "start"), key=lambda call: "--head" not in call["arguments"])
    assert {"--node-ip-address=10.0.0.7", "--port=21234", "--include-dashboard=false"} < {*head["arguments"]}
    assert "--address=10.0.0.7:21234" in other["arguments"]
    for call in (head, other):
        check_ray_start(shlex.join(call["arguments"][1:]))
        assert call["ray"] | {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "token"} == call["ray"]
    tokens = {call["ray"]["RAY_AUTH_TOKEN"] for call in (search, head, other)}
    assert len(tokens) == 1
    assert re.fullmatch("[0-9a-f]{64}", *tokens)
    wanted = ("--nodes=", "--nodelist=", "--exclude=")
    places = [{word for word in call["arguments"] if word.startswith(wanted)} for call in slurm.calls("srun")]
    assert places[0] == {"--nodes=1", "--nodelist=node1"}  # asks for its address
    assert {"--nodes=1", "--nodelist=node1"} in places[1:]
    assert {"--nodes=1", "--exclude=node1"} in places[1:]
    assert slurm.calls("scontrol", "requeue") == []


def test_a_job_of_one_node(slurm: Slurm) -> None:
    assert ended(slurm.start(nodes=1, code=0)) == 0
    assert len(slurm.calls("ray", "start", "--head")) >= 1
    assert all("--head" in call["arguments"] for call in slurm.calls("ray", "start"))


@pytest.mark.parametrize(("number", "code", "requeued"), [(signal.SIGTERM, 143, True), (signal.SIGINT, 130, False)])
def test_signals_reach_the_search(slurm: Slurm, number: signal.Signals, code: int, requeued: bool) -> None:
    job = slurm.start()
    slurm.wait_for("mergesmith")
    job.send_signal(number)
    assert ended(job) == code
    # Ray is there until the search has ended, and not any longer.
    assert slurm.signals == [("mergesmith", number), *[("ray", signal.SIGTERM)] * 2]
    assert [call["arguments"] for call in slurm.calls("scontrol", "requeue")] == [["requeue", "31234"]] * requeued


def test_a_second_signal_is_passed_on_too(slurm: Slurm) -> None:
    job = slurm.start()
    slurm.wait_for("mergesmith")
    for _ in range(2):
        job.send_signal(signal.SIGTERM)
        time.sleep(0.1)
    assert ended(job) == 143
    assert slurm.signals[:2] == [("mergesmith", signal.SIGTERM)] * 2
    assert len(slurm.calls("scontrol", "requeue")) == 1


@pytest.mark.parametrize("code", [0, 1, 2])
def test_what_is_final_is_not_tried_again(slurm: Slurm, code: int) -> None:
    assert ended(slurm.start(code=code)) == code
    assert slurm.calls("scontrol", "requeue") == []
