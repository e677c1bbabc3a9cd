"""Prints the pods of a DAG as JSON, without Airflow, which takes 440 MB: the operator below makes the same pod of its
arguments as that of Airflow 3.3, as far as they are used here, and refuses others.

    python3 tests/airflow.py DAG.py NAME=VALUE…

The parameters replace those of the DAG. Functions with @task are run at once.
"""

import inspect
import json
import re
import runpy
import sys
import types


class KubernetesPodOperator:
    def __init__(
        self, *, task_id, image, cmds=None, arguments=None, labels=None, annotations=None,
        volumes=None, volume_mounts=None, container_resources=None,
    ):
        container = {
            "name": "base", "image": image, "command": cmds, "args": arguments,
            "resources": container_resources or {}, "volumeMounts": volume_mounts or [],
        }
        metadata = {"name": task_id, "labels": labels or {}, "annotations": annotations or {}}
        spec = {"restartPolicy": "Never", "containers": [container], "volumes": volumes or []}
        pods.append({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})


class Models(types.ModuleType):
    """Every model of the client of Kubernetes: its fields as JSON has them."""

    def __getattr__(self, name):
        if not name.startswith("V1"):
            raise AttributeError(name)
        camel = lambda field: re.sub("_(.)", lambda found: found[1].upper(), field)
        return lambda **fields: {camel(field): value for field, value in fields.items()}


def dag(schedule, params):
    replaced = dict(word.split("=", 1) for word in sys.argv[2:])
    parameters.update(params | replaced)
    return lambda function: function


def task(function):
    context = {"params": parameters}
    return lambda: function(**{name: context[name] for name in inspect.signature(function).parameters})


def module(name, **members):
    sys.modules[name] = types.ModuleType(name)
    vars(sys.modules[name]).update(members)


pods, parameters = [], {}
for parent in ["airflow", "airflow.providers", "airflow.providers.cncf", "airflow.providers.cncf.kubernetes",
               "airflow.providers.cncf.kubernetes.operators", "kubernetes", "kubernetes.client"]:
    module(parent)
module("airflow.sdk", dag=dag, task=task)
module("airflow.providers.cncf.kubernetes.operators.pod", KubernetesPodOperator=KubernetesPodOperator)
sys.modules["kubernetes.client"].models = Models("models")
runpy.run_path(sys.argv[1])
print(json.dumps(pods))
