"""What may be done about a finding, within limits: a policy, a pure decision, one act after its intent, its proof."""
