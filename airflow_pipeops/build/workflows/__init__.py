"""Images are built and tests are run by Argo Workflows, from templates that the chart ships."""

from airflow_pipeops.build.workflows.backends import WorkflowsBuild as WorkflowsBuild
from airflow_pipeops.build.workflows.backends import WorkflowsTests as WorkflowsTests
