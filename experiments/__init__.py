"""Programs: prepare, launch, evaluate, predict. Each is thin; the only place that sees every part."""
