package telemetry

// Reachable is for tests, which do not listen where others could connect.
var Reachable = reachable //nolint:gochecknoglobals // for tests
