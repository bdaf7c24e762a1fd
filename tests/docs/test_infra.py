"""Files for machines that are not here: each is valid by the schema of who reads it."""

from __future__ import annotations

import asyncio
import copy
import json
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.utilities.templating import apply_values
from prefect.workers.base import BaseJobConfiguration

from flows.station.registration import QUEUES
from flows.station.service_manager import POOL
from racro.config import loading
from tests.conftest import REPOSITORY
from tests.support import forkserver

INFRA = REPOSITORY / "infra"
KUBERNETES = "1.34"
"""The version whose schemas decide."""
MANIFESTS = [
    pytest.param(document, id=f"{file.stem}-{document['kind']}")
    for file in sorted((INFRA / "k8s").glob("*.yaml"))
    for document in yaml.safe_load_all(file.read_text())
    if document["apiVersion"] != "ray.io/v1"  # KubeRay's schema is not at hand
]


def test_compose_is_valid_and_binds_to_loopback() -> None:
    check = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run([*check, str(INFRA / "compose.yaml")], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    services = yaml.safe_load((INFRA / "compose.yaml").read_text())["services"]
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert ports and all(port.startswith("127.0.0.1:") for port in ports)


@pytest.mark.usefixtures("prefect_server")
def test_compose_registers_what_its_worker_needs() -> None:
    services = yaml.safe_load((INFRA / "compose.yaml").read_text())["services"]
    assert services["worker"]["depends_on"]["register"] == {"condition": "service_completed_successfully"}
    racro, *arguments = services["register"]["command"].split()
    done = subprocess.run([forkserver.shared().racro, *arguments], capture_output=True, text=True)
    assert (racro, done.returncode) == ("racro", 0), done.stderr
    with get_client(sync_client=True) as client:
        assert {queue.name for queue in client.read_work_queues(work_pool_name=POOL)} >= {*QUEUES}
        train = client.read_deployment_by_name("train/train")
        assert train.parameters["root"] == "s3://racro/runs"
        assert client.read_automations_by_name("racro: a crashed run is resumed")


def test_a_broken_compose_file_is_noticed(tmp_path: Path) -> None:
    broken = yaml.safe_load((INFRA / "compose.yaml").read_text())
    broken["services"]["worker"]["shm_sise"] = "1gb"
    (tmp_path / "compose.yaml").write_text(yaml.safe_dump(broken))
    check = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    assert subprocess.run([*check, str(tmp_path / "compose.yaml")], capture_output=True).returncode == 1


@pytest.mark.parametrize("manifest", MANIFESTS)
def test_manifests_are_valid(manifest: dict[str, Any]) -> None:
    kubernetes_validate.validate(manifest, KUBERNETES, strict=True)


def test_a_broken_manifest_is_noticed() -> None:
    broken = copy.deepcopy(next(param.values[0] for param in MANIFESTS if param.values[0]["kind"] == "Deployment"))
    broken["spec"]["replica"] = 2
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, KUBERNETES, strict=True)


def test_pods_of_the_ray_cluster_are_valid() -> None:
    made = yaml.safe_load((INFRA / "k8s" / "raycluster.yaml").read_text())
    ray = metadata.version("ray")
    assert made["kind"] == "RayCluster" and made["spec"]["rayVersion"] == ray
    groups = [made["spec"]["headGroupSpec"], *made["spec"]["workerGroupSpecs"]]
    for group in groups:
        meta = {**group["template"]["metadata"], "name": "pod"}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": group["template"]["spec"]}
        kubernetes_validate.validate(pod, KUBERNETES, strict=True)
        assert isinstance(group["rayStartParams"], dict)
    assert groups[0]["rayStartParams"]["num-gpus"] == "0"


def test_ray_takes_the_file_of_machines_reached_by_ssh() -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(yaml.safe_load((INFRA / "ray" / "cluster.yaml").read_text())))


def test_the_job_for_slurm_is_a_script() -> None:
    script = INFRA / "ray" / "slurm.sbatch"
    assert subprocess.run(["bash", "-n", str(script)], capture_output=True).returncode == 0
    command = script.read_text().partition("racro train")[2]
    given = [word for word in command.split() if word.startswith("runtime.")]
    recipe = loading.load("embedded", [word.replace('"$address:$port"', "head:1") for word in given])
    assert recipe.runtime.cluster.type == "ray"


def template() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((INFRA / "pools" / "kubernetes.json").read_text())
    return loaded


def test_the_kubernetes_pool_makes_a_valid_job_with_gpus() -> None:
    properties = template()["variables"]["properties"]
    values = {name: schema["default"] for name, schema in properties.items() if "default" in schema}
    values |= {"name": "run", "env": [{"name": "PREFECT_API_URL", "value": "x"}], "command": ["prefect", "flow-run"]}
    job = apply_values(template()["job_configuration"]["job_manifest"], values)
    kubernetes_validate.validate(job, KUBERNETES, strict=True)
    container = job["spec"]["template"]["spec"]["containers"][0]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 2
    assert "{{" not in json.dumps(job)


def test_a_pod_takes_no_package_of_the_working_directory_whatever_else_is_in_its_environment() -> None:
    for more in ({}, {"HF_HOME": "/models"}):
        values = {"name": "run", "command": "prefect flow-run execute", "env": more}
        made = asyncio.run(BaseJobConfiguration.from_template_and_values(template(), values))
        assert made.env == {"PYTHONSAFEPATH": "1", **more}


def test_every_variable_of_the_pool_is_used_and_described() -> None:
    properties = template()["variables"]["properties"]
    configuration = json.dumps(template()["job_configuration"])
    assert [name for name in properties if f"{{{{ {name} }}}}" not in configuration] == []
    assert [name for name, schema in properties.items() if not schema.get("description")] == []


@pytest.mark.usefixtures("prefect_server")
def test_prefect_takes_the_pool() -> None:
    with get_client(sync_client=True) as client:
        pool = client.create_work_pool(
            WorkPoolCreate(name="racro-gpu-test", type="kubernetes", base_job_template=template())
        )
        assert pool.base_job_template["variables"] == template()["variables"]
        client.delete_work_pool("racro-gpu-test")


def test_the_dockerfile_is_as_its_linter_wants_it() -> None:
    """What is built from it: tests/commands/test_image.py."""
    linter = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([linter, str(INFRA / "Dockerfile")], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_the_image_has_the_torch_that_ci_ran() -> None:
    [pinned] = [line for line in (INFRA / "constraints.txt").read_text().splitlines() if line.startswith("torch==")]
    assert f"pip install --no-cache-dir {pinned}\n" in (INFRA / "Dockerfile").read_text()
