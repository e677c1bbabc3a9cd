"""A DAG whose task is measured in production: the probe starts its command, and `highwater collect` records the peaks.

    highwater probe --config-map highwater | kubectl create -f -
    highwater collect --on kubernetes -l measured-by=highwater --record segment.jsonl --watch
"""

from pathlib import Path

from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.sdk import dag, task
from kubernetes.client import models as k8s


class MeasuredPodOperator(KubernetesPodOperator):
    """A KubernetesPodOperator whose command is started by the probe in the ConfigMap `highwater`.

    :param cmds: the command. It has to be given, because it replaces the entrypoint of the image.
    :param inputs: the size of each input in bytes, as a string. (templated)
    """

    def __init__(self, *, cmds, inputs, labels=None, annotations=None, volumes=None, volume_mounts=None, **kwargs):
        sizes = {f"highwater/input.{channel}": size for channel, size in inputs.items()}
        probe = k8s.V1ConfigMapVolumeSource(name="highwater", default_mode=0o555)
        super().__init__(
            cmds=["/highwater/probe", "/dev/termination-log", "--", *cmds],
            labels={"measured-by": "highwater", **(labels or {})},
            annotations={"highwater/task": kwargs["task_id"], **sizes, **(annotations or {})},
            volumes=[*(volumes or []), k8s.V1Volume(name="highwater", config_map=probe)],
            volume_mounts=[*(volume_mounts or []), k8s.V1VolumeMount(name="highwater", mount_path="/highwater")],
            **kwargs,
        )


@dag(schedule=None, params={"scans": "/data/scans"})
def segment():
    @task
    def size(params):
        files = (path for path in Path(params["scans"]).rglob("*") if path.is_file())
        return str(sum(file.stat().st_size for file in files))

    MeasuredPodOperator(
        task_id="segment",
        image="example.org/task:1",
        cmds=["/task"],
        arguments=["touch", "30", "0"],
        inputs={"scans": size()},
        container_resources=k8s.V1ResourceRequirements(limits={"memory": "256Mi"}),
    )


segment()
