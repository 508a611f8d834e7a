"""airflow-pipeops: one delivery graph for code, infrastructure and models in Apache Airflow.

The public names. Each is loaded when it is first asked for, so that importing the package costs nothing. The module in
which a name is defined stays a way to import it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_pipeops.argo_workflows.hook import ArgoWorkflowsHook as ArgoWorkflowsHook
    from airflow_pipeops.argo_workflows.operators.acts import (
        ArgoWorkflowResubmitOperator as ArgoWorkflowResubmitOperator,
    )
    from airflow_pipeops.argo_workflows.operators.acts import (
        ArgoWorkflowResumeOperator as ArgoWorkflowResumeOperator,
    )
    from airflow_pipeops.argo_workflows.operators.acts import (
        ArgoWorkflowRetryOperator as ArgoWorkflowRetryOperator,
    )
    from airflow_pipeops.argo_workflows.operators.acts import (
        ArgoWorkflowStopOperator as ArgoWorkflowStopOperator,
    )
    from airflow_pipeops.argo_workflows.operators.acts import (
        ArgoWorkflowSuspendOperator as ArgoWorkflowSuspendOperator,
    )
    from airflow_pipeops.argo_workflows.operators.acts import (
        ArgoWorkflowTerminateOperator as ArgoWorkflowTerminateOperator,
    )
    from airflow_pipeops.argo_workflows.operators.cron import (
        ArgoCronWorkflowOperator as ArgoCronWorkflowOperator,
    )
    from airflow_pipeops.argo_workflows.operators.cron import (
        ArgoCronWorkflowSuspendOperator as ArgoCronWorkflowSuspendOperator,
    )
    from airflow_pipeops.argo_workflows.operators.workflow import ArgoWorkflowOperator as ArgoWorkflowOperator
    from airflow_pipeops.argo_workflows.sensors import ArgoWorkflowSensor as ArgoWorkflowSensor
    from airflow_pipeops.argo_workflows.watchers import ArgoWorkflowFailedTrigger as ArgoWorkflowFailedTrigger
    from airflow_pipeops.argo_workflows.watchers import (
        ArgoWorkflowSucceededTrigger as ArgoWorkflowSucceededTrigger,
    )
    from airflow_pipeops.argocd.hook import ArgoCDHook as ArgoCDHook
    from airflow_pipeops.argocd.operators.application import (
        ArgoCDApplicationOperator as ArgoCDApplicationOperator,
    )
    from airflow_pipeops.argocd.operators.diff import ArgoCDDiffOperator as ArgoCDDiffOperator
    from airflow_pipeops.argocd.operators.refresh import ArgoCDRefreshOperator as ArgoCDRefreshOperator
    from airflow_pipeops.argocd.operators.rollback import ArgoCDRollbackOperator as ArgoCDRollbackOperator
    from airflow_pipeops.argocd.operators.sync import ArgoCDSyncOperator as ArgoCDSyncOperator
    from airflow_pipeops.argocd.operators.terminate import ArgoCDTerminateOperator as ArgoCDTerminateOperator
    from airflow_pipeops.argocd.sensors.app import ArgoCDAppSensor as ArgoCDAppSensor
    from airflow_pipeops.argocd.sensors.steady import ArgoCDSteadySensor as ArgoCDSteadySensor
    from airflow_pipeops.argocd.watchers import ArgoCDDegradedTrigger as ArgoCDDegradedTrigger
    from airflow_pipeops.argocd.watchers import ArgoCDDriftTrigger as ArgoCDDriftTrigger
    from airflow_pipeops.argocd.watchers import ArgoCDReleasedTrigger as ArgoCDReleasedTrigger
    from airflow_pipeops.base.setup import MissingConnectionTrigger as MissingConnectionTrigger
    from airflow_pipeops.base.storage import StorageHook as StorageHook
    from airflow_pipeops.build.cluster.operators import RecordedJobOperator as RecordedJobOperator
    from airflow_pipeops.build.cluster.operators import RecordedPodOperator as RecordedPodOperator
    from airflow_pipeops.build.cluster.recorded import RecordedPod as RecordedPod
    from airflow_pipeops.build.hook import RegistryHook as RegistryHook
    from airflow_pipeops.build.operators.coverage import CoverageGateOperator as CoverageGateOperator
    from airflow_pipeops.build.operators.image import BuildImageOperator as BuildImageOperator
    from airflow_pipeops.build.operators.signatures import SignImageOperator as SignImageOperator
    from airflow_pipeops.build.operators.signatures import VerifyImageOperator as VerifyImageOperator
    from airflow_pipeops.build.operators.smoke import SmokeTestOperator as SmokeTestOperator
    from airflow_pipeops.build.operators.tests import RunTestsOperator as RunTestsOperator
    from airflow_pipeops.delivery.approvals import RecordedApprovalOperator as RecordedApprovalOperator
    from airflow_pipeops.delivery.deliverable import Deliverable as Deliverable
    from airflow_pipeops.delivery.ledger.hook import SigningKeyHook as SigningKeyHook
    from airflow_pipeops.delivery.operators import RecordOperator as RecordOperator
    from airflow_pipeops.delivery.records import Record as Record
    from airflow_pipeops.deploy.apply.operators import ApplyManifestsOperator as ApplyManifestsOperator
    from airflow_pipeops.deploy.apply.operators import UndoManifestsOperator as UndoManifestsOperator
    from airflow_pipeops.deploy.differences.operators import HelmDriftOperator as HelmDriftOperator
    from airflow_pipeops.deploy.differences.operators import ManifestsDriftOperator as ManifestsDriftOperator
    from airflow_pipeops.deploy.helm.operators import HelmHistoryOperator as HelmHistoryOperator
    from airflow_pipeops.deploy.helm.operators import HelmReleaseOperator as HelmReleaseOperator
    from airflow_pipeops.deploy.helm.operators import HelmTestOperator as HelmTestOperator
    from airflow_pipeops.deploy.helm.operators import HelmUninstallOperator as HelmUninstallOperator
    from airflow_pipeops.deploy.helm.rollback import HelmRollbackOperator as HelmRollbackOperator
    from airflow_pipeops.deploy.operators import RolloutAbortOperator as RolloutAbortOperator
    from airflow_pipeops.deploy.operators import RolloutPauseOperator as RolloutPauseOperator
    from airflow_pipeops.deploy.operators import RolloutPromoteOperator as RolloutPromoteOperator
    from airflow_pipeops.deploy.operators import RolloutRestartOperator as RolloutRestartOperator
    from airflow_pipeops.deploy.operators import RolloutResumeOperator as RolloutResumeOperator
    from airflow_pipeops.deploy.sensors import RolloutSensor as RolloutSensor
    from airflow_pipeops.deploy.steady import PushedSteadySensor as PushedSteadySensor
    from airflow_pipeops.deploy.watchers import HelmDriftTrigger as HelmDriftTrigger
    from airflow_pipeops.deploy.watchers import ManifestsDriftTrigger as ManifestsDriftTrigger
    from airflow_pipeops.drift.operators.comparison import DataDriftOperator as DataDriftOperator
    from airflow_pipeops.drift.operators.comparison import PredictionDriftOperator as PredictionDriftOperator
    from airflow_pipeops.drift.operators.profile import DriftProfileOperator as DriftProfileOperator
    from airflow_pipeops.drift.operators.text import TextDriftOperator as TextDriftOperator
    from airflow_pipeops.exceptions import BuildFailed as BuildFailed
    from airflow_pipeops.exceptions import GateFailed as GateFailed
    from airflow_pipeops.exceptions import InvalidInput as InvalidInput
    from airflow_pipeops.exceptions import NotConfigured as NotConfigured
    from airflow_pipeops.exceptions import PipeOpsError as PipeOpsError
    from airflow_pipeops.exceptions import ReleaseFailed as ReleaseFailed
    from airflow_pipeops.exceptions import SyncFailed as SyncFailed
    from airflow_pipeops.exceptions import SystemFailure as SystemFailure
    from airflow_pipeops.exceptions import WaitTimeout as WaitTimeout
    from airflow_pipeops.exceptions import WorkflowFailed as WorkflowFailed
    from airflow_pipeops.flux.hook import FluxHook as FluxHook
    from airflow_pipeops.flux.operators import FluxDriftOperator as FluxDriftOperator
    from airflow_pipeops.flux.operators import FluxReconcileOperator as FluxReconcileOperator
    from airflow_pipeops.flux.operators import FluxResumeOperator as FluxResumeOperator
    from airflow_pipeops.flux.operators import FluxSuspendOperator as FluxSuspendOperator
    from airflow_pipeops.flux.sensors import FluxReadySensor as FluxReadySensor
    from airflow_pipeops.flux.watchers import FluxDriftTrigger as FluxDriftTrigger
    from airflow_pipeops.flux.watchers import FluxFailedTrigger as FluxFailedTrigger
    from airflow_pipeops.flux.watchers import FluxReadyTrigger as FluxReadyTrigger
    from airflow_pipeops.git.hook import GitHook as GitHook
    from airflow_pipeops.git.operators import GitOpsCommitOperator as GitOpsCommitOperator
    from airflow_pipeops.git.operators import GitOpsRevertOperator as GitOpsRevertOperator
    from airflow_pipeops.git.operators import ResolveCommitOperator as ResolveCommitOperator
    from airflow_pipeops.git.triggers import GitPushTrigger as GitPushTrigger
    from airflow_pipeops.governor.operators import ApprovedRetrainOperator as ApprovedRetrainOperator
    from airflow_pipeops.governor.operators import RetrainGovernorOperator as RetrainGovernorOperator
    from airflow_pipeops.governor.policy import RetrainPolicy as RetrainPolicy
    from airflow_pipeops.models.hook import MLflowHook as MLflowHook
    from airflow_pipeops.models.operators.evaluate import EvaluateModelOperator as EvaluateModelOperator
    from airflow_pipeops.models.operators.evaluate import MeasureModelOperator as MeasureModelOperator
    from airflow_pipeops.models.operators.performance import (
        ModelPerformanceOperator as ModelPerformanceOperator,
    )
    from airflow_pipeops.models.operators.register import RegisterModelOperator as RegisterModelOperator
    from airflow_pipeops.models.operators.register import SetModelAliasOperator as SetModelAliasOperator
    from airflow_pipeops.models.operators.train import BuildFeaturesOperator as BuildFeaturesOperator
    from airflow_pipeops.models.operators.train import TrainModelOperator as TrainModelOperator
    from airflow_pipeops.serving.operators import VerifyModelOperator as VerifyModelOperator
    from airflow_pipeops.validation.operators import ValidateDataOperator as ValidateDataOperator
    from airflow_pipeops.validation.triggers import DataBatchTrigger as DataBatchTrigger

__version__ = "0.1.0"

#: Public name -> the module of this package that defines it.
_MODULES = {
    "ApplyManifestsOperator": "deploy.apply.operators",
    "ApprovedRetrainOperator": "governor.operators",
    "ArgoCDAppSensor": "argocd.sensors.app",
    "ArgoCDApplicationOperator": "argocd.operators.application",
    "ArgoCDDegradedTrigger": "argocd.watchers",
    "ArgoCDDiffOperator": "argocd.operators.diff",
    "ArgoCDDriftTrigger": "argocd.watchers",
    "ArgoCDHook": "argocd.hook",
    "ArgoCDRefreshOperator": "argocd.operators.refresh",
    "ArgoCDReleasedTrigger": "argocd.watchers",
    "ArgoCDRollbackOperator": "argocd.operators.rollback",
    "ArgoCDSteadySensor": "argocd.sensors.steady",
    "ArgoCDSyncOperator": "argocd.operators.sync",
    "ArgoCDTerminateOperator": "argocd.operators.terminate",
    "ArgoCronWorkflowOperator": "argo_workflows.operators.cron",
    "ArgoCronWorkflowSuspendOperator": "argo_workflows.operators.cron",
    "ArgoWorkflowFailedTrigger": "argo_workflows.watchers",
    "ArgoWorkflowOperator": "argo_workflows.operators.workflow",
    "ArgoWorkflowResubmitOperator": "argo_workflows.operators.acts",
    "ArgoWorkflowResumeOperator": "argo_workflows.operators.acts",
    "ArgoWorkflowRetryOperator": "argo_workflows.operators.acts",
    "ArgoWorkflowSensor": "argo_workflows.sensors",
    "ArgoWorkflowStopOperator": "argo_workflows.operators.acts",
    "ArgoWorkflowSucceededTrigger": "argo_workflows.watchers",
    "ArgoWorkflowSuspendOperator": "argo_workflows.operators.acts",
    "ArgoWorkflowTerminateOperator": "argo_workflows.operators.acts",
    "ArgoWorkflowsHook": "argo_workflows.hook",
    "BuildFailed": "exceptions",
    "BuildFeaturesOperator": "models.operators.train",
    "BuildImageOperator": "build.operators.image",
    "RegistryHook": "build.hook",
    "CoverageGateOperator": "build.operators.coverage",
    "DataBatchTrigger": "validation.triggers",
    "DataDriftOperator": "drift.operators.comparison",
    "Deliverable": "delivery.deliverable",
    "DriftProfileOperator": "drift.operators.profile",
    "EvaluateModelOperator": "models.operators.evaluate",
    "FluxDriftOperator": "flux.operators",
    "FluxDriftTrigger": "flux.watchers",
    "FluxFailedTrigger": "flux.watchers",
    "FluxHook": "flux.hook",
    "FluxReadySensor": "flux.sensors",
    "FluxReadyTrigger": "flux.watchers",
    "FluxReconcileOperator": "flux.operators",
    "FluxResumeOperator": "flux.operators",
    "FluxSuspendOperator": "flux.operators",
    "GateFailed": "exceptions",
    "GitHook": "git.hook",
    "GitOpsCommitOperator": "git.operators",
    "GitOpsRevertOperator": "git.operators",
    "GitPushTrigger": "git.triggers",
    "HelmDriftOperator": "deploy.differences.operators",
    "HelmDriftTrigger": "deploy.watchers",
    "HelmHistoryOperator": "deploy.helm.operators",
    "HelmReleaseOperator": "deploy.helm.operators",
    "HelmRollbackOperator": "deploy.helm.rollback",
    "HelmTestOperator": "deploy.helm.operators",
    "HelmUninstallOperator": "deploy.helm.operators",
    "InvalidInput": "exceptions",
    "MLflowHook": "models.hook",
    "ManifestsDriftOperator": "deploy.differences.operators",
    "ManifestsDriftTrigger": "deploy.watchers",
    "MeasureModelOperator": "models.operators.evaluate",
    "MissingConnectionTrigger": "base.setup",
    "ModelPerformanceOperator": "models.operators.performance",
    "NotConfigured": "exceptions",
    "PipeOpsError": "exceptions",
    "PushedSteadySensor": "deploy.steady",
    "PredictionDriftOperator": "drift.operators.comparison",
    "Record": "delivery.records",
    "RecordOperator": "delivery.operators",
    "RecordedApprovalOperator": "delivery.approvals",
    "RecordedJobOperator": "build.cluster.operators",
    "RecordedPod": "build.cluster.recorded",
    "RecordedPodOperator": "build.cluster.operators",
    "RegisterModelOperator": "models.operators.register",
    "ReleaseFailed": "exceptions",
    "ResolveCommitOperator": "git.operators",
    "RetrainGovernorOperator": "governor.operators",
    "RetrainPolicy": "governor.policy",
    "RolloutAbortOperator": "deploy.operators",
    "RolloutPauseOperator": "deploy.operators",
    "RolloutPromoteOperator": "deploy.operators",
    "RolloutRestartOperator": "deploy.operators",
    "RolloutResumeOperator": "deploy.operators",
    "RolloutSensor": "deploy.sensors",
    "RunTestsOperator": "build.operators.tests",
    "SetModelAliasOperator": "models.operators.register",
    "SignImageOperator": "build.operators.signatures",
    "SmokeTestOperator": "build.operators.smoke",
    "UndoManifestsOperator": "deploy.apply.operators",
    "VerifyImageOperator": "build.operators.signatures",
    "SigningKeyHook": "delivery.ledger.hook",
    "StorageHook": "base.storage",
    "SyncFailed": "exceptions",
    "SystemFailure": "exceptions",
    "TextDriftOperator": "drift.operators.text",
    "TrainModelOperator": "models.operators.train",
    "ValidateDataOperator": "validation.operators",
    "VerifyModelOperator": "serving.operators",
    "WaitTimeout": "exceptions",
    "WorkflowFailed": "exceptions",
}

__all__ = [*_MODULES]


def __getattr__(name: str) -> object:
    """Load a public name.

    :param name: one of ``__all__``.
    :return: the class of that name.
    """
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
