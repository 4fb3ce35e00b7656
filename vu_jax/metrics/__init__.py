"""METRICS: masked sums. A metric is a pair (sum, weight); pairs are added over batches and hosts, divided once."""
