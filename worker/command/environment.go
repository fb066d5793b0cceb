package command

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/evdemo/evdemo/internal/telemetry/tracecontext"
	"github.com/evdemo/evdemo/worker"
)

// Linux takes no string of more than 128 KiB, and at least 128 KiB, commonly 2 MiB, for all of them
// and the arguments.
const (
	maxName        = 1 << 10
	maxValue       = 64 << 10
	maxEnvironment = 256 << 10
)

// The variables that an event sets.
const (
	varID              = "EVDEMO_ID"
	varSource          = "EVDEMO_SOURCE"
	varType            = "EVDEMO_TYPE"
	varSubject         = "EVDEMO_SUBJECT"
	varTime            = "EVDEMO_TIME"
	varDataContentType = "EVDEMO_DATACONTENTTYPE"
	varDataSchema      = "EVDEMO_DATASCHEMA"
	varAttempt         = "EVDEMO_ATTEMPT"
	varRedelivered     = "EVDEMO_REDELIVERED"
	varQueue           = "EVDEMO_QUEUE"
	varReplayed        = "EVDEMO_REPLAYED"
	varTraceParent     = "TRACEPARENT"
	varTraceState      = "TRACESTATE"

	varExtension = "EVDEMO_EXT_"    // and the extension's name
	varHeader    = "EVDEMO_HEADER_" // and the header's name
)

// EventVariable tells whether an environment variable is one that tells a command of its event. A
// program that is run by a command, and has a meaning of its own for such a name, must not take the
// event's value for it: see [Inside].
func EventVariable(name string) bool {
	switch name {
	case varID, varSource, varType, varSubject, varTime, varDataContentType, varDataSchema,
		varAttempt, varRedelivered, varQueue, varReplayed, varTraceParent, varTraceState:
		return true
	default:
		return strings.HasPrefix(name, varExtension) || strings.HasPrefix(name, varHeader)
	}
}

// Inside tells whether this process was started by a command that a [Runner] has run. Then, and only
// then, its [EventVariable]s are an event's.
func Inside() bool { return os.Getenv(varAttempt) != "" }

// inherited gives the environment of this process, without what an event would set.
func inherited() []string {
	return slices.DeleteFunc(os.Environ(), func(entry string) bool {
		name, _, _ := strings.Cut(entry, "=")
		return EventVariable(name)
	})
}

// environment gives that of the command for one event.
func (r *Runner) environment(ctx context.Context, d *worker.Delivery) []string {
	const most = 16 // what most events set
	e := environment{entries: append(make([]string, 0, len(r.base)+most), r.base...)}
	e.attribute(varID, d.Event.ID)
	e.attribute(varSource, d.Event.Source)
	e.attribute(varType, d.Event.Type)
	e.attribute(varSubject, d.Event.Subject)
	if !d.Event.Time.IsZero() {
		e.set(varTime, d.Event.Time.UTC().Format(time.RFC3339Nano))
	}
	e.attribute(varDataContentType, d.Event.DataContentType)
	e.attribute(varDataSchema, d.Event.DataSchema)
	e.set(varAttempt, strconv.Itoa(d.Attempt))
	e.set(varRedelivered, strconv.FormatBool(d.Redelivered))
	e.attribute(varQueue, d.Queue)
	if !d.Replayed.IsZero() {
		e.set(varReplayed, d.Replayed.UTC().Format(time.RFC3339Nano))
	}
	e.trace(ctx, d)
	for _, name := range slices.Sorted(maps.Keys(d.Event.Extensions)) {
		e.set(varExtension+mangle(name), d.Event.Extension(name))
	}
	for _, name := range slices.Sorted(maps.Keys(d.Headers)) {
		if text, ok := headerText(d.Headers[name]); ok {
			e.set(varHeader+mangle(name), text)
		}
	}
	return e.entries
}

// environment is a list of variables that is being made.
type environment struct {
	entries []string
	size    int // of the event's own
}

// set adds a variable, unless it would keep the command from being started. Of two with one name the
// later counts.
func (e *environment) set(name, value string) {
	size := len(name) + len(value) + 2 // the = and the NUL at its end
	if len(name) > maxName || len(value) > maxValue || e.size+size > maxEnvironment || strings.IndexByte(value, 0) >= 0 {
		return
	}
	e.size += size
	e.entries = append(e.entries, name+"="+value)
}

// attribute adds a variable for an attribute that is absent when empty.
func (e *environment) attribute(name, value string) {
	if value != "" {
		e.set(name, value)
	}
}

// trace adds the trace context.
func (e *environment) trace(ctx context.Context, d *worker.Delivery) {
	if !trace.SpanContextFromContext(ctx).IsValid() {
		published := tracecontext.Of(d.Event) //nolint:contextcheck // it is about the event
		if !published.IsValid() {
			return
		}
		ctx = trace.ContextWithSpanContext(ctx, published)
	}
	propagation.TraceContext{}.Inject(ctx, e)
}

// Set implements [propagation.TextMapCarrier].
func (e *environment) Set(name, value string) { e.set(strings.ToUpper(name), value) }

// Get implements [propagation.TextMapCarrier]; there is nothing to get.
func (*environment) Get(string) string { return "" }

// Keys implements [propagation.TextMapCarrier].
func (*environment) Keys() []string { return nil }

// mangle makes a name that a shell can use.
func mangle(name string) string {
	b := []byte(name)
	for i, c := range b {
		switch {
		case 'a' <= c && c <= 'z':
			b[i] = c - ('a' - 'A')
		case 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		default:
			b[i] = '_'
		}
	}
	return string(b)
}

// headerText gives a header's value as text: a string as it is, anything else as JSON in one line. ok
// is false where JSON has no form for it.
func headerText(value any) (text string, ok bool) {
	if text, ok := value.(string); ok {
		return text, true
	}
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if encoder.Encode(value) != nil {
		return "", false
	}
	return strings.TrimSuffix(b.String(), "\n"), true
}
