// Package telemetry is how the command line shows what it does to others: metrics for Prometheus over
// HTTP, and traces over OTLP.
//
// Both are off until somebody asks for them. The packages publisher and worker know nothing of it:
// they take a registerer or a tracer provider, whatever is behind it.
package telemetry
