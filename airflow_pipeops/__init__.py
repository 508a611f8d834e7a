"""airflow-pipeops: one delivery graph for code, infrastructure, models and prompts in Apache Airflow.

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
    from airflow_pipeops.flux.steady import FluxSteadySensor as FluxSteadySensor
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
    from airflow_pipeops.llm.evaluation.operators import EvaluateOperator as EvaluateOperator
    from airflow_pipeops.llm.evaluation.operators import ImportEvaluationOperator as ImportEvaluationOperator
    from airflow_pipeops.llm.evaluation.operators import MergeEvaluationsOperator as MergeEvaluationsOperator
    from airflow_pipeops.llm.evaluation.subjects import Subject as Subject
    from airflow_pipeops.llm.gate.operators import EvaluationGateOperator as EvaluationGateOperator
    from airflow_pipeops.llm.gate.operators import GateRateOperator as GateRateOperator
    from airflow_pipeops.llm.gate.policy import GatePolicy as GatePolicy
    from airflow_pipeops.llm.production.guard import PromptPolicy as PromptPolicy
    from airflow_pipeops.llm.production.operators import SampleTracesOperator as SampleTracesOperator
    from airflow_pipeops.llm.production.probing import ProviderDriftOperator as ProviderDriftOperator
    from airflow_pipeops.llm.production.sensors import PromptLiveSensor as PromptLiveSensor
    from airflow_pipeops.llm.production.watching import AnswerDriftOperator as AnswerDriftOperator
    from airflow_pipeops.llm.production.watching import PromptGuardOperator as PromptGuardOperator
    from airflow_pipeops.llm.prompts.agreement import PromptDisagreementTrigger as PromptDisagreementTrigger
    from airflow_pipeops.llm.prompts.configmap import ConfigMapPrompt as ConfigMapPrompt
    from airflow_pipeops.llm.prompts.desired import PromptInGit as PromptInGit
    from airflow_pipeops.llm.prompts.langfuse import LangfusePrompts as LangfusePrompts
    from airflow_pipeops.llm.prompts.operators import ReadPromptOperator as ReadPromptOperator
    from airflow_pipeops.llm.prompts.operators import ReleasePromptOperator as ReleasePromptOperator
    from airflow_pipeops.llm.prompts.operators import RenderPromptOperator as RenderPromptOperator
    from airflow_pipeops.llm.prompts.prompt import Prompt as Prompt
    from airflow_pipeops.llm.prompts.registry import MLflowPrompts as MLflowPrompts
    from airflow_pipeops.models.desired import ModelInGit as ModelInGit
    from airflow_pipeops.models.features.joins import Join as Join
    from airflow_pipeops.models.features.sets import FeatureSet as FeatureSet
    from airflow_pipeops.models.hook import MLflowHook as MLflowHook
    from airflow_pipeops.models.operators.evaluate import EvaluateModelOperator as EvaluateModelOperator
    from airflow_pipeops.models.operators.features import BuildFeaturesOperator as BuildFeaturesOperator
    from airflow_pipeops.models.operators.features import SkewCheckOperator as SkewCheckOperator
    from airflow_pipeops.models.operators.guard import ModelGuardOperator as ModelGuardOperator
    from airflow_pipeops.models.operators.labels import JoinLabelsOperator as JoinLabelsOperator
    from airflow_pipeops.models.operators.measure import MeasureModelOperator as MeasureModelOperator
    from airflow_pipeops.models.operators.performance import (
        ModelPerformanceOperator as ModelPerformanceOperator,
    )
    from airflow_pipeops.models.operators.register import RegisterModelOperator as RegisterModelOperator
    from airflow_pipeops.models.operators.register import SetModelAliasOperator as SetModelAliasOperator
    from airflow_pipeops.models.operators.rollback import (
        FinishModelRollbackOperator as FinishModelRollbackOperator,
    )
    from airflow_pipeops.models.operators.rollback import ModelRollbackOperator as ModelRollbackOperator
    from airflow_pipeops.models.operators.search import ChooseTrialOperator as ChooseTrialOperator
    from airflow_pipeops.models.operators.search import PlanTrialsOperator as PlanTrialsOperator
    from airflow_pipeops.models.operators.train import TrainModelOperator as TrainModelOperator
    from airflow_pipeops.models.rollback.guard import GuardPolicy as GuardPolicy
    from airflow_pipeops.operations.anomalies.callbacks import JudgeRun as JudgeRun
    from airflow_pipeops.operations.anomalies.operators import RunAnomalyOperator as RunAnomalyOperator
    from airflow_pipeops.operations.anomalies.policy import AnomalyPolicy as AnomalyPolicy
    from airflow_pipeops.operations.anomalies.watchers import RunAnomalyTrigger as RunAnomalyTrigger
    from airflow_pipeops.operations.changes.operators import ExplainOperator as ExplainOperator
    from airflow_pipeops.operations.remediation.findings import Finding as Finding
    from airflow_pipeops.operations.remediation.operators import RemediateOperator as RemediateOperator
    from airflow_pipeops.operations.remediation.operators import (
        VerifyRemediationOperator as VerifyRemediationOperator,
    )
    from airflow_pipeops.operations.remediation.policy import RemediationPolicy as RemediationPolicy
    from airflow_pipeops.operations.tuning.knob import Knob as Knob
    from airflow_pipeops.operations.tuning.operators import TuneOperator as TuneOperator
    from airflow_pipeops.serving.agreement import ModelDisagreementTrigger as ModelDisagreementTrigger
    from airflow_pipeops.serving.api.operators import KServeModelOperator as KServeModelOperator
    from airflow_pipeops.serving.api.operators import VerifyModelOperator as VerifyModelOperator
    from airflow_pipeops.serving.batch.contract import ScoreContract as ScoreContract
    from airflow_pipeops.serving.batch.operators import BatchScoreOperator as BatchScoreOperator
    from airflow_pipeops.serving.batch.operators import PromotedModelOperator as PromotedModelOperator
    from airflow_pipeops.serving.shadows import EvaluateShadowOperator as EvaluateShadowOperator
    from airflow_pipeops.serving.stream.desired import ModelInTable as ModelInTable
    from airflow_pipeops.serving.stream.kept import KeepScoresOperator as KeepScoresOperator
    from airflow_pipeops.serving.stream.operators import StreamAnnounceOperator as StreamAnnounceOperator
    from airflow_pipeops.serving.stream.operators import StreamBeginOperator as StreamBeginOperator
    from airflow_pipeops.serving.stream.sensors import StreamLiveSensor as StreamLiveSensor
    from airflow_pipeops.validation.operators import ValidateDataOperator as ValidateDataOperator
    from airflow_pipeops.validation.triggers import DataBatchTrigger as DataBatchTrigger

__version__ = "0.1.0"

#: Public name -> the module of this package that defines it.
_MODULES = {
    "AnomalyPolicy": "operations.anomalies.policy",
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
    "BatchScoreOperator": "serving.batch.operators",
    "BuildFailed": "exceptions",
    "BuildFeaturesOperator": "models.operators.features",
    "BuildImageOperator": "build.operators.image",
    "EvaluationGateOperator": "llm.gate.operators",
    "GatePolicy": "llm.gate.policy",
    "GateRateOperator": "llm.gate.operators",
    "ExplainOperator": "operations.changes.operators",
    "RegistryHook": "build.hook",
    "ConfigMapPrompt": "llm.prompts.configmap",
    "LangfusePrompts": "llm.prompts.langfuse",
    "MLflowPrompts": "llm.prompts.registry",
    "Prompt": "llm.prompts.prompt",
    "PromptDisagreementTrigger": "llm.prompts.agreement",
    "PromptInGit": "llm.prompts.desired",
    "ReadPromptOperator": "llm.prompts.operators",
    "ReleasePromptOperator": "llm.prompts.operators",
    "RenderPromptOperator": "llm.prompts.operators",
    "ChooseTrialOperator": "models.operators.search",
    "CoverageGateOperator": "build.operators.coverage",
    "DataBatchTrigger": "validation.triggers",
    "DataDriftOperator": "drift.operators.comparison",
    "Deliverable": "delivery.deliverable",
    "DriftProfileOperator": "drift.operators.profile",
    "EvaluateModelOperator": "models.operators.evaluate",
    "FeatureSet": "models.features.sets",
    "EvaluateOperator": "llm.evaluation.operators",
    "EvaluateShadowOperator": "serving.shadows",
    "Finding": "operations.remediation.findings",
    "FinishModelRollbackOperator": "models.operators.rollback",
    "FluxDriftOperator": "flux.operators",
    "FluxDriftTrigger": "flux.watchers",
    "FluxFailedTrigger": "flux.watchers",
    "FluxHook": "flux.hook",
    "FluxReadySensor": "flux.sensors",
    "FluxSteadySensor": "flux.steady",
    "FluxReadyTrigger": "flux.watchers",
    "FluxReconcileOperator": "flux.operators",
    "FluxResumeOperator": "flux.operators",
    "FluxSuspendOperator": "flux.operators",
    "GateFailed": "exceptions",
    "GitHook": "git.hook",
    "GitOpsCommitOperator": "git.operators",
    "GitOpsRevertOperator": "git.operators",
    "GitPushTrigger": "git.triggers",
    "GuardPolicy": "models.rollback.guard",
    "HelmDriftOperator": "deploy.differences.operators",
    "HelmDriftTrigger": "deploy.watchers",
    "HelmHistoryOperator": "deploy.helm.operators",
    "HelmReleaseOperator": "deploy.helm.operators",
    "HelmRollbackOperator": "deploy.helm.rollback",
    "HelmTestOperator": "deploy.helm.operators",
    "HelmUninstallOperator": "deploy.helm.operators",
    "ImportEvaluationOperator": "llm.evaluation.operators",
    "InvalidInput": "exceptions",
    "Join": "models.features.joins",
    "JoinLabelsOperator": "models.operators.labels",
    "JudgeRun": "operations.anomalies.callbacks",
    "KeepScoresOperator": "serving.stream.kept",
    "KServeModelOperator": "serving.api.operators",
    "Knob": "operations.tuning.knob",
    "MLflowHook": "models.hook",
    "ManifestsDriftOperator": "deploy.differences.operators",
    "ManifestsDriftTrigger": "deploy.watchers",
    "MeasureModelOperator": "models.operators.measure",
    "MergeEvaluationsOperator": "llm.evaluation.operators",
    "MissingConnectionTrigger": "base.setup",
    "ModelDisagreementTrigger": "serving.agreement",
    "ModelGuardOperator": "models.operators.guard",
    "ModelInGit": "models.desired",
    "ModelInTable": "serving.stream.desired",
    "ModelPerformanceOperator": "models.operators.performance",
    "ModelRollbackOperator": "models.operators.rollback",
    "NotConfigured": "exceptions",
    "PipeOpsError": "exceptions",
    "PromotedModelOperator": "serving.batch.operators",
    "PushedSteadySensor": "deploy.steady",
    "PlanTrialsOperator": "models.operators.search",
    "PredictionDriftOperator": "drift.operators.comparison",
    "Record": "delivery.records",
    "RecordOperator": "delivery.operators",
    "RecordedApprovalOperator": "delivery.approvals",
    "RecordedJobOperator": "build.cluster.operators",
    "RecordedPod": "build.cluster.recorded",
    "RecordedPodOperator": "build.cluster.operators",
    "AnswerDriftOperator": "llm.production.watching",
    "PromptGuardOperator": "llm.production.watching",
    "ProviderDriftOperator": "llm.production.probing",
    "PromptLiveSensor": "llm.production.sensors",
    "PromptPolicy": "llm.production.guard",
    "SampleTracesOperator": "llm.production.operators",
    "RemediateOperator": "operations.remediation.operators",
    "RemediationPolicy": "operations.remediation.policy",
    "ScoreContract": "serving.batch.contract",
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
    "RunAnomalyOperator": "operations.anomalies.operators",
    "RunAnomalyTrigger": "operations.anomalies.watchers",
    "RunTestsOperator": "build.operators.tests",
    "SetModelAliasOperator": "models.operators.register",
    "SignImageOperator": "build.operators.signatures",
    "SkewCheckOperator": "models.operators.features",
    "SmokeTestOperator": "build.operators.smoke",
    "UndoManifestsOperator": "deploy.apply.operators",
    "VerifyImageOperator": "build.operators.signatures",
    "SigningKeyHook": "delivery.ledger.hook",
    "StorageHook": "base.storage",
    "StreamAnnounceOperator": "serving.stream.operators",
    "StreamBeginOperator": "serving.stream.operators",
    "StreamLiveSensor": "serving.stream.sensors",
    "Subject": "llm.evaluation.subjects",
    "SyncFailed": "exceptions",
    "SystemFailure": "exceptions",
    "TextDriftOperator": "drift.operators.text",
    "TrainModelOperator": "models.operators.train",
    "TuneOperator": "operations.tuning.operators",
    "ValidateDataOperator": "validation.operators",
    "VerifyModelOperator": "serving.api.operators",
    "VerifyRemediationOperator": "operations.remediation.operators",
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
