package telemetry

import (
	"errors"
	"log/slog"
	"sync"

	"github.com/go-logr/logr"
)

// maxFaults bounds how many different causes are told.
const maxFaults = 16

// faults logs what goes wrong with the exporting of spans, each cause once: a collector that is away
// for an hour would fill the log otherwise.
type faults struct {
	log  *slog.Logger
	mu   sync.Mutex
	seen map[string]bool
}

func newFaults(log *slog.Logger) *faults {
	return &faults{log: log, seen: make(map[string]bool)}
}

// handle is the SDK's error handler.
func (f *faults) handle(err error) {
	if err != nil && f.first(cause(err)) {
		f.log.Warn("tracing: spans may be missing", slog.Any("error", err))
	}
}

// first tells whether a cause has not been told yet, and may be.
func (f *faults) first(cause string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.seen[cause] || len(f.seen) >= maxFaults {
		return false
	}
	f.seen[cause] = true
	return true
}

// cause is the text of the innermost error: what is around it names ports and addresses that are
// others each time.
func cause(err error) string {
	for {
		switch wrapper := err.(type) { //nolint:errorlint // it is the unwrapping itself
		case interface{ Unwrap() []error }:
			inner := wrapper.Unwrap()
			if len(inner) == 0 {
				return err.Error()
			}
			err = inner[0]
		default:
			inner := errors.Unwrap(err)
			if inner == nil {
				return err.Error()
			}
			err = inner
		}
	}
}

// logger is the SDK's logger. It tells what the SDK calls errors; the rest is about its own workings.
func (f *faults) logger() logr.Logger { return logr.New(&sink{f}) }

// sink passes on what the SDK logs.
type sink struct{ faults *faults }

// Init implements logr.LogSink.
func (s *sink) Init(logr.RuntimeInfo) {}

// Enabled implements logr.LogSink. It does not speak of errors.
func (s *sink) Enabled(int) bool { return false }

// Info implements logr.LogSink.
func (s *sink) Info(int, string, ...any) {}

// Error implements logr.LogSink. It leaves out the SDK's details: among them is the text of headers
// that it could not read, and so a password.
func (s *sink) Error(err error, problem string, _ ...any) {
	if s.faults.first(problem) {
		s.faults.log.Warn("tracing is not set up as it should be", slog.String("problem", problem), slog.Any("error", err))
	}
}

// WithValues implements logr.LogSink.
func (s *sink) WithValues(...any) logr.LogSink { return s }

// WithName implements logr.LogSink.
func (s *sink) WithName(string) logr.LogSink { return s }
